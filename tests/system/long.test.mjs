// Messages of megabytes between the eras: they arrive whole and unchanged, whatever of them is written
// anew, and nobody has to stay for that.
import { after, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { binary, Margay, RawSession, reply, ScriptedServer, until } from './harness.mjs';
import { P, send } from './modern.mjs';

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

// How a client of either era calls, and what a server of the other answers.
const ERAS = {
	modern: {
		open: async (url) => (value, options) =>
			send(url, 'tools/call', { params: { name: 'echo', arguments: { value } }, ...options }),
		server: { 'server/discover': ({ response }) => response.writeHead(400).end() },
		result: (value) => ({ content: [{ type: 'text', text: 'a' }], structuredContent: { value } }),
	},
	legacy: {
		open: async (url) => {
			const session = await RawSession.open(url);
			return (value, options) => session.call('echo', { value }, options);
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
			await until('nobody is there', async () =>
				(await margay.metrics()).sum('margay_connections_open') <= 1);
			assert.equal((await call('still here')).status, 200);
		});
	});
