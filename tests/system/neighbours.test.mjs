// One client that wants all of a worker: the others on it must not feel it (docs/event-loop.md). One worker
// serves NEIGHBOURS paced clients on kept connections; a bad client comes and goes, and their p99 with it is held
// against their p99 without it, both as the median of many windows of 100 ms. So are the worker's own turns, which it
// counts by length (margay_loop_busy_seconds): what is done in one go for each long message is a long turn for each.
//
// What is measured is the worker's turns, not the machine: driver, upstream, worker and broker run before everything else
// (SCHED_FIFO), so that neither the bad client, which is this process, nor anybody else takes a processor from them.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import { binary, events, isSanitized, Margay, post, RawSession, request, run, scrape, until } from './harness.mjs';
import { Driver, startLoadUpstream } from './driver.mjs';
import { metaOf, VERSION } from './modern.mjs';

const NEIGHBOURS = 16;
const RATE = 200; // calls a second of each
const ROUND = 500; // ms, twice: without and with the bad client
const ROUNDS = 6;
const WORSE = 2; // times the p99 without
const FLOOR = 2000; // microseconds: less is not held against anybody; what the laws forbid takes 3 and more
const EVENT_FLOOR = 3000; // an event says no length before: its buffers grow, and go, by megabytes
const TURN = 0.004096; // seconds: longer turns are counted; a bound of the histogram
const TURNS = 12; // longer ones in all rounds, at most: the machine's own
const TRIES = 5; // a machine that stumbles has others
const PIECE = 65536; // bytes that a bad client writes at once
const BODY = 4 * 1024 * 1024;

const OPTIONS = {
	timeout: 300_000,
	skip: !binary ? 'needs MARGAY_BIN' : isSanitized() ? 'its times are those of a fast binary' : false,
};

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
// The bad client's server: it has no time to look at what it gets, and its event stream is `stream`'s. With `event` its
// answer is that event.
async function startOther() {
	const result = (value, headers = {}) => [{ 'content-type': 'application/json', ...headers }, JSON.stringify({ jsonrpc: '2.0', ...value })];
	const initialized = result(
		{ id: 0, result: { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'other', version: '1' } } },
		{ 'mcp-session-id': 'other' },
	);
	const called = result({ id: 1, result: { content: [] } });
	const legacy = result({ id: 0, error: { code: -32601, message: 'Method not found' } });
	const server = http.createServer((request, response) => {
		response.on('error', () => {});
		let start = '';
		request.on('data', (data) => (start ||= data.toString('latin1', 0, 200)));
		request.once('end', () => {
			const [headers, body] = request.headers['mcp-session-id'] ? called
				: start.includes('"initialize"') ? initialized : legacy;
			if (request.method === 'GET') server.stream(response.writeHead(200, { 'content-type': 'text/event-stream' }));
			else if (start.includes('"notifications/')) response.writeHead(202).end();
			else if (server.event && start.includes('"tools/call"')) Readable.from(server.event).pipe(response.writeHead(200, { 'content-type': 'text/event-stream' }));
			else response.writeHead(200, headers).end(body);
		});
	});
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
	return server;
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

