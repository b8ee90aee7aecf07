// HTTP+SSE, the transport of 2024-11-05: clients of it where a route says so, and servers of it. (Those
// of the official SDK: pairs.test.mjs.)
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { binary, Child, events, killPid, Margay, post, RawSession, request, ScriptedServer, until } from './harness.mjs';
import { metaOf, send } from './modern.mjs';
import { childrenOf, textOf, upstreams } from './stdio.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const HELLO = {
	id: 0,
	method: 'initialize',
	params: { protocolVersion: '2024-11-05', capabilities: {}, clientInfo: { name: 't', version: '1' } },
};

// A client by hand.
class SseClient {
	messages = [];
	ended = false;

	static async open(margay, headers = {}) {
		const client = new SseClient();
		const stream = await request(margay.url, {
			headers: { accept: 'text/event-stream', ...headers },
			stream: true,
		});
		assert.equal(stream.status, 200);
		const all = events(stream.response);
		const { value } = await all.next();
		assert.equal(value.event, 'endpoint');
		Object.assign(client, {
			url: new URL(value.data, margay.url).href,
			id: value.id,
			close: () => stream.request.destroy(),
		});
		client.#read(all).catch(() => {}).finally(() => (client.ended = true));
		return client;
	}

	async #read(all) {
		for await (const { event, data } of all) {
			assert.equal(event, 'message');
			this.messages.push(JSON.parse(data));
		}
	}

	async say(message) {
		const answer = await post(this.url, typeof message === 'string' ? message : { jsonrpc: '2.0', ...message });
		return answer.status;
	}

	async ask(message) {
		assert.equal(await this.say(message), 202);
		let found;
		await until('it is answered', () => (found = this.messages.find(({ id }) => id === message.id)));
		return found;
	}

	async initialize() {
		const { result } = await this.ask(HELLO);
		assert.equal(await this.say({ method: 'notifications/initialized' }), 202);
		return result;
	}
}

const call = (id) => ({ id, method: 'tools/call', params: { name: 'echo', arguments: {} } });

