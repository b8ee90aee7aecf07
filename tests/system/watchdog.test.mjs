// Processes that live but do not turn, and generations that crash again and again: both are seen to by
// the master alone, and clients notice as little as can be.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import {
	binary,
	Child,
	isAlive,
	killPid,
	Margay,
	RawSession,
	request,
	ScriptedServer,
	stateOfProcess,
	until,
} from './harness.mjs';
import { Control } from './control.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };

function setUp() {
	const bench = { margays: [], stopped: new Set() };
	bench.pause = (pid) => {
		bench.stopped.add(pid);
		killPid(pid, 'SIGSTOP');
	};
	bench.resume = (pid) => {
		bench.stopped.delete(pid);
		killPid(pid, 'SIGCONT');
	};
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.start = async (config = {}, program = undefined) => {
			const margay = await Margay.start({ upstream: bench.server.url, config, program });
			bench.margays.push(margay);
			return margay;
		};
	});
	afterEach(async (t) => {
		for (const pid of bench.stopped) bench.resume(pid);
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			await margay.stop();
		}
	});
	after(() => bench.server?.stop());
	return bench;
}

const fault = (name) => path.join(path.dirname(binary), 'tests', name);
const logged = (margay, text, pid) =>
	margay.log().find((line) => line.message === text && (!pid || line.child_pid === pid));
const SILENT = 'does not turn: its siblings accept for it';
const ABORTED = 'did not turn for too long: aborted';
const aborts = async (margay) => (await margay.metrics()).sum('margay_watchdog_aborts_total');
// New connections, all at once.
const connects = (margay, count = 64) =>
	Promise.all(
		Array.from({ length: count }, () => request(`${margay.origin}/none`, { timeout: 10_000 })),
	);

describe('a worker that does not turn', OPTIONS, () => {
	const bench = setUp();

	// Control: without adoption a quarter of the connections waits until it turns again.
	test('is stood in for, and gets its slots back', async () => {
		const margay = await bench.start();
		const [{ pid, number }] = (await margay.status()).workers;
		const worker = async () => (await margay.status()).workers.find((one) => one.number === number);
		assert.equal((await worker()).slots, 8);
		bench.pause(pid);
		const began = Date.now();
		const replies = await connects(margay);
		const took = Date.now() - began;
		assert.ok(replies.every(({ status }) => status === 404));
		// A master that has just begun judges nobody for two seconds.
		assert.ok(took < 6000, `answered after ${took} ms`);
		const row = await worker();
		assert.deepEqual([row.silent, row.slots], [true, 0]);
		assert.ok(logged(margay, SILENT, pid));
		// As long as a slow disk may take, and far from the abort.
		await until('4 s are over', () => Date.now() - began > 4000, { timeout: 5000 });
		bench.resume(pid);
		await until('it has its slots back', async () => {
			const now = await worker();
			return !now.silent && now.slots === 8 && now.pid === pid;
		});
		assert.ok(logged(margay, 'turns again', pid));
		assert.ok((await connects(margay)).every(({ status }) => status === 404));
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_watchdog_silent_total'), 1);
		assert.equal(metrics.sum('margay_watchdog_aborts_total'), 0);
		assert.equal(metrics.sum('margay_worker_restarts_total'), 0);
	});

	// SIGABRT ends one that runs, for its core, and nobody has to kill it.
	test('because it runs in a circle is stood in for and aborted', async () => {
		const margay = await bench.start({ workers: 2 }, fault('margay-endless'));
		const lost = request(`${margay.origin}/endless`, { timeout: 30_000 }).catch(() => 'lost');
		const began = Date.now();
		await until('it is stood in for', () => logged(margay, SILENT), { timeout: 6000 });
		const { child_pid: pid } = logged(margay, SILENT);
		assert.ok((await connects(margay)).every(({ status }) => status === 404));
		await until('it is gone', () => !isAlive(pid), { timeout: 20_000 });
		const took = Date.now() - began;
		assert.ok(took > 9_000 && took < 14_000, `aborted after ${took} ms`);
		assert.equal(await lost, 'lost');
		await until('another one accepts', async () =>
			(await margay.status()).workers.every(({ state, slots }) => state === 'accepting' && slots === 16),
		);
		assert.ok(logged(margay, ABORTED, pid));
		assert.equal(logged(margay, 'ended', pid).how, 'killed by signal 6');
	});

	// Control: without the exception the one that is traced is aborted first.
	test('for long is killed and restarted, but not one that is traced', async () => {
		const margay = await bench.start({ workers: 3 });
		const [{ pid, number }, traced] = (await margay.status()).workers;
		const strace = new Child('strace', ['-e', 'trace=none', '-p', String(traced.pid)]);
		await strace.output(/attached/);
		bench.pause(traced.pid);
		const began = Date.now();
		bench.pause(pid);
		await until('it is gone', () => !isAlive(pid), { timeout: 20_000 });
		const took = Date.now() - began;
		bench.stopped.delete(pid);
		// SIGABRT waits for a process that is stopped; SIGKILL does not.
		assert.ok(took > 10_000 && took < 16_000, `killed after ${took} ms`);
		assert.equal(stateOfProcess(traced.pid), 't');
		bench.resume(traced.pid);
		await strace.stop({ signal: 'SIGINT' });
		await until('others accept', async () => {
			const { workers } = await margay.status();
			const now = workers.find((one) => one.number === number);
			return workers.every(({ state, silent }) => state === 'accepting' && !silent) && now.pid !== pid;
		});
		assert.ok((await margay.status()).workers.some((one) => one.pid === traced.pid));
		assert.ok(logged(margay, ABORTED, pid));
		assert.equal(await aborts(margay), 1);
		assert.equal((await margay.metrics()).sum('margay_worker_restarts_total'), 1);
		assert.ok((await connects(margay)).every(({ status }) => status === 404));
	});
});

