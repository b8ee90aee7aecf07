// `margay connect`: a client on stdin and stdout, a server over HTTP. (Clients of the official SDK
// through it: pairs.test.mjs.)
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { binary, Child, freePorts, isAlive, killPid, Margay, reply, ScriptedServer, until } from './harness.mjs';
import { metaOf } from './modern.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };

// `margay connect` as a child, and what it said.
class Connected {
	messages = [];
	#rest = '';

	constructor(args) {
		this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-connect-'));
		this.child = new Child(binary, ['connect', ...args], {
			env: { XDG_RUNTIME_DIR: this.dir },
			input: true,
		});
		this.process = this.child.process;
		this.process.stdout.setEncoding('utf8').on('data', (text) => {
			this.#rest += text;
			const lines = this.#rest.split('\n');
			this.#rest = lines.pop();
			this.messages.push(...lines.map((line) => JSON.parse(line)));
		});
	}

	say(...messages) {
		const lines = messages.map((one) => `${JSON.stringify({ jsonrpc: '2.0', ...one })}\n`);
		this.process.stdin.write(lines.join(''));
	}

	async answer(id) {
		let found;
		await until(`an answer to ${id}`, () => (found = this.messages.find((one) => one.id === id)));
		return found;
	}

	initialize() {
		const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } };
		this.say({ id: 'init', method: 'initialize', params }, { method: 'notifications/initialized' });
		return this.answer('init');
	}

	// The end of its input; its exit code.
	async end() {
		this.process.stdin.end();
		await until('it ended', () => this.child.ended);
		assert.deepEqual(fs.readdirSync(this.dir), [], 'its directory is left');
		return this.child.code;
	}

	async stop() {
		await this.child.stop({ deadline: 10_000 });
		fs.rmSync(this.dir, { recursive: true, force: true });
	}
}

const call = (id, name = 'echo') => ({ id, method: 'tools/call', params: { name, arguments: {} } });

