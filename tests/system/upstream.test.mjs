// What Margay makes of its upstreams: what it sends them, what it keeps from them, and what its
// clients see when an upstream is down, lies, forgets, stalls or floods.
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import {
	binary,
	freePorts,
	freeze,
	killPid,
	Margay,
	RawSession,
	reply,
	request,
	residentBytes,
	ScriptedServer,
	post,
	until,
} from './harness.mjs';

const OPTIONS = { timeout: 90_000, skip: binary ? false : 'needs MARGAY_BIN' };
const PING = { jsonrpc: '2.0', id: 1, method: 'ping' };
const MIB = 1024 * 1024;

// One scripted upstream behind one Margay; the default answers are back before each test.
function setUp(config = () => ({})) {
	const bench = {};
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.margay = await Margay.start({ upstream: bench.server.url, config: await config() });
	});
	beforeEach(async () => {
		bench.server.on = {};
		bench.session = await RawSession.open(bench.margay.url);
		bench.server.seen.length = 0;
	});
	afterEach((t) => {
		if (t.error) t.diagnostic(bench.margay.report());
	});
	after(async () => {
		try {
			await bench.margay?.stop();
		} finally {
			await bench.server?.stop();
		}
	});
	return bench;
}

describe('what an upstream sees', OPTIONS, () => {
	const bench = setUp();

	// Control: copying the client's headers, as plain proxies do, fails every line of this.
	test('requests are built anew', async () => {
		const { server, session } = bench;
		await session.call(
			'echo',
			{},
			{
				headers: {
					authorization: 'Bearer secret-token',
					'proxy-authorization': 'Basic c2VjcmV0',
					cookie: 'secret=1',
					connection: 'keep-alive, x-private',
					'x-private': 'secret',
					'x-forwarded-for': '203.0.113.9',
					te: 'trailers',
				},
			},
		);
		const { headers, rawHeaders } = server.seen[0];
		for (const name of ['authorization', 'proxy-authorization', 'cookie', 'x-private', 'te'])
			assert.equal(headers[name], undefined, name);
		assert.doesNotMatch(rawHeaders.join('\n'), /secret|203\.0\.113\.9/);
		assert.ok(!rawHeaders.join('\n').includes(session.id), "Margay's session id");
		assert.equal(headers.host, `127.0.0.1:${server.port}`);
		assert.ok(server.sessions.has(headers['mcp-session-id']), "the upstream's session id");
		assert.equal(headers['mcp-protocol-version'], '2025-11-25');
		assert.match(headers.accept, /application\/json/);
		assert.match(headers.accept, /text\/event-stream/);
		assert.match(headers['content-type'], /^application\/json/);
	});

	test('configured headers are sent with each request', async (t) => {
		const { server } = bench;
		const margay = await Margay.start({
			upstream: server.url,
			config: {
				upstreams: {
					main: { http: { headers: { Authorization: 'Bearer ${env:HOME}', 'X-Team': 'a b' } } },
				},
			},
		});
		t.after(() => margay.stop());
		const session = await RawSession.open(margay.url);
		server.seen.length = 0;
		await session.call('echo');
		await session.delete();
		await until('the upstream was told of the end', () => server.seen.length === 2);
		for (const { headers } of server.seen) {
			assert.equal(headers.authorization, `Bearer ${process.env.HOME}`);
			assert.equal(headers['x-team'], 'a b');
		}
	});

	test("the upstream's headers stay behind", async () => {
		const { server, session } = bench;
		server.on['tools/call'] = ({ response, message }) =>
			reply(
				response,
				message,
				{},
				{
					'set-cookie': 'secret=1',
					'mcp-session-id': 'internal-id',
					server: 'internal/1.0',
					'x-powered-by': 'internal',
				},
			);
		const { status, headers } = await session.call('echo');
		assert.equal(status, 200);
		assert.doesNotMatch(JSON.stringify(headers), /secret|internal/);
	});

	test('notifications are answered 202 without a body', async () => {
		const { server, session } = bench;
		const note = {
			jsonrpc: '2.0',
			method: 'notifications/cancelled',
			params: { requestId: 1 },
		};
		const answer = await session.post(note);
		assert.equal(answer.status, 202);
		assert.equal(answer.text, '');
		assert.equal(server.count('notifications/cancelled'), 1);
	});

	test('a server without GET stream: 405', async () => {
		const answer = await bench.session.get();
		answer.response.resume();
		assert.equal(answer.status, 405);
	});
});

