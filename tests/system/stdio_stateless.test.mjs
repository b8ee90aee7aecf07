// Stdio servers of the stateless era behind the keeper: one process for everybody, and how it is found
// out that a server is one.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { binary, events, killPid, Margay, messagesOf, node, RawSession, until } from './harness.mjs';
import { metaOf, P, send } from './modern.mjs';
import { childrenOf, textOf } from './stdio.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const program = path.join(import.meta.dirname, 'stdio/stateless.mjs');

const start = (args, stdio = {}) =>
	Margay.start({
		config: {
			upstreams: {
				main: { http: undefined, stdio: { command: node, args: [program, ...args], ...stdio } },
			},
		},
	});

const call = (margay, name, options = {}) => {
	const { meta, args = {}, ...more } = options;
	return send(margay.url, 'tools/call', {
		params: { name, arguments: args, ...(meta && { _meta: metaOf(meta) }) },
		...more,
	});
};
const valueOf = (answer) => {
	const message = JSON.parse(messagesOf(answer).at(-1));
	assert.ok(message.result, JSON.stringify(message));
	return JSON.parse(message.result.content[0].text);
};
const ask = async (...args) => valueOf(await call(...args));

async function listen(margay, id) {
	const answer = await send(margay.url, 'subscriptions/listen', {
		id,
		params: { notifications: { toolsListChanged: true } },
		stream: true,
	});
	assert.equal(answer.status, 200);
	const messages = events(answer.response);
	const next = async () => {
		const { value, done } = await messages.next();
		return done ? undefined : JSON.parse(value.data);
	};
	const ack = await next();
	assert.equal(ack.method, 'notifications/subscriptions/acknowledged');
	assert.strictEqual(ack.params._meta[`${P}subscriptionId`], id);
	return { next, close: () => answer.request.destroy() };
}

describe('a stdio server of the stateless era', OPTIONS, () => {
	let margay;

	before(async () => {
		margay = await start(['modern']);
	});
	afterEach((t) => {
		if (t.error) t.diagnostic(margay.report());
	});
	after(() => margay?.stop());

	test('is one process for all clients at all workers', async () => {
		const pids = await Promise.all(Array.from({ length: 20 }, () => ask(margay, 'pid')));
		assert.equal(new Set(pids).size, 1);
		const session = await RawSession.open(margay.url);
		assert.equal(textOf(await session.call('pid')), String(pids[0]));
		// A worker that did not know the era yet may have tried another one with a session, and let it go.
		await until('only one is left', async () => {
			const children = await childrenOf(margay);
			return children.length === 1 && children[0].pid === pids[0];
		});
	});

	test('ids and progress tokens of clients do not meet', async () => {
		const holds = Array.from({ length: 8 }, () => call(margay, 'hold', { id: 'same' }));
		await until('all are held', async () => {
			const [{ calls }] = await childrenOf(margay);
			return calls === holds.length;
		});
		await ask(margay, 'release', { id: 'same' });
		for (const answer of await Promise.all(holds)) {
			assert.equal(answer.json.id, 'same');
			assert.equal(valueOf(answer), 'held');
		}
		const answer = await call(margay, 'progress', { meta: { progressToken: 'mine' } });
		const tokens = messagesOf(answer).map((one) => JSON.parse(one).params?.progressToken);
		assert.deepEqual(tokens, ['mine', 'mine', undefined]);
	});

	test('log messages come to the one request that wants them', async () => {
		const wanted = await call(margay, 'log', { meta: { [`${P}logLevel`]: 'info' } });
		assert.equal(messagesOf(wanted).length, 2);
		assert.equal(messagesOf(await call(margay, 'log')).length, 1);
	});

	for (const [code, status] of [
		[-32601, 404],
		[-32602, 200],
		[-32021, 400],
		[-32000, 200],
	])
		test(`error ${code} has status ${status}`, async () => {
			const answer = await call(margay, 'fail', { args: { code } });
			assert.deepEqual([answer.status, answer.json.error.code], [status, code]);
		});

	test('listens are told apart, and what they hear bears their own ids', async () => {
		const first = await listen(margay, 'a');
		const second = await listen(margay, 7);
		await ask(margay, 'change');
		for (const [one, id] of [
			[first, 'a'],
			[second, 7],
		]) {
			const message = await one.next();
			assert.equal(message.method, 'notifications/tools/list_changed');
			assert.strictEqual(message.params._meta[`${P}subscriptionId`], id);
		}
		await ask(margay, 'hangup', { args: { how: 'result' } });
		const result = await second.next();
		assert.strictEqual(result.id, 7);
		assert.strictEqual(result.result._meta[`${P}subscriptionId`], 7);
		assert.equal(await second.next(), undefined);
		assert.equal((await first.next()).id, 'a');
	});

	test('a listen that the server cancels ends', async () => {
		const one = await listen(margay, 1);
		await ask(margay, 'hangup', { args: { how: 'cancelled' } });
		assert.equal(await one.next(), undefined);
	});

	test('who goes has cancelled: the client of a listen, of a call, a worker', async () => {
		const cancelled = async (count) =>
			until('it is cancelled', async () => (await ask(margay, 'heard')).cancelled.length === count);
		const before = (await ask(margay, 'heard')).cancelled.length;
		const one = await listen(margay, 1);
		const { listens } = await ask(margay, 'heard');
		one.close();
		await cancelled(before + 1);
		assert.equal((await ask(margay, 'heard')).cancelled.at(-1), listens[0]);
		await assert.rejects(call(margay, 'hold', { timeout: 1500 }));
		await cancelled(before + 2);
		const { next } = await listen(margay, 2);
		for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		await assert.rejects(next());
		await until('workers are back', async () => (await call(margay, 'pid')).status === 200);
		await cancelled(before + 3);
	});

	test('the keeper may die: the process goes on, what was in flight fails', async () => {
		const pid = await ask(margay, 'pid');
		const held = call(margay, 'hold');
		await until('it is there', async () => (await childrenOf(margay))[0].calls > 0);
		killPid((await margay.status()).keeper.pid, 'SIGKILL');
		const answer = await held;
		assert.equal(answer.json.error.code, -32603);
		await until('it is served again', async () => (await call(margay, 'pid')).status === 200);
		assert.equal(await ask(margay, 'pid'), pid);
	});

	test('a process that ends fails its calls, and the next request starts another', async () => {
		const pid = await ask(margay, 'pid');
		const answer = await call(margay, 'exit');
		assert.equal(answer.json.error.code, -32603);
		assert.match(answer.json.error.message, /main: its process \d+ ended/);
		await until('it is served again', async () => (await call(margay, 'pid')).status === 200);
		assert.notEqual(await ask(margay, 'pid'), pid);
	});
});

