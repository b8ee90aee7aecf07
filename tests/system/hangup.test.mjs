// The clients of a worker that does not turn: the master ends their connections, so that they come back
// to its siblings instead of waiting until it turns again or is killed.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { binary, freeze, isAlive, killPid, Margay, RawSession, ScriptedServer, servedPorts, until } from './harness.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const AT_MOST = 3000; // ms
const ENDED = "does not turn: its clients' connections were ended";
const REFUSED = "does not turn, and its clients wait: their connections can't be ended";
const BIG = 32 * 1024 * 1024; // more than all buffers of a connection

// A connection by hand. `over` tells when it ended, and how: 'end', or the code of an error.
class Client {
	text = '';

	constructor(port) {
		this.socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
		this.socket.setEncoding('latin1').on('data', (data) => (this.text += data));
		const end = (how) => (this.over ??= { how, at: Date.now() });
		this.socket.once('end', () => end('end')).once('error', ({ code }) => end(code));
	}

	// Some that a certain worker has accepted.
	static async at(margay, pid, count = 1) {
		const found = [];
		for (let tries = 0; tries < 20 && found.length < count; tries++) {
			const clients = Array.from({ length: 8 }, () => new Client(margay.port));
			for (const { socket } of clients)
				socket.write('GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n');
			await Promise.all(clients.map((client) => client.says(' 404 ')));
			const ports = servedPorts(pid, margay.port);
			for (const client of clients)
				if (found.length < count && ports.has(client.socket.localPort)) found.push(client);
				else client.socket.destroy();
		}
		assert.equal(found.length, count, `worker ${pid} accepts`);
		return found;
	}

	says(text) {
		return until(`a client gets ${text}`, () => this.text.includes(text));
	}

	get(session) {
		this.socket.write(
			`GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${lines(session)}\r\n`,
		);
	}

	post(session, message, length) {
		const body = JSON.stringify(message);
		this.socket.write(
			'POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n' +
				`Content-Type: application/json\r\nContent-Length: ${length ?? body.length}\r\n${lines(session)}\r\n${body}`,
		);
	}
}

const lines = ({ headers }) => Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
const call = (id, name) => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: {} } });
const logged = (margay, text, pid) =>
	margay.log().find((line) => line.message === text && line.child_pid === pid);
const ended = async (margay) => (await margay.metrics()).sum('margay_watchdog_connections_ended_total');
const fault = (name) => path.join(path.dirname(binary), 'tests', name);

