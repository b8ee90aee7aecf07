// The master is killed, and nobody notices: all others go on serving, and the next `margay run` with
// the same runtime_dir takes them over as they are.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import {
	binary,
	decreased,
	events,
	freePorts,
	isAlive,
	killPid,
	Margay,
	RawSession,
	request,
	ScriptedServer,
	until,
	within,
} from './harness.mjs';
import { Load } from './load.mjs';
import { Child, run } from './process.mjs';
import { hostile, textOf } from './stdio.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const CONFIG_ERRORS = 4; // exit code
const MOMENTS = 8; // of a start

function setUp() {
	const bench = { margays: [], running: [], stopped: new Set() };
	const keep = (one) => {
		bench.running.push(one);
		return one;
	};
	bench.load = (...args) => keep(Load.start(...args));
	bench.burst = (port) => keep(new Burst(port));
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
		bench.start = async (config = {}) => {
			const margay = await Margay.start({
				upstream: bench.server.url,
				config: {
					workers: 2,
					orphan_timeout: '1m',
					...config,
					timeouts: { shutdown: '5s', ...config.timeouts },
				},
			});
			bench.margays.push(margay);
			return margay;
		};
	});
	afterEach(async (t) => {
		bench.server.on = {};
		for (const pid of bench.stopped) bench.resume(pid);
		await Promise.allSettled(bench.running.splice(0).map((one) => one.stop()));
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			// Whatever state the test left it in: a master is there to stop it.
			if (!margay.child) await margay.run().catch(() => {});
			await margay.stop({ deadline: 25_000 });
		}
	});
	after(() => bench.server?.stop());
	return bench;
}

// New connections, one request each, as fast as they are answered: every failure is kept.
class Burst {
	answered = 0;
	failures = [];
	#running = true;

