// The stateless era (2026-07-28): requests are validated in the order of the revision and passed on to
// an upstream of the same era; what era an upstream is of is found out by asking it.
import { afterEach, after, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, events, Margay, post, RawSession, request, until } from './harness.mjs';
import { metaOf, P, send, VERSION } from './modern.mjs';
import { ScriptedServer, reply } from './upstreams.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };

// What a modern server says, method by method.
const modern = {
	'server/discover': ({ response, message }) =>
		reply(response, message, {
			resultType: 'complete',
			supportedVersions: [VERSION],
			capabilities: { tools: {} },
			ttlMs: 0,
			cacheScope: 'private',
		}),
	'tools/call': ({ response, message }) =>
		reply(response, message, {
			resultType: 'complete',
			content: [{ type: 'text', text: message.params.arguments?.text ?? 'done' }],
		}),
	'resources/read': ({ response, message }) =>
		reply(response, message, { resultType: 'complete', contents: [] }),
};

describe('modern clients and a modern upstream', OPTIONS, () => {
	let server;
	let margay;

	before(async () => {
		server = await ScriptedServer.start();
		margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
	});
	beforeEach(() => {
		server.on = { ...modern };
		server.seen.length = 0;
	});
	afterEach((t) => t.error && t.diagnostic(margay.report()));
	after(async () => {
		try {
			await margay?.stop();
		} finally {
			await server?.stop();
		}
	});

	test('a call goes through as it is, with the fields that say what it is', async () => {
		const answer = await send(margay.url, 'tools/call', {
			params: { name: 'echo', arguments: { text: 'hi', big: 2 ** 60 } },
			headers: { 'mcp-param-region': 'eu', authorization: 'Bearer secret' },
			id: 'my id',
		});
		assert.equal(answer.status, 200);
		assert.equal(answer.json.id, 'my id');
		assert.equal(answer.json.result.content[0].text, 'hi');
		assert.equal(answer.headers['mcp-session-id'], undefined);
		const { headers, message } = server.seen.at(-1);
		assert.equal(message.params._meta[`${P}protocolVersion`], VERSION);
		assert.deepEqual(
			['mcp-protocol-version', 'mcp-method', 'mcp-name', 'mcp-param-region'].map(
				(name) => headers[name],
			),
			[VERSION, 'tools/call', 'echo', 'eu'],
		);
		assert.equal(headers.authorization, undefined);
		assert.equal(headers['mcp-session-id'], undefined);
	});

	test('the era is asked for once', async () => {
		for (let i = 0; i < 3; i++)
			assert.equal((await send(margay.url, 'tools/call', { params: { name: 'x' } })).status, 200);
		const asked = server.seen.filter(({ message }) => message.id === 'margay-discover');
		assert.ok(asked.length <= 1);
	});

	// Each row: what is wrong, and what is said of it; nothing may reach the upstream.
	const wrong = [
		['no version in _meta', { params: { name: 'x', _meta: {} } }, 400, -32602],
		[
			'no version in the header',
			{ params: { name: 'x' }, headers: { 'mcp-protocol-version': undefined } },
			400,
			-32020,
		],
		[
			'another version in the header',
			{ params: { name: 'x' }, headers: { 'mcp-protocol-version': '2026-12-01' } },
			400,
			-32020,
		],
		[
			'no Mcp-Method',
			{ params: { name: 'x' }, headers: { 'mcp-method': undefined } },
			400,
			-32020,
		],
		[
			'another Mcp-Method',
			{ params: { name: 'x' }, headers: { 'mcp-method': 'tools/list' } },
			400,
			-32020,
		],
		[
			'Mcp-Method in other case',
			{ params: { name: 'x' }, headers: { 'mcp-method': 'Tools/Call' } },
			400,
			-32020,
		],
		['no Mcp-Name', { params: { name: 'x' }, headers: { 'mcp-name': undefined } }, 400, -32020],
		['another Mcp-Name', { params: { name: 'x' }, headers: { 'mcp-name': 'y' } }, 400, -32020],
		[
			'Mcp-Name in bad base64',
			{ params: { name: 'x' }, headers: { 'mcp-name': '=?base64?eA=?=' } },
			400,
			-32020,
		],
		[
			'a version that nobody speaks',
			{
				params: { name: 'x', _meta: metaOf({ [`${P}protocolVersion`]: '2027-01-01' }) },
				headers: { 'mcp-protocol-version': '2027-01-01' },
			},
			400,
			-32022,
		],
		[
			'no capabilities',
			{ params: { name: 'x', _meta: { [`${P}protocolVersion`]: VERSION } } },
			400,
			-32602,
		],
	];
	for (const [what, options, status, code] of wrong)
		test(`${what}: ${code}`, async () => {
			await send(margay.url, 'tools/call', { params: { name: 'warm' } });
			server.seen.length = 0;
			const { status: got, json } = await send(margay.url, 'tools/call', options);
			assert.deepEqual([got, json.error.code, json.id], [status, code, 1]);
			if (code === -32022)
				assert.deepEqual(json.error.data, {
					supported: [VERSION],
					requested: '2027-01-01',
				});
			assert.equal(server.seen.length, 0);
		});

	for (const method of ['initialize', 'ping', 'logging/setLevel', 'resources/subscribe', 'no/such'])
		test(`${method} is no method of this revision`, async () => {
			await send(margay.url, 'tools/call', { params: { name: 'warm' } });
			server.seen.length = 0;
			const { status, json } = await send(margay.url, method);
			assert.deepEqual([status, json.error.code], [404, -32601]);
			assert.equal(server.seen.length, 0);
		});

	test('a name that no header can hold comes in base64', async () => {
		const uri = 'file:///tmp/größe';
		const code = Buffer.from(uri).toString('base64');
		const { status } = await send(margay.url, 'resources/read', {
			params: { uri },
			headers: { 'mcp-name': `=?base64?${code}?=` },
		});
		assert.equal(status, 200);
		assert.equal(server.seen.at(-1).headers['mcp-name'], `=?base64?${code}?=`);
	});

	test('a notification may come without Mcp-Method, but not with another', async () => {
		server.on['notifications/x'] = ({ response }) => response.writeHead(202).end();
		const message = { jsonrpc: '2.0', method: 'notifications/x', params: { _meta: metaOf() } };
		const headers = { 'mcp-protocol-version': VERSION };
		assert.equal((await post(margay.url, message, { headers })).status, 202);
		headers['mcp-method'] = 'notifications/y';
		const { json } = await post(margay.url, message, { headers });
		assert.equal(json.error.code, -32020);
	});

	test('responses and batches are refused, GET and DELETE have no session', async () => {
		const headers = { 'mcp-protocol-version': VERSION, 'mcp-method': 'x' };
		for (const message of [{ jsonrpc: '2.0', id: 1, result: {} }, [{ jsonrpc: '2.0', method: 'x' }]])
			assert.equal((await post(margay.url, message, { headers })).json.error.code, -32600);
		for (const method of ['GET', 'DELETE']) {
			const { status } = await request(margay.url, {
				method,
				headers: { ...headers, accept: 'text/event-stream' },
			});
			assert.equal(status, 405);
		}
	});

	test("the upstream's own errors go through, 404 with a body too", async () => {
		for (const [status, code] of [
			[404, -32601],
			[400, -32021],
			[200, -32602],
		]) {
			server.on['tools/call'] = ({ response, message }) => {
				response.writeHead(status, { 'content-type': 'application/json' });
				const error = { code, message: 'no' };
				response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, error }));
			};
			const answer = await send(margay.url, 'tools/call', { params: { name: 'x' } });
			assert.deepEqual([answer.status, answer.json.error.code], [status, code]);
		}
	});

	test('a stream of notifications is passed on, and its end ends with the client', async () => {
		let closed = false;
		server.on['subscriptions/listen'] = ({ response, message }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			const ack = {
				jsonrpc: '2.0',
				method: 'notifications/subscriptions/acknowledged',
				params: { _meta: { [`${P}subscriptionId`]: message.id }, notifications: {} },
			};
			response.write(`data: ${JSON.stringify(ack)}\n\n`);
			response.once('close', () => (closed = true));
		};
		const { response, request: sent } = await send(margay.url, 'subscriptions/listen', {
			params: { notifications: { toolsListChanged: true } },
			stream: true,
		});
		for await (const { data } of events(response)) {
			assert.equal(JSON.parse(data).params._meta[`${P}subscriptionId`], 1);
			break;
		}
		sent.destroy();
		await until('the upstream sees that nobody listens', () => closed);
	});

	// Of the request no more than the id is kept.
	test('a stream of notifications that breaks ends with an error for its request', async () => {
		const id = `the "first" ${'x'.repeat(600)}`;
		let fall;
		server.on['subscriptions/listen'] = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write('data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n');
			fall = () => response.destroy();
		};
		const { response } = await send(margay.url, 'subscriptions/listen', {
			params: { notifications: { toolsListChanged: true } },
			id,
			stream: true,
		});
		const said = [];
		for await (const { data } of events(response)) if (said.push(JSON.parse(data)) === 1) fall();
		assert.equal(said[0].method, 'notifications/tools/list_changed');
		assert.deepEqual([said[1].id, said[1].error.code], [id, -32603]);
	});

	test('legacy clients of the same path are told in their own words', async () => {
		server.on = {};
		const session = await RawSession.open(margay.url);
		assert.equal((await session.call('echo')).status, 200);
	});

	test('an upstream that is modern no longer is asked again', async () => {
		await send(margay.url, 'tools/call', { params: { name: 'warm' } });
		server.on = {
			'tools/call': ({ request, response, message }) =>
				message.params._meta[`${P}protocolVersion`]
					? response.writeHead(400).end()
					: server.answer(request, response, message),
			'server/discover': ({ response }) => response.writeHead(400).end(),
		};
		assert.equal((await send(margay.url, 'tools/call', { params: { name: 'x' } })).status, 502);
		const { json } = await send(margay.url, 'tools/call', { params: { name: 'x' } });
		assert.equal(json.result.content[0].text, 'done');
		assert.equal(server.count('initialize'), 1);
	});
});