describe('the clients of a worker that does not turn', OPTIONS, () => {
	let server;
	let margay;
	const stopped = new Set();
	const resume = (pid) => stopped.delete(pid) && killPid(pid, 'SIGCONT');

	before(async () => {
		// Never answers a call of `slow`; its streams say one thing and stay open.
		server = await ScriptedServer.start({
			'tools/call': ({ message, request, response }) =>
				message.params.name !== 'slow' && server.answer(request, response, message),
			GET: ({ response }) => {
				response.writeHead(200, { 'content-type': 'text/event-stream' });
				response.write('id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"said"}}\n\n');
			},
		});
	});
	afterEach(async (t) => {
		for (const pid of stopped) resume(pid);
		if (t.error && margay) t.diagnostic(margay.report());
		await margay?.stop();
		margay = undefined;
	});
	after(() => server?.stop());

	// A Margay whose watchdog is awake; its first worker, and a session.
	async function begin(options = {}) {
		margay = await Margay.prepare({ upstream: server.url, ...options });
		for (const directory of [margay.dir, margay.config.runtime_dir]) fs.chmodSync(directory, 0o711);
		await margay.run(options);
		const status = await until('the watchdog is awake', async () => {
			const now = await margay.status();
			return now.uptime_seconds > 4 && now;
		});
		return { worker: status.workers[0], session: await RawSession.open(margay.url) };
	}
	// Clients of each kind at one worker.
	async function occupy(pid, session) {
		const [idle, calls, waits, listens, sends] = await Client.at(margay, pid, 5);
		const clients = { idle, calls, waits, listens, sends };
		server.seen.length = 0;
		clients.listens.get(session);
		await clients.listens.says('said');
		clients.waits.post(session, call('w', 'slow'));
		await until('the call is at the upstream', () => server.seen.some(({ message }) => message?.params?.name === 'slow'));
		return clients;
	}
	// All have lost their connections in time. Who sends without looking is woken, too.
	async function letGo(clients, began) {
		const all = Object.entries(clients);
		await until('all are let go', () => all.every(([, { over }]) => over), { timeout: 8000 }).catch(() => {});
		const late = all.filter(([, { over }]) => !(over?.at - began <= AT_MOST));
		assert.deepEqual(late.map(([kind, { over }]) => [kind, over && over.at - began]), []);
	}
	function sendToStopped({ calls, sends }, session) {
		calls.post(session, call('c', 'echo'));
		sends.socket.pause();
		sends.post(session, call('s', 'echo'), BIG);
		sends.socket.write(' '.repeat(BIG));
	}

	// Control: without hangup.c all wait for the worker.
	test('that is stopped lose their connections and go on at a sibling; it serves on when it turns again', async () => {
		// As it is installed: another user, where there may be one.
		const user = process.getuid() === 0 ? 'nobody' : undefined;
		const { worker, session } = await begin({ config: { workers: 2, user } });
		const { pid } = worker;
		const clients = await occupy(pid, session);
		const held = servedPorts(pid, margay.port).size;
		const upstream = server.seen.find(({ message }) => message?.params?.name === 'slow').socket;
		stopped.add(pid);
		const began = Date.now();
		freeze(pid);
		sendToStopped(clients, session);
		await letGo(clients, began);
		assert.deepEqual(
			Object.fromEntries(Object.entries(clients).map(([kind, { over }]) => [kind, over.how])),
			{ idle: 'end', calls: 'ECONNRESET', waits: 'end', listens: 'end', sends: 'ECONNRESET' },
		);
		for (let n = 0; n < 8; n++) assert.equal((await session.call('echo', {}, { timeout: AT_MOST })).status, 200);
		const again = await session.get();
		assert.equal(again.status, 200);
		again.request.destroy();
		// Its other connections are its own.
		assert.ok(!upstream.destroyed && !upstream.readableEnded);
		const line = await until('it is said', () => logged(margay, ENDED, pid));
		assert.ok(line.connections >= 5 && line.connections <= held, `${line.connections} of ${held}`);
		assert.equal(await ended(margay), line.connections);

		await until('5 s are over', () => Date.now() - began > 5000);
		resume(pid);
		await until('it has its slots back', async () => {
			const now = (await margay.status()).workers.find(({ number }) => number === worker.number);
			return !now.silent && now.slots === worker.slots && now.pid === pid;
		});
		await until('the call that nobody waits for is given up', () => upstream.destroyed || upstream.readableEnded);
		const [client, second] = await Client.at(margay, pid, 2);
		client.post(session, call('z', 'echo'));
		await client.says('done');
		client.socket.destroy();
		const metrics = await margay.metrics();
		assert.equal(metrics.sum('margay_worker_restarts_total'), 0);
		assert.equal(metrics.sum('margay_watchdog_aborts_total'), 0);

		// The next time as well.
		const since = Date.now();
		stopped.add(pid);
		freeze(pid);
		await letGo({ second }, since);
		assert.ok((await ended(margay)) > line.connections);
		resume(pid);
		await until('it turns', () => margay.log().filter(({ message }) => message === 'turns again').length === 2);
	});

	test('that runs in a circle lose their connections', async () => {
		const { worker, session } = await begin({ config: { workers: 2 }, program: fault('margay-endless') });
		const clients = await occupy(worker.pid, session);
		[clients.endless] = await Client.at(margay, worker.pid);
		const began = Date.now();
		clients.endless.socket.write('GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n');
		await letGo(clients, began);
		assert.ok(isAlive(worker.pid));
		assert.equal((await session.call('echo', {}, { timeout: AT_MOST })).status, 200);
		killPid(worker.pid, 'SIGKILL');
		await until('another one accepts', async () =>
			(await margay.status()).workers.every(({ state, pid }) => state === 'accepting' && pid !== worker.pid),
		);
	});

	test('that another master has forked lose their connections', async () => {
		const { worker, session } = await begin({ config: { workers: 2, orphan_timeout: '10s' } });
		const { pid } = margay.child;
		killPid(pid, 'SIGKILL');
		await margay.child.exit;
		await margay.run();
		await until('the watchdog is awake', async () => (await margay.status()).uptime_seconds > 4);
		const clients = await occupy(worker.pid, session);
		const began = Date.now();
		stopped.add(worker.pid);
		freeze(worker.pid);
		sendToStopped(clients, session);
		await letGo(clients, began);
	});

	// Thousands take the master many turns, and it still answers between them.
	test('are let go in time when they are many', async () => {
		const { worker } = await begin({ config: { workers: 1 }, descriptors: 8192 });
		const clients = {};
		for (let n = 0; n < 3000; n++) clients[n] = new Client(margay.port);
		await until('all are accepted', () => servedPorts(worker.pid, margay.port).size >= 3000, { timeout: 30_000, every: 200 });
		const began = Date.now();
		stopped.add(worker.pid);
		freeze(worker.pid);
		await letGo(clients, began);
		assert.ok((await until('it is said', () => logged(margay, ENDED, worker.pid))).connections >= 3000);
	});

	// A master of another user than its workers, without the right to look into them.
	test('wait when the system does not let the master', {
		skip: process.getuid() === 0 ? false : 'needs root, which can give rights up',
	}, async () => {
		const { worker, session } = await begin({
			config: { workers: 2, user: 'nobody' },
			under: ['setpriv', '--bounding-set', '-sys_ptrace'],
		});
		const clients = await occupy(worker.pid, session);
		stopped.add(worker.pid);
		freeze(worker.pid);
		const line = await until('it is said', () => logged(margay, REFUSED, worker.pid));
		assert.match(line.error, /not permitted/);
		assert.match(line.remedy, /CAP_SYS_PTRACE/);
		assert.equal(line.connections, 0);
		assert.equal((await session.call('echo', {}, { timeout: AT_MOST })).status, 200);
		assert.deepEqual(Object.values(clients).filter(({ over }) => over), []);
		clients.calls.post(session, call('c', 'echo'));
		resume(worker.pid);
		await clients.calls.says('done');
		assert.equal(margay.log().filter(({ message }) => message === REFUSED).length, 1);
		for (const { socket } of Object.values(clients)) socket.destroy();
	});
});
