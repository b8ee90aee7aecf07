// Children that misbehave, one way a test: what their own client is told, and that nobody else and no
// memory of ours suffers.
import { afterEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
	binary,
	isAlive,
	killPid,
	Margay,
	messagesOf,
	RawSession,
	residentBytes,
	until,
} from './harness.mjs';
import { childrenOf, hostile, textOf, upstreamOf } from './stdio.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };

describe('a hostile child', OPTIONS, () => {
	const margays = [];
	const strays = new Set();

	// The hostile one at /mcp, and at /neighbour one that behaves.
	async function start(stdio, config = {}) {
		const margay = await Margay.start({
			config: {
				upstreams: { main: { http: undefined, stdio }, neighbour: { stdio: hostile() } },
				routes: { '/mcp': { upstream: 'main' }, '/neighbour': { upstream: 'neighbour' } },
				...config,
			},
		});
		margays.push(margay);
		return margay;
	}
	afterEach(async (t) => {
		for (const margay of margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			await margay.stop();
		}
		for (const pid of strays) killPid(pid, 'SIGKILL');
		strays.clear();
	});

	const dropped = async (margay, reason) =>
		(await margay.metrics()).sum('margay_stdio_lines_dropped_total', {
			upstream: 'main',
			reason,
		});

	test('that exits at start opens its own breaker, and closes it when it works', async () => {
		const directory = fs.mkdtempSync('/tmp/margay-moody-');
		const file = path.join(directory, 'mood');
		const margay = await start({
			...hostile('moody', file),
			restart: { failures: 3, delay_max: '500ms' },
		});
		try {
			let reply;
			await until('the breaker opens', async () => {
				reply = await RawSession.open(margay.url).catch((error) => error.message);
				return /503 .*main: crash loop: \d+ starts/.test(reply);
			});
			assert.match(reply, /last: its process \d+ ended: exit code 9/);
			const row = await upstreamOf(margay);
			assert.equal(row.state, 'broken');
			assert.ok(row.failures >= 3);
			const metrics = await margay.metrics();
			assert.equal(metrics.sum('margay_stdio_breaker_open', { upstream: 'main' }), 1);
			assert.equal(metrics.sum('margay_stdio_breaker_open', { upstream: 'neighbour' }), 0);
			// A refusal starts nothing.
			const { starts } = row;
			await RawSession.open(margay.url).catch(() => {});
			assert.ok((await upstreamOf(margay)).starts - starts <= 1);
			const neighbour = await RawSession.open(`${margay.origin}/neighbour`);
			assert.equal(textOf(await neighbour.call('echo', { text: 'fine' })), 'fine');
			fs.writeFileSync(file, '');
			const session = await until('it is tried again', () => RawSession.open(margay.url));
			assert.equal(textOf(await session.call('echo', { text: 'back' })), 'back');
			await until('it is trusted again', async () =>
				(await upstreamOf(margay)).state === 'running',
			);
		} finally {
			fs.rmSync(directory, { recursive: true });
		}
	});

	test('that never answers initialize is given up', async () => {
		const margay = await start({ ...hostile('silent'), handshake_timeout: '300ms' });
		await assert.rejects(
			RawSession.open(margay.url),
			/502 .*main: it did not answer initialize within 0.3 s/,
		);
		await until('it is ended', async () => (await childrenOf(margay)).length === 0);
	});

	test('that dies in the middle of an answer fails what was in flight, once', async () => {
		const margay = await start(hostile());
		const session = await RawSession.open(margay.url);
		const [slow, died] = await Promise.all([
			session.call('sleep', { ms: 10_000 }),
			session.call('die', { after: 500 }),
		]);
		for (const reply of [slow, died]) {
			assert.equal(reply.status, 502);
			assert.equal(reply.message.error.code, -32603);
			assert.match(reply.message.error.message, /main: its process \d+ ended: exit code 3/);
		}
		// Its half line reaches nobody, and its session is over: start anew.
		assert.equal((await session.call('echo', { text: 'x' })).status, 404);
		const next = await RawSession.open(margay.url);
		assert.match(textOf(await next.call('counter')), /^1 /, 'nothing was run again');
		const row = await upstreamOf(margay);
		assert.deepEqual([row.deaths, row.calls_lost], [1, 2]);
	});

	test('that dies after its answer began ends the stream with an error', async () => {
		const margay = await start(hostile());
		const session = await RawSession.open(margay.url);
		const progress = session.post({
			jsonrpc: '2.0',
			id: 9,
			method: 'tools/call',
			params: {
				name: 'progress',
				arguments: { steps: 10_000 },
				_meta: { progressToken: 1 },
			},
		});
		await session.call('die', { after: 100 });
		const last = JSON.parse(messagesOf(await progress).at(-1));
		assert.equal(last.id, 9);
		assert.match(last.error.message, /main: its process \d+ ended/);
	});

	test('that writes half a line and stops is waited for by its own call only', async () => {
		const margay = await start(hostile(), { timeouts: { upstream_first_byte: '500ms' } });
		const session = await RawSession.open(margay.url);
		assert.equal((await session.call('half')).status, 504);
		assert.equal((await (await RawSession.open(margay.url)).call('counter')).status, 200);
	});

	test('that writes a gibibyte without a newline takes none of our memory', async () => {
		const margay = await start(hostile());
		const { keeper, workers } = await margay.status();
		const session = await RawSession.open(margay.url);
		const before = residentBytes(keeper.pid);
		const sanitized = margay.sanitized;
		const reply = await session.call('flood', { bytes: 1 << 30 }, { timeout: 60_000 });
		assert.equal(reply.status, 502);
		assert.match(reply.message.error.message, /main: .*longer than limits.line/);
		// With a sanitizer freed memory stays resident for a while.
		const bound = (sanitized ? 400 : 32) << 20;
		assert.ok(residentBytes(keeper.pid) - before < bound);
		for (const { pid } of workers) assert.ok(residentBytes(pid) < bound + (100 << 20));
		assert.equal(await dropped(margay, 'too_long'), 1);
		// It is not fatal: the next line counts. An answer may still drown in
		// the last bytes of the flood, so each is waited for but shortly.
		const echo = await until('the flood is over', async () => {
			const answer = await session.call('echo', { text: 'dry' }, { timeout: 2000 });
			return answer.status === 200 && answer;
		}, { timeout: 60_000 });
		assert.equal(textOf(echo), 'dry');
	});

	test('that never reads is asked no more than its line is long', async () => {
		const margay = await start({ ...hostile(), limits: { line: '64KiB' } });
		const session = await RawSession.open(margay.url);
		await session.call('deaf');
		const before = residentBytes((await margay.status()).keeper.pid);
		const text = 'x'.repeat(20_000);
		// What fits the pipe and the queue waits; the next is refused.
		const pending = [];
		const refused = await until('it is refused', async () => {
			const call = session.call('echo', { text });
			call.catch(() => {});
			const reply = await Promise.race([
				call,
				new Promise((resolve) => setTimeout(resolve, 50)),
			]);
			if (!reply) pending.push(call);
			return reply;
		});
		assert.equal(refused.status, 503);
		assert.match(refused.message.error.message, /main: it does not read: \d+ bytes wait/);
		assert.ok(pending.length > 0 && pending.length < 50);
		assert.ok(residentBytes((await margay.status()).keeper.pid) - before < 64 << 20);
		const neighbour = await RawSession.open(`${margay.origin}/neighbour`);
		assert.equal(textOf(await neighbour.call('echo', { text: 'fine' })), 'fine');
		await session.delete();
		for (const reply of await Promise.all(pending)) assert.equal(reply.status, 502);
	});

	test('that ignores SIGTERM and the end of its input is killed', async () => {
		const margay = await start(hostile('stubborn'));
		const session = await RawSession.open(margay.url);
		const pid = Number(textOf(await session.call('counter')).split(' ')[1]);
		const begun = Date.now();
		await session.delete();
		await until('it is gone', () => !isAlive(pid), { timeout: 5000 });
		assert.ok(Date.now() - begun > 2000, 'it was asked before it was killed');
	});

	for (const detached of [false, true])
		test(`that has a ${detached ? 'detached ' : ''}grandchild takes it along`, async () => {
			const margay = await start(hostile());
			const session = await RawSession.open(margay.url);
			const grandchild = Number(textOf(await session.call('breed', { detached })));
			strays.add(grandchild);
			await until('it is there', () => isAlive(grandchild));
			const died = await session.call('die');
			assert.equal(died.status, 502, 'its pipes, which the grandchild holds, keep nobody waiting');
			await until('the grandchild is gone', () => !isAlive(grandchild), { timeout: 5000 });
		});

	test('that greets on stdout is heard all the same', async () => {
		const margay = await start(hostile('banner'));
		const session = await RawSession.open(margay.url);
		assert.equal(await dropped(margay, 'not_json'), 2);
		assert.equal(textOf(await session.call('banner')), 'greeted');
		assert.equal(await dropped(margay, 'not_json'), 3);
		assert.equal(await dropped(margay, 'not_rpc'), 1);
		const lines = margay.log().filter(({ message }) => message === 'line of a child dropped');
		assert.ok(lines.some(({ line }) => line === '*** Welcome to the server! ***'));
		assert.ok(lines.every(({ upstream }) => upstream === 'main'));
	});

	test('that answers what nobody asked, or twice, is not believed', async () => {
		const margay = await start(hostile());
		const session = await RawSession.open(margay.url);
		assert.equal(textOf(await session.call('unknown')), 'known');
		assert.equal(await dropped(margay, 'unknown_id'), 2);
		assert.equal(textOf(await session.call('twice')), 'first');
		await until('the second answer is dropped', async () =>
			(await dropped(margay, 'unknown_id')) === 3,
		);
		assert.equal(textOf(await session.call('echo', { text: 'next' })), 'next');
	});

	test('that talks on stderr is logged, escaped and not without end', async () => {
		const margay = await start(hostile());
		const session = await RawSession.open(margay.url);
		await session.call('stderr', { lines: 1, line: 'bell \u0007 and {"forged":"line"}' });
		const said = () => margay.log().filter(({ stderr }) => stderr !== undefined);
		await until('it is in the log', () => said().length === 1);
		assert.equal(said()[0].stderr, 'bell \u0007 and {"forged":"line"}');
		assert.equal(said()[0].upstream, 'main');
		await session.call('stderr', { lines: 5000, line: 'chatter' });
		await until('what was held back is told', () =>
			margay.log().some(({ message, lines }) => /more than is logged/.test(message) && lines > 4000),
		);
		assert.ok(said().length < 600, `${said().length} lines were logged`);
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_stdio_stderr_lines_total', { upstream: 'main' }), 5001);
	});

	test('whose client does not read is read no further', async () => {
		const margay = await start(hostile());
		const session = await RawSession.open(margay.url);
		// Answers of 1 MiB each, to requests that nobody reads the answers of.
		const requests = Array.from({ length: 40 }, (_, i) =>
			session.post(
				{
					jsonrpc: '2.0',
					id: i,
					method: 'tools/call',
					params: { name: 'big', arguments: { bytes: 1 << 20 } },
				},
				{ stream: true },
			),
		);
		const replies = await Promise.allSettled(requests);
		const { keeper } = await margay.status();
		assert.ok(residentBytes(keeper.pid) < 600 << 20);
		const neighbour = await RawSession.open(`${margay.origin}/neighbour`);
		assert.equal(textOf(await neighbour.call('echo', { text: 'fine' })), 'fine');
		for (const { value } of replies) value?.request.destroy();
	});
});
