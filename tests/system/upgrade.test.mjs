// Upgrade and rollback: another master takes over from the one that runs, and nothing of what clients have notices;
// whatever goes wrong on the way leaves everything as it was.
import { afterEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import {
	binary,
	decreased,
	freeze,
	isAlive,
	killPid,
	Margay,
	RawSession,
	rest,
	ScriptedServer,
	stateOfProcess,
	until,
} from './harness.mjs';
import { Control } from './control.mjs';
import { Driver, startLoadUpstream } from './driver.mjs';
import { childrenOf, hostile, textOf } from './stdio.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const otherVersion = binary && path.join(path.dirname(binary), 'tests/margay-other-version');

let ends = [];
const later = (end) => ends.push(end);
afterEach(async (t) => {
	const last = ends.reverse();
	ends = [];
	for (const end of last) await end(t);
});

// A Margay with load on it from drivers of both eras: requests, streams, subscriptions. `config` and the rest as of
// Margay.start.
async function start({ config = {}, killed = false, ...options } = {}) {
	const bench = { killed };
	const upstream = await startLoadUpstream();
	later(() => upstream.stop());
	const server = await ScriptedServer.start();
	later(() => server.stop());
	bench.server = server;
	const margay = await Margay.start({
		upstream: upstream.url,
		config: {
			workers: 2,
			...config,
			timeouts: { drain_spread: '1s', keepalive_linger: '60s', ...config.timeouts },
			upstreams: {
				own: { stdio: hostile() },
				slow: { http: { url: server.url } },
				...config.upstreams,
			},
			routes: { '/own': { upstream: 'own' }, '/slow': { upstream: 'slow' } },
		},
		...options,
	});
	later(async (t) => {
		// Without its many requests.
		const lines = () => margay.log().filter(({ message }) => message !== 'request');
		if (t.error) t.diagnostic(lines().map((line) => JSON.stringify(line)).join('\n'));
		await margay.stop({ killed: bench.killed });
	});
	bench.margay = margay;
	bench.url = (name) => `${margay.origin}/${name}`;
	bench.load = async (rate = 25) => {
		const driver = Driver.start(margay.url, { keepalive: 4, connects: 2, streams: 4, rate, late: 0 });
		later(async () => driver.child.ended || driver.child.stop({ signal: 'SIGKILL' }));
		await driver.begun();
		await driver.until('streams are open', ({ kinds }) =>
			['streams_legacy', 'streams_modern'].every((kind) => kinds[kind].events > 0),
		);
		return driver;
	};
	return bench;
}

async function ask(margay, command, more) {
	const control = await Control.open(margay);
	try {
		return await control.ask(command, more);
	} finally {
		control.close();
	}
}

const answeredOf = ({ kinds }) => Object.values(kinds).map(({ answered }) => answered);

// Whoever calls is answered on: everybody anew, streams too.
async function goesOn(driver) {
	const before = await driver.report();
	const events = (report) => report.kinds.streams_legacy.events;
	await driver.until('the load goes on', (now) =>
		answeredOf(now).every(
			(n, i) => n > answeredOf(before)[i] + 2 || Object.keys(now.kinds)[i].startsWith('streams'),
		) && events(now) > events(before) + 20,
	);
}

async function unharmed(driver) {
	const report = await driver.stop();
	assert.deepEqual(report.failures, [], JSON.stringify(report.kinds));
	assert.equal(report.failed, 0, JSON.stringify(report));
	return report;
}

// A connection that keeps an old worker, and with it its master, until it is let go.
async function hold(bench) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
	later(() => agent.destroy());
	await RawSession.open(bench.margay.url, { agent });
	bench.held = true;
	return () => {
		bench.held = false;
		agent.destroy();
	};
}

// What must be the same after an upgrade that failed.
function listening(pid) {
	const listeners = new Set(
		fs
			.readFileSync('/proc/net/tcp', 'utf8')
			.split('\n')
			.map((line) => line.trim().split(/\s+/))
			.filter((row) => row[3] === '0A')
			.map((row) => `socket:[${row[9]}]`),
	);
	return descriptors(pid).filter((name) => listeners.has(name));
}
const linkOf = (pid, fd) => {
	try {
		return fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
	} catch {
		return undefined; // closed meanwhile
	}
};
const descriptors = (pid) =>
	fs
		.readdirSync(`/proc/${pid}/fd`)
		.map((fd) => linkOf(pid, fd))
		.filter(Boolean)
		.sort();

