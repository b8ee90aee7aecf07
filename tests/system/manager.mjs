// Margay as a service of margay-manager (tests/systemd), which is built beside the binary under test.
import path from 'node:path';
import { Child, until } from './process.mjs';
import { binary, Margay } from './margay.mjs';

export class Service {
	#orders = 0; // length of what had been printed when the last order was given

	// `passed`: what margay-manager is to pass, as its usage says. `options`: as of Margay.prepare.
	static async prepare(options) {
		const service = new Service();
		service.margay = await Margay.prepare(options);
		return service;
	}

	run(...passed) {
		const { dir, file, environment } = this.margay;
		this.child = new Child(
			path.join(path.dirname(binary), 'tests/margay-manager'),
			[path.join(dir, 'notify'), ...passed, '--', binary, 'run', '-c', file],
			{ cwd: dir, env: environment, input: true },
		);
	}

	get printed() {
		return this.child.stdout;
	}

	// Give an order and wait for what it brings about; the match.
	async order(word, pattern) {
		this.#orders = this.printed.length;
		this.child.process.stdin.write(`${word}\n`);
		return pattern && this.prints(pattern);
	}

	// Printed since the last order.
	prints(pattern) {
		return until(`the manager prints ${pattern}`, () => {
			const match = pattern.exec(this.printed.slice(this.#orders));
			if (!match && this.child.ended)
				throw Object.assign(new Error(this.child.stderr), { fatal: true });
			return match;
		});
	}

	// The names in its store, sorted, each once.
	async store() {
		const [, names] = await this.order('store', /^store(.*)$/m);
		return [...new Set(names.split(' ').filter(Boolean))].sort();
	}

	storeHas(...names) {
		const wanted = names.sort().join(' ');
		return until(`the store has ${wanted}`, async () => {
			const has = (await this.store()).join(' ');
			if (has !== wanted) throw new Error(has);
			return true;
		});
	}

	report() {
		return `--- manager\n${this.printed}${this.child?.stderr}\n${this.margay.report()}`;
	}

	async stop() {
		if (this.child) {
			this.child.process.stdin.end();
			await this.child.exit;
		}
		await this.margay.stop();
	}
}
