// The load driver: nothing fails where nothing is wrong, and whatever is wrong is seen and called by
// its name. Without the second half a storm test that finds no failure would prove nothing.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { binary, freePorts, Margay, reply, ScriptedServer, until } from './harness.mjs';
import { Driver, failed, startLoadUpstream, total, workerOf } from './driver.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };

const CLIENTS = { keepalive: 4, connects: 2, streams: 4, seconds: 2 };
const KINDS = ['keepalive', 'connects', 'streams'].flatMap((kind) => [
	`${kind}_legacy`,
	`${kind}_modern`,
]);

// Every kind of client was served, without a failure.
function assertServed(report) {
	assert.deepEqual(report.failures, []);
	assert.equal(report.failed, 0);
	assert.deepEqual([report.opened, report.unopened, report.code], [10, 0, 0]);
	assert.deepEqual(Object.keys(report.kinds), KINDS);
	for (const [name, kind] of Object.entries(report.kinds)) {
		assert.ok(kind.answered > 0, name);
		assert.equal(kind.answered, kind.requests, name);
		assert.ok(kind.latency_us.p50 > 0 && kind.latency_us.max >= kind.latency_us.p999, name);
		if (name.startsWith('streams')) assert.ok(kind.events > 20, name);
	}
	assert.equal(report.kinds.streams_legacy.unnumbered, 0);
}

// What a test starts ends with it, however that ends.
const upstreamOf = async (t, ...options) => {
	const upstream = await startLoadUpstream(...options);
	t.after(() => upstream.child.stop());
	return upstream;
};
const drive = (t, url, options) => {
	const driver = Driver.start(url, options);
	t.after(() => driver.child.stop());
	return driver;
};
const scripted = async (t, on) => {
	const server = await ScriptedServer.start(on);
	t.after(() => server.stop());
	return server;
};

const calls = ({ kinds }) =>
	Object.entries(kinds)
		.filter(([name]) => !name.startsWith('streams'))
		.reduce((sum, [, { answered }]) => sum + answered, 0);

describe('load without trouble', OPTIONS, () => {
	for (const options of [[], ['--sse']])
		test(`on the upstream itself ${options}`, async (t) => {
			const upstream = await upstreamOf(t, ...options);
			const report = await drive(t, upstream.url, CLIENTS).end();
			const served = await upstream.stop();
			assertServed(report);
			assert.equal(served.calls, calls(report));
		});

	// What each side speaks; where they differ, Margay translates.
	for (const era of ['both', 'legacy', 'modern'])
		test(`through Margay to an upstream of era ${era}`, async (t) => {
			const upstream = await upstreamOf(t, '--era', era);
			const margay = await Margay.start({ upstream: upstream.url, config: { workers: 2 } });
			const streams = era === 'both' ? CLIENTS.streams : 0;
			let report;
			try {
				report = await drive(t, margay.url, { ...CLIENTS, streams }).end();
			} finally {
				await margay.stop();
			}
			const served = await upstream.stop();
			if (streams) assertServed(report);
			assert.deepEqual(report.failures, []);
			assert.equal(served.calls, calls(report));
		});

	// What the driver tells of a failure is enough to explain it.
	test('but for a killed worker: what it took along was on its connections', async (t) => {
		const upstream = await upstreamOf(t);
		const margay = await Margay.start({ upstream: upstream.url, config: { workers: 2 } });
		try {
			const driver = drive(t, margay.url, { keepalive: 16, streams: 4 });
			const served = ({ answered, events: got }) => answered + got;
			const grown = (before) => (report) =>
				Object.entries(report.kinds).every(
					([name, kind]) => served(kind) >= served(before.kinds[name]) + 50,
				);
			await driver.until('all are served', grown(await driver.report()));
			// Its connections are known once the log names them.
			await until('both workers have told of calls', () =>
				[0, 1].every((worker) => margay.accesses({ worker, tool: 'echo' }).length > 100),
			);
			const { workers } = await margay.status();
			process.kill(workers[0].pid, 'SIGKILL');
			const after = await driver.until('a call is lost', ({ failed: count }) => count > 0);
			await driver.until('all are served again', grown(after));
			const report = await driver.stop();
			const rows = report.failures.filter(({ kind }) => kind.startsWith('keepalive'));
			assert.ok(rows.length > 0);
			const accesses = margay.accesses();
			for (const row of rows) {
				assert.match(row.failure, /^(reset|closed)$/, JSON.stringify(row));
				assert.equal(workerOf(accesses, row), workers[0].number, JSON.stringify(row));
			}
			// Events of a session come from the upstream, which still had those the worker lost.
			assert.equal(failed(report, 'gap') + failed(report, 'repeat'), 0);
			const made = (await upstream.stop()).calls;
			assert.ok(made >= calls(report) && made <= calls(report) + rows.length);
		} finally {
			await margay.stop();
		}
	});

	test('windows add up to what was answered', async (t) => {
		const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-load-'));
		t.after(() => fs.rmSync(dir, { recursive: true }));
		const upstream = await upstreamOf(t);
		const options = { keepalive: 2, seconds: 1, windows: path.join(dir, 'windows') };
		const report = await drive(t, upstream.url, options).end();
		const lines = fs.readFileSync(options.windows, 'utf8').trim().split('\n');
		const windows = lines.map((line) => JSON.parse(line));
		assert.ok(windows.length >= 5, `${windows.length} windows`);
		assert.equal(
			windows.reduce((sum, { answered }) => sum + answered, 0),
			total(report, 'answered'),
		);
		assert.ok(windows.every(({ t: at }, i) => i === 0 || at >= windows[i - 1].t));
	});
});