	constructor(port, clients = 4) {
		this.done = Promise.all(Array.from({ length: clients }, () => this.#loop(port)));
	}

	async #loop(port) {
		while (this.#running)
			try {
				const { status } = await request(`http://127.0.0.1:${port}/none`);
				if (status !== 404) throw new Error(`status ${status}`);
				this.answered++;
			} catch (error) {
				this.failures.push(String(error));
			}
	}

	more(count) {
		const goal = this.answered + count;
		return until(`${count} more connections`, () => this.answered >= goal, { timeout: 20_000 });
	}

	async stop() {
		this.#running = false;
		await this.done;
	}
}

async function killMaster(margay) {
	margay.child.kill('SIGKILL');
	await margay.child.exit;
	margay.child = undefined;
}

// `margay run` as a new process; resolves to its status when all processes accept, with how long that took.
async function takeOver(margay, args = []) {
	const began = Date.now();
	margay.child = new Child(binary, ['run', '-c', margay.file, ...args], {
		cwd: margay.dir,
		env: margay.environment,
	});
	const status = await until('the new master has all processes', async () => {
		if (margay.child.ended) throw Object.assign(new Error(margay.child.stderr), { fatal: true });
		const now = await margay.status();
		const all = [now.broker, now.keeper, ...now.workers.filter(({ generation }) => generation === now.generation)];
		return now.generation > 0 && now.pid === margay.child.pid && all.every(({ state }) => state === 'accepting') && now;
	});
	return { status, took: Date.now() - began };
}

const runAgain = (margay) =>
	run(binary, ['run', '-c', margay.file], { cwd: margay.dir, env: margay.environment });
const pidsOf = ({ workers, broker, keeper }) => ({
	workers: workers.map(({ pid }) => pid),
	broker: broker.pid,
	keeper: keeper.pid,
});
const allPids = (status) => [status.broker.pid, status.keeper.pid, ...status.workers.map(({ pid }) => pid)];
const logged = (margay, text) => margay.log().some(({ message }) => message === text);
const gone = (pids, timeout = 15_000) =>
	until('all processes are gone', () => pids.every((pid) => !isAlive(pid)), { timeout });
async function reload(margay) {
	const { code, stdout, stderr } = await margay.command('reload');
	assert.equal(code, 0, stdout + stderr);
}

describe('kill -9 of the master under load', OPTIONS, () => {
	const bench = setUp();

	// Control: a holder that lets go at once drains all: connects are refused, streams end.
	test('is noticed by nobody, then a new master has everything', async (t) => {
		const margay = await bench.start({
			workers: 4,
			upstreams: { counter: { stdio: hostile() } },
			routes: { '/counter': { upstream: 'counter' } },
		});
		bench.server.on.GET = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			bench.stream = response;
			response.write(': open\n\n');
		};
		bench.server.on['tools/call'] = ({ message, request: asked, response, server }) =>
			setTimeout(
				() => server.answer(asked, response, message),
				message.params.name === 'slow' ? 3000 : 0,
			);
		const sessions = await Promise.all(Array.from({ length: 4 }, () => RawSession.open(margay.url)));
		const counter = await RawSession.open(`${margay.origin}/counter`);
		const [, child] = textOf(await counter.call('counter')).split(' ').map(Number);
		const { response, request: streamed } = await sessions[0].get();
		const stream = events(response);
		const first = await margay.status();
		const load = bench.load(sessions, 8);
		const burst = bench.burst(margay.port);
		await Promise.all([load.more(10), burst.more(50)]);
		for (let round = 1; round <= 3; round++) {
			const before = await margay.metrics();
			const answer = sessions[1].call('slow');
			await until('the call is at the upstream', () =>
				bench.server.seen.some(({ message }) => message?.params?.name === 'slow'),
			);
			bench.server.seen = [];
			await killMaster(margay);
			await Promise.all([load.more(20), burst.more(100)]);
			assert.equal(Number(textOf(await counter.call('counter')).split(' ')[1]), child);
			const orphaned = await margay.metrics();
			assert.deepEqual(decreased(before, orphaned), [], 'counters went down without a master');

			const { status, took } = await takeOver(margay);
			t.diagnostic(`taken over after ${took} ms`);
			// Sanitizers take their time to start.
			assert.ok(took <= (margay.sanitized ? 6000 : 2000), `taken over after ${took} ms`);
			assert.deepEqual(pidsOf(status), pidsOf(first));
			assert.equal(status.generation, first.generation);
			await Promise.all([load.more(20), burst.more(100)]);
			assert.equal((await within('the answer', answer)).status, 200);
			const now = await margay.metrics();
			assert.deepEqual(decreased(orphaned, now), [], 'counters went down with the new master');
			assert.equal(now.sum('margay_takeovers_total'), round);
			// Gauges of the dead are gone.
			assert.equal(now.sum('margay_generation'), first.generation);
			assert.deepEqual(now.select('margay_start_time_seconds').map(({ value }) => value > 0), [true]);
			assert.equal(now.sum('margay_worker_restarts_total'), 0);
			assert.equal(
				Number(textOf(await counter.call('counter')).split(' ')[1]),
				child,
				'the same child of stdio',
			);
			bench.stream.write('data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n');
			assert.match((await within('an event', stream.next())).value.data, /list_changed/);
		}
		await load.stop();
		await burst.stop();
		assert.deepEqual(load.failures, []);
		assert.deepEqual(burst.failures, []);
		assert.equal((await sessions[2].call('echo')).status, 200);

		await reload(margay);
		const reloaded = await margay.status();
		assert.equal(reloaded.generation, first.generation + 1);
		assert.equal(reloaded.keeper.pid, first.keeper.pid);
		assert.equal(Number(textOf(await counter.call('counter')).split(' ')[1]), child);
		streamed.destroy();
		const left = fs.readdirSync(margay.config.runtime_dir);
		assert.ok(left.includes('control.sock'), String(left));
		const pids = [...allPids(await margay.status()), ...allPids(first), child];
		margay.child.kill('SIGTERM');
		assert.deepEqual(
			await within('its end', margay.child.exit, 15_000).then(({ code, signal }) => [code, signal]),
			[0, null],
		);
		await gone(pids, 2000);
		assert.deepEqual(fs.readdirSync(margay.config.runtime_dir), []);
	});

	// Each phase of a start is met: before it asks, while it is told, while it tells, and when it has just begun to serve.
	test('of many masters in a row, the second at every moment of its start', async (t) => {
		const margay = await bench.start();
		const first = await margay.status();
		const burst = bench.burst(margay.port);
		const start = () =>
			new Child(binary, ['run', '-c', margay.file], { cwd: margay.dir, env: margay.environment });
		await killMaster(margay);
		const began = Date.now();
		margay.child = start();
		await until('it serves', () => margay.pid === margay.child.pid, { every: 1 });
		const took = Date.now() - began;
		for (let round = 0; round < MOMENTS; round++) {
			await killMaster(margay);
			const child = start();
			await new Promise((resolve) => setTimeout(resolve, (took * 1.2 * round) / MOMENTS));
			margay.child = child;
			await killMaster(margay);
			const { status } = await takeOver(margay);
			assert.deepEqual(pidsOf(status), pidsOf(first), `round ${round}`);
		}
		t.diagnostic(`a start took ${took} ms`);
		await burst.more(50);
		await burst.stop();
		assert.deepEqual(burst.failures, []);
	});
});

describe('what the new master is started with', OPTIONS, () => {
	const bench = setUp();

	test('other content of the file: taken over as it was, then reloaded', async () => {
		const margay = await bench.start({
			upstreams: { kept: { stdio: hostile() }, changed: { stdio: hostile() } },
			routes: { '/kept': { upstream: 'kept' }, '/changed': { upstream: 'changed' } },
		});
		const first = await margay.status();
		const open = (name) => RawSession.open(`${margay.origin}/${name}`);
		const pidOf = async (session) => Number(textOf(await session.call('counter')).split(' ')[1]);
		const [kept, changed] = [await open('kept'), await open('changed')];
		const children = [await pidOf(kept), await pidOf(changed)];
		await killMaster(margay);
		margay.write({
			upstreams: { changed: { stdio: { env: { CHANGED: '1' } } } },
			routes: { '/other': { upstream: 'main' } },
		});
		const burst = bench.burst(margay.port);
		await takeOver(margay);
		const status = await until('the new content serves', async () => {
			const now = await margay.status();
			return now.generation === first.generation + 1 && now;
		});
		assert.ok(logged(margay, 'taken over from a master that died'));
		assert.equal(status.broker.pid, first.broker.pid);
		assert.equal(status.keeper.pid, first.keeper.pid);
		assert.equal((await RawSession.open(`${margay.origin}/other`)).version, '2025-11-25');
		assert.equal(await pidOf(kept), children[0], 'its definition is the same');
		assert.notEqual(await pidOf(await open('changed')), children[1]);
		await burst.more(20);
		await burst.stop();
		assert.deepEqual(burst.failures, []);
	});

	test('a broken file: refused, and all serve on; a good one takes over', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		await killMaster(margay);
		const good = fs.readFileSync(margay.file, 'utf8');
		fs.writeFileSync(margay.file, `${good}\nwrokers: 2\n`);
		const { code, stderr } = await runAgain(margay);
		assert.equal(code, CONFIG_ERRORS);
		assert.match(stderr, /wrokers/);
		assert.equal((await RawSession.open(margay.url)).version, '2025-11-25');
		fs.writeFileSync(margay.file, good);
		assert.deepEqual(pidsOf((await takeOver(margay)).status), pidsOf(first));
	});

	// Control: a master that fails on its way takes all with it, or the sockets by which they are found.
	test('what prevents the takeover harms nobody', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		const session = await RawSession.open(margay.url);
		await killMaster(margay);
		const control = path.join(margay.config.runtime_dir, 'control.sock');
		fs.rmSync(control);
		fs.mkdirSync(control);
		const { code, stderr } = await runAgain(margay);
		assert.equal(code, 1);
		assert.match(stderr, /start failed/);
		assert.equal((await session.call('echo')).status, 200);
		fs.rmdirSync(control);
		const { status } = await takeOver(margay);
		assert.deepEqual(pidsOf(status), pidsOf(first));
		assert.equal((await margay.metrics()).sum('margay_generation'), first.generation);
	});