describe('what era a stdio server is of', OPTIONS, () => {
	const sharings = ['per_session', 'shared', { pool: { min: 1, max: 3 } }];

	for (const sharing of sharings)
		for (const first of ['modern', 'legacy'])
			for (const era of ['modern', 'legacy', 'both'])
				test(`${era}, ${JSON.stringify(sharing)}, a ${first} client first`, async () => {
					const margay = await start([era], { sharing });
					const asModern = async () => assert.ok(await ask(margay, 'pid'));
					const asLegacy = async () => {
						const session = await RawSession.open(margay.url);
						assert.ok(textOf(await session.call('pid')));
					};
					const clients = [asModern, asLegacy];
					try {
						for (const use of first === 'modern' ? clients : clients.reverse()) await use();
						for (const use of clients) await use();
					} finally {
						await margay.stop();
					}
				});

	for (const sharing of sharings.slice(0, 2))
		test(`a modern one is one process whoever asks, ${sharing}`, async () => {
			const margay = await start(['modern'], { sharing });
			try {
				// Each worker finds out for itself.
				await RawSession.open(margay.url);
				const sessions = await Promise.all(
					Array.from({ length: 12 }, () => RawSession.open(margay.url)),
				);
				const pids = await Promise.all(sessions.map(async (one) => textOf(await one.call('pid'))));
				assert.equal(new Set(pids).size, 1);
				await until('no other is left', async () => (await childrenOf(margay)).length === 1);
			} finally {
				await margay.stop();
			}
		});

	for (const probe of ['refuse', 'ignore', 'end', 'deaf'])
		for (const sharing of sharings.slice(0, 2))
			test(`one that does ${probe} server/discover, ${sharing}`, async () => {
				const margay = await start(['legacy', probe], { sharing, handshake_timeout: '4s' });
				try {
					const pid = await ask(margay, 'pid');
					const pids = (await childrenOf(margay)).map((one) => one.pid);
					assert.deepEqual(pids, [pid], 'no process is left over');
					assert.equal(await ask(margay, 'pid'), pid);
					const failures = (await margay.metrics()).sum('margay_stdio_start_failures_total');
					assert.equal(failures, 0);
					// One that answers at all is used on, without another start.
					const starts = (await margay.metrics()).sum('margay_stdio_starts_total');
					assert.equal(starts, ['refuse', 'ignore'].includes(probe) ? 1 : 2);
				} finally {
					await margay.stop();
				}
			});
});
