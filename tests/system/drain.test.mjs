// Draining: what an old generation still has ends in its own time, and no client loses anything by it.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import {
	binary,
	events,
	exchange,
	freePorts,
	killPid,
	Margay,
	post,
	RawSession,
	ScriptedServer,
	until,
	within,
} from './harness.mjs';
import { send } from './modern.mjs';

const OPTIONS = { timeout: 90_000, skip: binary ? false : 'needs MARGAY_BIN' };

function setUp() {
	const bench = { margays: [] };
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.start = async (timeouts = {}, config = {}) => {
			const margay = await Margay.start({
				upstream: bench.server.url,
				config: { workers: 2, ...config, timeouts: { shutdown: '10s', ...timeouts } },
			});
			bench.margays.push(margay);
			return margay;
		};
	});
	afterEach(async (t) => {
		bench.server.on = {};
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			await margay.stop();
		}
	});
	after(() => bench.server?.stop());
	return bench;
}

async function reload(margay, change) {
	if (change) margay.write(change);
	const { code, stderr } = await margay.command('reload');
	assert.equal(code, 0, stderr);
}

// Its answer comes when the old workers are told, not when they have heard it.
async function reloadAndBeHeard(margay) {
	const heard = () => margay.log().filter(({ message }) => message === 'draining').length;
	const before = heard();
	await reload(margay);
	await until('the old workers drain', () => heard() === before + margay.config.workers);
}

const generations = async (margay) => [
	...new Set((await margay.status()).workers.map(({ generation }) => generation)),
];
const only = (margay, count) =>
	until(`${count} generation(s) left`, async () => (await generations(margay)).length === count);
// Connections that wait in the queues of a port.
const waiting = (port) =>
	fs
		.readFileSync('/proc/net/tcp', 'utf8')
		.split('\n')
		.map((line) => line.trim().split(/\s+/))
		.filter((row) => row[3] === '0A' && row[1].endsWith(`:${port.toString(16).toUpperCase().padStart(4, '0')}`))
		.reduce((sum, row) => sum + parseInt(row[4].split(':')[1], 16), 0);
const HEALTH = 'GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
const forced = async (margay) => (await margay.metrics()).sum('margay_drain_forced_total');