	test('a second one while a master lives, and two at once', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		const refused = await runAgain(margay);
		assert.equal(refused.code, 1);
		assert.match(refused.stderr, new RegExp(`already running.*pid ${first.pid}`));
		await killMaster(margay);
		const start = () =>
			new Child(binary, ['run', '-c', margay.file], { cwd: margay.dir, env: margay.environment });
		const both = [start(), start()];
		const loser = await Promise.race(
			both.map(async (child) => ({ child, ...(await child.exit) })),
		);
		assert.equal(loser.code, 1);
		assert.match(loser.stderr, /already running/);
		margay.child = both.find((child) => child !== loser.child);
		const status = await until('the other is the master', async () => {
			const now = await margay.status();
			return now.pid === margay.child.pid && now;
		});
		assert.deepEqual(pidsOf(status), pidsOf(first));
	});

	test('--daemon', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		await killMaster(margay);
		const { code, stderr } = await run(binary, ['run', '-c', margay.file, '--daemon'], {
			cwd: margay.dir,
			env: margay.environment,
		});
		assert.equal(code, 0, stderr);
		const status = await margay.status();
		assert.notEqual(status.pid, first.pid);
		assert.deepEqual(pidsOf(status), pidsOf(first));
		const stopped = await margay.command('stop');
		assert.equal(stopped.code, 0, stopped.stderr);
		await gone([status.pid, ...allPids(first)]);
	});
});

