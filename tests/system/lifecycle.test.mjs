// Operating Margay: death of its processes, reload, stop, logs, commands. Clients call all the while,
// and what they notice is what counts.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
	binary,
	decreased,
	isAlive,
	killPid,
	Margay,
	RawSession,
	ScriptedServer,
	until,
	within,
} from './harness.mjs';
import { Load } from './load.mjs';

const OPTIONS = { timeout: 90_000, skip: binary ? false : 'needs MARGAY_BIN' };

// One scripted upstream; each test starts the Margay, the load and the watch it needs, and all of it
// ends with the test whatever happens.
function setUp() {
	const bench = { margays: [], running: [] };
	const keep = (one) => {
		bench.running.push(one);
		return one;
	};
	bench.load = (sessions, clients) => keep(Load.start(sessions, clients));
	bench.watch = (margay) => keep(watchMetrics(margay));
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.start = async (options = {}) => {
			const margay = await Margay.start({ upstream: bench.server.url, ...options });
			bench.margays.push(margay);
			return margay;
		};
	});
	afterEach(async (t) => {
		bench.server.on = {};
		await Promise.allSettled(bench.running.splice(0).map((one) => one.stop()));
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			await margay.stop();
		}
	});
	after(() => bench.server?.stop());
	return bench;
}

// Scrape until stopped; all that ever went down.
function watchMetrics(margay) {
	const falls = [];
	let running = true;
	let last;
	const done = (async () => {
		while (running) {
			// The connection of a scrape may die with the worker that serves it.
			const now = await margay.metrics().catch(() => undefined);
			if (now && last) falls.push(...decreased(last, now));
			last = now ?? last;
			await new Promise((resolve) => setTimeout(resolve, 50));
		}
		const now = await margay.metrics();
		if (last) falls.push(...decreased(last, now));
		return falls;
	})();
	return {
		stop() {
			running = false;
			return done;
		},
	};
}

const openSessions = (margay, count) =>
	Promise.all(Array.from({ length: count }, () => RawSession.open(margay.url)));

describe('death', OPTIONS, () => {
	const bench = setUp();

	// Control: without restart the process is not back; with counters in the process' own memory they
	// start again from 0; without slots held by the master connections to the dead worker's queue fail.
	test("kill -9 of a worker: the other workers' clients notice nothing", async () => {
		const margay = await bench.start();
		const sessions = await openSessions(margay, 4);
		const load = bench.load(sessions, 16);
		await load.more(20);
		const falls = bench.watch(margay);
		const served = await until('clients on 3 workers at least', () => {
			const map = load.servedBy(margay);
			return map.size >= 16 && new Set(map.values()).size >= 3 && map;
		});
		const victim = (await margay.status()).workers.find(({ number }) =>
			[...served.values()].includes(number),
		);
		const killed = Date.now();
		killPid(victim.pid, 'SIGKILL');
		const back = await until('the worker is back', async () => {
			const { workers } = await margay.status();
			return workers.some(
				({ number, pid, state }) =>
					number === victim.number &&
					pid > 0 &&
					pid !== victim.pid &&
					state === 'accepting',
			);
		}).then(() => Date.now() - killed);
		assert.ok(back <= (margay.sanitized ? 5000 : 1000), `back after ${back} ms`);
		await load.more(20);
		await load.stop();
		const all = load.servedBy(margay);
		const innocent = load.failures.filter(
			({ connection }) => all.get(connection) !== victim.number,
		);
		assert.deepEqual(innocent, [], 'failures on connections of other workers');
		const most = Math.max(...load.clients.map(({ failures }) => failures.length));
		assert.ok(most <= 1, JSON.stringify(load.failures));
		assert.deepEqual(await falls.stop(), [], 'counters went down');
		assert.equal((await margay.metrics()).sum('margay_worker_restarts_total'), 1);
	});

	// Control: without adoption half of the new connections wait in the queues of the worker that is not
	// there, until its back-off (three seconds by then) ends.
	test('a worker that backs off leaves no new client waiting', async () => {
		const margay = await bench.start({ config: { workers: 2 } });
		const [session] = await openSessions(margay, 1);
		const second = async () =>
			(await margay.status()).workers.find(({ number }) => number === 1);
		for (let kills = 1; kills <= 7; kills++) {
			const { pid } = await until('worker 1 accepts', async () => {
				const worker = await second();
				return worker.state === 'accepting' && worker;
			});
			killPid(pid, 'SIGKILL');
			await until('its end is noticed', async () => (await second()).pid !== pid);
		}
		const answers = await Promise.all(
			Array.from({ length: 64 }, () => session.request('ping')),
		);
		assert.ok(answers.every(({ status }) => status === 200));
		assert.equal((await second()).state, 'backoff', 'nobody waited for its end');
	});

	// Control: a broker that forgot would make workers that did not cache the session answer 404.
	test('kill -9 of the broker: nobody notices', async () => {
		const margay = await bench.start();
		const sessions = await openSessions(margay, 4);
		const uncached = await openSessions(margay, 8);
		const load = bench.load(sessions, 16);
		await load.more(20);
		const falls = bench.watch(margay);
		const { broker } = await margay.status();
		const killed = Date.now();
		killPid(broker.pid, 'SIGKILL');
		const back = await until('the broker is back', async () => {
			const now = (await margay.status()).broker;
			return now?.pid > 0 && now.pid !== broker.pid;
		}).then(() => Date.now() - killed);
		assert.ok(back <= (margay.sanitized ? 5000 : 1000), `back after ${back} ms`);
		await load.more(20);
		// From many connections, so from workers that must ask the new broker.
		for (const session of uncached) {
			const replies = await Promise.all(
				Array.from({ length: 12 }, () => session.call('echo')),
			);
			assert.deepEqual([...new Set(replies.map(({ status }) => status))], [200]);
		}
		const fresh = await RawSession.open(margay.url);
		assert.equal((await fresh.call('echo')).status, 200);
		assert.ok([200, 204].includes((await uncached[0].delete()).status));
		await until('every worker knows that the session is over', async () => {
			const replies = await Promise.all(
				Array.from({ length: 12 }, () => uncached[0].call('echo')),
			);
			return replies.every(({ status }) => status === 404);
		});
		await load.stop();
		assert.deepEqual(load.failures, []);
		assert.deepEqual(await falls.stop(), [], 'counters went down');
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_broker_restarts_total'), 1);
		assert.equal(metrics.sum('margay_worker_restarts_total'), 0);
	});

	test('no process outlives a killed master for long', async () => {
		const margay = await bench.start();
		const { pid, workers, broker } = await margay.status();
		killPid(pid, 'SIGKILL');
		await margay.child.exit;
		margay.child = undefined;
		await until('workers and broker are gone', () =>
			[...workers.map((one) => one.pid), broker.pid].every((one) => !isAlive(one)),
		);
		// And the runtime directory they left is no obstacle.
		await margay.run();
		const session = await RawSession.open(margay.url);
		assert.equal((await session.call('echo')).status, 200);
	});
});