describe('upstreams that fail', OPTIONS, () => {
	const bench = setUp(async () => ({
		upstreams: {
			down: { http: { url: `http://127.0.0.1:${(await freePorts(1))[0]}/mcp` } },
			nowhere: { http: { url: 'http://no-such-host.invalid/mcp' } },
		},
		routes: { '/down': { upstream: 'down' }, '/nowhere': { upstream: 'nowhere' } },
		timeouts: { upstream_first_byte: '1s', upstream_between_bytes: '1s' },
	}));
	const HELLO = {
		jsonrpc: '2.0',
		id: 'hello',
		method: 'initialize',
		params: {
			protocolVersion: '2025-11-25',
			capabilities: {},
			clientInfo: { name: 't', version: '1' },
		},
	};

	for (const name of ['down', 'nowhere'])
		test(`${name}: 502 with an error that names it`, async () => {
			const { status, json } = await post(`${bench.margay.origin}/${name}`, HELLO);
			assert.equal(status, 502);
			assert.equal(json.id, 'hello');
			assert.equal(json.error.code, -32603);
			assert.match(JSON.stringify(json.error), new RegExp(name));
			await until('the error is counted', async () => {
				const metrics = await bench.margay.metrics();
				return metrics.sum('margay_upstream_errors_total', { upstream: name }) >= 1;
			});
		});

	const raw =
		(text) =>
		({ response }) =>
			response.socket.end(text);
	const OK = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n';
	const liars = [
		['no HTTP at all', raw('BANANA\r\n\r\n')],
		['a close without a word', ({ response }) => response.socket.destroy()],
		['a close inside the head', raw('HTTP/1.1 200 OK\r\nContent-Ty')],
		[
			'two framings',
			raw(`${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`),
		],
		['two lengths', raw(`${OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`)],
		['white space before a colon', raw(`${OK}Content-Length : 2\r\n\r\n{}`)],
		[
			'bare line feeds',
			raw('HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n{}'),
		],
		[
			'a head without end',
			({ response }) => response.socket.write(`${OK}X: ${'x'.repeat(200_000)}`),
		],
		['an internal error', ({ response }) => response.writeHead(500).end('stack trace')],
	];
	for (const [what, handler] of liars)
		test(`${what}: 502, and the session goes on`, async () => {
			const { server, session } = bench;
			server.on['tools/call'] = handler;
			const { status, json, text } = await session.call('echo', {}, { id: 'x' });
			assert.equal(status, 502, text);
			assert.equal(json.id, 'x');
			assert.match(JSON.stringify(json.error), /main/);
			assert.doesNotMatch(text, /BANANA|stack trace/);
			assert.equal(server.count('tools/call'), 1, 'the call was sent once');
			server.on = {};
			assert.equal((await session.call('echo')).status, 200);
		});

	// The head may be on its way before the lie is known; then the answer must end short, never whole.
	const short = [
		['a length that is never reached', raw(`${OK}Content-Length: 100\r\n\r\n{"jsonrpc"`)],
		['a chunk that breaks off', raw(`${OK}Transfer-Encoding: chunked\r\n\r\n40\r\n{"jsonrpc"`)],
		[
			'a chunk size that is none',
			raw(`${OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`),
		],
	];
	for (const [what, handler] of short)
		test(`${what}: 502 or an answer cut short`, async () => {
			const { server, session } = bench;
			server.on['tools/call'] = handler;
			const end = await session.call('echo').catch((error) => error);
			assert.ok(end.status === 502 || ['ECUT', 'ECONNRESET'].includes(end.code), String(end));
			server.on = {};
			assert.equal((await session.call('echo')).status, 200);
		});

	test('an SSE answer that breaks off ends the stream', async () => {
		const { server, session } = bench;
		server.on['tools/call'] = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write('data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n', () =>
				response.socket.destroy(),
			);
		};
		const end = await session.call('echo').catch((error) => error);
		assert.ok(
			end.status === 200 || end.code === 'ECUT' || end.code === 'ECONNRESET',
			String(end),
		);
		assert.equal(end.message?.result, undefined);
		server.on = {};
		assert.equal((await session.call('echo')).status, 200);
	});

	// Control: if the surplus stayed in a pooled connection, the next call would be answered by it.
	test('bytes after an answer are never taken for the next one', async () => {
		const { server, session } = bench;
		const poison = '{"jsonrpc":"2.0","id":2,"result":{"poison":true}}';
		server.on['tools/call'] = ({ response }) =>
			response.socket.write(
				`${OK}Content-Length: 36\r\n\r\n{"jsonrpc":"2.0","id":1,"result":{}}` +
					`${OK}Content-Length: ${poison.length}\r\n\r\n${poison}`,
			);
		const first = await session.call('echo', {}, { id: 1 }).catch((error) => error);
		assert.ok([200, 502].includes(first.status), String(first));
		server.on = {};
		for (let n = 0; n < 8; n++) {
			const next = await session.call('echo', {}, { id: 2 });
			assert.equal(next.status, 200);
			assert.doesNotMatch(next.text, /poison/);
		}
	});

	test('silence: an error within the deadline', async () => {
		const { server, session } = bench;
		server.on['tools/call'] = () => {};
		const { status, json } = await session.call('echo', {}, { id: 'slow' });
		assert.ok([502, 504].includes(status), `status ${status}`);
		assert.equal(json.id, 'slow');
		await until('the error is counted', async () => {
			const metrics = await bench.margay.metrics();
			return metrics.sum('margay_upstream_errors_total', { upstream: 'main', reason: 'timeout' }) >= 1;
		});
	});
});