async function stateOf({ margay }) {
	const { pid, generation, workers, broker, keeper } = await margay.status();
	return {
		pid,
		generation,
		file: margay.pid,
		workers: workers.map((one) => `${one.pid} ${one.state}`),
		broker: broker.pid,
		keeper: keeper.pid,
		listening: listening(pid),
	};
}

// A whole good upgrade: the new state. `by`: how it is asked for.
async function upgraded(bench, by = async () => ask(bench.margay, 'upgrade')) {
	const { margay } = bench;
	const before = await margay.status();
	const answer = await by();
	if (answer) assert.equal(answer.ok, true, answer.message);
	await until('another master is there', () => margay.pid && margay.pid !== before.pid);
	const after = await until('it serves', async () => {
		const now = await margay.status();
		return now.pid === margay.pid && now.generation > before.generation && now;
	});
	if (answer) assert.match(answer.message, new RegExp(`master ${after.pid}, generation ${after.generation}`));
	assert.equal(after.generation, before.generation + 1);
	if (!bench.held) await exchanged(margay, before);
	return margay.status();
}

// Once the old master has gone, broker and keeper are of the new binary.
const exchanged = (margay, before) =>
	until('broker and keeper are of the new binary', async () => {
		const { broker, keeper } = await margay.status();
		return [broker, keeper].every(
			({ pid, state }) => ![before.broker.pid, before.keeper.pid].includes(pid) && state === 'accepting',
		);
	}, { timeout: 30_000 });

const pidIn = (file) => Number(fs.readFileSync(file, 'utf8'));
const isStopped = (pid) => pid > 0 && stateOfProcess(pid) === 'T';
const gone = (pid) => until(`process ${pid} is gone`, () => !isAlive(pid), { timeout: 20_000 });
// A process that is gone is a zombie until node has asked for its status.
const succeeded = async ({ child: { process } }) => {
	await until('its status is known', () => process.exitCode !== null || process.signalCode !== null);
	assert.equal(process.exitCode, 0);
};
const counterOf = async (session) => textOf(await session.call('counter')).split(' ').map(Number);

// Sessions at a child of their own, and calls under way at the child and at an HTTP server.
async function busy(bench) {
	const sessions = await Promise.all([0, 1].map(() => RawSession.open(bench.url('own'))));
	const pids = [];
	for (const session of sessions) pids.push((await counterOf(session))[1]);
	bench.server.on['tools/call'] = ({ request, response, message, server }) =>
		setTimeout(() => server.answer(request, response, message), 3000);
	const http = await RawSession.open(bench.url('slow'));
	let calls = 1;
	const begin = async () => {
		const before = bench.server.count('tools/call');
		const answers = [sessions[0].call('sleep', { ms: 3000 }), http.call('slow')];
		calls++;
		await until('the calls are under way', async () =>
			bench.server.count('tools/call') > before &&
			(await childrenOf(bench.margay)).some((child) => child.calls === 1),
		);
		return async () => {
			assert.equal(textOf(await answers[0]), 'slept');
			const { status, message } = await answers[1];
			assert.ok(status === 200 && message.result, JSON.stringify(message));
		};
	};
	const same = async () => {
		for (const [i, session] of sessions.entries()) {
			const [count, pid] = await counterOf(session);
			assert.equal(pid, pids[i], 'its child is the same');
			assert.ok(count > 1);
		}
		assert.ok(calls > 0);
	};
	return { begin, same };
}

