// Real processes for the tests: started with their output collected, ended by pid, never left behind.
// Waiting is always on a condition with a deadline.
import { spawn } from 'node:child_process';
import net from 'node:net';
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

// Children that run, and whatever else has a `pid` (undefined: none) that must not outlive the tests.
export const running = new Set();

// However this test process ends, what it started ends too.
process.on('exit', () => {
	for (const { pid } of running) if (pid !== undefined) killPid(pid, 'SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

// Poll `probe` until it returns something truthy, and return that. An error it throws is kept for
// the message of the failure at the deadline.
export async function until(what, probe, { timeout = 10_000, every = 20 } = {}) {
	const deadline = Date.now() + timeout;
	let last;
	for (;;) {
		try {
			const value = await probe();
			if (value) return value;
			last = undefined;
		} catch (error) {
			if (error.fatal) throw error;
			last = error;
		}
		if (Date.now() >= deadline)
			throw new Error(`not within ${timeout} ms: ${what}${last ? ` (${last})` : ''}`, {
				cause: last,
			});
		await delay(every);
	}
}

// The promise's value, or an error that says what did not come.
export async function within(what, promise, timeout = 10_000) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Error(`not within ${timeout} ms: ${what}`)), timeout);
	});
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}

export const stateOfProcess = (pid) => /^State:\s+(\S)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1];

// Whether a process exists and is more than a zombie.
export function isAlive(pid) {
	try {
		return !'ZX'.includes(stateOfProcess(pid));
	} catch {
		return false;
	}
}

export function killPid(pid, signal) {
	try {
		process.kill(pid, signal);
		return true;
	} catch (error) {
		if (error.code === 'ESRCH') return false;
		throw error;
	}
}

// Stop a process for good; when this returns it does nothing any more. False: there is none. Nothing
// else runs meanwhile, so that it is short.
export function freeze(pid) {
	if (!killPid(pid, 'SIGSTOP')) return false;
	while (!'TZX'.includes(stateOfProcess(pid)));
	return true;
}

// Asleep whenever looked at, for a while: they wait for somebody else.
export async function rest(pids) {
	let times = 0;
	const sleep = () => pids.every((pid) => stateOfProcess(pid) === 'S');
	await until(`${pids} rest`, () => (times = sleep() ? times + 1 : 0) >= 20, { every: 10 });
}

export const descriptors = (pid) => fs.readdirSync(`/proc/${pid}/fd`);

// Client ports of the TCP connections that a process serves on `port`. Those that are queued and not
// accepted yet are nobody's.
export function servedPorts(pid, port) {
	const inodes = new Set();
	for (const fd of descriptors(pid)) {
		try {
			inodes.add(/^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]);
		} catch {
			// Closed meanwhile.
		}
	}
	const rows = fs.readFileSync('/proc/net/tcp', 'latin1').trim().split('\n').slice(1);
	const number = (address) => parseInt(address.split(':')[1], 16);
	return new Set(
		rows
			.map((row) => row.trim().split(/\s+/))
			.filter(([, local, , , , , , , , inode]) => number(local) === port && inodes.has(inode))
			.map(([, , remote]) => number(remote)),
	);
}

// Resident memory of a process in bytes.
export function residentBytes(pid) {
	return (
		Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024
	);
}

export class Child {
	stdout = '';
	stderr = '';
	ended = false;

	// `input`: whether it has one, `process.stdin`.
	constructor(command, args, { env = {}, cwd, input = false } = {}) {
		this.name = [command.split('/').at(-1), ...args].join(' ');
		this.process = spawn(command, args, {
			cwd,
			env: { ...process.env, ...env },
			stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
		});
		this.pid = this.process.pid;
		for (const stream of ['stdout', 'stderr'])
			this.process[stream].setEncoding('utf8').on('data', (text) => (this[stream] += text));
		this.exit = new Promise((resolve) => {
			// `leaky`: it ended, but something it started still holds its output open.
			const end = (code, signal, leaky = false) => {
				this.ended = true;
				running.delete(this);
				this.code = code;
				resolve({ code, signal, leaky, stdout: this.stdout, stderr: this.stderr });
			};
			this.process.once('error', (error) => {
				this.stderr += String(error);
				end(127, null);
			});
			this.process.once('close', (code, signal) => end(code, signal));
			this.process.once('exit', (code, signal) =>
				setTimeout(end, 2000, code, signal, true).unref(),
			);
		});
		if (this.pid !== undefined) running.add(this);
	}

	// Wait for output; the match. Fails at once when the process ends without it.
	async output(pattern, timeout = 15_000) {
		return until(
			`${this.name} prints ${pattern}`,
			() => {
				const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
				if (!match && this.ended)
					throw Object.assign(new Error(`${this.name} ended: ${this.stderr}`), {
						fatal: true,
					});
				return match;
			},
			{ timeout },
		);
	}

	kill(signal) {
		return !this.ended && this.pid !== undefined && killPid(this.pid, signal);
	}

	// Ask it to end; after the deadline, kill it. Resolves to how it ended.
	async stop({ signal = 'SIGTERM', deadline = 10_000 } = {}) {
		this.kill(signal);
		const timer = setTimeout(() => {
			this.overdue = true;
			this.kill('SIGKILL');
		}, deadline);
		const exit = await this.exit;
		clearTimeout(timer);
		return exit;
	}
}

// Run to the end: { code, signal, stdout, stderr }. The deadline kills it (then signal is SIGKILL).
export async function run(command, args, { deadline = 20_000, ...options } = {}) {
	const child = new Child(command, args, options);
	const timer = setTimeout(() => child.kill('SIGKILL'), deadline);
	const exit = await child.exit;
	clearTimeout(timer);
	return exit;
}

// Ports that were free a moment ago, all different.
export async function freePorts(count) {
	const servers = await Promise.all(
		Array.from(
			{ length: count },
			() =>
				new Promise((resolve, reject) => {
					const server = net.createServer().once('error', reject);
					server.listen(0, '127.0.0.1', () => resolve(server));
				}),
		),
	);
	const ports = servers.map((server) => server.address().port);
	await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
	return ports;
}