describe('clients of HTTP+SSE', OPTIONS, () => {
	let server;
	let margay;

	beforeEach(async () => {
		server = await ScriptedServer.start({ 'server/discover': ({ response }) => response.writeHead(400).end() });
		margay = await Margay.start({ upstream: server.url, config: { routes: { '/mcp': { http_sse: true } } } });
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay?.report());
		await margay?.stop();
		await server?.stop();
	});

	test('are served by any worker, beside all others of the path', async () => {
		const clients = await Promise.all(Array.from({ length: 6 }, () => SseClient.open(margay)));
		for (const client of clients) assert.equal((await client.initialize()).protocolVersion, '2024-11-05');
		for (let id = 1; id < 6; id++)
			for (const client of clients) assert.ok((await client.ask(call(id))).result);
		assert.equal(server.sessions.size, clients.length);
		const session = await RawSession.open(margay.url);
		assert.ok((await session.call('echo')).message.result);
		assert.ok((await send(margay.url, 'tools/call', { params: { name: 'echo', arguments: {} } })).json.result);
		for (const client of clients) client.close();
	});

	test('what is no message is answered on the stream', async () => {
		const client = await SseClient.open(margay);
		assert.equal(await client.say('junk'), 202);
		await until('it is answered', () => client.messages.length === 1);
		assert.deepEqual([client.messages[0].id, client.messages[0].error.code], [null, -32700]);
		client.close();
	});

	// Control: with what came behind a long event thrown away, or taken before it, another list.
	test('long events come whole and in their order, though some clients go in the middle', async () => {
		const lengths = [10, 300_000, 65_000, 70_000, 1_000_000, 20, 2_000_000];
		server.on['tools/call'] = ({ response, message: { id } }) => {
			const data = (i) => 'x'.repeat(lengths[i]);
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			for (let i = 0; i < lengths.length - 1; i++)
				response.write(`id: ${id}-${i}\ndata: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: data(i) } })}\n\n`);
			response.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id, result: { content: [{ type: 'text', text: data(lengths.length - 1) }] } })}\n\n`);
		};
		const client = await SseClient.open(margay);
		await client.initialize();
		const others = await Promise.all(Array.from({ length: 6 }, () => SseClient.open(margay)));
		for (const other of others) await other.initialize();
		others.forEach((other, i) => other.say(call('gone')).catch(() => {}).finally(() => setTimeout(other.close, i * 15)));
		for (const id of [1, 2]) {
			const seen = client.messages.length;
			assert.ok((await client.ask(call(id))).result);
			assert.deepEqual(
				client.messages.slice(seen).map(({ params, result }) => (params ? params.data : result.content[0].text).length),
				lengths,
			);
		}
		client.close();
		await until('their sessions are over', () => server.sessions.size === 0);
	});

	test('a client that goes ends its session', async () => {
		const client = await SseClient.open(margay);
		await client.initialize();
		assert.equal(server.sessions.size, 1);
		client.close();
		await until('its session is over', () => server.sessions.size === 0);
		await until('its address is gone', async () => (await client.say(call(1))) === 404);
	});

	// Longer than fits a frame to the broker: sent in many turns. (What else is sent meanwhile: sessions_test.c.)
	const note = (n, length) => ({ method: 'notifications/x', params: { n, text: 'é'.repeat(length) } });
	const sizes = [1_000_000, 1, 100_000, 16_000, 20_000, 1_900_000, 2];
	const arrived = () => server.seen.filter(({ message }) => message?.method === 'notifications/x').map(({ message }) => message.params);

	test('long messages arrive whole and in their order, although their sender went', async () => {
		const client = await SseClient.open(margay);
		await client.initialize();
		for (const [n, length] of sizes.entries()) assert.equal(await client.say(note(n, length)), 202);
		const { host, port, pathname, search } = new URL(client.url);
		const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...note(sizes.length, 1_500_000) }));
		const socket = net.connect(port, '127.0.0.1').on('error', () => {});
		socket.write(`POST ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`);
		socket.end(body).once('finish', () => socket.destroy());
		await until('all arrived', () => arrived().length === sizes.length + 1);
		assert.deepEqual(arrived().map(({ n, text }) => [n, text.length, text.replaceAll('é', '')]),
			[...sizes, 1_500_000].map((length, n) => [n, length, '']));
		client.close();
	});

	test('a client that goes while its long messages are on their way takes nobody along', async () => {
		const [client, other] = [await SseClient.open(margay), await SseClient.open(margay)];
		await client.initialize();
		await other.initialize();
		const posts = Array.from({ length: 8 }, (_, n) => client.say(note(n, 1_000_000)));
		await until('one arrived', () => arrived().length > 0);
		client.close();
		for (const status of await Promise.all(posts)) assert.ok([202, 404].includes(status), String(status));
		for (let id = 1; id < 6; id++) assert.ok((await other.ask(call(id))).result);
		await until('its session is over', () => server.sessions.size === 1);
		other.close();
	});

	test('nobody posts to an address that is not his', async () => {
		const client = await SseClient.open(margay);
		await client.initialize();
		const token = new URL(client.url).searchParams.get('session');
		assert.equal(client.id, token);
		const forged = `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`;
		for (const one of [forged, 'x'])
			assert.equal((await post(`${margay.url}?session=${one}`, { jsonrpc: '2.0', ...call(1) })).status, 404);
		const asSession = await post(margay.url, { jsonrpc: '2.0', ...call(1) }, { headers: { 'mcp-session-id': token } });
		assert.equal(asSession.status, 404);
		/* Nor does a second stream take over the first one's. */
		const second = await SseClient.open(margay, { 'last-event-id': token });
		assert.notEqual(second.url, client.url);
		assert.ok((await client.ask(call(2))).result);
		client.close();
		second.close();
	});

	for (const [what, act] of [
		['a worker that dies', async () => {
			for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		}],
		['a reload', async () => {
			margay.write({ timeouts: { drain_timeout: '1s' } });
			await margay.command('reload');
			await margay.command('reload');
		}],
	])
		test(`${what} ends the stream, and the next one goes on with the session`, async () => {
			margay.write({ timeouts: { drain_timeout: '1s' } });
			await margay.command('reload');
			const client = await SseClient.open(margay);
			await client.initialize();
			await client.ask(call(1));
			const sessions = [...server.sessions];
			await act();
			await until('the stream ended', () => client.ended);
			let next;
			await until('a worker is back', async () => {
				next = await SseClient.open(margay, { 'last-event-id': client.id }).catch(() => {});
				return next !== undefined;
			});
			assert.equal(next.url, client.url);
			assert.ok((await next.ask(call(2))).result);
			assert.deepEqual([...server.sessions], sessions);
			assert.equal(server.count('initialize'), 1);
			next.close();
			await until('its session is over', () => server.sessions.size === 0);
		});
});

describe('servers of HTTP+SSE', OPTIONS, () => {
	let server;
	let margay;

	// A server by hand: `on` answers to a method, all else is as it should be.
	async function startServer() {
		const made = { seen: [], streams: new Set(), on: {}, endpoint: (n) => `/messages?session=${n}` };
		let opened = 0;
		const sessions = new Map();
		made.listener = http.createServer(async (incoming, response) => {
			const chunks = [];
			for await (const chunk of incoming) chunks.push(chunk);
			const url = new URL(incoming.url, 'http://local');
			if (incoming.method === 'GET') {
				made.seen.push({ verb: 'GET', headers: incoming.headers });
				if (made.on.GET) return made.on.GET(response);
				const n = String(++opened);
				sessions.set(n, response);
				made.streams.add(response);
				response.on('close', () => sessions.delete(n) && made.streams.delete(response));
				response.writeHead(200, { 'content-type': 'text/event-stream' });
				return response.write(`event: endpoint\r\ndata: ${made.endpoint(n)}\r\n\r\n`);
			}
			const n = url.searchParams.get('session');
			const stream = sessions.get(n);
			const message = JSON.parse(Buffer.concat(chunks));
			made.seen.push({ verb: 'POST', headers: incoming.headers, message, session: n });
			if (!stream) return response.writeHead(404).end();
			const say = (one) => stream.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', ...one })}\n\n`);
			if (made.on[message.method]) return made.on[message.method]({ message, response, say, stream });
			response.writeHead(202).end('Accepted');
			const results = {
				initialize: () => ({
					protocolVersion: '2024-11-05',
					capabilities: { tools: {} },
					serverInfo: { name: 'old', version: '1' },
				}),
				'tools/call': () => ({ content: [{ type: 'text', text: n }] }),
			};
			if (message.id !== undefined && message.method)
				say({ id: message.id, result: results[message.method]?.() ?? {} });
		});
		await new Promise((resolve) => made.listener.listen(0, '127.0.0.1', resolve));
		made.url = `http://127.0.0.1:${made.listener.address().port}/sse`;
		made.stop = () => {
			made.listener.closeAllConnections();
			return new Promise((resolve) => made.listener.close(resolve));
		};
		return made;
	}

	const start = async (more = {}) => {
		margay = await Margay.start({
			config: { upstreams: { main: { http: undefined, sse: { url: server.url, ...more } } } },
		});
	};
	beforeEach(async () => {
		server = await startServer();
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay?.report());
		await margay?.stop();
		margay = undefined;
		await server?.stop();
	});

	test('have a stream for each session, ended with it', async () => {
		await start();
		const sessions = await Promise.all([1, 2, 3].map(() => RawSession.open(margay.url)));
		const texts = await Promise.all(sessions.map(async (one) => textOf(await one.call('x'))));
		assert.equal(new Set(texts).size, 3);
		assert.equal(server.streams.size, 3);
		for (const one of sessions) await one.delete();
		await until('the streams are gone', () => server.streams.size === 0);
		assert.equal(server.seen.filter(({ message }) => message?.method === 'server/discover').length, 0);
		const [row] = await upstreams(margay);
		assert.deepEqual([row.kind, row.url], ['sse', server.url]);
	});

	test('get the messages of a client in their order', async () => {
		await start();
		const order = [];
		server.on['notifications/initialized'] = ({ response }) =>
			setTimeout(() => {
				order.push('accepted');
				response.writeHead(202).end();
			}, 100);
		server.on['tools/call'] = ({ response, message, say }) => {
			order.push('call');
			response.writeHead(202).end();
			say({ id: message.id, result: { content: [] } });
		};
		const session = await RawSession.open(margay.url);
		await session.call('x');
		assert.deepEqual(order, ['accepted', 'call']);
	});

	test('keep their session when a worker or the keeper dies', async () => {
		await start();
		const session = await RawSession.open(margay.url);
		const before = textOf(await session.call('x'));
		const { workers, keeper } = await margay.status();
		for (const { pid } of [...workers, keeper]) killPid(pid, 'SIGKILL');
		await until('it is served again', async () => (await session.call('x').catch(() => ({}))).message?.result);
		assert.equal(textOf(await session.call('x')), before);
	});

	test('that end their stream end the session; a restartable one goes on', async () => {
		await start({ restart: { restartable: 'true' } });
		const session = await RawSession.open(margay.url);
		const first = textOf(await session.call('x'));
		for (const stream of server.streams) stream.end();
		let next;
		await until('another is there', async () => (next = await session.call('x')).message?.result);
		assert.notEqual(textOf(next), first);
	});

	test('are given the configured fields, which nobody can read from outside', async () => {
		process.env.MARGAY_TEST_SECRET = 'the ${secret}';
		try {
			await start({ headers: { Authorization: 'Bearer ${env:MARGAY_TEST_SECRET}', 'X-Two': '2' } });
		} finally {
			delete process.env.MARGAY_TEST_SECRET;
		}
		const session = await RawSession.open(margay.url);
		textOf(await session.call('x'));
		for (const { headers } of server.seen)
			assert.deepEqual([headers.authorization, headers['x-two']], ['Bearer the ${secret}', '2']);
		const [{ pid }] = await childrenOf(margay);
		assert.doesNotMatch(fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1'), /secret/);
	});

	test('are used by clients of the stateless era, and by margay connect', async () => {
		await start();
		const { json } = await send(margay.url, 'tools/call', { params: { name: 'x', arguments: {} } });
		assert.equal(json.result.content.length, 1);
		const { stdout, code } = await new Promise((resolve) => {
			const child = new Child(binary, ['connect', '--sse', server.url], { input: true });
			child.process.stdin.end(
				`${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'x', arguments: {}, _meta: metaOf() } })}\n`,
			);
			child.exit.then(resolve);
		});
		assert.equal(code, 0);
		assert.equal(JSON.parse(stdout).result.content.length, 1);
	});

	for (const [what, break_, said] of [
		['answers GET with 404', () => (server.on.GET = (response) => response.writeHead(404).end()), /status 404/],
		[
			'has no event stream',
			() => (server.on.GET = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>')),
			/no event stream/,
		],
		['sends its clients elsewhere', () => (server.endpoint = () => 'http://127.0.0.1:1/messages'), /another origin/],
	])
		test(`one that ${what} is named in the error`, async () => {
			break_();
			await start({ restart: { failures: 1 } });
			const { status, json } = await post(margay.url, { jsonrpc: '2.0', ...HELLO });
			assert.equal(status, 502);
			assert.match(json.error.message, /main/);
			await until('the log says why', () => margay.log().some((line) => said.test(line.text ?? line.line ?? JSON.stringify(line))));
		});

	test('one that is configured as an HTTP server is named as what it may be', async () => {
		margay = await Margay.start({ upstream: server.url });
		const { status, json } = await post(margay.url, { jsonrpc: '2.0', ...HELLO });
		assert.equal(status, 502);
		assert.match(json.error.message, /kind `sse`/);
	});

	test('a message that one does not take is an error to whoever sent it', async () => {
		await start();
		const session = await RawSession.open(margay.url);
		server.on['tools/call'] = ({ response }) => response.writeHead(413).end();
		const { message } = await session.call('x');
		assert.equal(message.error.code, -32603);
		assert.match(message.error.message, /status 413/);
	});
});
