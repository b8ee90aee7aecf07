// Clients of the stateless era at upstreams of the legacy era: the request in the words of the one,
// the answer in the words of the other, in sessions that Margay keeps.
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, events, freeze, killPid, Margay, messagesOf, post, RawSession, reply, ScriptedServer, servedPorts, until, within } from './harness.mjs';
import { metaOf, P, send } from './modern.mjs';
import { hostile } from './stdio.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const CAPABILITIES = {
	logging: {},
	prompts: { listChanged: true },
	resources: { subscribe: true, listChanged: true },
	tasks: { list: {} },
	tools: { listChanged: true },
};

function stream(response, ...messages) {
	response.writeHead(200, { 'content-type': 'text/event-stream' });
	for (const message of messages)
		response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`);
	response.end();
}

const failure = (code, data) => ({ response, message }) => {
	const error = { code, message: 'no', ...(data && { data }) };
	response.writeHead(200, { 'content-type': 'application/json' });
	response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, error }));
};

describe('modern clients and a legacy upstream', OPTIONS, () => {
	let server;
	let margay;
	let opened = 0;

	before(async () => {
		server = await ScriptedServer.start();
	});
	beforeEach(async () => {
		server.seen.length = 0;
		server.on = {
			'server/discover': ({ response }) => response.writeHead(400).end(),
			initialize: ({ response, message }) => {
				const id = `session-${++opened}`;
				server.sessions.add(id);
				reply(
					response,
					message,
					{
						protocolVersion: '2025-11-25',
						capabilities: CAPABILITIES,
						serverInfo: { name: 'old', version: '9' },
						instructions: 'be kind',
					},
					{ 'mcp-session-id': id },
				);
			},
		};
		margay = await Margay.start({
			upstream: server.url,
			config: { timeouts: { drain_spread: '1s' } },
		});
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		await margay.stop();
	});
	after(() => server?.stop());

	const call = (params, options) => send(margay.url, 'tools/call', { params, ...options });

	test('a call in the words of both', async () => {
		const answer = await call(
			{
				name: 'echo',
				arguments: { big: 1 },
				task: {},
				_meta: metaOf({ 'example.com/key': 12345678901234567890n.toString(), traceparent: '00-1' }),
			},
			{ id: 'mine' },
		);
		assert.equal(answer.status, 200);
		assert.deepEqual(answer.json, {
			jsonrpc: '2.0',
			id: 'mine',
			result: {
				resultType: 'complete',
				content: [{ type: 'text', text: 'done' }],
				_meta: { [`${P}serverInfo`]: { name: 'old', version: '9' } },
			},
		});
		assert.equal(answer.headers['mcp-session-id'], undefined);
		const { headers, message } = server.seen.at(-1);
		assert.deepEqual(message.params, {
			_meta: { 'example.com/key': '12345678901234567890', traceparent: '00-1' },
			name: 'echo',
			arguments: { big: 1 },
		});
		assert.ok(Number.isSafeInteger(message.id));
		assert.equal(headers['mcp-protocol-version'], '2025-11-25');
		assert.ok(server.sessions.has(headers['mcp-session-id']));
		assert.equal(headers['mcp-method'], undefined);
		assert.equal(headers['mcp-name'], undefined);
	});

	test('numbers and unknown members arrive as they were written', async () => {
		server.on['tools/call'] = ({ response, message }) => {
			response.writeHead(200, { 'content-type': 'application/json' });
			response.end(
				`{"jsonrpc":"2.0","id":${message.id},"result":{"content":[],"structuredContent":{"n":12345678901234567890,"f":1.0},"more":1e400}}`,
			);
		};
		const { text } = await call({ name: 'x' });
		assert.match(text, /"structuredContent":\{"n":12345678901234567890,"f":1\.0\},"more":1e400/);
	});

	test('clients that can do the same share a session over all workers', async () => {
		const many = (capabilities) =>
			Promise.all(
				Array.from({ length: 40 }, () =>
					call({ name: 'x', _meta: metaOf({ [`${P}clientCapabilities`]: capabilities }) }),
				),
			);
		for (const { status } of await many({})) assert.equal(status, 200);
		const open = () => {
			const used = server.seen.filter(({ message }) => message?.method === 'tools/call');
			return new Set(used.map(({ headers }) => headers['mcp-session-id']));
		};
		// Several workers may have opened one in the same moment; all but one were ended again.
		await until('all other sessions are over', () => {
			const begun = server.count('initialize');
			return server.count('DELETE') === begun - 1;
		});
		server.seen.length = 0;
		for (const { status } of await many({ extensions: { 'example.com/x': {} } }))
			assert.equal(status, 200);
		assert.equal(open().size, 1);
		await many({ sampling: {}, elicitation: { url: {} } });
		// Clients that can be asked have sessions of their own while their calls run.
		assert.ok(open().size > 2, `${open().size}`);
		const { message } = server.seen.find(({ message }) => message?.method === 'initialize');
		assert.deepEqual(message.params.capabilities, { sampling: {}, elicitation: { url: {} } });
		assert.equal(message.params.protocolVersion, '2025-11-25');
	});

	test('a worker that dies takes no session along', async () => {
		assert.equal((await call({ name: 'x' })).status, 200);
		for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		await until('others serve', async () =>
			(await call({ name: 'x' }).catch(() => ({}))).status === 200,
		);
		assert.equal(server.count('initialize'), 1);
	});

	test('a session that the upstream forgot is opened anew, the call made once', async () => {
		await call({ name: 'x' });
		const before = server.count('initialize');
		server.sessions.clear();
		const { status, json } = await call({ name: 'x' });
		assert.equal(status, 200);
		assert.equal(json.result.content[0].text, 'done');
		assert.equal(server.count('initialize'), before + 1);
	});

	test('server/discover is answered from the handshake', async () => {
		const { status, json } = await send(margay.url, 'server/discover');
		assert.equal(status, 200);
		assert.deepEqual(json.result, {
			resultType: 'complete',
			supportedVersions: ['2026-07-28'],
			capabilities: {
				logging: {},
				prompts: { listChanged: true },
				resources: { subscribe: true, listChanged: true },
				tools: { listChanged: true },
			},
			instructions: 'be kind',
			ttlMs: 60000,
			cacheScope: 'private',
			_meta: { [`${P}serverInfo`]: { name: 'old', version: '9' } },
		});
	});

	test('lists say for how long they are true and hide what only runs as a task', async () => {
		const inputSchema = { type: 'object' };
		server.on['tools/list'] = ({ response, message }) =>
			reply(response, message, {
				tools: [
					{ name: 'a', inputSchema, execution: { taskSupport: 'optional' } },
					{ name: 'b', inputSchema, execution: { taskSupport: 'required' } },
				],
				nextCursor: 'c',
			});
		const { json } = await send(margay.url, 'tools/list');
		assert.deepEqual(json.result, {
			resultType: 'complete',
			nextCursor: 'c',
			tools: [{ name: 'a', inputSchema }],
			ttlMs: 0,
			cacheScope: 'private',
			_meta: { [`${P}serverInfo`]: { name: 'old', version: '9' } },
		});
	});

	const codes = [
		[-32602, 200, -32602],
		[-32002, 200, -32602],
		[-32601, 404, -32601],
		[-32005, 200, -32005],
		[-32021, 200, -32603],
		[17, 200, 17],
	];
	for (const [old, status, code] of codes)
		test(`error ${old} is ${code}`, async () => {
			server.on['tools/call'] = failure(old, { why: 1 });
			const answer = await call({ name: 'x' });
			assert.deepEqual([answer.status, answer.json.error.code], [status, code]);
			assert.deepEqual(
				answer.json.error.data,
				old === -32021 ? { code: old, data: { why: 1 } } : { why: 1 },
			);
		});

	test('progress comes under the own token, log messages only if they are wanted', async () => {
		server.on['tools/call'] = ({ response, message }) =>
			stream(
				response,
				{
					method: 'notifications/progress',
					params: { progressToken: message.params._meta.progressToken, progress: 0.5 },
				},
				{ method: 'notifications/message', params: { level: 'info', data: 'hi' } },
				{ id: message.id, result: { content: [] } },
			);
		const meta = { progressToken: 'tok' };
		const seen = async (more) =>
			messagesOf(await call({ name: 'x', _meta: metaOf({ ...meta, ...more }) })).map(JSON.parse);
		const [progress, last, ...none] = await seen({});
		assert.deepEqual(progress.params, { progressToken: 'tok', progress: 0.5 });
		assert.equal(last.result.resultType, 'complete');
		assert.equal(none.length, 0);
		const three = await seen({ [`${P}logLevel`]: 'info' });
		assert.deepEqual(three[1].params, { level: 'info', data: 'hi' });
		await seen({ [`${P}logLevel`]: 'info' });
		const levels = server.seen.filter(({ message }) => message?.method === 'logging/setLevel');
		assert.deepEqual(new Set(levels.map(({ message }) => message.params.level)), new Set(['info']));
		const bad = await call({ name: 'x', _meta: metaOf({ [`${P}logLevel`]: 'loud' }) });
		assert.deepEqual([bad.status, bad.json.error.code], [400, -32602]);
	});

	test('nothing but the answer is JSON, although it came as a stream', async () => {
		server.on['tools/call'] = ({ response, message }) =>
			stream(response, { id: message.id, result: { content: [] } });
		const answer = await call({ name: 'x' });
		assert.equal(answer.headers['content-type'], 'application/json');
		assert.equal(answer.json.result.resultType, 'complete');
	});

	test('a client that goes cancels its request', async () => {
		server.on['tools/call'] = ({ response, message }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			const { progressToken } = message.params._meta;
			const params = { progressToken, progress: 1 };
			const notice = { jsonrpc: '2.0', method: 'notifications/progress', params };
			response.write(`data: ${JSON.stringify(notice)}\n\n`);
		};
		const { response, request } = await call(
			{ name: 'x', _meta: metaOf({ progressToken: 1 }) },
			{ stream: true },
		);
		for await (const event of events(response)) {
			assert.ok(event);
			break;
		}
		request.destroy();
		await until('the upstream hears of it', () => server.count('notifications/cancelled') === 1);
		const asked = server.seen.find(({ message }) => message?.method === 'tools/call');
		const cancelled = server.seen.at(-1);
		assert.equal(cancelled.message.params.requestId, asked.message.id);
		assert.equal(cancelled.headers['mcp-session-id'], asked.headers['mcp-session-id']);
	});

	test('what the upstream asks of nobody is refused, ping answered', async () => {
		server.on['tools/call'] = ({ response, message }) =>
			stream(
				response,
				{ id: 'p', method: 'ping' },
				{ id: 'q', method: 'sampling/createMessage', params: {} },
				{ id: message.id, result: { content: [] } },
			);
		assert.equal((await call({ name: 'x' })).status, 200);
		const replies = () =>
			server.seen.filter(({ message }) => ['p', 'q'].includes(message?.id)).map((one) => one.message);
		await until('both are answered', () => replies().length === 2);
		const [ping, question] = replies().sort((a, b) => (a.id < b.id ? -1 : 1));
		assert.deepEqual(ping.result, {});
		assert.equal(question.error.code, -32601);
	});

	test('an upstream that breaks off is an error in the place of the answer', async () => {
		server.on['tools/call'] = ({ response, request, message }) => {
			if (message.params.name === 'rude') return request.socket.destroy();
			stream(response, { method: 'notifications/message', params: {} });
		};
		for (const name of ['rude', 'x']) {
			const { status, json } = await call({ name });
			assert.deepEqual([status, json.error.code], [502, -32603]);
			assert.match(json.error.message, /main/);
		}
	});

	// GET streams of the upstream: { say(message), end(), session, closed }, newest last.
	function streams() {
		const open = [];
		server.on.GET = ({ request, response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write(': hello\n\n');
			const one = {
				say: (method, params) =>
					response.write(
						`data: ${JSON.stringify({ jsonrpc: '2.0', method, ...(params && { params }) })}\n\n`,
					),
				end: () => response.end(),
				session: request.headers['mcp-session-id'],
				closed: false,
			};
			response.once('close', () => (one.closed = true));
			open.push(one);
		};
		return open;
	}

	// A listen: { status, heard, close() }.
	async function listen(notifications, id = 'l1') {
		const { status, response, request } = await send(margay.url, 'subscriptions/listen', {
			params: { notifications },
			id,
			stream: true,
		});
		const heard = [];
		const over = (async () => {
			for await (const { data } of events(response)) heard.push(JSON.parse(data));
		})().catch(() => {});
		return { status, heard, over, close: () => request.destroy() };
	}

	test('a listen hears what it asked for, under its own id', async () => {
		const open = streams();
		server.on['resources/subscribe'] = ({ response, message }) =>
			message.params.uri === 'file:///no'
				? failure(-32602)({ response, message })
				: reply(response, message, {});
		const first = await listen(
			{ toolsListChanged: true, resourceSubscriptions: ['file:///a', 'file:///no'] },
			'one',
		);
		await until('it is acknowledged', () => first.heard.length === 1);
		assert.deepEqual(first.heard.shift(), {
			jsonrpc: '2.0',
			method: 'notifications/subscriptions/acknowledged',
			params: {
				_meta: { [`${P}subscriptionId`]: 'one' },
				notifications: { toolsListChanged: true, resourceSubscriptions: ['file:///a'] },
			},
		});
		for (const stream of open) {
			stream.say('notifications/prompts/list_changed');
			stream.say('notifications/message', { level: 'info', data: 1 });
			stream.say('notifications/resources/updated', { uri: 'file:///b' });
			stream.say('notifications/resources/updated', { uri: 'file:///a' });
			stream.say('notifications/tools/list_changed');
		}
		await until('both are heard', () => first.heard.length === 2);
		assert.deepEqual(first.heard, [
			{
				jsonrpc: '2.0',
				method: 'notifications/resources/updated',
				params: { _meta: { [`${P}subscriptionId`]: 'one' }, uri: 'file:///a' },
			},
			{
				jsonrpc: '2.0',
				method: 'notifications/tools/list_changed',
				params: { _meta: { [`${P}subscriptionId`]: 'one' } },
			},
		]);
		// A stream that breaks is opened again, and what may have been missed is said to have been.
		first.heard.length = 0;
		open.at(-1).end();
		await until('the gap is heard', () => first.heard.length === 1);
		assert.equal(first.heard[0].method, 'notifications/tools/list_changed');
		first.close();
		await until('nobody listens there', () => open.every(({ closed }) => closed));
		await until('its session is over', () => server.count('DELETE') >= 1);
	});

	test('listens of one worker share a session; a graceful end has a result', async () => {
		const open = streams();
		server.on['resources/subscribe'] = ({ response, message }) => reply(response, message, {});
		const all = await Promise.all(
			Array.from({ length: 12 }, (_, i) =>
				listen({ promptsListChanged: true, resourceSubscriptions: ['file:///a'] }, i),
			),
		);
		await until('all are acknowledged', () => all.every(({ heard }) => heard.length === 1));
		assert.ok(open.length <= 4, 'one stream for each worker');
		assert.equal(server.count('resources/subscribe'), open.length);
		for (const stream of open) stream.say('notifications/prompts/list_changed');
		await until('all hear it', () => all.every(({ heard }) => heard.length === 2));
		all.forEach(({ heard }, i) =>
			assert.strictEqual(heard[1].params._meta[`${P}subscriptionId`], i),
		);
		margay.write({ limits: { json_depth: 65 } });
		assert.equal((await margay.command('reload')).code, 0);
		await Promise.all(all.map(({ over }) => over));
		all.forEach(({ heard }, i) => {
			assert.equal(heard.at(-1).id, i);
			assert.equal(heard.at(-1).result.resultType, 'complete');
		});
	});

	test('an upstream without a stream acknowledges nothing', async () => {
		const { status, heard, close } = await listen({
			toolsListChanged: true,
			resourceSubscriptions: ['file:///a'],
		});
		assert.equal(status, 200);
		await until('it is acknowledged', () => heard.length === 1);
		assert.deepEqual(heard[0].params.notifications, { resourceSubscriptions: [] });
		close();
		const bad = await send(margay.url, 'subscriptions/listen', { params: {} });
		assert.deepEqual([bad.status, bad.json.error.code], [400, -32602]);
	});
});

describe('modern clients and legacy stdio children', OPTIONS, () => {
	for (const sharing of ['per_session', 'shared', { pool: { min: 1, max: 2 } }])
		test(`${JSON.stringify(sharing)}: many clients, few children`, async () => {
			const stdio = { ...hostile(), sharing };
			const margay = await Margay.start({
				config: { upstreams: { main: { http: undefined, stdio } } },
			});
			try {
				const discover = await send(margay.url, 'server/discover');
				assert.deepEqual(discover.json.result.supportedVersions, ['2026-07-28']);
				const { json } = await send(margay.url, 'tools/list');
				assert.equal(json.result.resultType, 'complete');
				const answers = await Promise.all(
					Array.from({ length: 20 }, (_, i) =>
						send(margay.url, 'tools/list', { id: `call ${i}` }),
					),
				);
				for (const [i, answer] of answers.entries())
					assert.equal(answer.json.id, `call ${i}`);
			} finally {
				await margay.stop();
			}
		});
});
// Questions of a legacy upstream to a modern client: input_required, and the retry that may land
// on any worker.
describe('a legacy upstream that asks modern clients', OPTIONS, () => {
	let server;
	let margay;
	const replies = [];
	const CAPABLE = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
	const meta = (more = {}) => metaOf({ [`${P}clientCapabilities`]: CAPABLE, ...more });

	// Calls `ask` asks what its arguments say, all at once, then answers with what it was told.
	async function start(config = {}) {
		server = await ScriptedServer.start();
		const open = new Map();
		server.on = {
			'server/discover': ({ response }) => response.writeHead(400).end(),
			'tools/call': ({ response, message }) => {
				const { rounds = [], after } = message.params.arguments;
				const said = [];
				response.writeHead(200, { 'content-type': 'text/event-stream' });
				const send = (one) =>
					response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...one })}\n\n`);
				const next = () => {
					const round = rounds.shift();
					if (!round) {
						const text = JSON.stringify(said);
						send({ id: message.id, result: { content: [{ type: 'text', text }] } });
						return response.end();
					}
					let left = round.length;
					for (const [id, method, params] of round) {
						open.set(id, (reply) => {
							said.push(reply.result ?? reply.error);
							if (--left === 0) next();
						});
						send({ id, method, params });
					}
					if (after === 'die') setTimeout(() => response.destroy(), 100);
				};
				next();
			},
			POST: ({ response, message, request }) => {
				if (message?.id === undefined)
					return server.answer(request, response, message);
				replies.push(message);
				response.writeHead(202).end();
				open.get(message.id)?.(message);
				open.delete(message.id);
			},
		};
		margay = await Margay.start({ upstream: server.url, config });
	}
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		replies.length = 0;
		await margay.stop();
		await server.stop();
	});

	const ELICIT = ['a', 'elicitation/create', { message: 'Name?', requestedSchema: { type: 'object' }, _meta: { x: 1 } }];
	const SAMPLE = ['b', 'sampling/createMessage', { messages: [], maxTokens: 5 }];
	const ROOTS = ['c', 'roots/list', {}];
	const ACCEPT = { action: 'accept', content: { name: 'A' } };
	const ask = (rounds, more = {}, options = {}) =>
		send(margay.url, 'tools/call', {
			params: { name: 'ask', arguments: { rounds }, _meta: meta(), ...more },
			...options,
		});

	test('several rounds, several questions, partial answers, any worker', async () => {
		await start();
		const rounds = [[ELICIT, SAMPLE, ROOTS], [['d', ...ELICIT.slice(1)]]];
		const first = await ask(rounds, {}, { id: 'one' });
		assert.equal(first.json.id, 'one');
		const { resultType, inputRequests, requestState } = first.json.result;
		assert.equal(resultType, 'input_required');
		assert.deepEqual(
			Object.values(inputRequests).map(({ method }) => method),
			['elicitation/create', 'sampling/createMessage', 'roots/list'],
		);
		const [elicit, sample, roots] = Object.keys(inputRequests);
		assert.deepEqual(inputRequests[elicit].params, { message: 'Name?', requestedSchema: { type: 'object' } });
		const second = await ask(rounds, {
			inputResponses: { [elicit]: ACCEPT, [sample]: 17, unknown: {} },
			requestState,
		});
		// What was not answered, or not well, is asked again.
		assert.deepEqual(Object.keys(second.json.result.inputRequests), [sample, roots]);
		assert.notEqual(second.json.result.requestState, requestState);
		const model = { role: 'assistant', content: { type: 'text', text: 'x' }, model: 'm' };
		const third = await ask(rounds, {
			inputResponses: { [sample]: model, [roots]: { roots: [] } },
			requestState: second.json.result.requestState,
		});
		const [again] = Object.keys(third.json.result.inputRequests);
		const last = await ask(
			rounds,
			{
				inputResponses: { [again]: { action: 'decline' } },
				requestState: third.json.result.requestState,
			},
			{ id: 'four' },
		);
		assert.equal(last.json.id, 'four');
		assert.equal(last.json.result.resultType, 'complete');
		const said = JSON.parse(last.json.result.content[0].text);
		assert.deepEqual(said, [ACCEPT, model, { roots: [] }, { action: 'decline' }]);
		assert.equal(server.count('tools/call'), 1);
		await until('no call waits', async () => (await margay.metrics()).sum('margay_calls_parked') === 0);
	});

	// Longer than fits a frame between workers.
	test('long answers arrive whole, those to the upstream and its own', async () => {
		await start();
		for (const length of [40_000, 2_000_000]) {
			const { inputRequests, requestState } = (await ask([[ELICIT]])).json.result;
			const long = { action: 'accept', content: { name: 'é'.repeat(length / 2) } };
			const inputResponses = { [Object.keys(inputRequests)[0]]: long };
			const { status, json } = await ask([[ELICIT]], { inputResponses, requestState }, { id: 'long' });
			assert.deepEqual([status, json.id], [200, 'long']);
			assert.deepEqual(JSON.parse(json.result.content[0].text), [long]);
		}
	});

	test('a state works once, and for its own request only', async () => {
		await start();
		const first = await ask([[ELICIT]]);
		const { inputRequests, requestState } = first.json.result;
		const inputResponses = { [Object.keys(inputRequests)[0]]: ACCEPT };
		const refused = [
			{ inputResponses, requestState, arguments: { rounds: [], x: 1 } },
			{ inputResponses, requestState, name: 'other' },
			{ inputResponses, requestState: `${requestState}-TAMPERED` },
			{ inputResponses, requestState: requestState.replace(/.$/, (c) => (c === 'A' ? 'B' : 'A')) },
			{ inputResponses, requestState: '' },
			{ inputResponses, requestState: 5 },
		];
		for (const more of refused) {
			const { status, json } = await ask([[ELICIT]], more);
			assert.deepEqual([status, json.error.code], [400, -32602]);
		}
		const done = await ask([[ELICIT]], { inputResponses, requestState });
		assert.equal(done.json.result.resultType, 'complete');
		const again = await ask([[ELICIT]], { inputResponses, requestState });
		assert.ok(again.json.error.code === -32602 || again.json.error.code === -32603);
		assert.equal(server.count('tools/call'), 1);
	});

	test('two retries at once: one of them is refused', async () => {
		await start();
		const { inputRequests, requestState } = (await ask([[ELICIT], [['d', ...ELICIT.slice(1)]]])).json.result;
		const rounds = [[ELICIT], [['d', ...ELICIT.slice(1)]]];
		const inputResponses = { [Object.keys(inputRequests)[0]]: ACCEPT };
		const both = await Promise.all([1, 2].map(() => ask(rounds, { inputResponses, requestState })));
		const codes = both.map(({ json }) => json.error?.code ?? json.result.resultType).sort();
		assert.deepEqual(codes, [-32602, 'input_required']);
	});

	test('kill -9 of the broker does not lose the call, of its worker does: never made again', async () => {
		await start();
		const first = (await ask([[ELICIT]])).json.result;
		const retry = ({ inputRequests, requestState }) =>
			ask([[ELICIT]], {
				inputResponses: { [Object.keys(inputRequests)[0]]: ACCEPT },
				requestState,
			});
		const { broker } = await margay.status();
		killPid(broker.pid, 'SIGKILL');
		assert.equal((await retry(first)).json.result.resultType, 'complete');
		const second = (await ask([[ELICIT]])).json.result;
		for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		const answer = await until('workers are back', () => retry(second).catch(() => false));
		assert.deepEqual([answer.status, answer.json.error.code], [502, -32603]);
		assert.match(answer.json.error.message, /lost/);
		assert.equal(server.count('tools/call'), 2);
	});

	test('an upstream that ends meanwhile is an error to the retry', async () => {
		await start();
		const first = await send(margay.url, 'tools/call', {
			params: { name: 'ask', arguments: { rounds: [[ELICIT]], after: 'die' }, _meta: meta() },
		});
		const { inputRequests, requestState } = first.json.result;
		await until('it is gone', () => server.seen.some(({ socket }) => socket.destroyed));
		const { json } = await send(margay.url, 'tools/call', {
			params: {
				name: 'ask',
				arguments: { rounds: [[ELICIT]], after: 'die' },
				inputResponses: { [Object.keys(inputRequests)[0]]: ACCEPT },
				requestState,
				_meta: meta(),
			},
		});
		assert.equal(json.error.code, -32603);
	});

	test('a client that does not come back has declined, and its call is cancelled', async () => {
		await start({ timeouts: { client_input: '1s' } });
		const first = await ask([[ELICIT, SAMPLE]]);
		const { inputRequests, requestState } = first.json.result;
		// On three connections, in any order; perhaps behind an answer that somebody before gave late.
		const declined = () => replies.some(({ id, result }) => id === 'a' && result?.action === 'cancel');
		const failed = () => replies.some(({ id, error }) => id === 'b' && error?.code === -1);
		await until('the upstream hears', () =>
			server.count('notifications/cancelled') === 1 && declined() && failed());
		const { json } = await ask([[ELICIT, SAMPLE]], {
			inputResponses: { [Object.keys(inputRequests)[0]]: ACCEPT },
			requestState,
		});
		assert.ok([-32602, -32603].includes(json.error.code));
	});

	test('what is asked on the stream outside of requests is of the call that runs there', async () => {
		await start();
		const streams = new Map(); // of sessions
		const waiting = new Map(); // calls, by the id of their question
		let asked = 0;
		server.on.GET = ({ request, response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write(': hello\n\n');
			streams.set(request.headers['mcp-session-id'], response);
		};
		server.on['tools/call'] = ({ request, response, message }) => {
			const id = `question ${++asked}`;
			waiting.set(id, (answer) =>
				reply(response, message, {
					content: [{ type: 'text', text: `${message.params.arguments.who} ${answer.content.a}` }],
				}),
			);
			const question = { jsonrpc: '2.0', id, method: 'elicitation/create', params: { message: id } };
			const session = request.headers['mcp-session-id'];
			streams.get(session).write(`data: ${JSON.stringify(question)}\n\n`);
		};
		server.on.POST = ({ response, message }) => {
			response.writeHead(202).end();
			waiting.get(message.id)?.(message.result);
		};
		const call = (who, more = {}) =>
			send(margay.url, 'tools/call', {
				params: { name: 'ask', arguments: { who }, _meta: meta(), ...more },
			});
		const people = Array.from({ length: 12 }, (_, i) => `person ${i}`);
		const answers = await Promise.all(
			people.map(async (who) => {
				const { inputRequests, requestState } = (await call(who)).json.result;
				const inputResponses = {
					[Object.keys(inputRequests)[0]]: { action: 'accept', content: { a: who } },
				};
				const { json } = await call(who, { inputResponses, requestState });
				return json.result.content[0].text;
			}),
		);
		// Nobody got somebody else's.
		assert.deepEqual(answers, people.map((who) => `${who} ${who}`));
	});

	test('a server that holds back the head of its stream holds up no call', async () => {
		await start();
		server.on.GET = () => {}; // until it has something to say, which is never
		const { json } = await ask([]);
		assert.equal(json.result.resultType, 'complete');
	});

	test('nobody is asked what it did not say that it can', async () => {
		await start();
		const { json } = await ask([[ELICIT]], { _meta: metaOf() });
		assert.equal(json.result.resultType, 'complete');
		assert.equal(replies[0].error.code, -32601);
	});

	test('URLs that must be seen first are asked for, or the capability is', async () => {
		await start();
		const url = { mode: 'url', url: 'https://example.com/', message: 'm', elicitationId: 'e' };
		server.on['tools/call'] = failure(-32042, { elicitations: [url] });
		const { json } = await ask([]);
		assert.deepEqual(json.result.inputRequests['ask-1'], {
			method: 'elicitation/create',
			params: { mode: 'url', url: 'https://example.com/', message: 'm' },
		});
		const without = await ask([], { _meta: metaOf() });
		assert.deepEqual([without.status, without.json.error.code], [400, -32021]);
		assert.deepEqual(without.json.error.data, {
			requiredCapabilities: { elicitation: { url: {} } },
		});
	});
});

