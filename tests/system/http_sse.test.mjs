// HTTP+SSE, the transport of 2024-11-05: clients of it where a route says so. (Those of the official SDK:
// pairs.test.mjs.)
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, events, killPid, Margay, post, RawSession, request, ScriptedServer, until } from './harness.mjs';
import { send } from './modern.mjs';

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

	test('a client that goes ends its session', async () => {
		const client = await SseClient.open(margay);
		await client.initialize();
		assert.equal(server.sessions.size, 1);
		client.close();
		await until('its session is over', () => server.sessions.size === 0);
		await until('its address is gone', async () => (await client.say(call(1))) === 404);
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
			margay.write({ timeouts: { shutdown: '1s' } });
			await margay.command('reload');
			await margay.command('reload');
		}],
	])
		test(`${what} ends the stream, and the next one goes on with the session`, async () => {
			margay.write({ timeouts: { shutdown: '1s' } });
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