// A connection with one answered request on it, and what happened to it since: when it was closed.
async function keepAlive(session) {
	const socket = net.connect(Number(new URL(session.url).port), '127.0.0.1');
	const client = { socket, text: '' };
	socket.setEncoding('latin1').on('data', (data) => (client.text += data));
	socket.on('end', () => (client.ended = Date.now()));
	socket.on('error', (error) => (client.error = error));
	client.ask = async () => {
		const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
		client.text = '';
		socket.write(
			`POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
				`Accept: application/json, text/event-stream\r\nMcp-Session-Id: ${session.id}\r\n` +
				`Content-Length: ${body.length}\r\n\r\n${body}`,
		);
		await until('it is answered', () => client.text.includes('"result"'));
		return client.text;
	};
	assert.doesNotMatch(await client.ask(), /Connection: close/i);
	return client;
}

describe('connections that are kept', OPTIONS, () => {
	const bench = setUp();

	// Control: a worker that closes idle connections at once resets or never answers the request.
	test('serve one more request, and say then that it was the last', async () => {
		const margay = await bench.start();
		const client = await keepAlive(await RawSession.open(margay.url));
		await reloadAndBeHeard(margay);
		assert.match(await client.ask(), /Connection: close/i);
		await until('it is closed', () => client.ended);
		assert.equal(client.error, undefined);
		await only(margay, 1);
		assert.equal(await forced(margay), 0);
	});

	test('stay for keepalive_linger when nothing comes, and no longer', async () => {
		const margay = await bench.start({ keepalive_linger: '3s' });
		const client = await keepAlive(await RawSession.open(margay.url));
		const began = Date.now();
		await reload(margay);
		const reloaded = Date.now();
		await until('it is closed', () => client.ended);
		assert.ok(client.ended - began >= 3000, `after ${client.ended - began} ms`);
		assert.ok(client.ended - reloaded < 4500, `after ${client.ended - reloaded} ms`);
		assert.equal(client.error, undefined);
		await only(margay, 1);
	});

	// Control: when the deadline closes without a look at what came, the request is lost.
	test('are served when their request came before the goodbye, however late that is', async () => {
		const margay = await bench.start({ keepalive_linger: '1s' });
		const client = await keepAlive(await RawSession.open(margay.url));
		const { workers } = await margay.status();
		await reloadAndBeHeard(margay);
		workers.forEach(({ pid }) => killPid(pid, 'SIGSTOP'));
		const answer = client.ask();
		await new Promise((resolve) => setTimeout(resolve, 1200)); // outlasts keepalive_linger, and not the watchdog's patience
		assert.equal(client.ended, undefined);
		workers.forEach(({ pid }) => killPid(pid, 'SIGCONT'));
		assert.match(await answer, /Connection: close/i);
		await only(margay, 1);
	});

	// Its answer had begun when nobody knew of a drain, so it can't tell the client not to come back.
	// Control: closing behind it loses the request that the client sends on.
	test('outlive an answer that did not say that it was the last', async () => {
		const margay = await bench.start();
		let finish;
		bench.server.on['tools/call'] = ({ request, response, message, server }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			response.write('event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n\n');
			finish = () =>
				response.end(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { content: [] } })}\n\n`);
		};
		const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
		const session = await RawSession.open(margay.url, { agent });
		const answer = session.call('slow');
		await until('the call is at the upstream', () => finish);
		await reloadAndBeHeard(margay);
		finish();
		assert.ok((await within('the answer', answer)).message.result);
		let opened = 0;
		const create = agent.createConnection;
		agent.createConnection = (...args) => (opened++, create.apply(agent, args));
		const next = await session.request('ping');
		assert.equal(next.status, 200);
		assert.equal(next.headers.connection, 'close');
		assert.equal(opened, 0, 'on the same connection');
		agent.destroy();
		await only(margay, 1);
	});
});

describe('calls in flight', OPTIONS, () => {
	const bench = setUp();

	// Control: with the drain's deadline at 1 s the call is cut off.
	test('survive a reload', async () => {
		const margay = await bench.start({ shutdown: '1s' });
		bench.server.on['tools/call'] = ({ request, response, message, server }) =>
			setTimeout(() => server.answer(request, response, message), 3000);
		const session = await RawSession.open(margay.url);
		const answer = session.call('slow');
		await until('the call is at the upstream', () => bench.server.count('tools/call'));
		await reload(margay);
		const { status, message } = await within('the answer', answer);
		assert.equal(status, 200);
		assert.ok(message.result);
		await only(margay, 1);
		assert.equal(await forced(margay), 0);
	});

	// Control: without the deadline they stay, without the count the metric says 0.
	test('are cut and counted after drain_timeout', async () => {
		const margay = await bench.start({ drain_timeout: '1s' });
		bench.server.on['tools/call'] = () => {};
		const session = await RawSession.open(margay.url);
		const answers = Array.from({ length: 3 }, () => session.call('never').catch((error) => error));
		await until('the calls are at the upstream', () => bench.server.count('tools/call') >= 3);
		await reload(margay);
		for (const answer of await within('their ends', Promise.all(answers)))
			assert.notEqual(answer.status, 200);
		await only(margay, 1);
		assert.equal(await forced(margay), 3);
		const ends = await until('the log says so', () => {
			const lines = margay.log().filter(({ message }) => message === 'drained');
			return lines.length === 2 && lines;
		});
		assert.equal(ends.reduce((sum, { cut }) => sum + cut, 0), 3);
	});

	test('have timeouts.shutdown left when Margay stops while it drains', async () => {
		const margay = await bench.start({ shutdown: '1s' });
		bench.server.on['tools/call'] = () => {};
		const session = await RawSession.open(margay.url);
		const before = bench.server.count('tools/call');
		const answer = session.call('never').catch((error) => error);
		await until('the call is at the upstream', () => bench.server.count('tools/call') > before);
		await reload(margay);
		const began = Date.now();
		margay.child.kill('SIGTERM');
		assert.equal((await within('the end', margay.child.exit, 10_000)).code, 0);
		assert.ok(Date.now() - began >= 900, 'it had its time');
		assert.ok(!margay.log().some(({ message }) => /killed/.test(message)), 'it ended by itself');
		await answer;
	});
});