describe('what era an upstream is of', OPTIONS, () => {
	// Each row: how it answers server/discover, and what a modern client is told then.
	const answers = [
		['a result', modern['server/discover'], 200],
		[
			'a result in a stream',
			({ response, message }) => {
				response.writeHead(200, { 'content-type': 'text/event-stream' });
				const result = { supportedVersions: [VERSION] };
				response.end(
					`: hello\n\ndata: ${JSON.stringify({ jsonrpc: '2.0', id: message.id, result })}\n\n`,
				);
			},
			200,
		],
		['an error of that era', error(400, -32022), 200],
		['no such method', error(404, -32601), 'legacy'],
		['no session', error(400, -32000), 'legacy'],
		['an empty 400', ({ response }) => response.writeHead(400).end(), 'legacy'],
		['rubbish', ({ response }) => response.writeHead(200).end('<html>'), 'legacy'],
		['trouble', ({ response }) => response.writeHead(503).end(), 502],
		['a wish for credentials', ({ response }) => response.writeHead(401).end(), 502],
		['nothing', ({ request }) => request.socket.destroy(), 502],
	];
	function error(status, code) {
		return ({ response, message }) => {
			response.writeHead(status, { 'content-type': 'application/json' });
			response.end(
				JSON.stringify({ jsonrpc: '2.0', id: message.id, error: { code, message: 'no' } }),
			);
		};
	}

	test('is told by its answer to server/discover', async () => {
		for (const [what, discover, expected] of answers) {
			const server = await ScriptedServer.start({
				...(expected === 'legacy' ? {} : modern),
				'server/discover': discover,
			});
			const margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
			try {
				// Two at once ask once.
				const both = await Promise.all(
					[1, 2].map((id) =>
						send(margay.url, 'tools/call', { params: { name: 'x' }, id }),
					),
				);
				const status = expected === 'legacy' ? 200 : expected;
				for (const answer of both) assert.equal(answer.status, status, what);
				if (expected !== 502) assert.equal(server.count('server/discover'), 1, what);
				assert.equal(server.count('initialize') > 0, expected === 'legacy', what);
			} finally {
				await margay.stop();
				await server.stop();
			}
		}
	});
});