describe('reload', OPTIONS, () => {
	const bench = setUp();
	const BROKEN = [
		['an unknown key', (lines) => lines.concat('wrokers: 2'), 'wrokers'],
		[
			'a duration that is none',
			(lines) => lines.concat('timeouts:', '  client_header: 10x'),
			'client_header',
		],
		[
			'a route without upstream',
			(lines) => lines.map((line) => line.replace(/upstream: main$/, 'upstream: nobody')),
			'upstream',
		],
		['no YAML', (lines) => lines.concat('log: [unclosed'), ''],
	];
	const readLines = (margay) => fs.readFileSync(margay.file, 'utf8').trimEnd().split('\n');

	// Control: a master that took the file before it checked it would serve the new one, or none.
	for (const [what, breakIt, key] of BROKEN)
		test(`a file with ${what} changes nothing and is refused by line and key`, async () => {
			const margay = await bench.start();
			const before = await margay.status();
			const session = await RawSession.open(margay.url);
			const lines = breakIt(readLines(margay));
			const line = lines.findLastIndex((text) => text.includes(key || 'unclosed')) + 1;
			fs.writeFileSync(margay.file, `${lines.join('\n')}\n`);

			const { code, stdout, stderr } = await margay.command('reload');
			assert.notEqual(code, 0);
			const said = stdout + stderr;
			if (key) {
				assert.match(said, new RegExp(`:${line}\\b`), 'names the line');
				assert.match(said, new RegExp(`\\b${key}\\b`), 'names the key');
			} else {
				assert.match(said, /margay\.yaml:\d+/);
			}

			const attempts = async () =>
				(await margay.metrics()).sum('margay_config_reloads_total');
			const tried = await attempts();
			killPid(before.pid, 'SIGHUP');
			await until('SIGHUP was answered', async () => (await attempts()) > tried);
			await until('the log says why', () =>
				margay
					.log()
					.some(
						(one) =>
							['error', 'warn'].includes(one.level) &&
							JSON.stringify(one).includes(key || 'margay.yaml'),
					),
			);

			const now = await margay.status();
			assert.equal(now.generation, before.generation);
			assert.deepEqual(
				now.workers.map(({ pid }) => pid),
				before.workers.map(({ pid }) => pid),
			);
			assert.equal((await session.call('echo')).status, 200);
			const metrics = await margay.metrics();
			assert.equal(metrics.sum('margay_config_last_reload_successful'), 0);
		});

	for (const [what, reload] of [
		['margay reload', (margay) => margay.command('reload')],
		['SIGHUP', async (margay) => ({ code: killPid(margay.child.pid, 'SIGHUP') ? 0 : 1 })],
	])
		test(`${what} with a good file: no request fails and the new route works`, async () => {
			const margay = await bench.start();
			const before = await margay.status();
			const load = bench.load(await openSessions(margay, 4), 8);
			await load.more(10);
			const falls = bench.watch(margay);
			margay.write({ routes: { '/new': { upstream: 'main' } }, workers: 3 });
			const { code, stderr } = await reload(margay);
			assert.equal(code, 0, stderr);
			const now = await until('the new generation serves', async () => {
				const status = await margay.status();
				return status.generation > before.generation && status;
			});
			assert.equal(now.generation, before.generation + 1);
			const session = await until('the new route works', () =>
				RawSession.open(`${margay.origin}/new`),
			);
			assert.equal((await session.call('echo')).status, 200);
			await load.more(10);
			await until('the old workers are gone', () =>
				before.workers.every(({ pid }) => !isAlive(pid)),
			);
			await load.more(10);
			await load.stop();
			assert.deepEqual(load.failures, []);
			assert.deepEqual(await falls.stop(), [], 'counters went down');
			const metrics = await margay.metrics();
			assert.equal(metrics.sum('margay_config_last_reload_successful'), 1);
			assert.equal(metrics.sum('margay_generation'), now.generation);
			assert.equal(metrics.sum('margay_worker_restarts_total'), 0);
		});
});