describe('connections to an upstream', OPTIONS, () => {
	const bench = setUp(() => ({ workers: 1 }));
	const used = (server, socket) => server.seen.filter((one) => one.socket === socket).length > 1;
	// An upstream that closes a kept connection just as the next request arrives on it.
	const stale = ({ server, request, response, message }) =>
		used(server, request.socket)
			? response.socket.destroy()
			: server.answer(request, response, message);

	test('connections are kept and used again', async () => {
		const { server, session } = bench;
		for (let n = 0; n < 10; n++) await session.call('echo');
		assert.equal(server.count('tools/call'), 10);
		assert.ok(new Set(server.seen.map(({ socket }) => socket)).size <= 2);
	});

	// A call may have taken effect before the connection died: Margay can't know, so the client must.
	test('tools/call is never sent twice', async () => {
		const { server, session } = bench;
		await session.call('echo', {}, { id: 'first' });
		server.on['tools/call'] = stale;
		const { status, json } = await session.call('echo', {}, { id: 'fragile' });
		const sent = server.seen.filter(({ message }) => message?.id === 'fragile').length;
		assert.equal(sent, 1);
		assert.equal(status, 502);
		assert.equal(json.id, 'fragile');
	});

	test('tools/list is sent again once, on a new connection', async () => {
		const { server, session } = bench;
		await session.request('tools/list', {}, { id: 'first' });
		server.on['tools/list'] = stale;
		const before = (await bench.margay.metrics()).sum('margay_upstream_retries_total');
		const { status, message } = await session.request('tools/list', {}, { id: 'robust' });
		assert.equal(status, 200);
		assert.equal(message.result.tools[0].name, 'echo');
		const sent = server.seen.filter(({ message: one }) => one?.id === 'robust');
		assert.equal(sent.length, 2);
		assert.notEqual(sent[0].socket, sent[1].socket);
		await until('the retry is counted', async () => {
			const metrics = await bench.margay.metrics();
			return metrics.sum('margay_upstream_retries_total') === before + 1;
		});
	});

	test('a server that always hangs up is asked twice at most', async () => {
		const { server, session } = bench;
		await session.request('tools/list');
		server.on['tools/list'] = ({ response }) => response.socket.destroy();
		const { status } = await session.request('tools/list', {}, { id: 'hopeless' });
		assert.equal(status, 502);
		assert.ok(server.seen.filter(({ message }) => message?.id === 'hopeless').length <= 2);
	});

	test('idle connections that the server closed are noticed', async () => {
		const { server, session, margay } = bench;
		await session.call('echo');
		for (const socket of server.sockets) socket.destroy();
		await until('no connection to the upstream is open', async () => {
			const metrics = await margay.metrics();
			return metrics.sum('margay_upstream_connections_open', { upstream: 'main' }) === 0;
		});
		assert.equal((await session.call('echo')).status, 200);
	});
});

