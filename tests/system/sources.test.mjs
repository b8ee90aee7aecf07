// Streams of legacy clients that would ask a stateless upstream the same share one subscriptions/listen.
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import { binary, events, Margay, RawSession, reply, ScriptedServer, until } from './harness.mjs';
import { P } from './modern.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const UPDATED = 'notifications/resources/updated';
const TOOLS = 'notifications/tools/list_changed';

describe('streams of legacy clients at a stateless upstream', OPTIONS, () => {
	let server;
	let margay;
	let open; // what is listened to: { who, uris, write(text), say(method, params), end(), closed }, newest last

	const alive = () => open.filter(({ closed }) => !closed);

	function listen({ response, message }) {
		const meta = { [`${P}subscriptionId`]: message.id };
		const say = (method, params = {}) => {
			const said = { jsonrpc: '2.0', method, params: { ...params, _meta: meta } };
			return response.write(`data: ${JSON.stringify(said)}\n\n`);
		};
		const one = {
			who: message.params._meta[`${P}clientInfo`].name,
			uris: message.params.notifications.resourceSubscriptions ?? [],
			write: (text) => response.write(text),
			say,
			end: () => response.end(),
			closed: false,
		};
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		response.once('close', () => (one.closed = true));
		say('notifications/subscriptions/acknowledged', { notifications: message.params.notifications });
		open.push(one);
	}

	before(async () => {
		server = await ScriptedServer.start();
	});
	beforeEach(async () => {
		open = [];
		server.on = {
			initialize: ({ response }) => response.writeHead(400).end(),
			'server/discover': ({ response, message }) =>
				reply(response, message, {
					resultType: 'complete',
					supportedVersions: ['2026-07-28'],
					capabilities: { tools: { listChanged: true }, resources: { subscribe: true } },
				}),
			'subscriptions/listen': listen,
		};
		margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(margay.report());
		await margay.stop();
	});
	after(() => server?.stop());

	// A client with its stream: { session, heard, response, over }.
	async function hear({ client, uris = [] } = {}) {
		const session = await RawSession.open(margay.url, client && { client });
		for (const uri of uris) await session.request('resources/subscribe', { uri });
		const { status, response } = await session.get();
		assert.equal(status, 200);
		const one = { session, response, heard: [], over: false };
		(async () => {
			for await (const { data } of events(response)) one.heard.push(JSON.parse(data));
		})()
			.catch(() => {})
			.finally(() => (one.over = true));
		return one;
	}

	const heardAll = (all, n) => () => all.every(({ heard }) => heard.length === n);
	const numbers = ({ heard }) => heard.map(({ params }) => params.n);

	test('those who would ask the same share one, and hear all of it once, in order', async () => {
		const all = [];
		for (let i = 0; i < 150; i++) all.push(await hear()); // more than are served in a turn
		await until('it listens', () => open.length > 0);
		// Some come while others are still being given.
		for (let n = 0; n < 200; n++) {
			open[0].say(TOOLS, { n });
			if (n % 4 === 3) await new Promise(setImmediate);
		}
		await until('all hear', heardAll(all, 200));
		for (const one of all) assert.deepEqual(numbers(one), [...Array(200).keys()]);
		assert.equal(open.length, 1);
		// One that comes later hears what comes later.
		all.push(await hear());
		open[0].say(TOOLS, { n: 200 });
		await until('all hear', () => all.every((one) => numbers(one).at(-1) === 200));
		assert.deepEqual(numbers(all.at(-1)), [200]);
		for (const { response } of all.splice(1)) response.destroy();
		open[0].say(TOOLS, { n: 201 });
		await until('who stays hears on', () => numbers(all[0]).at(-1) === 201);
		assert.equal(open.length, 1);
		all[0].response.destroy();
		await until('nobody listens', () => alive().length === 0);
	});

	test('who says other things of itself, or subscribed to others, has another', async () => {
		const all = [
			await hear({ client: 'one' }),
			await hear({ client: 'two' }),
			await hear({ client: 'one', uris: ['x:1'] }),
			await hear({ client: 'one', uris: ['x:2'] }),
			await hear({ client: 'one', uris: ['x:2'] }),
		];
		await until('all are listened to', () => open.length >= 4);
		const names = open.map(({ who, uris }) => [who, ...uris].join(' '));
		assert.deepEqual(names.sort(), ['one', 'one x:1', 'one x:2', 'two']);
		for (const { who, uris, say } of open) say(UPDATED, { uri: [who, ...uris].join(' ') });
		await until('all hear', heardAll(all, 1));
		assert.deepEqual(
			all.map(({ heard }) => heard[0].params.uri),
			['one', 'two', 'one x:1', 'one x:2', 'one x:2'],
		);
		// One that subscribes to what others have goes over to theirs, and is told what it may have missed.
		await all[0].session.request('resources/subscribe', { uri: 'x:2' });
		await until('it is told', () => all[0].heard.at(-1).method === TOOLS);
		const shared = open.find(({ uris }) => uris.includes('x:2'));
		shared.say(UPDATED, { uri: 'x:2' });
		await until('it hears it', () => all[0].heard.at(-1).params.uri === 'x:2');
		assert.deepEqual([all[3].heard.length, all[4].heard.length], [2, 2], 'nothing else to the others');
		await until('its own is over', () => alive().length === 3);
		assert.equal(open.length, 4);
		// The log level is no part of it.
		await all[1].session.request('logging/setLevel', { level: 'error' });
		await all[1].session.request('resources/subscribe', { uri: 'x:3' });
		await until('it moves once', () => open.length === 5 && alive().length === 3);
	});

	test('one that ends is asked for again, once, and all are told', async () => {
		const all = [];
		for (let i = 0; i < 70; i++) all.push(await hear());
		await until('it listens', () => open.length === 1);
		open[0].say(TOOLS, { n: 1 });
		open[0].end(); // what was said before is heard
		await until('it listens again', () => open.length === 2);
		await until('all are told', heardAll(all, 2));
		for (const { heard } of all) assert.deepEqual([heard[0].params.n, heard[1].method], [1, TOOLS]);
		// Sessions end, each by itself.
		await all[0].session.delete();
		await until('its stream ends', () => all[0].over);
		open[1].say(TOOLS, { n: 3 });
		await until('the others hear on', heardAll(all.slice(1), 3));
		assert.equal(open.length, 2);
	});

	test('an event in several lines is one to each', async () => {
		const one = await hear();
		await until('it listens', () => open.length === 1);
		const lines = [`{"jsonrpc":"2.0","method":"${TOOLS}","params":{"n":`, '1,"more":{', '"x":2}}}'];
		open[0].write(`${lines.map((line) => `data: ${line}\n`).join('')}\n`);
		await until('it hears', heardAll([one], 1));
		assert.deepEqual(one.heard[0].params.more, { x: 2 });
	});

	// A stream on a socket, and all that came on it.
	function stream({ id }, headers = '') {
		const { port } = new URL(margay.url);
		const socket = net.connect(Number(port), '127.0.0.1');
		const one = { text: '', over: false, send: (text) => socket.write(text), close: () => socket.destroy() };
		socket.setEncoding('latin1').on('data', (data) => (one.text += data));
		socket.once('close', () => (one.over = true)).on('error', () => {});
		one.send(
			`GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: ${id}\r\n${headers}\r\n`,
		);
		return one;
	}
	const streamLines = () => margay.log().filter(({ message, method }) => message === 'request' && method === 'stream');

	// Control: without its own handler put back, the next request of the connection meets none.
	test('one that ends is logged and counted once, and its connection serves on', async () => {
		const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
		const session = await RawSession.open(margay.url);
		const one = stream(session, `traceparent: ${trace}\r\n`);
		await until('it listens', () => alive().length === 1);
		assert.equal((await margay.metrics()).sum('margay_streams_open'), 1);
		assert.equal(streamLines().length, 0);
		await session.delete();
		await until('its stream ends', () => one.text.endsWith('\n\n\r\n0\r\n\r\n'));
		assert.match(one.text, /retry: [12]\d{3}\n/);
		await until('it is logged', () => streamLines().length === 1);
		const [line] = streamLines();
		const { route, status, outcome } = line;
		assert.deepEqual([route, status, outcome, line.trace], ['/mcp', 200, 'ok', trace]);
		assert.ok(session.id.startsWith(line.session) && line.session.length > 0);
		assert.equal((await margay.metrics()).sum('margay_streams_open'), 0);
		one.text = '';
		one.send('GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n');
		await until('it is answered', () => one.text.startsWith('HTTP/1.1 404'));
		// One that is given up is over, too.
		const other = stream(await RawSession.open(margay.url));
		await until('it listens', () => alive().length === 1);
		other.close();
		await until('it is logged', () => streamLines().length === 2);
		assert.equal(streamLines()[1].outcome, 'aborted');
		assert.equal((await margay.metrics()).sum('margay_streams_open'), 0);
		one.close();
	});

	test('one that is quiet has heartbeats, and is over when its worker drains', async () => {
		margay.write({ timeouts: { sse_heartbeat: '1s', drain_spread: '1s', drain_timeout: '1h' } });
		assert.equal((await margay.command('reload')).code, 0);
		const one = stream(await RawSession.open(margay.url));
		await until('heartbeats come', () => one.text.split(':\n\n').length > 2);
		assert.equal((await margay.command('reload')).code, 0);
		await until('it is over', () => one.over);
		assert.match(one.text, /retry: [12]\d{3}\n\r\n1\r\n\n\r\n0\r\n\r\n$/);
		await until('its worker is gone', async () => (await margay.status()).workers.length === 1);
		assert.equal((await margay.metrics()).sum('margay_drain_forced_total'), 0);
	});

	// Control: if it was waited for, the others would hear nothing more.
	test('one that does not read is cut off, and nobody waits for it', async () => {
		const all = [await hear(), await hear()];
		const deaf = await RawSession.open(margay.url);
		const { response } = await deaf.get();
		response.pause();
		await until('it listens', () => open.length === 1);
		const text = 'x'.repeat(64 * 1024);
		let n = 0;
		await until('it is cut off', async () => {
			open[0].say(TOOLS, { n: n++, text });
			return (await margay.metrics()).sum('margay_streams_open') === 2;
		});
		assert.ok(n > 4, 'not before it is far behind');
		await until('the others heard all', heardAll(all, n));
	});
});
