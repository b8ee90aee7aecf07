// A broker or keeper that is dead, or only just started, at the very moment of an upgrade's hand-over: the new master
// fills its place. Others are stopped so that the moment is met.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { binary, freeze, isAlive, killPid, Margay, RawSession, request, rest, ScriptedServer, until } from './harness.mjs';
import { Control } from './control.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const TRIES = 12;
const COMMITTED = 6; // messages after the one that it serves

async function start(t, options) {
	const margay = await Margay.start({
		...options,
		config: { workers: 2, timeouts: { keepalive_linger: '60s' } },
	});
	const stopped = [];
	const bench = {
		margay,
		stop: (pid) => {
			stopped.push(pid);
			assert.ok(freeze(pid));
		},
		resume: (pid) => killPid(pid, 'SIGCONT'),
	};
	t.after(async () => {
		stopped.forEach(bench.resume);
		await margay.stop();
	});
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

// The new master has both, of its own.
async function isWhole({ margay }, old, gone) {
	const status = await until('the new master has a broker and a keeper', async () => {
		const now = await margay.status();
		return [now.broker, now.keeper].every(({ state }) => state === 'accepting') && now;
	}, { timeout: 5000 });
	assert.notEqual(status.pid, old);
	assert.ok(![status.broker.pid, status.keeper.pid].includes(gone));
	await until('the old master has ended', () => !isAlive(old));
}

describe('an upgrade', OPTIONS, () => {
	// Control: a new master that does not look for whom it was not given runs on without, for good.
	for (const what of ['broker', 'keeper'])
		test(`at whose hand-over the ${what} is dead`, async (t) => {
			const bench = await start(t);
			const { margay } = bench;
			const before = await margay.status();
			// No worker is READY without a broker that answers.
			bench.stop(before.broker.pid);
			const answer = ask(margay, 'upgrade');
			const started = () =>
				margay.log().filter(({ message, child, generation }) =>
					message === 'started' && /^worker/.test(child) && generation === before.generation + 1,
				);
			await until('its workers start', () => started().length === 2);
			bench.stop(before.pid);
			bench.resume(before.broker.pid);
			await rest([started()[0].pid, ...started().map((line) => line.child_pid)]);
			killPid(before[what].pid, 'SIGKILL');
			await until('it is dead', () => !isAlive(before[what].pid));
			// It sees the death before it hears that all is ready.
			bench.resume(before.pid);
			const { ok, message } = await answer;
			assert.ok(ok, message);
			await isWhole(bench, before.pid, before[what].pid);
		});

	// Whatever becomes of the upgrade, it is soon known. Control: where descriptors are told that were closed in the same
	// turn, the new master waits for the rest; one try in four meets that turn.
	test('in whose first moment the broker or keeper dies', async (t) => {
		const { margay } = await start(t);
		for (let i = 0; i < TRIES; i++) {
			const status = await until('all serve', async () => {
				const now = await margay.status();
				return [now.broker, now.keeper].every(({ state }) => state === 'accepting') && now;
			});
			const control = await Control.open(margay);
			const answer = control.ask('upgrade', { timeout: 30_000 });
			killPid(status[i % 2 ? 'keeper' : 'broker'].pid, 'SIGKILL');
			const { ok, message } = await answer;
			control.close();
			assert.doesNotMatch(message, /not ready within/);
			if (ok) await until('the old master has ended', () => !isAlive(status.pid));
		}
	});

	// Control: one that is not killed lives on beside that of the new master.
	test('at whose hand-over the keeper is just starting', async (t) => {
		const bench = await start(t, { program: path.join(path.dirname(binary), 'tests/margay-late-keeper') });
		const { margay } = bench;
		const { pid: old, keeper } = await margay.status();
		killPid(keeper.pid, 'SIGKILL');
		const { pid } = await until('another one starts', async () => {
			const now = (await margay.status()).keeper;
			return now.pid > 0 && now.pid !== keeper.pid && now;
		});
		const { ok, message } = await ask(margay, 'upgrade');
		assert.ok(ok, message);
		await until('it is killed', () => !isAlive(pid));
		await isWhole(bench, old, pid);
	});
});

// Upgrade to a master that strace kills at its message number `n`: the answer.
function upgradeUntil(n, { margay }) {
	const script = path.join(margay.dir, 'killed');
	const kill = `-e trace=sendmsg -e inject=sendmsg:signal=KILL:when=${n} -o ${margay.dir}/trace`;
	fs.writeFileSync(script, `#!/bin/sh\nexec strace -D -qq ${kill} ${binary} "$@"\n`, { mode: 0o755 });
	return ask(margay, 'upgrade', { path: script });
}

// Control: a new master that commits before it has said that it serves takes the old one's workers with it.
test('the new master of an upgrade is killed at each of its messages', { ...OPTIONS, timeout: 120_000 }, async (t) => {
	const server = await ScriptedServer.start();
	t.after(() => server.stop());
	const agents = [];
	t.after(() => agents.forEach((agent) => agent.destroy()));
	let bench;
	const begin = async () => {
		bench = await start(t, { upstream: server.url });
		// It keeps a worker, and so the old master.
		agents.push(new http.Agent({ keepAlive: true, maxSockets: 1 }));
		bench.session = await RawSession.open(bench.margay.url, { agent: agents.at(-1) });
		bench.old = await bench.margay.status();
	};
	await begin();
	const pids = ({ workers }) => workers.map(({ pid }) => pid);
	let served = 0;
	for (let n = 1; served < COMMITTED; n++) {
		const { margay, session, old } = bench;
		const { ok, message } = await upgradeUntil(n, bench);
		if (!ok) assert.match(message, /killed by signal 9/);
		const now = await until(`the old master is back after message ${n}`, async () => {
			const status = await margay.status();
			return status.pid === old.pid && status.workers.some(({ state }) => state === 'accepting') && status;
		});
		if (!ok) assert.deepEqual(pids(now), pids(old), `message ${n}`);
		const replies = await Promise.all(Array.from({ length: 16 }, () => request(`${margay.origin}/none`)));
		assert.ok(replies.every(({ status }) => status === 404));
		assert.equal((await session.call('echo')).status, 200);
		if (!ok) continue;
		t.diagnostic(`message ${n}: ${message}`);
		served++;
		await begin();
	}
});
