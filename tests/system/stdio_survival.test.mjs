// Children outlive the processes of Margay, and none outlives Margay: kill -9 of each process under
// load, and every way in which Margay can end.
import { afterEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, isAlive, killPid, Margay, RawSession, until } from './harness.mjs';
import { hostile, textOf, upstreamOf } from './stdio.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };

// A session whose tool counts: each answer must be the one after the last, by the same process.
class Counter {
	lost = 0;
	calls = 0;

	static async open(url) {
		const counter = new Counter();
		counter.session = await RawSession.open(url);
		[counter.count, counter.pid] = textOf(await counter.session.call('counter'))
			.split(' ')
			.map(Number);
		return counter;
	}

	// Call until stopped. A call that failed may have been counted or not.
	run() {
		this.running = true;
		this.done = (async () => {
			while (this.running) {
				const reply = await this.session.call('counter').catch((error) => error);
				if (reply.status !== 200) {
					if (reply.status === 404) throw new Error('the session is gone');
					this.lost++;
					continue;
				}
				const [count, pid] = textOf(reply).split(' ').map(Number);
				assert.equal(pid, this.pid, 'it is the same process');
				assert.ok(count > this.count && count <= this.count + 1 + this.lost);
				this.count = count;
				this.calls++;
			}
		})();
		this.done.catch(() => {});
		return this;
	}

	async progress(calls = 20) {
		const target = this.calls + calls;
		await until(`${calls} more calls`, async () => {
			await Promise.race([this.done, Promise.resolve()]);
			return this.calls >= target;
		});
	}

	async stop() {
		this.running = false;
		await this.done;
	}
}

describe('survival', OPTIONS, () => {
	let margay;
	const strays = new Set();

	async function start(stdio, config = {}) {
		margay = await Margay.start({
			config: { upstreams: { main: { http: undefined, stdio } }, ...config },
		});
		return margay;
	}
	afterEach(async (t) => {
		if (t.error && margay) t.diagnostic(margay.report());
		await margay?.stop();
		margay = undefined;
		for (const pid of strays) killPid(pid, 'SIGKILL');
		strays.clear();
	});

	const victims = {
		keeper: (status) => status.keeper.pid,
		broker: (status) => status.broker.pid,
		worker: (status) => status.workers[0].pid,
	};
	for (const sharing of ['per_session', 'shared'])
		for (const [name, pidOf] of Object.entries(victims))
			test(`kill -9 of the ${name} costs no child (${sharing})`, async () => {
				await start({ ...hostile(), sharing });
				const sessions = sharing === 'shared' ? 1 : 3;
				const counters = [];
				for (let i = 0; i < sessions; i++)
					counters.push((await Counter.open(margay.url)).run());
				for (let round = 0; round < 3; round++) {
					await Promise.all(counters.map((counter) => counter.progress()));
					const pid = pidOf(await margay.status());
					killPid(pid, 'SIGKILL');
					await until(`another ${name} is there`, async () => {
						const now = pidOf(await margay.status());
						return now > 0 && now !== pid;
					});
				}
				await Promise.all(counters.map((counter) => counter.progress()));
				for (const counter of counters) await counter.stop();
				// Only what was in flight in that moment.
				for (const { lost } of counters) assert.ok(lost <= 6, `${lost} calls were lost`);
				assert.equal((await upstreamOf(margay)).children.length, sessions);
			});

	test('an open stream and a subscription go on with the next keeper', async () => {
		await start({ ...hostile(), sharing: 'shared' });
		const [session, other] = [
			await RawSession.open(margay.url),
			await RawSession.open(margay.url),
		];
		const { response, request } = await session.get();
		let text = '';
		response.setEncoding('utf8').on('data', (data) => (text += data));
		response.on('error', () => {});
		await session.request('resources/subscribe', { uri: 'x:1' });
		const { keeper } = await margay.status();
		killPid(keeper.pid, 'SIGKILL');
		await until('another keeper is there', async () => {
			const { pid, state } = (await margay.status()).keeper;
			return pid > 0 && pid !== keeper.pid && state === 'accepting';
		});
		try {
			await until('the subscriber is told', async () => {
				await other.call('touch', { uri: 'x:1' });
				return text.includes('notifications/resources/updated');
			});
		} finally {
			request.destroy();
		}
	});

	for (const signal of ['SIGTERM', 'SIGQUIT'])
		test(`no child is left after ${signal}`, async () => {
			await start(hostile('stubborn'));
			const counters = [await Counter.open(margay.url), await Counter.open(margay.url)];
			for (const { pid } of counters) strays.add(pid);
			const begun = Date.now();
			await margay.stop({ signal });
			margay = undefined;
			for (const { pid } of counters) assert.ok(!isAlive(pid), `${pid} is alive`);
			assert.ok(Date.now() - begun < 6000);
		});

	test('no child is left long after kill -9 of the master', async () => {
		await start(hostile('stubborn'), { orphan_timeout: '1s' });
		const { pid } = await Counter.open(margay.url);
		strays.add(pid);
		const { keeper } = await margay.status();
		margay.child.kill('SIGKILL');
		await margay.child.exit;
		assert.ok(isAlive(pid), 'it is kept for a while');
		await until('child and keeper are gone', () => !isAlive(pid) && !isAlive(keeper.pid), {
			timeout: 6000,
		});
		margay.child = undefined;
	});

	test('the next start ends what a death of master and keeper left', async () => {
		await start(hostile('stubborn'));
		const session = await RawSession.open(margay.url);
		const [, pid] = textOf(await session.call('counter')).split(' ').map(Number);
		strays.add(pid);
		const grandchild = Number(textOf(await session.call('breed')));
		strays.add(grandchild);
		const { keeper, broker, workers } = await margay.status();
		killPid(keeper.pid, 'SIGSTOP'); // so that it does not end them first
		margay.child.kill('SIGKILL');
		killPid(keeper.pid, 'SIGKILL');
		await margay.child.exit;
		await until('the keeper is dead', () => !isAlive(keeper.pid));
		assert.ok(isAlive(pid));
		// They hold its addresses until then.
		await until('all others are gone', () =>
			[broker, ...workers].every((one) => !isAlive(one.pid)),
		);
		await margay.run();
		await until('they are ended', () => !isAlive(pid) && !isAlive(grandchild), {
			timeout: 2000,
		});
		assert.ok(
			margay.log().some(({ message }) => /ended a child that an earlier Margay left/.test(message)),
		);
		assert.match(textOf(await (await RawSession.open(margay.url)).call('counter')), /^1 /);
	});

	test('200 children survive the keeper', async () => {
		await start(
			{ command: binary, args: ['demo-server'], limits: { children: 256 } },
			{ workers: 2 },
		);
		const sessions = await Promise.all(
			Array.from({ length: 200 }, () => RawSession.open(margay.url)),
		);
		const count = (session) => session.call('count').then(textOf);
		const first = await Promise.all(sessions.map(count));
		const { keeper } = await margay.status();
		killPid(keeper.pid, 'SIGKILL');
		await until('another keeper has them', async () => {
			const now = (await margay.status()).keeper;
			return now.pid > 0 && now.pid !== keeper.pid && now.children === 200;
		});
		const second = await Promise.all(sessions.map(count));
		second.forEach((text, i) =>
			assert.equal(Number(/\d+/.exec(text)[0]), Number(/\d+/.exec(first[i])[0]) + 1),
		);
	});
});