describe('sessions and their upstream', OPTIONS, () => {
	const bench = setUp(() => ({ sessions: { idle_timeout: '4s' } }));

	// Control: a gateway that only relayed the 404 would ask the upstream a second time.
	test('an upstream that forgot the session: 404, and it is over', async () => {
		const { server, session, margay } = bench;
		const before = await margay.metrics();
		server.sessions.clear();
		assert.equal((await session.call('echo')).status, 404);
		// On fresh connections, so on several workers: the broker has told them all.
		await until('every worker knows', async () => {
			server.seen.length = 0;
			for (let n = 0; n < 16; n++) assert.equal((await session.call('echo')).status, 404);
			return server.seen.length === 0;
		});
		const ended = (await margay.metrics()).sum('margay_sessions_ended_total', {
			reason: 'upstream',
		});
		assert.equal(ended, before.sum('margay_sessions_ended_total', { reason: 'upstream' }) + 1);
		const fresh = await RawSession.open(margay.url);
		assert.equal((await fresh.call('echo')).status, 200);
	});

	// Another worker may have it in its cache, and the client's next request may land there.
	// Control: a DELETE that does not wait for the broker is answered while that stands still.
	test('a DELETE is answered when no worker serves the session any more', async () => {
		const { server, margay } = bench;
		const { broker } = await margay.status();
		const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
		const session = await RawSession.open(margay.url, { agent });
		let answered = false;
		freeze(broker.pid);
		try {
			const ended = request(margay.url, { method: 'DELETE', headers: session.headers, agent });
			ended.then(() => (answered = true));
			await until('the upstream is told', () => server.seen.some(({ verb }) => verb === 'DELETE'));
			for (let n = 0; n < 8; n++)
				assert.equal((await request(new URL('/nowhere', margay.url))).status, 404);
			assert.equal(answered, false);
			killPid(broker.pid, 'SIGCONT');
			assert.equal((await ended).status, 200);
		} finally {
			killPid(broker.pid, 'SIGCONT');
			agent.destroy();
		}
		for (let n = 0; n < 8; n++) assert.equal((await session.post(PING, { agent: false })).status, 404);
	});

	test('an idle session expires and the upstream is told', async () => {
		const { server, margay } = bench;
		const session = await RawSession.open(margay.url);
		const theirs = server.seen.findLast(
			({ message }) => message?.method === 'notifications/initialized',
		);
		const id = theirs.headers['mcp-session-id'];
		await until(
			'the upstream gets a DELETE',
			() =>
				server.seen.some(
					({ verb, headers }) => verb === 'DELETE' && headers['mcp-session-id'] === id,
				),
			{ timeout: 20_000 },
		);
		assert.ok(!server.sessions.has(id));
		assert.equal((await session.call('echo')).status, 404);
		const metrics = await margay.metrics();
		assert.ok(metrics.sum('margay_sessions_ended_total', { reason: 'expired' }) >= 1);
	});

	test('a session in use does not expire', async () => {
		const { session } = bench;
		const end = Date.now() + 6000;
		while (Date.now() < end) {
			assert.equal((await session.request('ping')).status, 200);
			await new Promise((resolve) => setTimeout(resolve, 250));
		}
	});

	test('a session belongs to its route', async () => {
		const { session, margay } = bench;
		margay.write({ routes: { '/other': { upstream: 'main' } } });
		const { code, stdout, stderr } = await margay.command('reload');
		assert.equal(code, 0, stdout + stderr);
		const other = await RawSession.open(`${margay.origin}/other`);
		assert.equal((await other.call('echo')).status, 200);
		other.url = margay.url;
		assert.equal((await other.call('echo')).status, 404);
		assert.equal((await session.call('echo')).status, 200);
	});
});

describe('slow readers', OPTIONS, () => {
	const SIZE = 96 * MIB;
	const bench = setUp(() => ({ workers: 1 }));

	// Sends SIZE bytes of padding around one answer, as fast as the socket takes them.
	function flood(response, head, frame) {
		const piece = frame('x'.repeat(MIB - 64));
		let left = Math.ceil(SIZE / piece.length);
		response.writeHead(200, head);
		const push = () => {
			while (left-- > 0) if (!response.write(piece)) return response.once('drain', push);
			response.end();
		};
		push();
	}
	const kinds = [
		[
			'SSE',
			{ 'content-type': 'text/event-stream' },
			(x) => `data: {"jsonrpc":"2.0","method":"x","params":"${x}"}\n\n`,
		],
		['JSON', { 'content-type': 'application/json' }, (x) => `"${x}",`],
	];
	for (const [what, head, frame] of kinds)
		// Control: a gateway that buffers lets the upstream send all, and grows by 96 MiB.
		test(`a client that does not read ${what} stops the upstream`, async () => {
			const { server, session, margay } = bench;
			const [{ pid }] = (await margay.status()).workers;
			const before = residentBytes(pid);
			// The connection may have served others before.
			let earlier;
			server.on['tools/call'] = ({ response }) => {
				earlier = response.socket.bytesWritten;
				flood(response, head, frame);
			};
			const { response } = await request(session.url, {
				method: 'POST',
				headers: {
					...session.headers,
					'content-type': 'application/json',
					accept: 'application/json, text/event-stream',
				},
				body: JSON.stringify({
					jsonrpc: '2.0',
					id: 1,
					method: 'tools/call',
					params: { name: 'big' },
				}),
				stream: true,
			});
			const { socket } = server.seen.at(-1);
			let sent = -1;
			let still = Date.now();
			await until('the upstream stands still', () => {
				if (socket.bytesWritten !== sent) {
					sent = socket.bytesWritten;
					still = Date.now();
				}
				return Date.now() - still > 700;
			});
			sent -= earlier;
			assert.ok(sent < SIZE * 0.6, `${sent} bytes sent while nobody read`);
			const grown = residentBytes(pid) - before;
			assert.ok(grown < 24 * MIB, `the worker grew by ${grown} bytes`);
			// Others are served meanwhile, by the same worker.
			assert.equal((await session.request('ping')).status, 200);
			let received = 0;
			for await (const chunk of response) received += chunk.length;
			const piece = frame('x'.repeat(MIB - 64)).length;
			assert.equal(received, Math.ceil(SIZE / piece) * piece);
		});
});