describe('event streams', OPTIONS, () => {
	const bench = setUp();

	// A server that numbers the events of each session, tells one every 20 ms, and goes on after Last-Event-ID.
	function tellNumbers() {
		const told = new Map(); // session -> events that there are
		const timers = new Set();
		bench.server.on.GET = ({ request, response }) => {
			const id = request.headers['mcp-session-id'];
			let next = Number(request.headers['last-event-id'] ?? 0) + 1;
			if (!told.has(id)) told.set(id, 0);
			response.writeHead(200, { 'content-type': 'text/event-stream' });
			const tell = () => {
				for (; next <= told.get(id); next++)
					response.write(
						`id: ${next}\nevent: message\ndata: {"jsonrpc":"2.0","method":"notifications/message",` +
							`"params":{"level":"info","data":${next}}}\n\n`,
					);
			};
			const timer = setInterval(tell, 10);
			timers.add(timer);
			response.on('close', () => clearInterval(timer));
		};
		const clock = setInterval(() => told.forEach((n, id) => told.set(id, n + 1)), 20);
		return () => {
			clearInterval(clock);
			timers.forEach(clearInterval);
		};
	}

	// A client that listens until told to stop, and comes back when its stream ends.
	async function listener(session) {
		const client = { heard: [], ends: [], retries: [], running: true };
		let response;
		const open = async () => {
			const last = client.heard.at(-1);
			const head = await session.get(last === undefined ? {} : { 'last-event-id': String(last) });
			assert.equal(head.status, 200);
			response = head.response;
		};
		await open();
		client.done = (async () => {
			while (client.running) {
				for await (const event of events(response)) {
					if (event.retry) client.retries.push(Number(event.retry));
					if (event.data) {
						assert.equal(JSON.parse(event.data).params.data, Number(event.id));
						client.heard.push(Number(event.id));
					}
				}
				client.ends.push(Date.now());
				if (client.running) await open();
			}
		})().catch((error) => client.running && (client.error = error));
		client.stop = () => {
			client.running = false;
			response.destroy();
			return client.done;
		};
		return client;
	}

	// Control: with every stream ended at once the ends are not spread; without `retry:` there is none.
	test('end one by one over drain_spread, and their clients miss nothing', async () => {
		const margay = await bench.start({ drain_spread: '3s' });
		const quiet = tellNumbers();
		const sessions = await Promise.all(Array.from({ length: 20 }, () => RawSession.open(margay.url)));
		const clients = await Promise.all(sessions.map(listener));
		await until('all hear', () => clients.every(({ heard }) => heard.length > 5));
		await reloadAndBeHeard(margay);
		const began = Math.min(
			...margay.log().filter(({ message }) => message === 'draining').map(({ time }) => Date.parse(time)),
		);
		await until('all were sent away', () => clients.every(({ ends }) => ends.length > 0));
		const before = clients.map(({ heard }) => heard.length);
		await until('all go on', () => clients.every(({ heard }, i) => heard.length > before[i] + 10));
		await Promise.all(clients.map((client) => client.stop()));
		quiet();
		for (const { heard, ends, retries, error } of clients) {
			assert.equal(error, undefined);
			assert.equal(ends.length, 1, 'and only once');
			assert.deepEqual(heard, heard.map((_, i) => i + 1), 'without gap or repeat');
			assert.equal(retries.length, 1);
			assert.ok(retries[0] >= 1000 && retries[0] < 3000, String(retries[0]));
		}
		assert.ok(new Set(clients.map(({ retries }) => retries[0])).size > 10, 'they are jittered');
		const after = clients.map(({ ends }) => ends[0] - began).sort((a, b) => a - b);
		assert.ok(after.at(-1) < 5000, String(after));
		// Neither half is without any, but once in a million times.
		assert.ok(after[0] < 1500 && after.at(-1) > 1500, String(after));
		await only(margay, 1);
		assert.equal(await forced(margay), 0);
	});

	test('of the stateless era end with their result and a `retry:`', async () => {
		const margay = await bench.start({ drain_spread: '1s' });
		const stopTelling = tellNumbers();
		const { status, response } = await send(margay.url, 'subscriptions/listen', {
			params: { notifications: { toolsListChanged: true } },
			stream: true,
		});
		assert.equal(status, 200);
		const heard = [];
		const over = (async () => {
			for await (const event of events(response)) heard.push(event);
		})();
		await until('it is acknowledged', () => heard.length === 1);
		await reload(margay);
		await within('its end', over);
		assert.equal(JSON.parse(heard.at(-1).data).result.resultType, 'complete');
		assert.ok(Number(heard.at(-1).retry) >= 1000);
		stopTelling();
		await only(margay, 1);
		assert.equal(await forced(margay), 0);
	});

	// Control: with the spread of a reload it takes 30 s.
	test('end at once when Margay stops, also while it drains', async () => {
		const margay = await bench.start({ drain_spread: '1h' });
		const quiet = tellNumbers();
		const client = await listener(await RawSession.open(margay.url));
		await until('it hears', () => client.heard.length > 0);
		await reload(margay);
		client.running = false;
		const began = Date.now();
		margay.child.kill('SIGTERM');
		assert.equal((await within('the end', margay.child.exit)).code, 0);
		assert.ok(Date.now() - began < 3000, `after ${Date.now() - began} ms`);
		await client.done;
		assert.equal(client.retries.length, 1);
		quiet();
	});
});