const raw = (response, text) => response.socket.end(text);
const whole = ({ id }) => {
	const body = JSON.stringify({ jsonrpc: '2.0', id, result: {} });
	const type = 'Content-Type: application/json';
	return `HTTP/1.1 200 OK\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
};

// What becomes of the third of a client's calls, and what that is called.
const TROUBLE = {
	'is answered': [({ answer }) => answer(), {}],
	'is reset': [({ request }) => request.socket.resetAndDestroy(), { reset: 1 }],
	'is closed': [({ request }) => request.socket.destroy(), { closed: 1 }],
	'is closed within its answer': [
		({ response }) => raw(response, 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{'),
		{ closed: 1 },
	],
	'is closed within a chunked answer': [
		({ response }) =>
			raw(
				response,
				'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n' +
					'Transfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n',
			),
		{ closed: 1 },
	],
	'is answered 503': [({ response }) => response.writeHead(503).end('busy'), { status: 1 }],
	'is answered late': [({ answer }) => setTimeout(answer, 400), { late: 1 }],
	'is not answered': [() => {}, { timeout: 1 }],
	'gets the result of another': [
		({ response }) => reply(response, { id: 'k0:4' }, {}),
		{ bad: 1 },
	],
	'gets an error': [
		({ response, message }) => {
			response.setHeader('content-type', 'application/json');
			const error = { code: -32603, message: 'no' };
			response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, error }));
		},
		{ bad: 1 },
	],
	'gets no JSON': [
		({ response }) => response.setHeader('content-type', 'application/json').end('{"jsonrpc"'),
		{ bad: 1 },
	],
	'gets a stream without a result': [
		({ response }) => response.setHeader('content-type', 'text/event-stream').end(': x\n\n'),
		{ bad: 1 },
	],
	'gets no HTTP': [({ response }) => raw(response, 'HTTP/1.1 OK\r\n\r\n'), { bad: 1 }],
	'gets more than its answer': [
		({ response, message }) => raw(response, `${whole(message)}HTTP/1.1`),
		{ bad: 1 },
	],
	'is closed politely after its answer': [
		({ answer, response }) => {
			response.setHeader('connection', 'close');
			answer();
		},
		{},
		{ asked_to_close: 1, reconnects: 1 },
	],
	'is closed after its answer': [
		({ response, message }) => raw(response, whole(message)),
		{},
		{ idle_closes: 1, reconnects: 1 },
	],
	'has lost its session': [
		({ response, server, request }) => {
			server.sessions.delete(request.headers['mcp-session-id']);
			response.writeHead(404).end();
		},
		{ status: 1 },
		{ sessions_reopened: 1 },
	],
};

describe('the driver sees what becomes of a call that', OPTIONS, () => {
	for (const [name, [misbehave, failures, counts = {}]] of Object.entries(TROUBLE))
		test(name, async (t) => {
			let seen = 0;
			const server = await scripted(t, {
				'tools/call': (call) => {
					const answer = () => reply(call.response, call.message, { content: [] });
					if (++seen === 3) misbehave({ ...call, answer });
					else answer();
				},
			});
			// Paced, so that there is time between two calls for what is said of idle connections.
			const options = { era: 'legacy', keepalive: 1, rate: 10, late: 200, timeout: 1000 };
			const driver = drive(t, server.url, options);
			await driver.until('six answers', ({ kinds }) => kinds.keepalive_legacy.answered >= 6);
			const report = await driver.stop();
			const kind = report.kinds.keepalive_legacy;
			assert.deepEqual(kind.failures, failures, JSON.stringify(report.failures));
			for (const [what, count] of Object.entries(counts)) assert.equal(kind[what], count, what);
			// The id of the call, and of the one before it on the same connection.
			for (const row of report.failures) {
				assert.equal(row.id, 'k0:5');
				assert.equal(row.before, row.failure === 'late' ? 'k0:5' : 'k0:4');
				assert.ok(row.port > 0 && row.t > 0);
			}
			assert.equal(kind.statuses[503] ?? 0, name.endsWith('503') ? 1 : 0);
		});

	test('finds nobody listening', async (t) => {
		const [port] = await freePorts(1);
		const url = `http://127.0.0.1:${port}/mcp`;
		const driver = drive(t, url, { era: 'modern', keepalive: 1, connects: 1, streams: 1 });
		await driver.until('each is refused', ({ kinds }) =>
			Object.values(kinds).every(({ failures }) => failures.refused > 0),
		);
		const report = await driver.stop();
		assert.equal(total(report, 'answered'), 0);
		for (const { failures } of Object.values(report.kinds))
			assert.deepEqual(Object.keys(failures), ['refused']);
	});

	test('finds nobody to open a session with', async (t) => {
		const [port] = await freePorts(1);
		const url = `http://127.0.0.1:${port}/mcp`;
		const options = { era: 'legacy', keepalive: 2, connectTimeout: 200 };
		const report = await drive(t, url, options).end();
		assert.deepEqual([report.opened, report.unopened, report.code], [0, 2, 1]);
		assert.ok(report.opening_failures.refused >= 2);
		assert.equal(report.failed, 0);
	});
});

