// Translations of messages made at random from the schema of one revision: what arrives on the other
// side must be what the schema of its revision allows, whatever was said.
//
// MARGAY_SEED=N makes others, MARGAY_ROUNDS=N more; a failure says which it was.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, Margay, messagesOf, RawSession, reply, ScriptedServer } from './harness.mjs';
import { Generator } from './generate.mjs';
import { definition, refusal, RESULTS } from './schemas.mjs';
import { metaOf, send, VERSION } from './modern.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const SEED = Number(process.env.MARGAY_SEED ?? 1);
const ROUNDS = Number(process.env.MARGAY_ROUNDS ?? 30);
const LEGACY = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'];
const REQUESTS = {
	'tools/list': 'ListToolsRequest',
	'tools/call': 'CallToolRequest',
	'prompts/list': 'ListPromptsRequest',
	'prompts/get': 'GetPromptRequest',
	'resources/list': 'ListResourcesRequest',
	'resources/templates/list': 'ListResourceTemplatesRequest',
	'resources/read': 'ReadResourceRequest',
	'completion/complete': 'CompleteRequest',
};

// A value of a schema, which it allows: what the generator gets wrong is made again.
function make(generator, revision, name, from, wrap, method) {
	for (;;) {
		const value = generator.make(revision, name);
		if (!refusal(revision, from, wrap(value), method)) return value;
	}
}

const request = (generator, revision, method) => {
	const wrap = (one) => ({ jsonrpc: '2.0', id: 1, ...one });
	const { params = {} } = make(generator, revision, REQUESTS[method], 'Client', wrap);
	// What has a meaning of its own is not left to chance.
	if (definition(revision, REQUESTS[method]).properties.params && params.name !== undefined) params.name = 'x';
	if (params.uri !== undefined) params.uri = 'file:///x';
	delete params.requestState;
	delete params.inputResponses;
	return params;
};
const result = (generator, revision, method) => {
	const wrap = (one) => ({ jsonrpc: '2.0', id: 1, result: one });
	const made = make(generator, revision, RESULTS[method], 'Server', wrap, method);
	if (made.resultType !== undefined) made.resultType = 'complete';
	return made;
};

for (const revision of LEGACY) {
	describe(`messages of ${revision} and ${VERSION}`, OPTIONS, () => {
		const wrong = [];
		let server;
		let margay;
		let generator;
		let answer;

		const check = (what, ...args) => {
			const why = refusal(...args);
			if (why) wrong.push(`${what}: ${why}\n${JSON.stringify(args[2])}`);
		};
		const serve = async (modern) => {
			const own = modern ? VERSION : revision;
			const respond = ({ response, message }) => {
				check('to the server', own, 'Client', message);
				answer = result(generator, own, message.method);
				reply(response, message, answer);
			};
			const handlers = Object.fromEntries(Object.keys(REQUESTS).map((method) => [method, respond]));
			server = await ScriptedServer.start(handlers);
			server.on['server/discover'] = ({ response, message }) =>
				modern
					? reply(response, message, {
							supportedVersions: [VERSION],
							capabilities: {},
							resultType: 'complete',
							ttlMs: 0,
							cacheScope: 'private',
						})
					: response.writeHead(400).end();
			if (modern) server.on.initialize = ({ response }) => response.writeHead(400).end();
			else
				server.on.initialize = ({ response, message }) => {
					server.sessions.add('s');
					reply(
						response,
						message,
						{ protocolVersion: revision, capabilities: {}, serverInfo: { name: 's', version: '1' } },
						{ 'mcp-session-id': 's' },
					);
				};
			margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
		};

		before(() => {
			generator = new Generator(SEED);
		});
		afterEach(async (t) => {
			if (t.error) t.diagnostic(margay?.report());
			await margay?.stop();
			await server?.stop();
			margay = server = undefined;
		});
		after(() => {
			generator = undefined;
		});

		test('a modern client at a legacy server', async () => {
			await serve(false);
			for (let round = 0; round < ROUNDS; round++)
				for (const method of Object.keys(REQUESTS)) {
					const params = request(generator, VERSION, method);
					params._meta = { ...params._meta, ...metaOf() };
					delete params._meta['io.modelcontextprotocol/logLevel'];
					const got = await send(margay.url, method, { params });
					for (const text of messagesOf(got)) check('to the client', VERSION, 'Server', JSON.parse(text), method);
					if (got.status !== 200) wrong.push(`${method}: ${got.status} ${got.text} for ${JSON.stringify(answer)}`);
				}
			assert.deepEqual(wrong, [], `seed ${SEED}`);
		});

		test('a legacy client at a modern server', async () => {
			await serve(true);
			const session = await RawSession.open(margay.url, { version: revision });
			for (let round = 0; round < ROUNDS; round++)
				for (const method of Object.keys(REQUESTS)) {
					const got = await session.request(method, request(generator, revision, method));
					for (const text of messagesOf(got)) check('to the client', revision, 'Server', JSON.parse(text), method);
					if (got.status !== 200) wrong.push(`${method}: ${got.status} ${got.text} for ${JSON.stringify(answer)}`);
				}
			assert.deepEqual(wrong, [], `seed ${SEED}`);
		});
	});
}
