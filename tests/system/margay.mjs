// One Margay under test: a configuration in a directory of its own, the processes, their log. Every
// test that starts one calls stop(), which also proves that nothing was left behind and that no
// sanitizer had anything to say.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import assert from 'node:assert/strict';
import { Child, freePorts, isAlive, killPid, run, running, until } from './process.mjs';
import { request } from './http.mjs';
import { scrape } from './metrics.mjs';
import { toYaml } from './yaml.mjs';

// The binary under test; without it the tests that need none run against the servers themselves.
export const binary = process.env.MARGAY_BIN ? path.resolve(process.env.MARGAY_BIN) : undefined;

const SANITIZER = /ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer/;

// Whether the binary was built with sanitizers, which keep freed memory for a while and are slow.
export const isSanitized = () => fs.readFileSync(binary).includes('__asan_init');

// Objects merge key by key, everything else is replaced; undefined takes a key away.
function merge(base, over) {
	const out = { ...base };
	for (const [key, value] of Object.entries(over)) {
		const deep = [value, out[key]].every(
			(one) => one !== null && typeof one === 'object' && !Array.isArray(one),
		);
		if (value === undefined) delete out[key];
		else out[key] = deep ? merge(out[key], value) : value;
	}
	return out;
}

export class Margay {
	#pids = new Set();

	// `upstream`: URL behind /mcp. `config`: what differs from the defaults below. `env`: more variables. Resolves when
	// /readyz says so.
	static async start({ upstream, config = {}, descriptors, env, program } = {}) {
		const margay = await Margay.prepare({ upstream, config, env, program });
		await margay.run({ descriptors });
		return margay;
	}

	// The directory and the configuration, nothing started. `program`: run instead of the binary.
	static async prepare({ upstream, config = {}, env = {}, program = binary } = {}) {
		const margay = new Margay();
		margay.env = env;
		margay.program = program;
		margay.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-test-'));
		const [port, adminPort] = await freePorts(2);
		margay.port = port;
		margay.origin = `http://127.0.0.1:${port}`;
		margay.url = `${margay.origin}/mcp`;
		margay.admin = `http://127.0.0.1:${adminPort}`;
		margay.file = path.join(margay.dir, 'margay.yaml');
		margay.logFile = path.join(margay.dir, 'margay.log');
		fs.mkdirSync(path.join(margay.dir, 'run'), { mode: 0o700 });
		margay.config = merge(
			{
				runtime_dir: path.join(margay.dir, 'run'),
				workers: 4,
				orphan_timeout: '1s',
				listen: [{ address: `127.0.0.1:${port}` }],
				admin: { address: `127.0.0.1:${adminPort}` },
				upstreams: { main: { http: { url: upstream ?? 'http://127.0.0.1:9/mcp' } } },
				routes: { '/mcp': { upstream: 'main' } },
				log: { level: 'info', format: 'json', file: margay.logFile },
			},
			config,
		);
		margay.write();
		return margay;
	}

	// Write the configuration, changed by `change`; what was written, line by line.
	write(change = {}) {
		this.config = merge(this.config, change);
		const text = toYaml(this.config);
		fs.writeFileSync(this.file, text);
		return text.split('\n');
	}

	get sanitized() {
		return isSanitized();
	}

	get environment() {
		const san = `log_path=${path.join(this.dir, 'sanitizer')}`;
		return {
			ASAN_OPTIONS: `${san}:abort_on_error=0`,
			UBSAN_OPTIONS: `${san}:print_stacktrace=1`,
			TMPDIR: this.dir,
			...this.env,
		};
	}

	// The master that serves, which after an upgrade is none that was started here; undefined: none.
	get pid() {
		try {
			const file = path.join(this.config.runtime_dir, 'margay.pid');
			const pid = Number(fs.readFileSync(file, 'utf8'));
			return this.#owns(pid) ? pid : undefined;
		} catch {
			return undefined;
		}
	}

	// `descriptors`: how many files each process may have open. Again, when the master was killed: the
	// new one takes over. `under`: a command that runs it.
	async run({ descriptors, under = [] } = {}) {
		running.add(this);
		const command = [...under, this.program, 'run', '-c', this.file];
		if (descriptors) command.unshift('prlimit', `--nofile=${descriptors}:${descriptors}`);
		this.child = new Child(command[0], command.slice(1), {
			cwd: this.dir,
			env: this.environment,
		});
		try {
			await this.ready();
			// Where a dead master is replaced, its workers may have said so.
			await until('the new master answers', async () => {
				if (this.child.ended)
					throw Object.assign(new Error('margay ended'), { fatal: true });
				return (await this.status()).pid === this.child.pid;
			});
		} catch (error) {
			const said = this.report();
			await this.child.stop({ deadline: 2000 });
			error.message += `\n${said}`;
			throw error;
		}
	}