describe('the master is killed in the middle', OPTIONS, () => {
	const bench = setUp();

	// Control: listeners that nobody has yet made the new master give up, and take all with it.
	test('of a reload', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		const [port] = await freePorts(1);
		// The new workers can't become READY: they would greet a keeper and a broker that stand still.
		bench.pause(first.broker.pid);
		margay.write({ workers: 3, listen: [...margay.config.listen, { address: `127.0.0.1:${port}` }] });
		killPid(first.pid, 'SIGHUP');
		const starting = await until('new workers start', async () => {
			const now = (await margay.status()).workers.filter(({ generation }) => generation > first.generation);
			return now.length === 3 && now.map(({ pid }) => pid);
		});
		for (const pid of starting) bench.pause(pid);
		bench.resume(first.broker.pid);
		await killMaster(margay);
		for (const pid of starting) bench.resume(pid);
		await gone(starting);
		const burst = bench.burst(margay.port);
		const { status } = await takeOver(margay);
		assert.equal(status.pid, margay.child.pid);
		await until('the file is taken', async () => {
			const now = await margay.status();
			return now.workers.filter(({ state }) => state === 'accepting').length === 3;
		});
		assert.equal((await request(`http://127.0.0.1:${port}/none`)).status, 404);
		await burst.more(20);
		await burst.stop();
		assert.deepEqual(burst.failures, []);
	});

	test('of a drain, which goes on and ends; and while an address leaves', async () => {
		const margay = await bench.start();
		const [port] = await freePorts(1);
		let finish;
		bench.server.on['tools/call'] = ({ request: asked, response, message, server }) =>
			(finish = () => server.answer(asked, response, message));
		margay.write({ listen: [...margay.config.listen, { address: `127.0.0.1:${port}` }] });
		await reload(margay);
		const session = await RawSession.open(margay.url);
		const answer = session.call('slow');
		await until('the call is at the upstream', () => finish);
		const first = await margay.status();
		margay.write({ listen: [margay.config.listen[0]] });
		await reload(margay);
		await killMaster(margay);
		const burst = bench.burst(margay.port);
		await burst.more(20);
		const { status } = await takeOver(margay);
		assert.equal(status.generation, first.generation + 1);
		const draining = status.workers.filter(({ generation }) => generation === first.generation);
		assert.ok(draining.some(({ pid, state }) => pid > 0 && state === 'draining'));
		finish();
		assert.equal((await within('the answer', answer)).status, 200);
		await until('the drain ends', async () => (await margay.status()).workers.length === 2);
		await until('the address that left refuses', () =>
			new Promise((resolve) =>
				net
					.connect(port, '127.0.0.1')
					.once('connect', () => resolve(false))
					.once('error', ({ code }) => resolve(code === 'ECONNREFUSED')),
			),
		);
		await burst.stop();
		assert.deepEqual(burst.failures, []);
		assert.ok(!margay.log().some(({ level, message }) => level === 'error' && /killed/.test(message)));
	});

	test('of a back-off, and right after a worker died', async () => {
		const margay = await bench.start();
		const victim = async () => (await margay.status()).workers.find(({ number }) => number === 1);
		for (let kills = 0; kills < 5; kills++) {
			const { pid } = await until('worker 1 accepts', async () => {
				const worker = await victim();
				return worker.state === 'accepting' && worker;
			});
			killPid(pid, 'SIGKILL');
			await until('its end is noticed', async () => (await victim()).pid !== pid);
		}
		await until('it backs off', async () => (await victim()).state === 'backoff');
		await killMaster(margay);
		const { status } = await takeOver(margay);
		assert.equal(status.workers.length, 2);
		// Together: the master does not come to notice.
		const [{ pid }] = status.workers;
		killPid(margay.child.pid, 'SIGKILL');
		killPid(pid, 'SIGKILL');
		await killMaster(margay);
		const next = await takeOver(margay);
		assert.ok(next.status.workers.every((worker) => worker.pid !== pid));
		assert.equal(next.status.workers.length, 2);
		const replies = await Promise.all(
			Array.from({ length: 32 }, () => request(`${margay.origin}/none`, { timeout: 3000 })),
		);
		assert.ok(replies.every(({ status: code }) => code === 404));
	});

	// Control: a holder that kept what stops would hand over processes that end, and listeners that are shut.
	test('of a stop: nothing is left to take over, and the next start is the usual one', async () => {
		const margay = await bench.start();
		bench.server.on['tools/call'] = () => {};
		const session = await RawSession.open(margay.url);
		session.call('never').catch(() => {});
		await until('the call is at the upstream', () => bench.server.count('tools/call'));
		const first = await margay.status();
		killPid(first.pid, 'SIGTERM');
		await until('it stops', () => logged(margay, 'stopping'));
		await killMaster(margay);
		await gone(allPids(first));
		const { status } = await takeOver(margay);
		assert.ok(!logged(margay, 'taken over from a master that died'));
		assert.ok(allPids(status).every((pid) => !allPids(first).includes(pid)));
	});
});