describe('results that may be kept', OPTIONS, () => {
	let server;
	let margay;
	let says;

	const start = async (config = {}) => {
		server = await ScriptedServer.start({
			...modern,
			'resources/read': ({ response, message }) =>
				reply(response, message, { resultType: 'complete', contents: [], ...says }),
			'tools/list': ({ response, message }) =>
				reply(response, message, { resultType: 'complete', tools: [], ...says }),
		});
		margay = await Margay.start({ upstream: server.url, config: { workers: 1, ...config } });
	};
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		await margay.stop();
		await server.stop();
	});
	const read = (uri = 'file:///a', more = {}) =>
		send(margay.url, 'resources/read', { params: { uri, ...more }, id: `${uri} id` });

	test('are given for as long as they live, each client its own id', async () => {
		says = { ttlMs: 2000, cacheScope: 'public', big: 1 };
		await start();
		const first = await read();
		assert.equal(first.json.result.ttlMs, 2000);
		const second = await read('file:///a', { _meta: metaOf({ traceparent: '00-1' }) });
		assert.equal(second.json.id, 'file:///a id');
		assert.ok(second.json.result.ttlMs > 0 && second.json.result.ttlMs <= 2000);
		assert.equal(second.json.result.big, 1);
		assert.equal(server.count('resources/read'), 1);
		// Another resource, other capabilities, a retry: other results.
		await read('file:///b');
		await read('file:///a', { _meta: metaOf({ [`${P}clientCapabilities`]: { roots: {} } }) });
		await read('file:///a', { requestState: 's' });
		assert.equal(server.count('resources/read'), 4);
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_cache_hits_total', { upstream: 'main' }), 1);
		await until('it has died', async () => {
			await read();
			return server.count('resources/read') === 5;
		});
	});

	for (const [what, kept] of [
		['private ones', { ttlMs: 60000, cacheScope: 'private' }],
		['those without a time', { cacheScope: 'public' }],
		['those of no time', { ttlMs: 0, cacheScope: 'public' }],
		['those that ask', { ttlMs: 60000, cacheScope: 'public', resultType: 'input_required' }],
	])
		test(`${what} are not kept`, async () => {
			says = kept;
			await start();
			for (let i = 0; i < 3; i++) assert.equal((await read()).status, 200);
			assert.equal(server.count('resources/read'), 3);
		});

	test('none is kept when it is turned off', async () => {
		says = { ttlMs: 60000, cacheScope: 'public' };
		await start({ cache: { size: 0 } });
		for (let i = 0; i < 3; i++) assert.equal((await read()).status, 200);
		assert.equal(server.count('resources/read'), 3);
	});

	test('what changes is forgotten', async () => {
		says = { ttlMs: 60000, cacheScope: 'public' };
		await start();
		let say;
		server.on['subscriptions/listen'] = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			say = (method, params = {}) =>
				response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', method, params })}\n\n`);
			say('notifications/subscriptions/acknowledged', { notifications: {} });
		};
		const { request: sent } = await send(margay.url, 'subscriptions/listen', {
			params: { notifications: {} },
			stream: true,
		});
		for (let i = 0; i < 2; i++) {
			await read();
			await send(margay.url, 'tools/list');
		}
		assert.deepEqual([server.count('resources/read'), server.count('tools/list')], [1, 1]);
		say('notifications/resources/updated', { uri: 'file:///a' });
		await until('the resource is read again', async () => {
			await read();
			return server.count('resources/read') === 2;
		});
		await send(margay.url, 'tools/list');
		assert.equal(server.count('tools/list'), 1);
		say('notifications/tools/list_changed');
		await until('the list is read again', async () => {
			await send(margay.url, 'tools/list');
			return server.count('tools/list') === 2;
		});
		sent.destroy();
	});
});