describe('margay connect', OPTIONS, () => {
	let server;
	let client;

	beforeEach(async () => {
		server = await ScriptedServer.start({ 'server/discover': ({ response }) => response.writeHead(400).end() });
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(client?.child.stderr);
		await client?.stop();
		client = undefined;
		await server.stop();
	});
	const connect = (...args) => (client = new Connected([server.url, ...args]));

	// Control: with the end of a stream seen before what came of it was scanned, an error in place of the answer.
	test('long events come whole and in their order', async () => {
		const lengths = [10, 300_000, 65_000, 70_000, 1_000_000, 20, 2_000_000];
		server.on['tools/call'] = ({ response, message: { id } }) => {
			const told = lengths.slice(0, -1).map((length) => ({ method: 'notifications/message', params: { level: 'info', data: 'x'.repeat(length) } }));
			const answer = { id, result: { content: [{ type: 'text', text: 'x'.repeat(lengths.at(-1)) }] } };
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.end([...told, answer].map((one) => `data: ${JSON.stringify({ jsonrpc: '2.0', ...one })}\n\n`).join(''));
		};
		connect();
		await client.initialize();
		for (const id of [1, 2]) {
			const seen = client.messages.length;
			client.say(call(id));
			assert.ok((await client.answer(id)).result);
			assert.deepEqual(
				client.messages.slice(seen).map(({ params, result }) => (params ? params.data : result.content[0].text).length),
				lengths,
			);
		}
		assert.equal(await client.end(), 0);
	});

	test('answers all that was asked before the end of its input, and ends the session', async () => {
		connect('--header', 'X-Key: a${b}', '-H', 'X-Other:2');
		await client.initialize();
		client.say(call(1), call(2), { id: 3, method: 'tools/list' });
		assert.equal(await client.end(), 0);
		assert.deepEqual(client.messages.map(({ id }) => id).sort(), [1, 2, 3, 'init']);
		assert.equal(client.child.stderr, '');
		const [first] = server.seen;
		assert.equal(first.headers['x-key'], 'a${b}');
		assert.equal(first.headers['x-other'], '2');
		assert.equal(server.sessions.size, 0, 'DELETE was sent');
	});

	test('keeps the order of what the client said', async () => {
		const order = [];
		server.on['notifications/initialized'] = ({ response }) =>
			setTimeout(() => {
				order.push('accepted');
				response.writeHead(202).end();
			}, 150);
		server.on['tools/call'] = ({ response, message }) => {
			order.push('call');
			reply(response, message, { content: [] });
		};
		connect();
		await client.initialize();
		client.say(call(1));
		await client.answer(1);
		assert.deepEqual(order, ['accepted', 'call']);
	});

	test('what is no message is answered as one', async () => {
		connect();
		client.process.stdin.write('junk\n\n{"jsonrpc":"2.0","id":5}\n');
		await until('both are answered', () => client.messages.length === 2);
		assert.deepEqual(
			client.messages.map(({ id, error }) => [id, error.code]),
			[
				[null, -32700],
				[5, -32600],
			],
		);
		client.say(call(6));
		assert.match((await client.answer(6)).error.message, /initialize/);
	});

	test('a session that the server forgot is opened anew, the call made once', async () => {
		connect();
		await client.initialize();
		client.say(call(1));
		await client.answer(1);
		server.sessions.clear();
		client.say(call(2), call(3));
		for (const id of [2, 3]) assert.ok((await client.answer(id)).result);
		assert.equal(server.count('initialize'), 2);
		assert.equal(server.count('notifications/initialized'), 2);
		assert.equal(client.messages.filter(({ id }) => id === 'init').length, 1);
	});

	test('a client that initializes again leaves its session', async () => {
		connect();
		await client.initialize();
		const [first] = server.sessions;
		client.messages.length = 0;
		await client.initialize();
		await until('the first is over', () => !server.sessions.has(first));
		assert.equal(server.sessions.size, 1);
		client.say(call(1));
		assert.ok((await client.answer(1)).result);
	});

	test('a Margay behind it may lose its workers and reload, and the session stays', async () => {
		const margay = await Margay.start({ upstream: server.url });
		try {
			client = new Connected([margay.url]);
			await client.initialize();
			let id = 0;
			const works = async () => {
				client.say(call(++id));
				return (await client.answer(id)).result !== undefined;
			};
			assert.ok(await works());
			for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
			await until('it works again', works);
			assert.equal((await margay.command('reload')).code, 0);
			await until('it works again', works);
			assert.equal(server.count('initialize'), 1);
			assert.equal(await client.end(), 0);
		} finally {
			await margay.stop();
		}
	});

	test('a server that is away is waited for', async () => {
		const [port] = await freePorts(1);
		client = new Connected([`http://127.0.0.1:${port}/mcp`]);
		client.say({ id: 'init', method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {} } });
		// Long enough for an error to come, if it did not wait.
		await new Promise((resolve) => setTimeout(resolve, 500));
		assert.deepEqual(client.messages, []);
		const late = await ScriptedServer.start();
		await new Promise((resolve) => late.listener.close(resolve));
		await new Promise((resolve) => late.listener.listen(port, '127.0.0.1', resolve));
		try {
			assert.ok((await client.answer('init')).result);
		} finally {
			await late.stop();
		}
	});

	test('a stream that broke off is gone on with where it was', async () => {
		const event = (response, id, message) =>
			response.write(`id: ${id}\ndata: ${message ? JSON.stringify({ jsonrpc: '2.0', ...message }) : ''}\n\n`);
		const resumed = [];
		server.on['tools/call'] = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write('retry: 50\n');
			event(response, 'a1');
			response.end();
		};
		server.on.GET = ({ request, response }) => {
			const last = request.headers['last-event-id'];
			resumed.push(last);
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			if (last === 'a1') {
				event(response, 'a2', { id: 1, result: { content: [] } });
				response.end();
			} else if (last === undefined) {
				response.write('retry: 50\n');
				event(response, 's1', { method: 'notifications/message', params: { level: 'info', data: 'x' } });
				response.end();
			} else {
				response.flushHeaders();
			}
		};
		connect();
		await client.initialize();
		client.say(call(1));
		assert.ok((await client.answer(1)).result);
		await until('the stream is opened again', () => resumed.includes('s1'));
		assert.equal(client.messages.filter(({ method }) => method === 'notifications/message').length, 1);
	});

	test('a stream that ended without an answer is an error', async () => {
		server.on['tools/call'] = ({ response }) =>
			response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': nothing\n\n');
		connect();
		await client.initialize();
		client.say(call(1));
		assert.equal((await client.answer(1)).error.code, -32603);
	});

	test('a cancelled request is over, whether the server says so or not', async () => {
		let closed = 0;
		const cancelled = [];
		server.on['tools/call'] = ({ response }) => response.on('close', () => closed++);
		server.on['notifications/cancelled'] = ({ message, response }) => {
			cancelled.push(message.params.requestId);
			response.writeHead(202).end();
		};
		connect();
		await client.initialize();
		client.say(call(1));
		await until('it is there', () => server.count('tools/call') === 1);
		client.say({ method: 'notifications/cancelled', params: { requestId: 1 } });
		await until('nobody waits for it', () => closed === 1);
		assert.deepEqual(cancelled, [1]);
		assert.equal(await client.end(), 0);
		assert.deepEqual(client.messages.map(({ id }) => id), ['init']);
	});

	test('a request of the stateless era is cancelled by its id', async () => {
		server.on['server/discover'] = ({ response, message }) =>
			reply(response, message, { supportedVersions: ['2026-07-28'], capabilities: {}, resultType: 'complete' });
		server.on['tools/list'] = ({ response, message }) => reply(response, message, { tools: [] });
		let closed = 0;
		server.on['tools/call'] = ({ response }) => response.on('close', () => closed++);
		connect();
		const { params, ...rest } = call(1);
		client.say({ ...rest, params: { ...params, _meta: metaOf() } });
		await until('it is there', () => server.count('tools/call') === 1);
		const [{ headers }] = server.seen.filter(({ message }) => message?.method === 'tools/call');
		assert.deepEqual([headers['mcp-method'], headers['mcp-name']], ['tools/call', 'echo']);
		client.say({ method: 'notifications/cancelled', params: { requestId: 1 } });
		await until('it is cancelled', () => closed === 1);
	});

	test('a client that does not read holds up its server, not its own end', async () => {
		const big = 'x'.repeat(1 << 20);
		server.on['tools/call'] = ({ response, message }) =>
			reply(response, message, { content: [{ type: 'text', text: big }] });
		connect();
		await client.initialize();
		client.process.stdout.pause();
		client.say(...Array.from({ length: 40 }, (_, id) => call(id)));
		await until('some are answered', () => server.count('tools/call') > 0);
		client.process.stdout.resume();
		for (let id = 0; id < 40; id++)
			assert.equal((await client.answer(id)).result.content[0].text.length, big.length);
	});

	test('it ends when it is told to, and with its worker', async () => {
		connect();
		await client.initialize();
		server.on['tools/call'] = () => {};
		client.say(call(1));
		await until('it is there', () => server.count('tools/call') === 1);
		client.process.kill('SIGTERM');
		await until('it ended', () => client.child.ended);
		assert.equal(client.child.code, 0);
		await client.stop();

		connect();
		await client.initialize();
		const children = fs.readFileSync(`/proc/${client.process.pid}/task/${client.process.pid}/children`, 'utf8');
		const worker = children
			.trim()
			.split(' ')
			.find((pid) => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('worker'));
		killPid(Number(worker), 'SIGKILL');
		await until('it ended', () => client.child.ended);
		assert.equal(client.child.code, 1);
	});

	// Control: with the orphan_timeout of a configuration they wait a minute for a master that nobody can start.
	test('nothing outlives a master that is killed', async () => {
		connect();
		await client.initialize();
		const { pid } = client.process;
		const pids = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
		assert.equal(pids.length, 3);
		client.process.kill('SIGKILL');
		await until('all have ended', () => !pids.some(isAlive));
	});

	for (const [args, code, said] of [
		[[], 2, /say where to connect to/],
		[['http://127.0.0.1:1/a', 'b'], 2, /say where/],
		[['--header', 'nothing', 'http://127.0.0.1:1/'], 2, /NAME: VALUE/],
		[['-H', 'Host: x', 'http://127.0.0.1:1/'], 4, /headers\.Host/],
		[['ftp://127.0.0.1:1/'], 4, /upstreams.*url/],
	])
		test(`connect ${args.join(' ')}`, async () => {
			client = new Connected(args);
			await until('it ended', () => client.child.ended);
			assert.equal(client.child.code, code);
			assert.match(client.child.stderr, said);
		});
});