describe('without a master', OPTIONS, () => {
	const bench = setUp();

	test('a worker that dies is not replaced, but by the next master', async () => {
		const margay = await bench.start();
		const first = await margay.status();
		await killMaster(margay);
		killPid(first.workers[0].pid, 'SIGKILL');
		await gone([first.workers[0].pid]);
		const { status } = await takeOver(margay);
		assert.equal(status.workers[1].pid, first.workers[1].pid);
		assert.ok(status.workers[0].pid > 0 && status.workers[0].pid !== first.workers[0].pid);
		assert.equal(status.workers[0].restarts, 1);
	});

	// Control: the broker holds the control socket, and whoever connects to it waits for nobody.
	test('a command says so instead of waiting', async () => {
		const margay = await bench.start();
		await killMaster(margay);
		const { code, stderr } = await margay.command('status');
		assert.equal(code, 3, stderr);
		assert.match(stderr, /the master .* is dead.*start another one/);
	});

	test('a keeper that dies costs no child', async () => {
		const margay = await bench.start({
			upstreams: { main: { http: undefined, stdio: hostile() } },
		});
		const session = await RawSession.open(margay.url);
		const [, child] = textOf(await session.call('counter')).split(' ').map(Number);
		const first = await margay.status();
		await killMaster(margay);
		killPid(first.keeper.pid, 'SIGKILL');
		await gone([first.keeper.pid]);
		assert.ok(isAlive(child));
		await takeOver(margay);
		assert.equal(Number(textOf(await session.call('counter')).split(' ')[1]), child);
	});

	// It held what the others live by.
	test('a broker that dies takes all with it, in good order', async () => {
		const margay = await bench.start({
			upstreams: { main: { http: undefined, stdio: hostile() } },
		});
		const session = await RawSession.open(margay.url);
		const [, child] = textOf(await session.call('counter')).split(' ').map(Number);
		const slow = session.call('sleep', { ms: 1000 });
		const first = await margay.status();
		await killMaster(margay);
		killPid(first.broker.pid, 'SIGKILL');
		await gone([...allPids(first), child]);
		await slow.catch(() => {});
		assert.ok(margay.log().some(({ message }) => /the master is gone/.test(message)));
		const { status } = await takeOver(margay);
		assert.ok(!logged(margay, 'taken over from a master that died'));
		assert.ok(status.generation >= 1);
	});

	// Control: a broker that has let go and still answers hands over nothing as if it were all.
	test('for longer than orphan_timeout all drain and end; until then a start is refused', async () => {
		const margay = await bench.start({
			orphan_timeout: '1s',
			upstreams: { counter: { stdio: hostile('stubborn') } },
			routes: { '/counter': { upstream: 'counter' } },
		});
		let finish;
		bench.server.on['tools/call'] = ({ request: asked, response, message, server }) =>
			(finish = () => server.answer(asked, response, message));
		const counter = await RawSession.open(`${margay.origin}/counter`);
		const [, child] = textOf(await counter.call('counter')).split(' ').map(Number);
		const session = await RawSession.open(margay.url);
		const answer = session.call('slow');
		await until('the call is at the upstream', () => finish);
		const first = await margay.status();
		await killMaster(margay);
		await until('it is given up', () => logged(margay, 'the master is dead: all processes drain and end'));
		const { code, stderr } = await runAgain(margay);
		assert.equal(code, 1);
		assert.match(stderr, /can't be taken over: they are ending already/);
		finish();
		assert.equal((await within('the answer', answer)).status, 200);
		await gone([...allPids(first), child]);
		const { status } = await takeOver(margay);
		assert.ok(!logged(margay, 'taken over from a master that died'));
		assert.ok(allPids(status).every((pid) => !allPids(first).includes(pid)));
	});

	test('with orphan_timeout 0 all drain and end at once', async () => {
		const margay = await bench.start({ orphan_timeout: '0' });
		const first = await margay.status();
		await killMaster(margay);
		await gone(allPids(first), 8000);
	});
});