describe('arguments that headers repeat', OPTIONS, () => {
	const tools = [
		{
			name: 'route',
			inputSchema: {
				type: 'object',
				properties: { region: { type: 'string', 'x-mcp-header': 'Region' } },
			},
		},
	];
	const upstreams = {
		'a modern upstream': {
			...modern,
			'tools/list': ({ response, message }) =>
				reply(response, message, { resultType: 'complete', tools }),
		},
		'a legacy upstream': {
			'server/discover': ({ response }) => response.writeHead(400).end(),
			'tools/list': ({ response, message }) => reply(response, message, { tools }),
		},
	};
	for (const [what, on] of Object.entries(upstreams))
		test(`are checked before ${what} sees the call`, async () => {
			const server = await ScriptedServer.start(on);
			const margay = await Margay.start({ upstream: server.url });
			const call = (region, header) =>
				send(margay.url, 'tools/call', {
					params: { name: 'route', arguments: region === undefined ? {} : { region } },
					headers: { 'mcp-param-region': header },
				});
			try {
				for (const [region, header] of [
					['eu', 'us'],
					['eu', undefined],
					[undefined, 'eu'],
					['größe', 'größe'],
				]) {
					const { status, json } = await call(region, header && encodeURI(header));
					assert.deepEqual([status, json.error.code], [400, -32020]);
				}
				assert.equal(server.count('tools/call'), 0);
				const code = Buffer.from('größe').toString('base64');
				for (const [region, header] of [
					['eu', 'eu'],
					[undefined, undefined],
					['größe', `=?base64?${code}?=`],
				])
					assert.equal((await call(region, header)).status, 200);
				assert.ok(server.count('tools/list') <= 4, 'asked once for each worker');
			} finally {
				await margay.stop();
				await server.stop();
			}
		});
});