describe('others that do not turn', OPTIONS, () => {
	const bench = setUp();

	for (const name of ['broker', 'keeper'])
		test(`the ${name} is aborted and restarted, and calls go on`, async () => {
			const margay = await bench.start({ workers: 2 });
			const session = await RawSession.open(margay.url);
			const { pid } = (await margay.status())[name];
			bench.pause(pid);
			await until('another one serves', async () => {
				const now = (await margay.status())[name];
				return now.state === 'accepting' && now.pid !== pid;
			}, { timeout: 20_000 });
			bench.stopped.delete(pid);
			assert.ok(!isAlive(pid));
			assert.ok(logged(margay, ABORTED, pid));
			assert.equal(await aborts(margay), 1);
			for (let n = 0; n < 8; n++) assert.equal((await session.call('echo')).status, 200);
			const other = await RawSession.open(margay.url);
			assert.equal((await other.call('echo')).status, 200);
		});

	// Control: a master that believes its clock aborts whoever did not turn with it.
	test('the master itself: nobody is judged by a clock that stood still', async () => {
		const margay = await bench.start({ workers: 2 });
		const status = await margay.status();
		const all = [status.pid, ...status.workers.map(({ pid }) => pid), status.broker.pid, status.keeper.pid];
		const control = await Control.open(margay);
		// All of them, as when the machine sleeps.
		for (const pid of all) bench.pause(pid);
		const began = Date.now();
		await until('15 s are over', () => Date.now() - began > 15_000, { timeout: 16_000 });
		// It turns first, and finds that nobody else has.
		bench.resume(status.pid);
		await control.ask('status');
		for (const pid of all) bench.resume(pid);
		control.close();
		const resumed = Date.now();
		await until('the watchdog had time to bite', () => Date.now() - resumed > 3000);
		const now = await margay.status();
		assert.deepEqual(
			[now.broker.pid, now.keeper.pid, ...now.workers.map(({ pid }) => pid)],
			[status.broker.pid, status.keeper.pid, ...status.workers.map(({ pid }) => pid)],
		);
		assert.equal(await aborts(margay), 0);
		assert.ok(!logged(margay, ABORTED));
	});
});

// Kill the workers of a generation as soon as they accept, until `over`.
async function crash(margay, generation, over, { timeout = 15_000 } = {}) {
	const killed = new Set();
	await until(
		`generation ${generation} has crashed enough`,
		async () => {
			const { workers } = await margay.status();
			for (const worker of workers)
				if (worker.generation === generation && worker.pid > 0 && worker.state === 'accepting') {
					killPid(worker.pid, 'SIGKILL');
					killed.add(worker.pid);
				}
			return over(killed.size);
		},
		{ timeout, every: 5 },
	);
	return killed.size;
}

describe('a crash loop', OPTIONS, () => {
	const bench = setUp();
	const MESSAGE = /workers of generation \d+ crashed 6 times/;
	const generationOf = async (margay) => (await margay.status()).generation;
	async function reload(margay, change) {
		margay.write(change);
		const { code, stderr } = await margay.command('reload');
		assert.equal(code, 0, stderr);
	}
	const serves = async (margay, path) => (await RawSession.open(`${margay.origin}${path}`).catch(() => undefined)) !== undefined;

	// Control: without a fallback the new generation backs off for ever.
	test('of a new generation brings the configuration before back, once', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		await reload(margay, { routes: { '/mcp': undefined, '/new': { upstream: 'main' } } });
		assert.ok(await serves(margay, '/new'));
		const bad = await generationOf(margay);
		await crash(margay, bad, async () => (await generationOf(margay)) > bad);
		const back = await margay.status();
		assert.equal(back.generation, bad + 1);
		assert.equal(back.config.sha256, first.config.sha256);
		assert.equal(back.last_reload.ok, false);
		assert.match(back.last_reload.message, MESSAGE);
		assert.equal((await margay.metrics()).sum('margay_config_last_reload_successful'), 0);
		assert.ok(await serves(margay, '/mcp'));
		assert.ok(!(await serves(margay, '/new')));

		// What was gone back to crashes as well. Control: it goes back to what crashed before.
		await crash(margay, back.generation, (count) => count > 12);
		assert.equal(await generationOf(margay), back.generation);
		await until('its workers are back', async () =>
			(await margay.status()).workers.every(({ state }) => state === 'accepting'),
			{ timeout: 30_000 },
		);
		assert.ok(await serves(margay, '/mcp'));
	});

	test('counts for a file that was taken twice', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		await reload(margay, { routes: { '/new': { upstream: 'main' } } });
		await reload(margay);
		const bad = await generationOf(margay);
		await crash(margay, bad, async () => (await generationOf(margay)) > bad);
		assert.equal((await margay.status()).config.sha256, first.config.sha256);
	});

	test('of the first generation has nothing to go back to', async () => {
		const margay = await bench.start();
		const { generation } = await margay.status();
		await crash(margay, generation, (count) => count > 12);
		const now = await margay.status();
		assert.equal(now.generation, generation);
		assert.equal(now.last_reload.ok, true);
		assert.ok(logged(margay, 'will be restarted').after_ms !== undefined);
	});

	test('of a generation that was good for half a minute is none of its configuration', async () => {
		const margay = await bench.start();
		await reload(margay, { routes: { '/new': { upstream: 'main' } } });
		const { generation } = await margay.status();
		const began = Date.now();
		await until('the probation is over', () => Date.now() - began > 30_500, { timeout: 32_000 });
		await crash(margay, generation, (count) => count > 10);
		assert.equal(await generationOf(margay), generation);
	});
});