const event = (id) =>
	`id: ${id}\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n`;
const events = (...ids) => ids.map(event).join('');

// What a session's first stream says, then its second, and what that is called.
const STREAMS = {
	'are all there': [events(1, 2, 3), events(4, 5), {}],
	'end within a gap': [events(1, 2, 4, 5), events(6), { gap: 1 }],
	'come twice': [events(1, 2, 2, 3), events(4), { repeat: 1 }],
	'are missing after a reconnect': [events(1, 2, 3), events(5), { gap: 1 }],
	'come again after a reconnect': [events(1, 2, 3), events(3, 4), { repeat: 1 }],
	'begin anew after a reconnect': [events(7, 8), events(1), { repeat: 1 }],
	'end within one': [`${events(1)}id: 2\ndata: {`, events(2), { bad: 1 }],
	'are no JSON': [`${events(1)}id: 2\ndata: {\n\n`, events(3), { bad: 1, gap: 1 }],
};

describe('the driver sees events that', OPTIONS, () => {
	const run = async (t, on, options, enough) => {
		const server = await scripted(t, on);
		const driver = drive(t, server.url, { streams: 1, ...options });
		await driver.until('enough was seen', (report) => enough(server, report));
		const report = await driver.stop();
		return { report, server };
	};
	const streamed = (response) => response.writeHead(200, { 'content-type': 'text/event-stream' });

	for (const [name, [first, second, failures]] of Object.entries(STREAMS))
		test(name, async (t) => {
			const streams = [first, second];
			const wanted = (first + second).split('\n\n').length - 1;
			const GET = ({ response }) => {
				const text = streams.shift();
				streamed(response).write(text ?? ': nothing more\n\n');
				if (text !== undefined) response.end();
			};
			const { report, server } = await run(t, { GET }, { era: 'legacy' }, ({ count }, { kinds }) => {
				const { events: got, answered } = kinds.streams_legacy;
				return answered >= 3 && got >= wanted - (failures.bad ?? 0) && count;
			});
			assert.deepEqual(report.kinds.streams_legacy.failures, failures);
			const back = server.seen.filter(({ verb }) => verb === 'GET')[1].headers;
			const ids = [...first.matchAll(/^id: (\d+)\ndata: .*}\n\n/gm)].map(([, id]) => id);
			assert.equal(back['last-event-id'], ids.at(-1));
		});

	test('stop with the connection', async (t) => {
		const GET = ({ response, request, server }) => {
			streamed(response).write(event(server.count('GET')));
			if (server.count('GET') === 1) request.socket.resetAndDestroy();
		};
		const { report } = await run(t, { GET }, { era: 'legacy' }, (server) => server.count('GET') > 1);
		const { reset = 0, closed = 0 } = report.kinds.streams_legacy.failures;
		assert.equal(reset + closed, 1);
	});

	test('stop while the stream goes on', async (t) => {
		const GET = ({ response }) => streamed(response).write(': nothing\n\n');
		const { report } = await run(t, { GET }, { era: 'legacy', silence: 200 }, (_, one) =>
			failed(one, 'silent'),
		);
		assert.ok(failed(report, 'silent') >= 1);
	});

	test('cannot be had again in time, having waited as the server wished', async (t) => {
		const asked = [];
		const GET = ({ response }) => {
			asked.push(Date.now());
			if (asked.length > 1)
				return response.writeHead(503, { 'content-type': 'text/event-stream' }).end();
			streamed(response).end(`retry: 300\n${event(1)}`);
		};
		const { report } = await run(t, { GET }, { era: 'legacy', reopen: 200 }, (_, one) =>
			failed(one, 'absent'),
		);
		assert.ok(failed(report, 'status') >= 1);
		assert.ok(asked[1] - asked[0] >= 290, `${asked[1] - asked[0]} ms`);
	});

	test('are of a subscription that was not acknowledged, or is had again', async (t) => {
		let opened = 0;
		const listen = ({ response, message }) => {
			const method =
				++opened === 1
					? 'notifications/tools/list_changed'
					: 'notifications/subscriptions/acknowledged';
			const params = {
				_meta: { 'io.modelcontextprotocol/subscriptionId': message.id },
				notifications: {},
			};
			streamed(response).write(
				`data: ${JSON.stringify({ jsonrpc: '2.0', method, params })}\n\n`,
			);
			if (opened === 2) response.end();
		};
		const { report } = await run(
			t,
			{ 'subscriptions/listen': listen },
			{ era: 'modern' },
			(_, one) => one.kinds.streams_modern.answered >= 2,
		);
		const { failures, endings } = report.kinds.streams_modern;
		assert.deepEqual(failures, { bad: 1 });
		assert.equal(endings, 1);
	});
});