	ready(timeout = 20_000) {
		return until(
			'margay is ready',
			async () => {
				if (this.child?.ended && this.pid === undefined)
					throw Object.assign(new Error('margay ended'), { fatal: true });
				return (await request(`${this.admin}/readyz`)).status === 200;
			},
			{ timeout },
		);
	}

	// Run another command of the binary on this configuration.
	command(...args) {
		return run(binary, [...args, '-c', this.file], { cwd: this.dir, env: this.environment });
	}

	// `margay status --json`, and note every process it names.
	async status() {
		// By the directory: the file may be one that a test has broken.
		const args = ['status', '--json', '--runtime-dir', this.config.runtime_dir];
		const { code, stdout, stderr } = await run(binary, args, { env: this.environment });
		if (code !== 0) throw new Error(`status: ${code} ${stderr}`);
		const status = JSON.parse(stdout);
		for (const pid of [
			status.pid,
			status.broker?.pid,
			status.keeper?.pid,
			...status.workers.map((one) => one.pid),
		])
			if (pid > 0) this.#pids.add(pid);
		return status;
	}

	// The one log, parsed. Lines that are no JSON fail the test.
	log() {
		if (!fs.existsSync(this.logFile)) return [];
		const text = fs.readFileSync(this.logFile, 'utf8');
		return text
			.slice(0, text.lastIndexOf('\n') + 1)
			.split('\n')
			.filter((line) => line !== '')
			.map((line) => JSON.parse(line));
	}

	// Lines of the access log, which are those that name a route and a status.
	accesses(matching = {}) {
		return this.log().filter(
			(line) =>
				'status' in line &&
				'ms' in line &&
				Object.entries(matching).every(([key, value]) => line[key] === value),
		);
	}

	metrics() {
		return scrape(this.admin);
	}

	// For the message of a failure.
	report() {
		const log = fs.existsSync(this.logFile) ? fs.readFileSync(this.logFile, 'utf8') : '';
		return `--- stderr\n${this.child?.stderr ?? ''}\n--- log\n${log.split('\n').slice(-30).join('\n')}`;
	}

	#sanitizerReports() {
		const files = fs.readdirSync(this.dir).filter((name) => name.startsWith('sanitizer.'));
		const texts = files.map((name) => fs.readFileSync(path.join(this.dir, name), 'utf8'));
		return [...texts, this.child?.stderr ?? ''].filter((text) => SANITIZER.test(text));
	}

	// Whether a process is one of this instance and alive: those that status named, all that still run
	// the binary in this directory, and all that inherited its TMPDIR: children, and theirs.
	#owns(pid) {
		try {
			const inherited = fs.readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
			return (
				(inherited.includes(`TMPDIR=${this.dir}`) ||
					(fs.readlinkSync(`/proc/${pid}/exe`) === fs.realpathSync(this.program) &&
						(this.#pids.has(pid) ||
							fs.readlinkSync(`/proc/${pid}/cwd`) === this.dir))) &&
				isAlive(pid)
			);
		} catch {
			return false;
		}
	}

	#left() {
		return fs
			.readdirSync('/proc')
			.filter((name) => /^\d+$/.test(name))
			.map(Number)
			.filter((pid) => this.#owns(pid));
	}

	// End it and check what must hold at every end. `signal` as the test wishes. `killed`: the test has killed the
	// process that it started, and another is the master.
	async stop({ signal = 'SIGTERM', deadline = 15_000, killed = false } = {}) {
		const heir = this.pid === this.child?.pid ? undefined : this.pid;
		if (heir !== undefined) killPid(heir, signal);
		// One that has made room ends by itself.
		const exit = await this.child?.stop({ signal: heir === undefined ? signal : 0, deadline });
		const inTime = await until('the last master ends', () => !heir || !isAlive(heir), {
			timeout: deadline,
		}).catch(() => false);
		running.delete(this);
		let left = this.#left();
		try {
			await until('all processes are gone', () => (left = this.#left()).length === 0, {
				timeout: 3000,
			});
		} catch {
			for (const pid of left) killPid(pid, 'SIGKILL');
		}
		const reports = this.#sanitizerReports();
		const report = this.report();
		fs.rmSync(this.dir, { recursive: true, force: true });
		assert.deepEqual(reports, [], 'a sanitizer reported');
		assert.deepEqual(left, [], `processes were left behind\n${report}`);
		assert.ok(inTime, `the last master did not stop in ${deadline} ms\n${report}`);
		if (this.child && !killed) {
			assert.ok(!this.child.overdue, `margay did not stop in ${deadline} ms\n${report}`);
			assert.equal(exit.signal, null, `margay was killed by ${exit.signal}\n${report}`);
			assert.equal(exit.code, 0, `margay ended with ${exit.code}\n${report}`);
		}
		return exit;
	}
}