// Legacy clients at an upstream that knows nothing but the stateless era.
describe('legacy clients and a modern upstream', OPTIONS, () => {
	let server;
	let margay;

	const state = 'opaque "state" ü';
	const result = (response, message, value) =>
		reply(response, message, { resultType: 'complete', ...value });
	const refusal = ({ response, message }) => {
		response.writeHead(400, { 'content-type': 'application/json' });
		const error = { code: -32022, message: 'no', data: { supported: ['2026-07-28'] } };
		response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, error }));
	};

	before(async () => {
		server = await ScriptedServer.start();
	});
	beforeEach(async () => {
		server.seen.length = 0;
		server.on = {
			initialize: refusal,
			'server/discover': ({ response, message }) =>
				result(response, message, {
					supportedVersions: ['2026-07-28'],
					capabilities: {
						tools: { listChanged: true },
						resources: { subscribe: true },
						extensions: { 'example.com/x': {} },
					},
					instructions: 'be new',
					ttlMs: 1000,
					cacheScope: 'public',
					_meta: { [`${P}serverInfo`]: { name: 'new', version: '2' } },
				}),
			'tools/call': ({ response, message }) =>
				result(response, message, {
					content: [{ type: 'text', text: 'done' }],
					structuredContent: { n: 1 },
					_meta: { [`${P}serverInfo`]: { name: 'new', version: '2' }, k: 1 },
				}),
		};
		margay = await Margay.start({ upstream: server.url });
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		await margay.stop();
	});
	after(() => server?.stop());

	const versions = ['2025-03-26', '2025-06-18', '2025-11-25'];
	for (const version of versions)
		test(`the handshake of ${version} is answered here`, async () => {
			const session = await RawSession.open(margay.url, { version });
			assert.deepEqual(session.result, {
				protocolVersion: version,
				capabilities: { tools: { listChanged: true }, resources: { subscribe: true } },
				serverInfo: { name: 'new', version: '2' },
				instructions: 'be new',
			});
			assert.ok(session.id);
			const { message } = await session.request('ping');
			assert.deepEqual(message.result, {});
			assert.equal(server.count('ping'), 0);
			assert.equal((await session.delete()).status, 200);
			// The other workers hear of it in their own time.
			await until('it is over everywhere', async () => {
				const pings = Array.from({ length: 8 }, () => session.request('ping'));
				return (await Promise.all(pings)).every(({ status }) => status === 404);
			});
		});

	test('a revision that nobody speaks becomes the newest', async () => {
		const session = await RawSession.open(margay.url, { version: '2025-99-99' });
		assert.equal(session.version, '2025-11-25');
	});

	test('the upstream is asked once what it is', async () => {
		for (let i = 0; i < 12; i++) await RawSession.open(margay.url);
		assert.ok(server.count('initialize') <= 4, 'once for each worker');
		assert.ok(server.count('server/discover') <= 4);
	});

	test('a call in the words of both', async () => {
		const session = await RawSession.open(margay.url);
		const answer = await session.request(
			'tools/call',
			{ name: 'größe', arguments: { a: 1 }, _meta: { k: 'v', progressToken: 7 }, task: {} },
			{ id: 'mine' },
		);
		assert.deepEqual(answer.message, {
			jsonrpc: '2.0',
			id: 'mine',
			result: {
				content: [{ type: 'text', text: 'done' }],
				structuredContent: { n: 1 },
				_meta: { k: 1 },
			},
		});
		const { headers, message } = server.seen.at(-1);
		assert.equal(headers['mcp-protocol-version'], '2026-07-28');
		assert.equal(headers['mcp-method'], 'tools/call');
		const code = Buffer.from('größe').toString('base64');
		assert.equal(headers['mcp-name'], `=?base64?${code}?=`);
		assert.equal(headers['mcp-session-id'], undefined);
		assert.deepEqual(message.params, {
			_meta: {
				[`${P}protocolVersion`]: '2026-07-28',
				[`${P}clientCapabilities`]: { elicitation: {}, sampling: {} },
				[`${P}clientInfo`]: { name: 'margay-test', version: '1' },
				progressToken: message.id,
				k: 'v',
			},
			name: 'größe',
			arguments: { a: 1 },
		});
	});

	test('what is set in the session holds at every worker', async () => {
		const session = await RawSession.open(margay.url);
		const level = async () => {
			await session.call('x');
			return server.seen.at(-1).message.params._meta[`${P}logLevel`];
		};
		assert.equal(await level(), undefined);
		assert.deepEqual((await session.request('logging/setLevel', { level: 'error' })).message.result, {});
		await until('it holds everywhere', async () => {
			for (let i = 0; i < 12; i++) if ((await level()) !== 'error') return false;
			return true;
		});
		const bad = await session.request('logging/setLevel', { level: 'loud' });
		assert.equal(bad.message.error.code, -32602);
		const { broker, workers } = await margay.status();
		for (const { pid } of [broker, ...workers]) killPid(pid, 'SIGKILL');
		await until('others serve', () => level().then((one) => one === 'error', () => false));
	});

	test('changes of a session at the same time are all kept', async () => {
		const session = await RawSession.open(margay.url);
		const uris = Array.from({ length: 16 }, (_, i) => `file:///${i}`);
		const answers = await Promise.all(
			uris.map((uri) => session.request('resources/subscribe', { uri })),
		);
		for (const { message } of answers) assert.deepEqual(message.result, {});
		assert.deepEqual((await session.request('resources/unsubscribe', { uri: uris[0] })).message.result, {});
	});

	test('methods that the other era does not have', async () => {
		const session = await RawSession.open(margay.url);
		for (const method of ['tasks/list', 'tasks/get', 'server/discover', 'no/such']) {
			const { status, message } = await session.request(method);
			assert.deepEqual([status, message.error.code], [200, -32601], method);
		}
		server.on['completion/complete'] = failure(-32601);
		assert.equal((await session.request('completion/complete')).message.error.code, -32601);
		server.on['tools/call'] = failure(-32021, { requiredCapabilities: { roots: {} } });
		const { message } = await session.call('x');
		assert.equal(message.error.code, -32603);
		assert.equal(message.error.data.code, -32021);
	});

	test('a batch is taken apart, its answers come on one stream', async () => {
		const session = await RawSession.open(margay.url, { version: '2025-03-26' });
		const one = (id, method, params = {}) => ({ jsonrpc: '2.0', id, method, params });
		const call = (id) => one(id, 'tools/call', { name: 'x', arguments: {} });
		const note = { jsonrpc: '2.0', method: 'notifications/roots/list_changed' };
		const batch = [call('a'), note, call(2), one(3, 'ping'), one(4, 'no/such')];
		const answer = await session.post(batch);
		assert.equal(answer.status, 200);
		const messages = messagesOf(answer).map((text) => JSON.parse(text));
		const byId = new Map(messages.map((message) => [message.id, message]));
		assert.equal(messages.length, 4);
		for (const id of ['a', 2]) assert.equal(byId.get(id).result.content[0].text, 'done');
		assert.deepEqual(byId.get(3).result, {});
		assert.equal(byId.get(4).error.code, -32601);
		assert.equal(server.count('tools/call'), 2);
		assert.ok(server.seen.every(({ body }) => !body.toString().startsWith('[')));

		assert.equal((await session.post([note])).status, 202);
		assert.equal((await session.post([])).status, 400);
		const newer = await RawSession.open(margay.url);
		assert.equal((await newer.post(batch)).status, 400);
		assert.ok((await session.call('x')).message.result, 'the session is still there');
	});

	test('progress and log messages come before the answer', async () => {
		server.on['tools/call'] = ({ response, message }) =>
			stream(
				response,
				{
					method: 'notifications/progress',
					params: { progressToken: message.params._meta.progressToken, progress: 1 },
				},
				{ method: 'notifications/message', params: { level: 'info', data: 1 } },
				{ id: message.id, result: { resultType: 'complete', content: [] } },
			);
		const session = await RawSession.open(margay.url);
		await session.request('logging/setLevel', { level: 'info' });
		const answer = await session.request('tools/call', {
			name: 'x',
			_meta: { progressToken: 'tok' },
		});
		const [progress, log, last] = messagesOf(answer).map(JSON.parse);
		assert.equal(progress.params.progressToken, 'tok');
		assert.equal(log.params.data, 1);
		assert.deepEqual(last.result, { content: [] });
	});

	test('a client that goes has not cancelled; one that says so has, at any worker', async () => {
		const closed = [];
		server.on['tools/call'] = ({ response, message }) => {
			response.once('close', () => closed.push([message.params.name, response.writableEnded]));
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			const { progressToken } = message.params._meta;
			const params = { progressToken, progress: 1 };
			const notice = { jsonrpc: '2.0', method: 'notifications/progress', params };
			response.write(`data: ${JSON.stringify(notice)}\n\n`);
			if (message.params.name === 'goes') setTimeout(() => response.end(), 300);
		};
		const session = await RawSession.open(margay.url);
		const begin = async (name, id) => {
			const params = { name, _meta: { progressToken: 1 } };
			const { response, request } = await session.post(
				{ jsonrpc: '2.0', id, method: 'tools/call', params },
				{ stream: true },
			);
			const all = events(response);
			await all.next();
			return { request, all };
		};
		const goes = await begin('goes', 1);
		goes.request.destroy();
		await until('its upstream ends by itself', () => closed.length === 1);
		assert.deepEqual(closed, [['goes', true]]);
		const stays = await begin('stays', 'two');
		await session.post({
			jsonrpc: '2.0',
			method: 'notifications/cancelled',
			params: { requestId: 'two' },
		});
		await until('its upstream sees the end', () => closed.length === 2);
		assert.deepEqual(closed[1], ['stays', false]);
		assert.equal((await stays.all.next()).done, true);
	});

	// A call whose server says what the test wants when it wants: { events, drop(), say() }.
	async function openCall(session, { progress = true } = {}) {
		let upstream;
		server.on['tools/call'] = ({ response, message }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.flushHeaders();
			upstream = { response, message, closed: false };
			response.on('close', () => (upstream.closed = true));
		};
		const sent = await session.post(
			{
				jsonrpc: '2.0',
				id: 7,
				method: 'tools/call',
				params: { name: 'x', arguments: {}, ...(progress && { _meta: { progressToken: 'p' } }) },
			},
			{ stream: true },
		).catch((error) => error);
		return { sent, upstream: () => upstream };
	}
	const writeTo = ({ response, message }) => ({
		progress: (n) =>
			response.write(
				`data: ${JSON.stringify({
					jsonrpc: '2.0',
					method: 'notifications/progress',
					params: { progressToken: message.params._meta.progressToken, progress: n },
				})}\n\n`,
			),
		answer: () =>
			response.end(
				`data: ${JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', content: [] } })}\n\n`,
			),
	});
	const read = async (response, count) => {
		const found = [];
		for await (const event of events(response)) {
			found.push(event);
			if (found.length === count) break;
		}
		return found;
	};
	const dataOf = (list) => list.map(({ data }) => JSON.parse(data));

	test('a client that lost its connection goes on by its last event id', async () => {
		const session = await RawSession.open(margay.url);
		const opening = openCall(session);
		await until('it is there', () => server.count('tools/call') === 1);
		const { sent, upstream } = await opening; // its head comes with an id, though nothing was said
		const say = writeTo(upstream());
		say.progress(1);
		const first = await read(sent.response, 2);
		assert.equal(first[0].data, '');
		assert.equal(first[0].retry, '1000');
		assert.equal(JSON.parse(first[1].data).params.progress, 1);
		sent.request.destroy();
		say.progress(2);
		say.progress(3);
		for (let round = 0; round < 4; round++) {
			// Whatever worker it is; each takes over from the one before.
			const again = await session.get({ 'last-event-id': first[1].id });
			assert.equal(again.status, 200);
			const missed = await read(again.response, 2);
			assert.deepEqual(dataOf(missed).map(({ params }) => params.progress), [2, 3]);
			again.request.destroy();
		}
		const last = await session.get({ 'last-event-id': first[1].id });
		const rest = read(last.response, 4);
		say.progress(4);
		say.answer();
		const all = dataOf(await rest);
		assert.deepEqual(all.slice(0, 3).map(({ params }) => params.progress), [2, 3, 4]);
		assert.deepEqual([all[3].id, all[3].result], [7, { content: [] }]);
		assert.equal(server.count('tools/call'), 1);
		// It has its answer, which is kept for a while: the client may not have read it. That it comes again does not
		// make it longer.
		await until('it is forgotten', async () => {
			const gone = await session.get({ 'last-event-id': first[1].id });
			gone.request.destroy();
			return gone.status === 400;
		}, { timeout: 20_000 });
	});

	// Control: when the broker is not told, the client listens to a worker that says nothing.
	test('a client whose worker does not turn is told that its call is lost', async () => {
		const { workers } = await until('the watchdog is awake', async () => {
			const status = await margay.status();
			return status.uptime_seconds > 4 && status;
		});
		const session = await RawSession.open(margay.url);
		const { sent } = await openCall(session);
		const port = sent.request.socket.localPort;
		const said = events(sent.response);
		const { value: prime } = await said.next();
		const { pid } = workers.find((one) => servedPorts(one.pid, margay.port).has(port));
		try {
			freeze(pid);
			await within('its client is let go', assert.rejects(said.next()), 3000);
			const began = Date.now();
			const again = await session.get({ 'last-event-id': prime.id });
			again.request.destroy();
			assert.equal(again.status, 400);
			assert.ok(Date.now() - began < 1000);
			assert.equal((await session.request('ping')).status, 200);
		} finally {
			killPid(pid, 'SIGCONT');
		}
	});

	test('an answer that nobody heard waits for its client, for its own only', async () => {
		const session = await RawSession.open(margay.url);
		const other = await RawSession.open(margay.url);
		const { sent, upstream } = await openCall(session);
		const [prime] = await read(sent.response, 1);
		sent.request.destroy();
		await until('nobody is there', () => margay.accesses({ outcome: 'aborted' }).length === 1);
		assert.equal(upstream().closed, false, 'a lost connection cancels nothing');
		writeTo(upstream()).answer();
		await until('the server is done', () => upstream().closed);
		const foreign = await other.get({ 'last-event-id': prime.id });
		foreign.request.destroy();
		assert.equal(foreign.status, 400);
		const own = await session.get({ 'last-event-id': prime.id });
		const [answer] = dataOf(await read(own.response, 1));
		assert.equal(answer.id, 7);
		const wrong = await session.get({ 'last-event-id': `${'1'.repeat(32)}-0` });
		wrong.request.destroy();
		assert.equal(wrong.status, 400);
	});

	// Control: a worker that drains and ends because it has no connection takes the call with it.
	test('a call that nobody waits for just now outlives a reload', async () => {
		const session = await RawSession.open(margay.url);
		const { sent, upstream } = await openCall(session);
		const [prime] = await read(sent.response, 1);
		sent.request.destroy();
		await until('nobody is there', () => margay.accesses({ outcome: 'aborted' }).length === 1);
		assert.equal((await margay.command('reload')).code, 0);
		const draining = async () =>
			(await margay.status()).workers.filter(({ generation, pid }) => generation === 1 && pid > 0);
		await until('only its worker is left', async () => (await draining()).length === 1);
		writeTo(upstream()).answer();
		const own = await session.get({ 'last-event-id': prime.id });
		assert.equal(own.status, 200);
		assert.equal(dataOf(await read(own.response, 1))[0].id, 7);
		await until('then it ends', async () => (await draining()).length === 0);
	});

	test('what is asked of a client that is away waits for it, too', async () => {
		const session = await RawSession.open(margay.url);
		const { sent, upstream } = await openCall(session);
		const [prime] = await read(sent.response, 1);
		sent.request.destroy();
		await until('nobody is there', () => margay.accesses({ outcome: 'aborted' }).length === 1);
		const first = upstream();
		server.on['tools/call'] = ({ response, message }) =>
			result(response, message, { content: [{ type: 'text', text: message.params.inputResponses.k.action }] });
		const inputRequests = {
			k: { method: 'elicitation/create', params: { mode: 'form', message: 'm', requestedSchema: { type: 'object', properties: {} } } },
		};
		first.response.end(
			`data: ${JSON.stringify({ jsonrpc: '2.0', id: first.message.id, result: { resultType: 'input_required', inputRequests, requestState: 's' } })}\n\n`,
		);
		const own = await session.get({ 'last-event-id': prime.id });
		const all = events(own.response);
		const question = JSON.parse((await all.next()).value.data);
		assert.equal(question.method, 'elicitation/create');
		const told = await session.post({ jsonrpc: '2.0', id: question.id, result: { action: 'decline' } });
		assert.equal(told.status, 202);
		const answer = JSON.parse((await all.next()).value.data);
		assert.equal(answer.result.content[0].text, 'decline');
	});

	test('a call that is lost with its worker is an error to who comes back', async () => {
		const session = await RawSession.open(margay.url);
		const { sent } = await openCall(session);
		const [prime] = await read(sent.response, 1);
		for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		await until('it is told', async () => {
			const again = await session.get({ 'last-event-id': prime.id }).catch(() => undefined);
			again?.request.destroy();
			return again?.status === 400;
		});
		assert.equal(server.count('tools/call'), 1);
	});

	test('input_required becomes requests, and the answers go back', async () => {
		const calls = [];
		server.on['tools/call'] = ({ response, message }) => {
			calls.push(message.params);
			const { inputResponses, requestState } = message.params;
			if (requestState === 'last')
				return result(response, message, { content: [{ type: 'text', text: 'all known' }] });
			if (inputResponses)
				return reply(response, message, { resultType: 'input_required', requestState: 'last' });
			reply(response, message, {
				resultType: 'input_required',
				requestState: state,
				inputRequests: {
					who: { method: 'elicitation/create', params: { mode: 'form', message: 'm', requestedSchema: {} } },
					'what "else"': { method: 'sampling/createMessage', params: { messages: [], maxTokens: 1 } },
				},
			});
		};
		const session = await RawSession.open(margay.url);
		const { response } = await session.post(
			{ jsonrpc: '2.0', id: 5, method: 'tools/call', params: { name: 'ask' } },
			{ stream: true },
		);
		const all = events(response);
		const next = async () => JSON.parse((await all.next()).value.data);
		const first = await next();
		const second = await next();
		assert.deepEqual([first.method, second.method], ['elicitation/create', 'sampling/createMessage']);
		const other = await RawSession.open(margay.url);
		const answer = { action: 'accept', content: { a: 1 } };
		// Somebody else's answer counts for nothing.
		await other.post({ jsonrpc: '2.0', id: first.id, result: { action: 'decline' } });
		await session.post({ jsonrpc: '2.0', id: first.id, result: answer });
		const model = { role: 'assistant', content: { type: 'text', text: 't' }, model: 'm' };
		await session.post({ jsonrpc: '2.0', id: second.id, result: model });
		const last = await next();
		assert.equal(last.id, 5);
		assert.equal(last.result.content[0].text, 'all known');
		assert.deepEqual(calls[1].inputResponses, { who: answer, 'what "else"': model });
		assert.equal(calls[1].requestState, state);
		assert.equal(calls[2].requestState, 'last');
		assert.equal(calls[2].inputResponses, undefined);
	});

	test('a question that is refused: an elicitation is cancelled, anything else ends the call', async () => {
		for (const [method, expected] of [
			['elicitation/create', { action: 'cancel' }],
			['sampling/createMessage', -1],
		]) {
			let told;
			server.on['tools/call'] = ({ response, message }) => {
				told = message.params.inputResponses?.k;
				if (told) return result(response, message, { content: [] });
				reply(response, message, {
					resultType: 'input_required',
					inputRequests: { k: { method, params: {} } },
				});
			};
			const session = await RawSession.open(margay.url);
			const { response } = await session.post(
				{ jsonrpc: '2.0', id: 5, method: 'tools/call', params: { name: 'ask' } },
				{ stream: true },
			);
			const all = events(response);
			const { id } = JSON.parse((await all.next()).value.data);
			await session.post({ jsonrpc: '2.0', id, error: { code: -1, message: 'no' } });
			const last = JSON.parse((await all.next()).value.data);
			assert.deepEqual(last.error?.code ?? told, expected);
		}
	});

	// Holds every listen open: { filter, say(message), end() }, newest last.
	function listens() {
		const open = [];
		server.on['subscriptions/listen'] = ({ response, message }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			const meta = { [`${P}subscriptionId`]: message.id };
			const say = (method, params = {}) =>
				response.write(
					`data: ${JSON.stringify({ jsonrpc: '2.0', method, params: { ...params, _meta: meta } })}\n\n`,
				);
			const filter = message.params.notifications;
			say('notifications/subscriptions/acknowledged', { notifications: filter });
			const one = { filter, say, end: () => response.end(), closed: false };
			response.once('close', () => (one.closed = true));
			open.push(one);
		};
		return open;
	}

	test("a client's stream hears what changes, and what it subscribes to later", async () => {
		const open = listens();
		const session = await RawSession.open(margay.url);
		const { status, response } = await session.get();
		assert.equal(status, 200);
		const heard = [];
		(async () => {
			for await (const { data } of events(response)) heard.push(JSON.parse(data));
		})().catch(() => {});
		const listChanged = ({ method }) => method === 'notifications/tools/list_changed';
		await until('it listens', () => open.length === 1);
		assert.deepEqual(open[0].filter, { toolsListChanged: true });
		open[0].say('notifications/tools/list_changed');
		await until('it is heard', () => heard.length === 1);
		assert.deepEqual(heard.shift(), {
			jsonrpc: '2.0',
			method: 'notifications/tools/list_changed',
			params: { _meta: {} },
		});
		// From whatever worker the subscription comes.
		for (let i = 1; i <= 12; i++) {
			await session.request('resources/subscribe', { uri: `file:///${i}` });
			await until(
				'it listens to it',
				() => open.at(-1).filter.resourceSubscriptions?.length === i,
			);
		}
		await until('to nothing twice', () => open.slice(0, -1).every(({ closed }) => closed));
		// What may have changed in between is said to have changed.
		await until('that is heard', () => heard.some(listChanged));
		const uri = 'file:///3';
		open.at(-1).say('notifications/resources/updated', { uri });
		await until('the update is heard', () => heard.some(({ params }) => params?.uri === uri));
		// A listen that ends is asked for again.
		const before = open.length;
		heard.length = 0;
		open.at(-1).end();
		await until('it listens again', () => open.length > before);
		await until('and that there was a gap is heard', () => heard.some(listChanged));
		response.destroy();
		await until('nobody listens any more', () => open.every(({ closed }) => closed));
	});

	test('a session has one stream at a time, whatever worker it is at', async () => {
		const open = listens();
		const session = await RawSession.open(margay.url);
		const first = await session.get();
		assert.equal(first.status, 200);
		for (let i = 0; i < 8; i++) assert.equal((await session.get()).status, 409);
		first.response.destroy();
		await until('it is over', () => open.length > 0 && open.every(({ closed }) => closed));
		const again = await until('another one may be opened', async () => {
			const stream = await session.get();
			return stream.status === 200 && stream;
		});
		again.response.destroy();
	});

	test('a legacy upstream that refuses initialize says why', async () => {
		server.on.initialize = failure(-32602, { supported: ['2024-11-05'] });
		server.on['server/discover'] = ({ response }) => response.writeHead(400).end();
		const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: {} };
		const { status, json } = await post(margay.url, {
			jsonrpc: '2.0',
			id: 1,
			method: 'initialize',
			params,
		});
		assert.deepEqual([status, json.error.code], [200, -32602]);
		assert.deepEqual(json.error.data, { supported: ['2024-11-05'] });
	});
});