describe('neighbours of a bad client', OPTIONS, () => {
	let upstream;
	let other; // for the bad client
	let long; // an upstream of the era before, with long answers
	let longEvents; // whose answers are event streams; and one of the era after
	let modernEvents;
	let modern; // one of the era after
	let margay;
	let driver;
	let windows;
	let session;
	let allowed; // to run before others
	let received = 0; // bytes, by the bad client
	const bad = new Set(); // its connections

	before(async () => {
		upstream = await startLoadUpstream();
		other = await startOther();
		long = await startLoadUpstream('--era', 'legacy', '--bytes', BODY);
		longEvents = await startLoadUpstream('--era', 'legacy', '--bytes', BODY, '--sse');
		modern = await startLoadUpstream('--era', 'modern');
		modernEvents = await startLoadUpstream('--era', 'modern', '--bytes', BODY, '--sse');
		margay = await Margay.start({
			upstream: upstream.url,
			config: {
				workers: 1,
				log: { access: false },
				limits: { body_size: BODY },
				upstreams: {
					bad: { http: { url: `http://127.0.0.1:${other.address().port}/mcp` } },
					long: { http: { url: long.url } },
					'long-events': { http: { url: longEvents.url } },
					modern: { http: { url: modern.url } },
					'modern-events': { http: { url: modernEvents.url } },
				},
				routes: {
					'/bad': { upstream: 'bad', http_sse: true },
					'/long': { upstream: 'long' },
					'/long-events': { upstream: 'long-events' },
					'/modern': { upstream: 'modern' },
					'/modern-events': { upstream: 'modern-events' },
				},
			},
		});
		windows = path.join(margay.dir, 'windows');
		driver = Driver.start(margay.url, { keepalive: NEIGHBOURS, rate: RATE, late: 0, windows });
		await driver.begun();
		session = await RawSession.open(`${margay.origin}/bad`);
		const { workers: [worker], broker } = await margay.status();
		const first = await Promise.all(
			[worker.pid, broker.pid, driver.child.pid, upstream.child.pid].map((pid) =>
				run('chrt', ['--fifo', '--pid', '1', String(pid)]),
			),
		);
		allowed = first.every(({ code }) => code === 0);
	});
	after(async () => {
		const report = await driver?.stop();
		await margay?.stop();
		other?.closeAllConnections();
		await new Promise((resolve) => other?.close(resolve) ?? resolve());
		for (const one of [upstream, long, longEvents, modern, modernEvents]) await one?.child.stop();
		assert.deepEqual(report?.failures, []);
	});

	// A stretch of time: when it was.
	async function stretch() {
		const from = Date.now();
		await pause(ROUND);
		return { from, to: Date.now() };
	}
	// The median of a quantile in all windows that lie within.
	async function typical(stretches, quantile) {
		const inside = () => {
			const text = fs.readFileSync(windows, 'utf8');
			const rows = text.slice(0, text.lastIndexOf('\n')).split('\n').map((line) => JSON.parse(line));
			const { to } = stretches.at(-1);
			return rows.at(-1).t > to && rows.filter(({ t, answered }) =>
				answered > 0 && stretches.some(({ from, to }) => t >= from && t + 100 <= to));
		};
		return median((await until('the windows are written', inside)).map((row) => row[quantile]));
	}
	// `begin` opens the bad client's connections and returns what ends its work. `served`: bytes that it gets in a
	// round, at least: one that the worker throws out proves nothing.
	async function bear(t, begin, served = 0, floor = FLOOR) {
		if (!allowed) return t.skip('needs the right to SCHED_FIFO: without it the machine is measured');
		for (let tries = TRIES; tries > 0; tries--) {
			const { p99, p50, got, turns } = await compare(begin);
			t.diagnostic(JSON.stringify({ p99, p50, got, turns }));
			assert.ok(got >= served, `the bad client got ${got} bytes`);
			if (p99[1] <= Math.max(WORSE * p99[0], floor) && turns <= TURNS) return undefined;
		}
		return assert.fail(`p99 was more than ${WORSE} times as long, or turns over ${TURN} s, ${TRIES} times`);
	}
	// Turns that took longer, so far.
	async function longTurns() {
		const now = await scrape(margay.admin);
		const name = 'margay_loop_busy_seconds';
		return now.sum(`${name}_count`) - now.sum(`${name}_bucket`, { le: String(TURN) });
	}
	async function compare(begin) {
		const without = [];
		const within = [];
		const got = [];
		let turns = 0;
		for (let round = 0; round < ROUNDS; round++) {
			without.push(await stretch());
			received = 0;
			const before = await longTurns();
			const end = begin();
			within.push(await stretch());
			got.push(received);
			end();
			turns += (await longTurns()) - before;
			for (const socket of bad) socket.destroy();
			await pause(50);
		}
		return {
			p99: [await typical(without, 'p99'), await typical(within, 'p99')],
			p50: [await typical(without, 'p50'), await typical(within, 'p50')],
			got: median(got),
			turns,
		};
	}

	function connect({ read = true } = {}) {
		const socket = net.connect(margay.port, '127.0.0.1');
		bad.add(socket);
		socket.on('error', () => {}).once('close', () => bad.delete(socket));
		if (read) socket.on('data', ({ length }) => (received += length));
		else socket.pause();
		return socket;
	}
	// Write the same again and again, as fast as it is taken. What ends it. In pieces: the kernel writes for as long
	// as there is room, and whoever wants its processor waits (4 MiB: 1 to 2 ms, which is no doing of the worker's).
	function flood(socket, bytes) {
		let on = true;
		let at = 0;
		const piece = () => {
			if (at >= bytes.length) at = 0;
			return bytes.subarray(at, (at += PIECE));
		};
		const more = () => {
			while (on && socket.write(piece()));
		};
		socket.on('drain', more);
		more();
		return () => (on = false);
	}
	const of = ({ id, version }) => `Mcp-Session-Id: ${id}\r\nMcp-Protocol-Version: ${version}\r\n`;
	const MODERN = `Mcp-Protocol-Version: ${VERSION}\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n`;
	const META = `"_meta":${JSON.stringify(metaOf())},`;
	const call = (args, meta = '') =>
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${meta}"name":"echo","arguments":${args}}}`;
	const requestOf = (body, target = '/bad', fields = of(session)) =>
		`POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n${fields}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
	const fill = (unit) => unit.repeat(Math.floor((BODY - 1000) / Buffer.byteLength(unit)));
	const bodyOf = (open, unit, close, meta) => call(`{"x":${open}${fill(unit)}${close}}`, meta);

	// Controls: what is read although it waits fills the buffer, and the connection is closed. Where answers go out at
	// once and not at the end of a turn (OUTBOX_ANSWER_MAX 0), without CONN_PIPELINE_BUDGET all that was read in one go is
	// answered in one go: p99 8 ms.
	const small = Buffer.from('GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2000));
	test('that pipelines small requests as fast as it can', (t) => bear(t, () => flood(connect(), small), 1e6));

	test('that pipelines small requests and reads no answer', (t) =>
		bear(t, () => flood(connect({ read: false }), small)));

	const calls = () => Buffer.from(requestOf(call('{}')).repeat(100));
	test('that pipelines calls', (t) => bear(t, () => flood(connect(), calls()), 50_000));

	test('that sends a hundred requests byte by byte', (t) =>
		bear(t, () => {
			const text = requestOf(call(`{"x":"${'y'.repeat(2000)}"}`));
			const sockets = Array.from({ length: 100 }, () => connect());
			let at = 0;
			const timer = setInterval(() => {
				for (const socket of sockets) socket.write(text[at % text.length]);
				at++;
			}, 10);
			return () => clearInterval(timer);
		}));

	// Control: scanned in one go, such a body takes 10 ms, and the p99 is 12 to 14.
	for (const [what, unit] of [
		['plain text', 'y'],
		['escapes', '\\n'],
		['letters of two bytes', 'ж'],
	])
		test(`whose bodies are as long as they may be: ${what}`, (t) =>
			bear(t, () => flood(connect(), Buffer.from(requestOf(bodyOf('"', unit, '"')))), 200));
	test('whose bodies are as long as they may be: many small values', (t) =>
		bear(t, () => flood(connect(), Buffer.from(requestOf(bodyOf('[', '1,', '1]')))), 200));

	// Control: with a SCANNING_STEP of 64 MiB, a turn of 5 ms and more for each.
	test('whose batches are as long as they may be', async (t) => {
		const batches = await RawSession.open(`${margay.origin}/modern`, { version: '2025-03-26' });
		const note = '{"jsonrpc":"2.0","method":"notifications/x"},';
		const bytes = Buffer.from(requestOf(`[${fill(note).slice(0, -1)}]`, '/modern', of(batches)));
		await bear(t, () => flood(connect(), bytes));
	});

	// Controls: so scanned, a turn of 17 ms and more for each; mailed and taken in one go, two of 1 to 2 ms, and a p99 of
	// 2.8 to 5 ms, where it is 1.1.
	test('of HTTP+SSE, whose messages are as long as they may be', async (t) => {
		const stream = await request(`${margay.origin}/bad`, { headers: { accept: 'text/event-stream' }, stream: true });
		const { value } = await events(stream.response).next();
		const hello = { jsonrpc: '2.0', id: 0, method: 'initialize', params: { protocolVersion: '2024-11-05', capabilities: {}, clientInfo: { name: 't', version: '1' } } };
		assert.equal((await post(new URL(value.data, margay.url).href, hello)).status, 202);
		const bytes = Buffer.from(requestOf(bodyOf('"', '\\n', '"'), value.data, ''));
		await bear(t, () => flood(connect(), bytes), 100);
		stream.request.destroy();
	});

	// Control: without an index of long values (common/raw.h) and splicing, turns of 2 to 3 ms for each.
	for (const [era, target] of [['modern', '/bad'], ['legacy', '/modern']])
		test(`of the ${era} era whose bodies go to an upstream of the other`, async (t) => {
			const legacy = era === 'legacy' ? of(await RawSession.open(margay.origin + target)) : '';
			const bytes = requestOf(bodyOf('"', '\\n', '"', legacy ? '' : META), target, legacy || MODERN);
			await bear(t, () => flood(connect(), Buffer.from(bytes)), 200);
		});
	for (const era of ['the same', 'another'])
		test(`whose answers are very long, of an upstream of ${era} era`, async (t) => {
			const legacy = await RawSession.open(`${margay.origin}/long`);
			const bytes = era === 'another' ? requestOf(call('{}', META), '/long', MODERN) : requestOf(call('{}'), '/long', of(legacy));
			await bear(t, () => flood(connect(), Buffer.from(bytes)), BODY);
		});

	// Control: scanned and copied in one go, a p99 of 3 ms and more, and turns over 4 ms.
	for (const [era, target] of [['modern', '/long-events'], ['legacy', '/modern-events']])
		test(`of the ${era} era whose answers are very long events of an upstream of the other`, async (t) => {
			const legacy = era === 'legacy' ? of(await RawSession.open(margay.origin + target)) : '';
			const bytes = requestOf(call('{}', legacy ? '' : META), target, legacy || MODERN);
			await bear(t, () => flood(connect(), Buffer.from(bytes)), BODY, EVENT_FLOOR);
		});

	// One after the other: a client that is further behind than CONN_OUT_MAX is let go. Control: scanned in one go, a turn
	// of 17 ms for each.
	test('of HTTP+SSE, whose answers are very long events', async (t) => {
		const stream = net.connect(margay.port, '127.0.0.1').on('error', () => {});
		t.after(() => {
			stream.destroy();
			other.event = undefined;
		});
		let head = '';
		let left = 0;
		let on = false;
		const say = (message) => post(margay.origin + head.match(/data: (\S+)/)[1], message);
		const more = () => {
			left += event.length;
			say(call('{}')).catch(() => {});
		};
		const event = Buffer.from(`data: {"jsonrpc":"2.0","id":1,"result":{"x":"${fill('\\n')}"}}\n\n`);
		other.event = Array.from({ length: Math.ceil(event.length / PIECE) }, (_, i) => event.subarray(i * PIECE, (i + 1) * PIECE));
		stream.write('GET /bad HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n');
		stream.on('data', (data) => {
			if (head.length < 1000) head += data.toString('latin1', 0, 1000);
			received += data.length;
			left -= data.length;
			if (on && left <= 0) more();
		});
		await until('its address is there', () => /data: \S+\s/.test(head));
		const hello = { jsonrpc: '2.0', id: 0, method: 'initialize', params: { protocolVersion: '2024-11-05', capabilities: {}, clientInfo: { name: 't', version: '1' } } };
		assert.equal((await say(hello)).status, 202);
		await until('it is open', () => head.includes('serverInfo'));
		await bear(t, () => {
			on = true;
			if (left <= 0) more();
			return () => (on = false);
		}, BODY, EVENT_FLOOR);
	});

	for (const reads of [true, false])
		test(`whose stream never ends, and who ${reads ? 'reads as fast as it can' : 'never reads'}`, async (t) => {
			const event = `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"${'z'.repeat(40)}"}}\n\n`;
			const many = Buffer.from(event.repeat(500));
			other.stream = (response) => flood(response, many);
			await bear(t, () => {
				const socket = connect({ read: reads });
				socket.write(
					`GET /bad HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${of(session)}\r\n`,
				);
				return () => {};
			}, reads ? 1e6 : 0);
		});
});
