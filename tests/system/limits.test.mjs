// Limits and deadlines: what is over them is refused in a way a client can understand, the others are
// served all the while, and what was refused once is served when there is room again.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import http from 'node:http';
import {
	binary,
	exchange,
	Margay,
	post,
	RawSession,
	ScriptedServer,
	until,
	within,
} from './harness.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };

// One worker, so that limits per worker are limits of the whole.
function setUp(config) {
	const bench = {};
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.margay = await Margay.start({
			upstream: bench.server.url,
			config: { workers: 1, ...config },
		});
	});
	afterEach((t) => {
		bench.server.on = {};
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

// A bare connection: its bytes, and a promise of its end.
function connect(port) {
	const socket = net.connect(port, '127.0.0.1');
	const link = { socket, text: '' };
	socket.setEncoding('latin1').on('data', (data) => (link.text += data));
	link.opened = new Promise((resolve) => socket.once('connect', resolve));
	link.closed = new Promise((resolve) => socket.once('close', resolve));
	socket.on('error', () => {});
	return link;
}

describe('deadlines', OPTIONS, () => {
	const bench = setUp({
		timeouts: { client_header: '1s', client_body: '1s', client_idle: '1s' },
	});

	// Control: a deadline that starts anew with every byte is never reached here.
	test('a head that trickles in is cut off', async () => {
		const link = connect(bench.margay.port);
		await link.opened;
		const start = Date.now();
		link.socket.write('POST /mcp HTTP/1.1\r\n');
		const drip = setInterval(() => link.socket.write('x'), 50);
		await within('the end of the connection', link.closed);
		clearInterval(drip);
		const took = Date.now() - start;
		assert.ok(took >= 900 && took < 5000, `${took} ms`);
		assert.match(link.text, /^(HTTP\/1\.1 408 |$)/);
	});

	test('a body that never comes is cut off', async () => {
		const { margay } = bench;
		const session = await RawSession.open(margay.url);
		const head =
			`POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:${margay.port}\r\nContent-Type: application/json\r\n` +
			`Accept: application/json, text/event-stream\r\nMcp-Session-Id: ${session.id}\r\n`;
		bench.server.seen.length = 0;
		const { text, closed } = await exchange(
			margay.port,
			`${head}Content-Length: 50\r\n\r\n{"jsonrpc"`,
		);
		assert.ok(closed);
		assert.match(text, /^HTTP\/1\.1 408 /);
		assert.equal(bench.server.seen.length, 0);
	});

	test('a connection that says nothing is closed', async () => {
		const link = connect(bench.margay.port);
		await within('the end of the connection', link.closed);
		assert.equal(link.text.replace(/^HTTP\/1\.1 408 .*/s, ''), '');
	});

	test('an idle keep-alive connection is closed without a word', async () => {
		const { margay } = bench;
		const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
		const { text, closed } = await exchange(
			margay.port,
			`POST /elsewhere HTTP/1.1\r\nHost: 127.0.0.1:${margay.port}\r\n` +
				`Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
		);
		assert.ok(closed);
		assert.equal(text.match(/HTTP\/1\.1 \d/g).length, 1);
	});

	test('a call that takes longer than these is served', async () => {
		const { server, margay } = bench;
		const session = await RawSession.open(margay.url);
		server.on['tools/call'] = ({ request: from, response, message }) =>
			setTimeout(() => server.answer(from, response, message), 2500);
		assert.equal((await session.call('echo')).status, 200);
	});

	test('a quiet SSE stream is kept open', async () => {
		const { server, margay } = bench;
		const session = await RawSession.open(margay.url);
		server.on.GET = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
			setTimeout(() => response.end('data: {"jsonrpc":"2.0","method":"late"}\n\n'), 2500);
		};
		const { status, response } = await session.get();
		assert.equal(status, 200);
		let text = '';
		for await (const chunk of response.setEncoding('utf8')) text += chunk;
		assert.match(text, /"late"/);
	});
});

describe('connections', OPTIONS, () => {
	const bench = setUp({ limits: { connections: 8, requests_per_connection: 3 } });

	test('a worker that is full says so, and has room again when clients go', async () => {
		const { margay } = bench;
		const session = await RawSession.open(margay.url);
		const refused = async () =>
			(await margay.metrics()).sum('margay_connections_refused_total');
		await until('no client is connected', async () => {
			const metrics = await margay.metrics();
			return metrics.sum('margay_connections_open') <= 1;
		});
		const before = await refused();
		// More than fit, whoever else is connected.
		const links = Array.from({ length: 12 }, () => connect(margay.port));
		const one = await until('a connection is refused', () =>
			links.find(({ text }) => text !== ''),
		);
		assert.match(one.text, /^HTTP\/1\.1 503 /);
		assert.ok((await refused()) > before, 'the admin listener answers and counts');
		for (const { socket } of links) socket.destroy();
		const reply = await until('there is room again', async () => {
			const answer = await session.request('ping');
			return answer.status === 200 && answer;
		});
		assert.ok(reply.message);
	});

	test('a connection serves so many requests and no more', async () => {
		const { margay } = bench;
		const session = await RawSession.open(margay.url);
		const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
		const closing = [];
		for (let n = 0; n < 6; n++) {
			const { status, headers } = await session.request('ping', {}, { agent });
			assert.equal(status, 200);
			closing.push(headers.connection?.toLowerCase() === 'close');
		}
		agent.destroy();
		assert.deepEqual(closing, [false, false, true, false, false, true]);
	});
});

describe('clients', OPTIONS, () => {
	const bench = setUp({ limits: { connections_per_client: 4 } });

	test('one address has so many connections and no more', async () => {
		const { margay } = bench;
		const links = Array.from({ length: 6 }, () => connect(margay.port));
		await until(
			'two are refused',
			() => links.filter(({ text }) => / 503 /.test(text)).length === 2,
		);
		for (const { socket } of links) socket.destroy();
		await until('there is room again', async () => {
			const { status } = await post(`${margay.origin}/elsewhere`, '{}');
			return status === 404;
		});
	});
});

describe('sessions', OPTIONS, () => {
	const bench = setUp({ sessions: { max: 3 }, limits: { streams_per_session: 2 } });

	test('as many sessions as configured, then 503 until one ends', async () => {
		const { margay, server } = bench;
		const sessions = [];
		for (let n = 0; n < 3; n++) sessions.push(await RawSession.open(margay.url));
		await assert.rejects(RawSession.open(margay.url), /initialize: 503 .*sessions\.max/);
		// The session that the upstream opened meanwhile must not be left behind there.
		await until('the upstream holds three sessions', () => server.sessions.size === 3);
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_sessions_refused_total'), 1);
		assert.equal(metrics.sum('margay_sessions_active'), 3);
		for (const session of sessions) assert.equal((await session.request('ping')).status, 200);
		margay.write({ sessions: { max: 4 } });
		assert.equal((await margay.command('reload')).code, 0);
		sessions.push(await until('a reload makes room', () => RawSession.open(margay.url)));
		margay.write({ sessions: { max: 3 } });
		assert.equal((await margay.command('reload')).code, 0);
		for (const session of sessions) assert.equal((await session.request('ping')).status, 200);
		await sessions.pop().delete();
		await assert.rejects(RawSession.open(margay.url), /sessions\.max/);
		await sessions.pop().delete();
		sessions.push(await until('there is room again', () => RawSession.open(margay.url)));
		await Promise.all(sessions.map((session) => session.delete()));
	});

	test('a session has so many streams and no more', async () => {
		const { margay, server } = bench;
		const session = await RawSession.open(margay.url);
		server.on.GET = ({ response }) =>
			response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': open\n\n');
		const streams = [await session.get(), await session.get()];
		assert.deepEqual(
			streams.map(({ status }) => status),
			[200, 200],
		);
		const third = await session.get();
		third.response.resume();
		assert.equal(third.status, 429);
		await until('two streams are open', async () => {
			const metrics = await margay.metrics();
			return metrics.sum('margay_streams_open', { route: '/mcp' }) === 2;
		});
		streams[0].request.destroy();
		const again = await until('there is room again', async () => {
			const stream = await session.get();
			stream.response.on('error', () => {});
			if (stream.status === 200) return stream;
			stream.response.resume();
			return false;
		});
		for (const stream of [streams[1], again]) stream.request.destroy();
		await until('no stream is open, here and at the upstream', async () => {
			const now = await margay.metrics();
			return now.sum('margay_streams_open') === 0;
		});
	});
});

describe('file descriptors', OPTIONS, () => {
	let server;
	let margay;
	const SPARE = 24;

	before(async () => {
		server = await ScriptedServer.start();
		// Two listeners of 32 slots each, and a little to live on.
		margay = await Margay.start({
			upstream: server.url,
			config: { workers: 1 },
			descriptors: 2 * 32 + 2 * SPARE,
		});
	});
	after(async () => {
		try {
			await margay?.stop();
		} finally {
			await server?.stop();
		}
	});

	// Control: a worker that spins on EMFILE burns its CPU; one that dies is counted as restarted.
	test('running out of them hurts nobody for long', async () => {
		const session = await RawSession.open(margay.url);
		const links = Array.from({ length: 3 * SPARE }, () => connect(margay.port));
		await until('clients were turned away', () => links.some(({ text }) => / 503 /.test(text)));
		for (const { socket } of links) socket.destroy();
		const reply = await until('there is room again', async () => {
			const answer = await session.request('ping');
			return answer.status === 200 && answer;
		});
		assert.ok(reply.message);
		const metrics = await margay.metrics();
		assert.ok(
			metrics.sum('margay_accept_pauses_total') +
				metrics.sum('margay_connections_refused_total') >=
				1,
		);
		assert.equal(metrics.sum('margay_worker_restarts_total'), 0);
	});
});