describe('stop', OPTIONS, () => {
	const bench = setUp();

	// A call that is under way at the upstream until `finish` is called.
	async function hold(margay) {
		let finish;
		bench.server.on['tools/call'] = ({ request, response, message, server }) =>
			(finish = () => server.answer(request, response, message));
		const session = await RawSession.open(margay.url);
		const answer = session.call('echo', {}, { id: 'held' }).catch((error) => error);
		await until('the call is at the upstream', () => finish);
		return { answer, finish };
	}

	for (const [what, stop] of [
		['SIGTERM', async (margay) => void killPid(margay.child.pid, 'SIGTERM')],
		['margay stop', async (margay) => void margay.command('stop')],
	])
		// Control: a stop that is not graceful cuts the held call off.
		test(`${what} lets a call that is under way end`, async () => {
			const margay = await bench.start();
			const { answer, finish } = await hold(margay);
			await stop(margay);
			await until('no new clients are taken', () =>
				RawSession.open(margay.url, { timeout: 500 }).then(
					() => false,
					() => true,
				),
			);
			assert.ok(!margay.child.ended, 'stopped before the call ended');
			finish();
			const { status, message } = await within('the answer', answer);
			assert.equal(status, 200);
			assert.equal(message.id, 'held');
			const { code } = await within('the end of margay', margay.child.exit);
			assert.equal(code, 0);
		});

	test('a graceful stop has a deadline', async () => {
		const margay = await bench.start({ config: { timeouts: { shutdown: '1s' } } });
		const { answer } = await hold(margay);
		killPid(margay.child.pid, 'SIGTERM');
		const { code } = await within('the end of margay', margay.child.exit, 10_000);
		assert.equal(code, 0);
		await within('the end of the call', answer);
	});

	test('SIGQUIT stops at once', async () => {
		const margay = await bench.start({ config: { timeouts: { shutdown: '60s' } } });
		const { answer } = await hold(margay);
		killPid(margay.child.pid, 'SIGQUIT');
		await within('the end of margay', margay.child.exit, 5000);
		assert.notEqual((await within('the end of the call', answer)).status, 200);
	});
});