describe('upgrade', OPTIONS, () => {
	// Control: without upgrade_retire both masters restart workers and answer the control socket; without the broker
	// and keeper in the manifest sessions and children are lost.
	test('costs nobody anything, twice, and a reload in between', async () => {
		const bench = await start();
		const { margay } = bench;
		const driver = await bench.load();
		const work = await busy(bench);
		const old = (await margay.status()).pid;
		const metrics = await margay.metrics();
		const letGo = await hold(bench);
		const slept = await work.begin();
		const after = await upgraded(bench);
		await slept();
		await work.same();
		await goesOn(driver);
		assert.deepEqual(decreased(metrics, await margay.metrics()), []);
		assert.equal((await margay.metrics()).sum('margay_upgrades_total'), 1);
		assert.ok(isAlive(old), 'it waits for its workers');
		assert.match((await ask(margay, 'upgrade')).message, /the last upgrade is not over/);
		letGo();
		await gone(old);
		await succeeded(margay);
		await exchanged(margay, after);

		const reload = await ask(margay, 'reload');
		assert.ok(reload.ok, reload.message);
		assert.equal(reload.generation, after.generation + 1);
		await work.same();
		await goesOn(driver);

		const again = await work.begin();
		const { pid } = await upgraded(bench);
		await again();
		await work.same();
		await goesOn(driver);
		assert.deepEqual(decreased(metrics, await margay.metrics()), []);
		await gone(after.pid);
		assert.equal(margay.pid, pid);
		await unharmed(driver);
		const errors = margay.log().filter(({ level }) => level === 'error');
		assert.deepEqual(errors, []);
	});

	test('is begun by SIGUSR2, too', async () => {
		const bench = await start();
		const { pid } = await bench.margay.status();
		await upgraded(bench, async () => void killPid(pid, 'SIGUSR2'));
		await gone(pid);
		await succeeded(bench.margay);
	});

	test('hands a reload that was asked for meanwhile to the new master', async () => {
		const bench = await start();
		const { margay } = bench;
		const old = margay.pid;
		await hold(bench);
		const go = path.join(margay.dir, 'go');
		const { file } = script(`until [ -e ${go} ]; do sleep 0.1; done; exec ${binary} "$@"`)(margay);
		const upgrading = ask(margay, 'upgrade', { path: file });
		await until('it has begun', () => margay.log().some(({ message }) => message === 'upgrade begins'));
		const reloading = ask(margay, 'reload');
		// Asked later, so the reload has been heard.
		await ask(margay, 'status');
		fs.writeFileSync(go, '');
		const [upgrade, reload] = await Promise.all([upgrading, reloading]);
		assert.equal(upgrade.ok, true, upgrade.message);
		assert.equal(reload.ok, false);
		assert.match(reload.message, /another master serves now, and reloads/);
		await until('it has reloaded', async () => (await margay.status()).generation === 3);
		assert.notEqual((await margay.status()).pid, old);
		assert.ok(isAlive(old));
	});

	test('under way is given up for a stop', async () => {
		const bench = await start();
		const { margay } = bench;
		const script = path.join(margay.dir, 'sleeps');
		fs.writeFileSync(script, '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
		const answer = ask(margay, 'upgrade', { path: script });
		await until('it has begun', () => margay.log().some(({ message }) => message === 'upgrade begins'));
		margay.child.kill('SIGTERM');
		const { ok, message } = await answer;
		assert.deepEqual([ok, message], [false, 'Margay was told to stop']);
	});
});

// What is given as the new binary, or done besides, and what the answer says.
const script = (text) => (margay) => {
	const file = path.join(margay.dir, 'other');
	fs.writeFileSync(file, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
	return { file };
};
const FAILURES = {
	'a path that does not exist': [() => ({ file: '/nowhere/margay' }), /No such file/],
	'a file that is not executable': [(margay) => ({ file: margay.file }), /Permission denied|can't be executed/],
	'a directory': [(margay) => ({ file: margay.dir }), /can't be executed/],
	'a relative path': [() => ({ file: 'margay' }), /whole path/],
	'a script that exits with 1': [script('exit 1'), /exit code 1/],
	'a program that ends well': [() => ({ file: '/bin/true' }), /exit code 0/],
	'a binary that is killed while it starts': [script('kill -9 $$'), /killed by signal 9/],
	'a binary of another protocol': [() => ({ file: otherVersion }), /exit code 1/],
	'a broken configuration': [
		(margay) => {
			const good = fs.readFileSync(margay.file);
			fs.writeFileSync(margay.file, 'workers: many\n');
			return { undo: () => fs.writeFileSync(margay.file, good) };
		},
		/exit code/,
	],
	'another runtime_dir': [
		(margay) => {
			const good = fs.readFileSync(margay.file, 'utf8');
			const other = path.join(margay.dir, 'elsewhere');
			fs.writeFileSync(margay.file, good.replace(margay.config.runtime_dir, other));
			return { undo: () => fs.writeFileSync(margay.file, good) };
		},
		/exit code 1/,
	],
	'an address that is taken': [
		async (margay) => {
			const good = fs.readFileSync(margay.file);
			const server = net.createServer();
			await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
			const listen = [...margay.config.listen, { address: `127.0.0.1:${server.address().port}` }];
			const before = margay.config.listen;
			margay.write({ listen });
			return {
				undo: () => {
					margay.write({ listen: before });
					assert.deepEqual(fs.readFileSync(margay.file), good);
					server.close();
				},
			};
		},
		/exit code 1/,
	],
};

describe('an upgrade changes nothing with', OPTIONS, () => {
	async function changesNothing(bench, options, pattern) {
		const { margay } = bench;
		const before = await stateOf(bench);
		const open = descriptors(before.pid);
		const { ok, message } = await ask(margay, 'upgrade', { timeout: 30_000, ...options });
		assert.equal(ok, false);
		assert.match(message, pattern);
		assert.deepEqual(await stateOf(bench), before);
		await until('nothing of it is left open', () =>
			descriptors(before.pid).join() === open.join(),
		);
	}

	// One Margay under load for all of them: the last upgrade is a good one.
	test('whatever is no new Margay', async () => {
		const bench = await start();
		const driver = await bench.load();
		for (const [what, [make, pattern]] of Object.entries(FAILURES))
			try {
				const { file, undo } = await make(bench.margay);
				await changesNothing(bench, file === undefined ? {} : { path: file }, pattern);
				undo?.();
			} catch (error) {
				error.message = `${what}: ${error.message}`;
				throw error;
			}
		await goesOn(driver);
		await upgraded(bench);
		await goesOn(driver);
		await unharmed(driver);
	});

	test('one that says nothing for 20 seconds', async () => {
		const bench = await start();
		const driver = await bench.load();
		const { file } = script('exec sleep 600')(bench.margay);
		await changesNothing(bench, { path: file }, /not ready within 20 seconds/);
		await unharmed(driver);
		await upgraded(bench);
	});

	// Others are stopped so that the moment is met: without the broker no worker is READY, without the old master
	// nothing is handed over. Control: an old master that does not come back when it has handed over.
	for (const when of ['its workers start', 'its workers are READY', 'it is handed everything'])
		test(`a new master that is killed when ${when}`, async () => {
			const bench = await start();
			const { margay } = bench;
			const driver = await bench.load();
			const before = await stateOf(bench);
			const stopped = [];
			later(() => stopped.forEach((pid) => killPid(pid, 'SIGCONT')));
			const stop = (pid) => {
				stopped.push(pid);
				assert.ok(freeze(pid));
			};
			const goOn = (pid) => killPid(pid, 'SIGCONT');
			stop(before.broker);
			const answer = ask(margay, 'upgrade');
			const started = () =>
				margay.log().filter(({ message, child, generation }) =>
					message === 'started' && /^worker/.test(child) && generation === before.generation + 1,
				);
			await until('its workers start', () => started().length === 2);
			const { pid } = started()[0];
			if (when !== 'its workers start') {
				stop(before.pid);
				goOn(before.broker);
				await rest([pid, ...started().map((line) => line.child_pid)]);
			}
			if (when === 'it is handed everything') {
				stop(pid);
				goOn(before.pid);
				await rest([before.pid]);
			}
			killPid(pid, 'SIGKILL');
			stopped.forEach(goOn);
			const { ok, message } = await answer;
			assert.equal(ok, false);
			assert.match(message, /killed by signal 9/);
			assert.deepEqual(await stateOf(bench), before);
			await goesOn(driver);
			await upgraded(bench);
			await goesOn(driver);
			await unharmed(driver);
		});
});

describe('the death of', OPTIONS, () => {
	// Control: an old master that does not take over ends, and with it everything, after orphan_timeout.
	for (const when of ['as soon as it serves', 'later'])
		test(`the new master ${when} brings the old one back`, async () => {
			const bench = await start();
			const { margay } = bench;
			const driver = await bench.load();
			const work = await busy(bench);
			const old = (await margay.status()).pid;
			const letGo = await hold(bench);
			const slept = await work.begin();
			if (when === 'later') await upgraded(bench);
			else assert.ok((await ask(margay, 'upgrade')).ok);
			killPid(margay.pid, 'SIGKILL');
			await until('the old one is the master', () => margay.pid === old);
			const status = await until('it serves', async () => {
				const now = await margay.status();
				return now.pid === old && now;
			});
			assert.ok(status.workers.some(({ state }) => state === 'accepting'));
			await slept();
			await work.same();
			await goesOn(driver);
			const { ok, message } = await ask(margay, 'reload');
			assert.ok(ok, message);
			letGo();
			await goesOn(driver);
			await upgraded(bench);
			await work.same();
			await goesOn(driver);
			await unharmed(driver);
			assert.equal((await margay.metrics()).select('margay_start_time_seconds').length, 1);
		});

	test('the old master after the hand-over is nothing', async () => {
		const bench = await start({ killed: true });
		const { margay } = bench;
		const driver = await bench.load();
		const work = await busy(bench);
		await hold(bench);
		const old = margay.pid;
		const { pid } = await upgraded(bench);
		assert.ok(isAlive(old));
		const slept = await work.begin();
		killPid(old, 'SIGKILL');
		await until('it is heard of', () =>
			margay.log().some(({ message }) => message === 'the old master has ended'),
		);
		await slept();
		await work.same();
		await goesOn(driver);
		assert.equal((await margay.status()).pid, pid);
		assert.match((await ask(margay, 'rollback')).message, /no old master is left/);
		await upgraded(bench);
		await goesOn(driver);
		await unharmed(driver);
	});

	test('the old master while the new one starts leaves the way free for a third', async () => {
		const bench = await start({ killed: true, config: { orphan_timeout: '30s' } });
		const { margay } = bench;
		const driver = await bench.load();
		const work = await busy(bench);
		const old = margay.pid;
		const { workers } = await margay.status();
		const stopped = path.join(margay.dir, 'stopped');
		const { file } = script(`echo $$ >${stopped}; kill -STOP $$; exec ${binary} "$@"`)(margay);
		const asked = ask(margay, 'upgrade', { path: file }).catch((error) => error);
		await until('it is stopped', () => fs.existsSync(stopped) && isStopped(pidIn(stopped)));
		killPid(old, 'SIGKILL');
		await asked;
		await gone(old);
		killPid(pidIn(stopped), 'SIGCONT');
		await gone(pidIn(stopped));
		await margay.run();
		bench.killed = false;
		const status = await margay.status();
		assert.notEqual(status.pid, old);
		assert.deepEqual(status.workers.map(({ pid }) => pid), workers.map(({ pid }) => pid));
		await work.same();
		await goesOn(driver);
		await unharmed(driver);
	});
});

describe('rollback', OPTIONS, () => {
	// Control: without the state RETURNING the old master, or the new one, ends with its workers.
	for (const broken of [false, true])
		test(`brings the old master back${broken ? ', whatever the file says' : ''}`, async () => {
			const bench = await start();
			const { margay } = bench;
			const driver = await bench.load();
			const work = await busy(bench);
			const old = margay.pid;
			const metrics = await margay.metrics();
			const letGo = await hold(bench);
			const { pid } = await upgraded(bench);
			const slept = await work.begin();
			const good = fs.readFileSync(margay.file);
			if (broken) fs.writeFileSync(margay.file, 'workers: many\n');
			const { ok, message } = await ask(margay, 'rollback');
			assert.ok(ok, message);
			assert.match(message, /rolled back to the old binary/);
			assert.equal(margay.pid, old);
			assert.equal((await margay.status()).pid, old);
			await slept();
			await work.same();
			await goesOn(driver);
			assert.deepEqual(decreased(metrics, await margay.metrics()), []);
			assert.equal((await margay.metrics()).sum('margay_rollbacks_total'), 1);
			fs.writeFileSync(margay.file, good);
			letGo();
			await gone(pid);
			const reload = await ask(margay, 'reload');
			assert.ok(reload.ok, reload.message);
			await goesOn(driver);
			await upgraded(bench);
			await work.same();
			await goesOn(driver);
			await unharmed(driver);
		});

	test('is refused when there is nothing to go back to', async () => {
		const { margay } = await start();
		const { ok, message } = await ask(margay, 'rollback');
		assert.deepEqual([ok, message], [false, 'no old master is left: upgrade to its binary instead']);
	});

	// Control: a new master without a deadline stays retired, and nobody is the master.
	test('does not wait for ever for an old master that hangs', async () => {
		const bench = await start({ killed: true });
		const { margay } = bench;
		const driver = await bench.load();
		await hold(bench);
		const old = margay.pid;
		const { pid } = await upgraded(bench);
		killPid(old, 'SIGSTOP');
		// Killed after 20 seconds: two would be one too many.
		const { ok, message } = await ask(margay, 'rollback', { timeout: 30_000 });
		assert.ok(!isAlive(old));
		assert.deepEqual([ok, message], [false, 'the old master ended meanwhile']);
		assert.equal((await margay.status()).pid, pid);
		await goesOn(driver);
		await unharmed(driver);
	});
});
