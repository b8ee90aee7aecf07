// What Margay says to clients that break the rules, byte by byte, and that what it accepts arrives as
// it was sent. The upstream remembers everything, so each refusal also proves that nothing reached it:
// a gateway that forwarded first and refused later would fail here.
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
	binary,
	exchange,
	Margay,
	messagesOf,
	post,
	RawSession,
	request,
	ScriptedServer,
	until,
} from './harness.mjs';
import { startFixture } from '../conformance/fixture.mjs';

const BODY_LIMIT = 256 * 1024;
const PING = { jsonrpc: '2.0', id: 'p', method: 'ping' };
const DEADLINE = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };

describe('raw requests', DEADLINE, () => {
	let server;
	let fixture;
	let margay;
	let session;

	before(async () => {
		server = await ScriptedServer.start();
		fixture = await startFixture();
		margay = await Margay.start({
			upstream: server.url,
			config: {
				upstreams: { fixture: { http: { url: fixture.url } } },
				routes: { '/fixture': { upstream: 'fixture' } },
				limits: { body_size: BODY_LIMIT },
			},
		});
	});
	beforeEach(async () => {
		server.on = {};
		session = await RawSession.open(margay.url);
		server.seen.length = 0;
	});
	afterEach((t) => {
		if (t.error) t.diagnostic(margay.report());
	});
	after(async () => {
		try {
			await margay?.stop();
		} finally {
			await fixture?.close();
			await server?.stop();
		}
	});

	const nothingArrived = () =>
		assert.deepEqual(
			server.seen.map(({ verb, message }) => message?.method ?? verb),
			[],
			'reached the upstream',
		);

	// Name, what is sent, status, JSON-RPC code of the body if it must have one.
	const rpc =
		(headers, body = PING) =>
		() =>
			post(margay.url, body, { headers });
	const own =
		(headers = {}, body = PING) =>
		() =>
			post(margay.url, body, { headers: { ...session.headers, ...headers } });
	const verb =
		(method, headers = {}, path = '/mcp') =>
		() =>
			request(margay.origin + path, {
				method,
				headers: { accept: 'text/event-stream', ...headers },
			});
	const flip = (id) => id.slice(0, 20) + (id[20] === 'A' ? 'B' : 'A') + id.slice(21);
	const V = { 'mcp-protocol-version': '2025-11-25' };

	const refusals = [
		['a session id that nobody made', rpc({ ...V, 'mcp-session-id': 'not-ours' }), 404],
		['a session id of the right length', rpc({ ...V, 'mcp-session-id': 'A'.repeat(36) }), 404],
		[
			'a forged id, one character off',
			() => rpc({ ...V, 'mcp-session-id': flip(session.id) })(),
			404,
		],
		[
			"the upstream's session id",
			() => rpc({ ...V, 'mcp-session-id': [...server.sessions].at(-1) })(),
			404,
		],
		['no session id', rpc(V), 400],
		['no session id and no version', rpc({}), 400],
		[
			'a notification without session',
			rpc(V, { jsonrpc: '2.0', method: 'notifications/initialized' }),
			400,
		],
		['GET without session', verb('GET'), 405],
		['GET with an unknown session', verb('GET', { 'mcp-session-id': 'A'.repeat(36) }), 404],
		['DELETE without session', verb('DELETE'), 405],
		[
			'DELETE with an unknown session',
			verb('DELETE', { 'mcp-session-id': 'A'.repeat(36) }),
			404,
		],
		['another verb', verb('PUT'), 405],
		['a path without route', () => verb('POST', session.headers, '/elsewhere')(), 404],
		['Accept without JSON and SSE', own({ accept: 'text/html' }), 406],
		['Accept with JSON alone', own({ accept: 'application/json' }), 406],
		[
			'GET that does not accept SSE',
			() => verb('GET', { ...session.headers, accept: 'application/json' })(),
			406,
		],
		['another Content-Type', own({ 'content-type': 'text/plain' }), 415],
		['a foreign Origin', own({ origin: 'http://evil.example' }), 403],
		[
			'a foreign Origin that looks local',
			own({ origin: 'http://localhost.evil.example' }),
			403,
		],
		['a null Origin', own({ origin: 'null' }), 403],
		['a foreign Host', own({ host: 'evil.example' }), 403],
		['a foreign Host with our port', () => own({ host: `evil.example:${margay.port}` })(), 403],
		['an unknown protocol version', own({ 'mcp-protocol-version': '1999-01-01' }), 400],
		['a version that is no date', own({ 'mcp-protocol-version': 'latest' }), 400],
		['another version than negotiated', own({ 'mcp-protocol-version': '2025-06-18' }), 400],
		['a body over the limit', own({}, Buffer.alloc(BODY_LIMIT + 1, ' ')), 413],
		['headers over the limit', own({ 'x-padding': 'x'.repeat(20_000) }), 431],
		['no JSON', own({}, '{"jsonrpc":"2.0","id":1,"method":"ping"'), 400, -32700],
		['an empty body', own({}, ''), 400, -32700],
		['two JSON texts', own({}, `${JSON.stringify(PING)}${JSON.stringify(PING)}`), 400, -32700],
		['JSON that is no message', own({}, '"ping"'), 400, -32600],
		['no jsonrpc member', own({}, { id: 1, method: 'ping' }), 400, -32600],
		['jsonrpc 1.0', own({}, { ...PING, jsonrpc: '1.0' }), 400, -32600],
		['a null id', own({}, { ...PING, id: null }), 400, -32600],
		['an object as id', own({}, { ...PING, id: {} }), 400, -32600],
		['a batch outside 2025-03-26', own({}, [PING]), 400, -32600],
		[
			'invalid UTF-8',
			own({}, Buffer.from('{"jsonrpc":"2.0","id":1,"method":"p\xff"}', 'latin1')),
			400,
			-32700,
		],
		[
			'an overlong encoding',
			own({}, Buffer.from('{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}', 'latin1')),
			400,
			-32700,
		],
		[
			'deep nesting',
			own(
				{},
				`{"jsonrpc":"2.0","id":1,"method":"x","params":${'['.repeat(5000)}${']'.repeat(5000)}}`,
			),
			400,
			[-32700, -32600],
		],
		[
			'the method twice',
			own({}, '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}'),
			400,
			[-32700, -32600],
		],
		[
			'the method twice, once escaped',
			own({}, '{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"tools/call"}'),
			400,
			[-32700, -32600],
		],
		[
			'a long message that is broken at its end',
			own({}, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","x":"${'y'.repeat(200_000)}"}`),
			400,
			-32700,
		],
		[
			'the tool name twice',
			own(
				{},
				'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
			),
			400,
			[-32700, -32600],
		],
	];
	for (const [what, send, status, codes] of refusals)
		test(`${what}: ${status}`, async () => {
			const reply = await send();
			assert.equal(reply.status, status, reply.text);
			if (codes !== undefined) {
				assert.equal(reply.json.jsonrpc, '2.0');
				assert.ok([codes].flat().includes(reply.json.error.code), reply.text);
			}
			nothingArrived();
		});

	test('an ended session: 404', async () => {
		assert.ok([200, 204].includes((await session.delete()).status));
		// The upstream is told after the client.
		await until('the upstream was told', () => server.count('DELETE') === 1);
		server.seen.length = 0;
		assert.equal((await session.post(PING)).status, 404);
		assert.equal((await session.delete()).status, 404);
		assert.equal((await session.get()).status, 404);
		nothingArrived();
	});

	test('a request of a revision to come gets the versions that are served', async () => {
		const version = '2099-01-01';
		const reply = await post(
			margay.url,
			{
				jsonrpc: '2.0',
				id: 9007199254740993n.toString(),
				method: 'tools/list',
				params: {
					_meta: {
						'io.modelcontextprotocol/protocolVersion': version,
						'io.modelcontextprotocol/clientCapabilities': {},
					},
				},
			},
			{ headers: { 'mcp-protocol-version': version, 'mcp-method': 'tools/list' } },
		);
		assert.equal(reply.status, 400, reply.text);
		const { id, error } = reply.json;
		assert.equal(error.code, -32022);
		assert.equal(id, '9007199254740993');
		assert.equal(error.data.requested, version);
		assert.deepEqual(error.data.supported, ['2026-07-28']);
		nothingArrived();
	});

	test('local Origins and Hosts are welcome', async () => {
		for (const host of [`localhost:${margay.port}`, `127.0.0.1:${margay.port}`]) {
			const reply = await session.post(PING, { headers: { host, origin: `http://${host}` } });
			assert.equal(reply.status, 200, host);
		}
	});

	test('2025-03-26 has batches', async () => {
		const old = await RawSession.open(`${margay.origin}/fixture`, { version: '2025-03-26' });
		assert.equal(old.version, '2025-03-26');
		const batch = ['tools/list', 'prompts/list'].map((method, id) => ({
			jsonrpc: '2.0',
			id,
			method,
		}));
		const reply = await old.post(batch);
		assert.equal(reply.status, 200, reply.text);
		const answers = messagesOf(reply).flatMap((text) => JSON.parse(text));
		assert.deepEqual(answers.map(({ id }) => id).sort(), [0, 1]);
		const notes = await old.post([
			{ jsonrpc: '2.0', method: 'notifications/roots/list_changed' },
		]);
		assert.equal(notes.status, 202);
		const empty = await old.post([]);
		assert.equal(empty.status, 400);
		const hello = await old.post([{ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }]);
		assert.equal(hello.status, 400);
	});

	// Control: a gateway that parsed to doubles would turn the first number into 12345678901234567000
	// and the last into null.
	test('numbers, order, white space and unknown members pass untouched', async () => {
		const text =
			'{ "id" : 12345678901234567890,"x-extra":[1e400,-0,1.10, 0.1e+2 ],\n"params":' +
			'{"name":"echo","arguments":{"b":18446744073709551615,"a":"\\u0041\\ud83d\\ude00"}},' +
			'"method":"tools/call", "jsonrpc":"2.0" }';
		const answer =
			'{"result":{"big":-9223372036854775808,"huge":1e400,"text":"\\/"},  "id":12345678901234567890,"jsonrpc":"2.0"}';
		server.on['tools/call'] = ({ response }) =>
			response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
		const reply = await session.post(text);
		assert.equal(reply.status, 200, reply.text);
		assert.equal(server.seen[0].body.toString('utf8'), text);
		assert.equal(reply.text, answer);
	});

	test('a long message passes untouched, and pipelined behind it another one', async () => {
		const long = `{"jsonrpc":"2.0","id":1,"method":"\\u0074ools/call","params":{"name":"lo\\u006eg","arguments":{"x":[${'[1,"\\n\u0436"],'.repeat(15_000)}0]}}}`;
		const head = Object.entries(session.headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
		const text = [long, '{"jsonrpc":"2.0","id":2,"method":"tools/list"}']
			.map((body) => `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${head}\r\n${body}`)
			.join('');
		const answers = await exchange(margay.port, text, { enough: (said) => said.includes('"id":2') });
		assert.ok(answers.text.indexOf('"id":1') < answers.text.indexOf('"id":2'));
		assert.deepEqual(server.seen.map(({ body }) => body.toString()), [long, '{"jsonrpc":"2.0","id":2,"method":"tools/list"}']);
		const [access] = await until('it is in the log', () => {
			const found = margay.accesses({ tool: 'long' });
			return found.length > 0 && found;
		});
		assert.ok(access.bytes_in > 100_000);
	});

	// Whoever goes while it is scanned leaves nothing behind: the sanitizers say so.
	test('a client that goes after a long message', async () => {
		for (let n = 0; n < 20; n++)
			await exchange(
				margay.port,
				`POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: ${BODY_LIMIT}\r\n\r\n${'{"a":"'.padEnd(BODY_LIMIT)}`,
				{ timeout: n },
			);
		assert.equal((await session.request('ping')).status, 200);
	});

	test('SSE answers pass untouched, comments and ids included', async () => {
		const answer =
			': hello\n\nid: 7/1\nretry: 50\ndata: \n\nevent: message\nid: 7/2\n' +
			'data: {"jsonrpc":"2.0","id":1,"result":{"n":1e400}}\n\n';
		server.on['tools/call'] = ({ response }) =>
			response.writeHead(200, { 'content-type': 'text/event-stream' }).end(answer);
		const reply = await session.call('echo', {}, { id: 1 });
		assert.equal(reply.status, 200);
		assert.match(reply.headers['content-type'], /^text\/event-stream/);
		assert.equal(reply.text.replace(': hello\n\n', ''), answer.replace(': hello\n\n', ''));
	});

	// The second time they are more than what is kept of a client that does not wait. Control: when reading goes on while
	// what was read waits for its turn, the connection is closed behind the first answer.
	for (const [what, padding] of [['', 0], [', and long ones', 8000]]) {
		test(`requests on one connection are answered in order, pipelined too${what}`, async () => {
			const one = (id) => {
				const params = { _meta: { padding: 'x'.repeat(padding) } };
				const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'ping', params });
				return (
					`POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:${margay.port}\r\nContent-Type: application/json\r\n` +
					`Accept: application/json, text/event-stream\r\nMcp-Session-Id: ${session.id}\r\n` +
					`MCP-Protocol-Version: ${session.version}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
				);
			};
			const ids = Array.from({ length: 20 }, (_, n) => n + 1);
			const { text } = await exchange(margay.port, ids.map(one).join(''), {
				enough: (got) => got.includes('"id":20,') || got.includes('"id":20}'),
			});
			assert.deepEqual(
				[...text.matchAll(/"id":(\d+)/g)].map(([, id]) => Number(id)),
				ids,
			);
		});
	}
});