describe('commands', OPTIONS, () => {
	const bench = setUp();

	test('SIGUSR1 opens a renamed log again', async () => {
		const margay = await bench.start();
		const session = await RawSession.open(margay.url);
		await session.call('echo', {}, { id: 'old' });
		await until('the old log has the call', () => margay.accesses({ id: 'old' }).length);
		const rotated = `${margay.logFile}.1`;
		fs.renameSync(margay.logFile, rotated);
		killPid(margay.child.pid, 'SIGUSR1');
		await until('there is a new log', () => fs.existsSync(margay.logFile));
		let n = 0;
		// Every worker must have moved on: calls on fresh connections reach them all.
		await until('all workers write to the new log', async () => {
			const calls = Array.from({ length: 16 }, () =>
				session.call('echo', {}, { id: `new${n++}` }),
			);
			await Promise.all(calls);
			return new Set(margay.accesses().map(({ worker }) => worker)).size === 4;
		});
		const size = fs.statSync(rotated).size;
		await session.call('echo', {}, { id: 'last' });
		await until('the new log has the last call', () => margay.accesses({ id: 'last' }).length);
		assert.equal(fs.statSync(rotated).size, size);
	});

	test('check reports every error by file, line and key, and changes nothing', async () => {
		const margay = await bench.start();
		const before = await margay.status();
		assert.equal((await margay.command('check')).code, 0);
		const lines = [
			'workers: many',
			'listen:',
			'  - address: 127.0.0.1:99999',
			'upstreams:',
			'  main: {http: {url: "ftp://127.0.0.1/mcp"}}',
			'routes:',
			'  /mcp: {upstream: nobody}',
			'timeuots:',
			'  client_header: 10s',
			'sessions:',
			'  idle_timeout: soon',
		];
		fs.writeFileSync(margay.file, `${lines.join('\n')}\n`);
		const { code, stdout, stderr } = await margay.command('check');
		assert.notEqual(code, 0);
		const said = stdout + stderr;
		for (const [line, key] of [
			[1, 'workers'],
			[3, 'address'],
			[5, 'url'],
			[7, 'upstream'],
			[8, 'timeuots'],
			[11, 'idle_timeout'],
		])
			assert.match(
				said,
				new RegExp(`margay\\.yaml:${line}: .*${key}`),
				`line ${line}: ${key}`,
			);
		assert.match(said, /timeouts/, 'suggests the right key');
		margay.write();
		assert.equal((await margay.status()).generation, before.generation);
	});

	test('a second run on the same runtime_dir is refused and names the first', async () => {
		const margay = await bench.start();
		const { pid } = await margay.status();
		const { code, stdout, stderr } = await margay.command('run');
		assert.notEqual(code, 0);
		assert.match(stdout + stderr, new RegExp(`\\b${pid}\\b`));
		const session = await RawSession.open(margay.url);
		assert.equal((await session.call('echo')).status, 200);
	});

	test('status speaks to people and to programs', async () => {
		const margay = await bench.start();
		const status = await margay.status();
		assert.equal(status.pid, margay.child.pid);
		assert.equal(status.workers.length, 4);
		assert.deepEqual(status.workers.map(({ number }) => number).sort(), [0, 1, 2, 3]);
		assert.ok(
			status.workers.every(
				({ state, generation }) =>
					state === 'accepting' && generation === status.generation,
			),
		);
		assert.ok(isAlive(status.broker.pid));
		const human = await margay.command('status');
		assert.equal(human.code, 0);
		for (const pid of [status.pid, status.broker.pid, ...status.workers.map((one) => one.pid)])
			assert.match(human.stdout, new RegExp(`\\b${pid}\\b`));
		assert.throws(() => JSON.parse(human.stdout));
	});

	test('processes carry their titles', async () => {
		const margay = await bench.start();
		const { pid, generation, workers, broker } = await margay.status();
		const title = (of) => fs.readFileSync(`/proc/${of}/cmdline`, 'utf8').replace(/\0+$/, '');
		assert.match(title(pid), /^margay: master/);
		assert.match(title(broker.pid), /^margay: broker/);
		for (const { number, pid: worker } of workers)
			assert.match(
				title(worker),
				new RegExp(`^margay: worker ${number} \\(gen ${generation}\\)`),
			);
	});

	test('--daemon detaches, and stop ends it', async () => {
		const margay = await Margay.prepare({ upstream: bench.server.url });
		bench.margays.push(margay);
		const { code, stderr, leaky } = await margay.command('run', '--daemon');
		assert.equal(code, 0, stderr);
		await margay.ready();
		const { pid, workers } = await margay.status();
		assert.ok(!leaky, 'the daemon kept the output of its caller');
		const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
		assert.equal(stat[4], '0', 'no terminal');
		const session = await RawSession.open(margay.url);
		assert.equal((await session.call('echo')).status, 200);
		const stopped = await margay.command('stop');
		assert.equal(stopped.code, 0, stopped.stderr);
		await until('all are gone', () =>
			[pid, ...workers.map((one) => one.pid)].every((one) => !isAlive(one)),
		);
		const none = await margay.command('status');
		assert.notEqual(none.code, 0);
		assert.match(none.stderr, /\w/);
	});

	test('the control socket is for the owner alone', async () => {
		const margay = await bench.start();
		const dir = margay.config.runtime_dir;
		const sockets = fs
			.readdirSync(dir)
			.map((name) => fs.statSync(path.join(dir, name)))
			.filter((stat) => stat.isSocket());
		assert.ok(sockets.length >= 1);
		for (const { mode } of sockets) assert.equal(mode & 0o077, 0);
	});
});
