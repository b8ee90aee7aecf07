// The load driver and its upstream (tests/load), which are built beside the binary under test.
import path from 'node:path';
import { Child, until } from './process.mjs';
import { binary } from './margay.mjs';

const program = (name) => path.join(path.dirname(binary), 'tests', name);

// margay-load-upstream on a free port: { url, child, stop() }; stop resolves to what it has served.
export async function startLoadUpstream(...options) {
	const child = new Child(program('margay-load-upstream'), options.map(String));
	const [, url] = await child.output(/listening on (\S+)/);
	return {
		url,
		child,
		async stop() {
			const { code, stdout, stderr } = await child.stop();
			if (code !== 0) throw new Error(`load upstream: ${code} ${stderr}`);
			return JSON.parse(stdout.trim().split('\n').at(-1));
		},
	};
}

// margay-load against a URL. `options` by name: { keepalive: 4, connectTimeout: 500 }; `under`: a command that runs it.
export class Driver {
	static start(url, options = {}, { under = [] } = {}) {
		const driver = new Driver();
		const named = Object.entries({ url, ...options }).flatMap(([name, value]) => [
			`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
			String(value),
		]);
		const [command, ...args] = [...under, program('margay-load'), ...named];
		driver.child = new Child(command, args);
		return driver;
	}

	#reports() {
		const { stdout } = this.child;
		return stdout
			.slice(0, stdout.lastIndexOf('\n') + 1)
			.split('\n')
			.filter(Boolean)
			.map((line) => JSON.parse(line));
	}

	// The first report comes when all clients are open, or gave up; no signal may come before that.
	begun() {
		return until('the load driver has begun', () => this.child.ended || this.#reports()[0]);
	}

	// What there is so far.
	async report() {
		await this.begun();
		const before = this.#reports().length;
		this.child.kill('SIGUSR1');
		return until('a report of the load driver', () => {
			if (this.child.ended)
				throw Object.assign(new Error(`ended: ${this.child.stderr}`), { fatal: true });
			return this.#reports()[before];
		});
	}

	// Wait until a report satisfies `enough`; that report.
	until(what, enough, { timeout = 20_000 } = {}) {
		const probe = async () => {
			const report = await this.report();
			return enough(report) && report;
		};
		return until(what, probe, { timeout, every: 50 });
	}

	// The final report of a driver that ends by itself.
	async end() {
		const { code, stderr } = await this.child.exit;
		const report = this.#reports().at(-1);
		if (!report?.final) throw new Error(`load driver: ${code} ${stderr}`);
		return { ...report, code };
	}

	// End it: the final report.
	async stop() {
		await this.begun();
		this.child.kill('SIGTERM');
		return this.end();
	}
}

// The worker that served the connection a failure happened on, by the access log: any call that was
// answered on it will do, for a killed worker takes its last lines with it. Undefined when there is none.
export function workerOf(accesses, { first, before }) {
	const [client, last] = before.split(':');
	const since = Number(first.split(':')[1]);
	return accesses.find(({ id }) => {
		const [name, number] = String(id).split(':');
		return name === client && Number(number) >= since && Number(number) <= Number(last);
	})?.worker;
}

// A count over all kinds of clients.
export const total = (report, name) =>
	Object.values(report.kinds).reduce((sum, kind) => sum + kind[name], 0);

// How often a kind of failure was counted.
export const failed = (report, name) =>
	Object.values(report.kinds).reduce((sum, { failures }) => sum + (failures[name] ?? 0), 0);
