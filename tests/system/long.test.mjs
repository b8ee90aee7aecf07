// Messages of megabytes between the eras: they arrive whole and unchanged, whatever of them is written
// anew, and nobody has to stay for that.
import { after, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { binary, events, Margay, messagesOf, node, RawSession, reply, ScriptedServer, until } from './harness.mjs';
import { metaOf, P, send } from './modern.mjs';
import { hostile } from './stdio.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const MIB = 1024 * 1024;
const digest = (value) => createHash('sha256').update(JSON.stringify(value)).digest('hex');

// Values that are long in different ways; the last is long and has nothing long in it.
const VALUES = {
	letters: 'x'.repeat(2 * MIB),
	escapes: '\n"\\'.repeat(MIB / 4),
	images: Array.from({ length: 90 }, (_, i) => `${i}`.repeat(40_000)),
	numbers: Array.from({ length: 200_000 }, (_, i) => i),
	nested: { a: { b: { c: 'ж'.repeat(MIB / 2), d: 1 }, e: 'y'.repeat(100_000) } },
};

const modernAnswers = {
	initialize: ({ response }) => response.writeHead(400).end(),
	'server/discover': ({ response, message }) =>
		reply(response, message, {
			resultType: 'complete',
			supportedVersions: ['2026-07-28'],
			capabilities: { tools: {} },
			ttlMs: 0,
			cacheScope: 'private',
		}),
	'tools/list': ({ response, message }) =>
		reply(response, message, {
			resultType: 'complete',
			tools: [{ name: 'echo', inputSchema: { type: 'object' } }],
			ttlMs: 0,
			cacheScope: 'private',
		}),
};

const pause = () => new Promise((resolve) => setImmediate(resolve));
const eventOf = (message, lines = 1) =>
	`event: message\n${JSON.stringify(message, null, lines > 1 ? 1 : 0).split('\n').map((line) => `data: ${line}\n`).join('')}\n`;

// Write an event stream, all at once or in pieces of these lengths, again and again.
async function stream(response, events, pieces = [Infinity], end = (last) => response.end(last)) {
	const bytes = Buffer.from(events.join(''));
	response.writeHead(200, { 'content-type': 'text/event-stream' });
	for (let at = 0, i = 0; at < bytes.length; i++) {
		const piece = bytes.subarray(at, at + pieces[i % pieces.length]);
		at += piece.length;
		if (at >= bytes.length) end(piece);
		else if (!response.write(piece) || i % 8 === 7) await pause();
		if (response.destroyed) return;
	}
}

// How a client of either era calls, and what a server of the other answers.
const ERAS = {
	modern: {
		open: async (url) => (value, { meta = {}, ...options } = {}) =>
			send(url, 'tools/call', {
				params: { name: 'echo', arguments: { value }, _meta: metaOf(meta) },
				...options,
			}),
		server: { 'server/discover': ({ response }) => response.writeHead(400).end() },
		result: (value) => ({ content: [{ type: 'text', text: 'a' }], structuredContent: { value } }),
	},
	legacy: {
		open: async (url) => {
			const session = await RawSession.open(url);
			return (value, { meta, ...options } = {}) =>
				session.request('tools/call', { name: 'echo', arguments: { value }, _meta: meta }, options);
		},
		server: modernAnswers,
		result: (value) => ({
			resultType: 'complete',
			content: [{ type: 'text', text: 'a' }],
			structuredContent: { value },
		}),
	},
};

for (const [era, { open, server: answers, result }] of Object.entries(ERAS))
	describe(`a ${era} client and an upstream of the other era`, OPTIONS, () => {
		let server;
		let margay;
		let call;

		before(async () => {
			server = await ScriptedServer.start(answers);
			margay = await Margay.start({
				upstream: server.url,
				config: { limits: { body_size: 16 * MIB } },
			});
			call = await open(margay.url);
		});
		beforeEach(() => {
			server.seen.length = 0;
			server.on = {
				...answers,
				'tools/call': ({ response, message }) =>
					reply(response, message, result(message.params.arguments.value)),
			};
		});
		after(async () => {
			await margay?.stop();
			await server?.stop();
		});

		for (const [what, value] of Object.entries(VALUES))
			test(`say ${what} to each other`, async () => {
				const { status, text } = await call(value);
				assert.equal(status, 200);
				const { params } = server.seen.findLast(({ message }) => message?.method === 'tools/call').message;
				assert.equal(`${P}protocolVersion` in (params._meta ?? {}), era === 'legacy', 'it was translated');
				assert.equal(digest(params.arguments), digest({ value }));
				assert.equal(digest(JSON.parse(text).result.structuredContent), digest({ value }));
			});

		const answerOf = (message, value) => ({ jsonrpc: '2.0', id: message.id, result: result(value) });
		const progressOf = ({ params }, progress, message) => ({
			jsonrpc: '2.0',
			method: 'notifications/progress',
			params: { progressToken: params._meta.progressToken, progress, message },
		});
		for (const [what, value] of Object.entries(VALUES))
			test(`get ${what} as an event`, async () => {
				server.on['tools/call'] = ({ response, message }) =>
					stream(response, [eventOf(answerOf(message, value))]);
				const { status, text } = await call('short');
				assert.equal(status, 200);
				assert.equal(digest(JSON.parse(text).result.structuredContent), digest({ value }));
			});

		// Control: with what came behind a long event thrown away, or taken before it, another list.
		for (const [how, pieces] of [
			['at once', [Infinity]],
			['in odd pieces', [1, 70_001, 3, 16_384, 300_007, 2]],
			['in small pieces', [4093]],
		])
			for (const lines of [1, 2])
				test(`many long events that come ${how}, of ${lines === 1 ? 'one line' : 'several lines'}`, async () => {
					const long = [VALUES.images, 'ж'.repeat(100_000), '\n'.repeat(70_000)];
					server.on['tools/call'] = ({ response, message }) =>
						stream(response, [
							': hello\n\n',
							eventOf(progressOf(message, 1, 'a'), lines),
							eventOf(progressOf(message, 2, 'b'.repeat(200_000)), lines),
							eventOf(progressOf(message, 3, 'c'), lines),
							`data: ${'no message'.repeat(20_000)}\n\n`,
							eventOf(progressOf(message, 4, 'd'.repeat(65_000)), lines),
							eventOf(progressOf(message, 5, 'e'.repeat(1_500_000)), lines),
							eventOf(progressOf(message, 6, 'f'.repeat(66_000)), lines),
							eventOf(answerOf(message, long), lines),
							eventOf(progressOf(message, 7, 'after the answer'), lines),
						], pieces);
					const { status, ...answer } = await call('short', { meta: { progressToken: 'mine' } });
					assert.equal(status, 200);
					const messages = messagesOf(answer).map((text) => JSON.parse(text));
					const last = messages.pop();
					assert.deepEqual(
						messages.map(({ params: { progress, message } }) => [progress, message[0], message.length]),
						[[1, 'a', 1], [2, 'b', 200_000], [3, 'c', 1], [4, 'd', 65_000], [5, 'e', 1_500_000], [6, 'f', 66_000]],
					);
					assert.ok(messages.every(({ params }) => params.progressToken === 'mine'));
					assert.equal(digest(last.result.structuredContent.value), digest(long));
				});

		// Control: with the end seen before what came before it was scanned, the notification is missing.
		for (const [how, end, reason] of [
			['ends', (response) => (last) => response.end(last), /without a response/],
			['breaks off', (response) => (last) => response.write(last, () => response.destroy()), /closed the connection/],
		])
			test(`a stream that ${how} behind a long event fails after it`, async () => {
				server.on['tools/call'] = ({ response, message }) =>
					stream(response, [eventOf(progressOf(message, 1, 'b'.repeat(250_000)))], undefined, end(response));
				const answer = await call('short', { meta: { progressToken: 'mine' } });
				const [first, last, ...rest] = messagesOf(answer).map((text) => JSON.parse(text));
				assert.equal(first.params.message.length, 250_000);
				assert.match(last.error.message, reason);
				assert.deepEqual(rest, []);
			});

		test('an event that is too long ends the request', async () => {
			server.on['tools/call'] = ({ response, message }) =>
				stream(response, [
					eventOf(progressOf(message, 1, 'b'.repeat(250_000))),
					eventOf(answerOf(message, 'c'.repeat(17 * MIB))),
				]);
			const answer = await call('short', { meta: { progressToken: 'mine' } });
			const messages = messagesOf(answer).map((text) => JSON.parse(text));
			assert.equal(messages[0].params.message.length, 250_000);
			assert.match(messages[1].error.message, /too long/);
		});

		test('calls whose answers are events, made at once, are not mixed up', async () => {
			server.on['tools/call'] = ({ response, message }) =>
				stream(response, [
					eventOf(progressOf(message, 1, message.params.arguments.value)),
					eventOf(answerOf(message, message.params.arguments.value)),
				], [65_000, 9]);
			const values = Array.from({ length: 12 }, (_, i) => `${i % 10}`.repeat(300_000 + i));
			const all = await Promise.all(values.map((value, i) => call(value, { meta: { progressToken: `t${i}` } })));
			all.forEach((answer, i) => {
				const [progress, last] = messagesOf(answer).map((text) => JSON.parse(text));
				assert.equal(progress.params.progressToken, `t${i}`);
				assert.equal(digest(progress.params.message), digest(values[i]));
				assert.equal(digest(last.result.structuredContent.value), digest(values[i]));
			});
		});

		// Controls: who goes while the answer is scanned or spliced finds nothing, when it is over with that;
		// nor who goes when all of it is on its way.
		if (era === 'legacy')
			test('a client that goes in the middle of a long answer can come back for it', async () => {
				const session = await RawSession.open(margay.url);
				const ids = [];
				for (let wait = 0; wait < 60; wait += 3) {
					server.on['tools/call'] = ({ response, message }) =>
						stream(response, [
							eventOf(progressOf(message, 1, 'short')),
							eventOf(answerOf(message, VALUES.letters)),
						]);
					const sent = await session.post(
						{
							jsonrpc: '2.0', id: wait + 1, method: 'tools/call',
							params: { name: 'echo', arguments: {}, _meta: { progressToken: wait } },
						},
						{ stream: true },
					);
					const first = (await events(sent.response).next()).value;
					ids.push(first.id);
					if (wait % 2) await new Promise((resolve) => setTimeout(resolve, wait));
					sent.request.destroy();
					await new Promise((resolve) => setTimeout(resolve, wait));
					const again = await session.get({ 'last-event-id': first.id });
					assert.equal(again.status, 200);
					const { value } = await events(again.response).next();
					again.request.destroy();
					const { id, result } = JSON.parse(value.data);
					assert.equal(id, wait + 1);
					assert.equal(digest(result.structuredContent.value), digest(VALUES.letters));
				}
				// Each of the four workers keeps three of them. Control: with more room, all are there.
				const statuses = [];
				for (const id of ids) {
					const again = await session.get({ 'last-event-id': id });
					statuses.push(again.status);
					again.request.destroy();
				}
				assert.equal(statuses.at(-1), 200);
				assert.ok(statuses.filter((status) => status === 400).length >= ids.length - 12, `${statuses}`);
			});

		// Control: an answer that is forgotten, or asked for again, is a call that never ends.
		if (era === 'modern')
			test('a long answer that comes while the client is asked is there when it is back', async () => {
				for (const value of ['short', VALUES.escapes, VALUES.numbers]) {
					let answer;
					server.on['tools/call'] = ({ response, message }) =>
						stream(response, [
							eventOf({
								jsonrpc: '2.0', id: 'q', method: 'elicitation/create',
								params: { message: 'm'.repeat(100_000), requestedSchema: { type: 'object', properties: {} } },
							}),
							eventOf(progressOf(message, 1, 'long'.repeat(50_000))),
						], undefined, (last) => {
							response.write(last);
							answer = () => new Promise((resolve) => response.end(eventOf(answerOf(message, value)), resolve));
						});
					const capabilities = { [`${P}clientCapabilities`]: { elicitation: {} } };
					const asked = await call('short', { meta: { progressToken: 1, ...capabilities } });
					const { result } = JSON.parse(messagesOf(asked).at(-1));
					assert.equal(result.resultType, 'input_required');
					const [[key, { params }]] = Object.entries(result.inputRequests);
					assert.equal(params.message.length, 100_000);
					await answer();
					const last = await send(margay.url, 'tools/call', {
						params: {
							name: 'echo', arguments: { value: 'short' }, _meta: metaOf({ progressToken: 1, ...capabilities }),
							requestState: result.requestState,
							inputResponses: { [key]: { action: 'accept', content: {} } },
						},
					});
					assert.equal(digest(JSON.parse(messagesOf(last).at(-1)).result?.structuredContent?.value), digest(value), last.text.slice(0, 500));
				}
			});

		if (era === 'modern')
			test('a question that is too long for a client is refused, and the call goes on', async () => {
				server.on['tools/call'] = ({ response, message }) => {
					server.on.POST = ({ response: refused, message: refusal }) => {
						refused.writeHead(202).end();
						response.end(eventOf(answerOf(message, refusal)));
					};
					const text = eventOf({
						jsonrpc: '2.0', id: 'q', method: 'elicitation/create',
						params: { message: VALUES.escapes.repeat(2), requestedSchema: { type: 'object', properties: {} } },
					});
					stream(response, [text], undefined, (last) => response.write(last));
				};
				const asked = await call('short', { meta: { [`${P}clientCapabilities`]: { elicitation: {} } } });
				const { id, error } = JSON.parse(messagesOf(asked).at(-1)).result.structuredContent.value;
				assert.deepEqual([id, error.code], ['q', -32601]);
			});

		if (era === 'legacy')
			test('a request that the upstream wants again is made again as it was', async () => {
				server.on['tools/call'] = ({ response, message: { id, params } }) =>
					reply(response, { id }, params.requestState
						? result(params.arguments.value)
						: { resultType: 'input_required', requestState: 'more' });
				const { text } = await call(VALUES.escapes);
				assert.equal(server.count('tools/call'), 2);
				const [first, second] = server.seen
					.filter(({ message }) => message?.method === 'tools/call')
					.map(({ message }) => digest(message.params.arguments));
				assert.equal(second, first);
				assert.equal(digest(JSON.parse(text).result.structuredContent.value), digest(VALUES.escapes));
			});

		test('calls that are made at once are not mixed up', async () => {
			const values = Array.from({ length: 12 }, (_, i) => `${i % 10}`.repeat(300_000 + i));
			const all = await Promise.all(values.map((value) => call(value)));
			all.forEach(({ text }, i) =>
				assert.equal(digest(JSON.parse(text).result.structuredContent.value), digest(values[i])));
		});

		// Control: who went while its request was scanned is waited for as long as the upstream takes.
		test('a client that goes in the middle takes nothing along', async () => {
			server.on['tools/call'] = () => {};
			for (let timeout = 2; timeout < 40; timeout += 2)
				await assert.rejects(call(VALUES.letters, { timeout }));
			server.on['tools/call'] = ({ response, message }) =>
				reply(response, message, result(VALUES.letters));
			await Promise.all(
				Array.from({ length: 20 }, (_, i) => call('short', { timeout: 2 + i }).catch(() => {})),
			);
			server.on['tools/call'] = ({ response, message }) =>
				stream(response, [
					eventOf(progressOf(message, 1, VALUES.letters)),
					eventOf(progressOf(message, 2, VALUES.letters)),
					eventOf(answerOf(message, VALUES.letters)),
				]);
			await Promise.all(
				Array.from({ length: 40 }, (_, i) =>
					call('short', { meta: { progressToken: 1 }, timeout: 2 + 2 * i }).catch(() => {})),
			);
			await until('nobody is there', async () =>
				(await margay.metrics()).sum('margay_connections_open') <= 1);
			assert.equal((await call('still here', { meta: { progressToken: 1 } })).status, 200);
		});
	});

// Whole messages of a child, through the keeper, which others of the same child wait for.
describe('a child of the other era', OPTIONS, () => {
	const stateless = { command: node, args: [path.join(import.meta.dirname, 'stdio/stateless.mjs'), 'modern'] };
	let margay;

	before(async () => {
		margay = await Margay.start({
			config: {
				workers: 1,
				upstreams: { main: { http: undefined, stdio: hostile() }, stateless: { stdio: stateless } },
				routes: { '/mcp': { upstream: 'main' }, '/stateless': { upstream: 'stateless' } },
			},
		});
	});
	after(() => margay?.stop());

	const asks = {
		modern: async () => (lengths, progressToken, options) =>
			send(margay.url, 'tools/call', {
				params: { name: 'recite', arguments: { lengths }, _meta: metaOf({ progressToken }) },
				...options,
			}),
		legacy: async () => {
			const session = await RawSession.open(`${margay.origin}/stateless`);
			return (lengths, progressToken, options) =>
				session.request('tools/call', { name: 'recite', arguments: { lengths }, _meta: { progressToken } }, options);
		},
	};
	const rows = [
		[200_000],
		[10, 2_000_000],
		[200_000, 10, 3_000_000],
		[70_000, 70_000, 10, 65_000, 1_000_000, 20],
	];
	const lengthsOf = (answer) =>
		messagesOf(answer)
			.map((text) => JSON.parse(text))
			.map(({ params, result }) => (params ? params.message : result.content[0].text).length);

	for (const [era, open] of Object.entries(asks)) {
		// Control: with what comes of a paused call thrown away, a call that never ends.
		test(`says long things to a ${era} client, in their order`, async () => {
			const ask = await open();
			for (const row of rows) assert.deepEqual(lengthsOf(await ask(row, 'mine')), row);
		});

		test(`says long things to many ${era} clients at once`, async () => {
			const ask = await open();
			const all = await Promise.all([...rows, ...rows, ...rows].map((row, i) => ask(row, `t${i}`)));
			all.forEach((answer, i) => assert.deepEqual(lengthsOf(answer), rows[i % rows.length]));
		});

		test(`lets a ${era} client go in the middle`, async () => {
			const ask = await open();
			await Promise.all(
				Array.from({ length: 24 }, (_, i) =>
					ask(rows[i % rows.length], i, { timeout: 2 + 3 * i }).catch(() => {})),
			);
			await until('nobody is there', async () =>
				(await margay.metrics()).sum('margay_connections_open') <= 1);
			assert.deepEqual(lengthsOf(await ask(rows[2], 'again')), rows[2]);
		});
	}
});
