// Streams of modern clients share what a legacy upstream says outside of requests.
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { binary, events, Margay, reply, ScriptedServer, until } from './harness.mjs';
import { metaOf, P, send, VERSION } from './modern.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const ACKNOWLEDGED = 'notifications/subscriptions/acknowledged';
const UPDATED = 'notifications/resources/updated';
const TOOLS = 'notifications/tools/list_changed';
const MANY = 200; // more than are served in a turn

describe('streams of modern clients at a legacy upstream', OPTIONS, () => {
	let server;
	let margay;
	let open; // its GET streams: { write(text), say(method, params), end(), closed }, newest last
	let held; // those not answered yet; undefined: each is at once

	function serve(response) {
		const one = {
			write: (text) => response.write(text),
			say: (method, params = {}) =>
				response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', method, params })}\n\n`),
			end: () => response.end(),
			closed: false,
		};
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		response.write(': hello\n\n');
		response.once('close', () => (one.closed = true));
		open.push(one);
	}

	before(async () => {
		server = await ScriptedServer.start();
	});
	beforeEach(async () => {
		open = [];
		held = undefined;
		let opened = 0;
		server.seen.length = 0;
		server.on = {
			'server/discover': ({ response }) => response.writeHead(400).end(),
			initialize: ({ response, message }) => {
				const id = `session-${++opened}`;
				server.sessions.add(id);
				const result = {
					protocolVersion: '2025-11-25',
					capabilities: { tools: { listChanged: true }, resources: { subscribe: true } },
					serverInfo: { name: 'old', version: '9' },
				};
				reply(response, message, result, { 'mcp-session-id': id });
			},
			'resources/subscribe': ({ response, message }) => reply(response, message, {}),
			GET: ({ response }) => (held ? held.push(response) : serve(response)),
		};
		margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		await margay.stop();
	});
	after(() => server?.stop());

	const ask = (notifications, id) =>
		send(margay.url, 'subscriptions/listen', { params: { notifications }, id, stream: true });

	// { status, id, acknowledged, heard, close() }
	async function listen(notifications = { toolsListChanged: true }, id = 1) {
		const answer = await ask(notifications, id);
		const one = { ...answer, id, heard: [], close: () => answer.request.destroy() };
		if (answer.status === 200)
			(async () => {
				for await (const { data } of events(answer.response)) {
					const message = JSON.parse(data);
					assert.equal(message.params._meta[`${P}subscriptionId`], id);
					if (message.method === ACKNOWLEDGED && !one.acknowledged)
						one.acknowledged = message.params.notifications;
					else one.heard.push(message);
				}
			})().catch((error) => (one.error = error)); // when it is closed, too
		return one;
	}

	// One that may go before it is answered.
	function impatient() {
		const method = 'subscriptions/listen';
		const headers = {
			'content-type': 'application/json',
			accept: 'application/json, text/event-stream',
			'mcp-protocol-version': VERSION,
			'mcp-method': method,
		};
		const params = { _meta: metaOf(), notifications: { toolsListChanged: true } };
		const request = http.request(margay.url, { method: 'POST', agent: false, headers });
		request.on('error', () => {});
		request.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
		return request;
	}

	const listens = (n, notifications) =>
		Promise.all(Array.from({ length: n }, (_, i) => listen(notifications?.(i), i)));
	const acknowledged = (all) => () => all.every((one) => one.acknowledged);
	const numbers = ({ heard }) => heard.map(({ params }) => params.n);
	const counted = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
	const connections = async () => (await margay.metrics()).sum('margay_connections_open');

	test('each hears what it asked for, once and in order; some come and go meanwhile', async () => {
		const resourceSubscriptions = ['x:1'];
		const kinds = [
			{ toolsListChanged: true },
			{ resourceSubscriptions },
			{ toolsListChanged: true, resourceSubscriptions },
		];
		const all = await listens(MANY, (i) => kinds[i % 3]);
		await until('all are acknowledged', acknowledged(all));
		assert.equal(open.length, 1);
		let n = 0;
		// What is odd is of the resource. Read in several turns, so while others are still given.
		const say = async (count) => {
			for (const end = n + count; n < end; n++) {
				open[0].say(n % 2 ? UPDATED : TOOLS, { n, ...(n % 2 && { uri: 'x:1' }) });
				if (n % 4 === 3) await new Promise(setImmediate);
			}
			open[0].say(UPDATED, { n: -1, uri: 'x:2' });
			open[0].say('notifications/message', { n: -1, level: 'info', data: 1 });
		};
		await say(100);
		const gone = [0, 2, 77, 100, 101, 199].map((i) => all[i]);
		for (const one of gone) one.close();
		let late;
		listen(kinds[2], 'late').then((one) => (late = one));
		while (!late) await say(4);
		await say(200);
		const stay = all.filter((one) => !gone.includes(one));
		const of = (i) => counted(0, n).filter((k) => i % 3 === 2 || k % 2 === i % 3);
		await until('all heard all', () => stay.every((one) => one.heard.length >= of(one.id).length));
		for (const one of stay) assert.deepEqual(numbers(one), of(one.id));
		for (const one of gone) assert.deepEqual(numbers(one), of(one.id).slice(0, one.heard.length));
		await until('the one that came, too', () => numbers(late).at(-1) === n - 1);
		assert.ok(late.heard.length >= 200);
		assert.deepEqual(numbers(late), counted(n - late.heard.length, n));
		for (const one of [...stay, late]) assert.equal(one.error, undefined);
		for (const one of [...stay, late]) one.close();
		await until('nobody listens there', () => open.every(({ closed }) => closed));
	});

	test('many wait until its stream is open again, and are told of no gap', async () => {
		held = [];
		const waiting = listens(MANY);
		await until('it is asked', () => held.length === 1);
		await until('all wait', async () => (await connections()) >= MANY);
		serve(held.shift());
		const all = await waiting;
		await until('all are acknowledged', acknowledged(all));
		for (const one of all) assert.deepEqual(one.acknowledged, { toolsListChanged: true });
		open[0].say(TOOLS, { n: 1 });
		open[0].end(); // what was said before is heard
		await until('all hear', () => all.every(({ heard }) => heard.length === 1));
		await until('it is asked again', () => held.length === 1);
		const more = listens(MANY);
		await until('they wait', async () => (await connections()) >= 2 * MANY);
		serve(held.shift());
		all.push(...(await more));
		await until('all are acknowledged', acknowledged(all));
		open[1].say(TOOLS, { n: 2 });
		await until('all hear', () => all.every((one) => numbers(one).at(-1) === 2));
		for (const one of all.slice(0, MANY)) assert.deepEqual(numbers(one), [1, undefined, 2]);
		for (const one of all.slice(MANY)) assert.deepEqual(numbers(one), [2]);
	});

	test('many who wait are told that it failed or go, and who comes then is served', async () => {
		held = [];
		const going = Array.from({ length: MANY }, impatient);
		await until('it is asked', () => held.length === 1);
		await until('they wait', async () => (await connections()) >= MANY);
		const waiting = listens(MANY);
		await until('all wait', async () => (await connections()) >= 2 * MANY);
		held.shift().writeHead(500).end();
		for (const request of going) request.destroy();
		for (const { status } of await waiting) assert.equal(status, 502);
		held = undefined;
		const next = await listen();
		await until('it is acknowledged', acknowledged([next]));
		open.at(-1).say(TOOLS, { n: 1 });
		await until('it hears', () => next.heard.length === 1);
	});

	test('many resources, each answered by itself', async () => {
		const asked = [];
		server.on['resources/subscribe'] = (one) => asked.push(one);
		const waiting = listens(MANY, (i) => ({ resourceSubscriptions: [`x:${i}`] }));
		await until('all are subscribed to', () => asked.length === MANY);
		for (const { response, message } of asked) reply(response, message, {});
		const all = await waiting;
		await until('all are acknowledged', acknowledged(all));
		for (const one of all)
			assert.deepEqual(one.acknowledged, { resourceSubscriptions: [`x:${one.id}`] });
		for (let i = MANY; i-- > 0;) open[0].say(UPDATED, { n: i, uri: `x:${i}` });
		await until('each hears of its own', () => all.every((one) => one.heard.length === 1));
		for (const one of all) assert.deepEqual(numbers(one), [one.id]);
	});

	test('an event in several lines is one to each', async () => {
		const one = await listen();
		await until('it is acknowledged', acknowledged([one]));
		const lines = [`{"jsonrpc":"2.0","method":"${TOOLS}","params":{"n":`, '1,"more":{', '"x":2}}}'];
		open[0].write(`${lines.map((line) => `data: ${line}\n`).join('')}\n`);
		await until('it hears', () => one.heard.length === 1);
		assert.deepEqual(one.heard[0].params.more, { x: 2 });
	});

	// Control: if it was waited for, the others would hear nothing more.
	test('one that does not read is cut off, and nobody waits for it', async () => {
		const all = await listens(2);
		await until('they are acknowledged', acknowledged(all));
		const { response } = await ask({ toolsListChanged: true }, 'deaf');
		response.pause();
		const text = 'x'.repeat(64 * 1024);
		let n = 0;
		await until('it is cut off', async () => {
			open[0].say(TOOLS, { n: n++, text });
			return (await margay.metrics()).sum('margay_streams_open') === 2;
		});
		assert.ok(n > 4, 'not before it is far behind');
		await until('the others heard all', () => all.every(({ heard }) => heard.length === n));
	});
});