describe('generations', OPTIONS, () => {
	const bench = setUp();

	// Control: without the limit there are six, each with its calls.
	test('are three at most: the oldest are cut off and counted', async () => {
		const margay = await bench.start();
		bench.server.on['tools/call'] = () => {};
		const session = await RawSession.open(margay.url);
		const calls = [];
		for (let n = 0; n < 5; n++) {
			const before = bench.server.count('tools/call');
			const call = { over: false };
			session
				.call('never')
				.catch(() => {})
				.finally(() => (call.over = true));
			calls.push(call);
			await until('the call is at the upstream', () => bench.server.count('tools/call') > before);
			await reload(margay);
			// Until its workers hear of it the old generation may take the next call, too.
			await until(
				'the old workers drain',
				() => margay.log().filter(({ message }) => message === 'draining').length === 2 * (n + 1),
			);
		}
		await only(margay, 3);
		assert.deepEqual((await generations(margay)).sort(), [4, 5, 6]);
		await until('the oldest calls are cut off', () => calls.slice(0, 3).every(({ over }) => over));
		assert.deepEqual(calls.map(({ over }) => over), [true, true, true, false, false]);
		assert.equal(await forced(margay), 3);
		assert.equal(margay.log().filter(({ message }) => /too many/.test(message)).length, 3);
		margay.child.kill('SIGQUIT');
		await margay.child.exit;
	});

	// Control: a worker that can't cut its connections itself is counted by nobody.
	test('are cut off by the master when they do not hear', async () => {
		const margay = await bench.start({ drain_timeout: '1s' });
		bench.server.on['tools/call'] = () => {};
		const session = await RawSession.open(margay.url);
		const before = bench.server.count('tools/call');
		const answer = session.call('never').catch((error) => error);
		await until('the call is at the upstream', () => bench.server.count('tools/call') > before);
		const { workers } = await margay.status();
		workers.forEach(({ pid }) => killPid(pid, 'SIGSTOP'));
		await reload(margay);
		await only(margay, 1);
		assert.notEqual((await answer).status, 200);
		assert.equal(await forced(margay), workers.reduce((sum, one) => sum + one.connections, 0));
	});
});

describe('an address that goes', OPTIONS, () => {
	const bench = setUp();

	// A Margay that listens at a second port, too, and a call that keeps its first generation alive.
	async function startTwo() {
		const [port] = await freePorts(1);
		const margay = await bench.start();
		const one = margay.config.listen;
		const two = [...one, { address: `127.0.0.1:${port}` }];
		await reload(margay, { listen: two });
		await only(margay, 1);
		bench.server.on['tools/call'] = ({ request, response, message, server }) =>
			(finish = () => server.answer(request, response, message));
		let finish;
		const session = await RawSession.open(margay.url);
		const answer = session.call('held');
		await until('the call is at the upstream', () => finish);
		const end = async () => {
			finish();
			assert.equal((await answer).status, 200);
			await only(margay, 1);
			assert.equal(await forced(margay), 0);
		};
		return { margay, one, two, port, session, end };
	}

	const connected = (port) =>
		new Promise((resolve) => {
			const socket = net.connect(port, '127.0.0.1');
			socket.once('connect', () => resolve('connected'));
			socket.once('error', ({ code }) => resolve(code));
			socket.once('close', () => socket.destroy());
			socket.unref();
		});

	const ping = (session, port) =>
		post(`http://127.0.0.1:${port}/mcp`, { jsonrpc: '2.0', id: 1, method: 'ping' }, {
			headers: session.headers,
		});

	// Control: when the old workers stop accepting from it, those in its queue are reset with its last
	// reference; without the filter the late one connects, to be reset or to wait in vain.
	test('loses none of those in its queue, takes nobody else, and refuses in the end', async () => {
		const { margay, one, port, session, end } = await startTwo();
		const { workers } = await margay.status();
		workers.forEach(({ pid }) => killPid(pid, 'SIGSTOP'));
		const queued = Array.from({ length: 40 }, () => exchange(port, HEALTH, { timeout: 15_000 }));
		const pings = Array.from({ length: 40 }, () => ping(session, port));
		await until('all wait in its queue', () => waiting(port) === 80);
		await reload(margay, { listen: one });
		const late = connected(port);
		assert.equal(waiting(port), 80);
		workers.forEach(({ pid }) => killPid(pid, 'SIGCONT'));
		for (const { status, headers } of await Promise.all(pings)) {
			assert.equal(status, 200);
			assert.equal(headers.connection, 'close');
		}
		for (const { status } of await Promise.all(queued)) assert.equal(status, 404);
		assert.equal(await within('it refuses', late), 'ECONNREFUSED');
		assert.equal((await generations(margay)).length, 2, 'while its last generation is there');
		await end();
		assert.equal(await connected(port), 'ECONNREFUSED');
	});

	// Control: with the filter left on it nobody gets through; without a new listen() all are refused.
	for (const [what, leave] of [
		['while it leaves', async () => {}],
		['when it was left', (port) => until('it refuses', async () => (await connected(port)) === 'ECONNREFUSED')],
	])
		test(`may come back ${what}`, async () => {
			const { margay, one, two, port, session, end } = await startTwo();
			await reload(margay, { listen: one });
			await leave(port);
			await reload(margay, { listen: two });
			for (let n = 0; n < 3; n++)
				for (const { status } of await within(
					'the answers',
					Promise.all(Array.from({ length: 40 }, () => ping(session, port))),
					5000,
				))
					assert.equal(status, 200);
			await end();
			const again = await Promise.all(Array.from({ length: 40 }, () => ping(session, port)));
			assert.ok(again.every(({ status }) => status === 200));
		});
});
