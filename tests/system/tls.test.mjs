// https: clients of every kind over TLS, handshakes that come to nothing, and certificates that are renewed without
// anybody noticing.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import {
	binary,
	events,
	killPid,
	post,
	RawSession,
	reply,
	request,
	ScriptedServer,
	startEverything,
	until,
} from './harness.mjs';
import { Control } from './control.mjs';
import { Load } from './load.mjs';
import { Child } from './process.mjs';
import { Client, LoggingMessageNotificationSchema, modernClient, SSEClientTransport, StreamableHTTPClientTransport } from './sdk.mjs';
import { Authority, connectSecurely, replace, serialOf, startSecure, tlsOf } from './tls.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const COMPLETED = 'margay_tls_handshakes_total';
const FAILED = 'margay_tls_handshake_failures_total';
const INFO = { name: 'margay-test', version: '1' };

// Pairs, an upstream under control, and Margays that serve `bench.pair` by https.
function setUp() {
	const bench = { margays: [], ends: [] };
	before(async () => {
		bench.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-tls-'));
		bench.authority = await Authority.make(bench.dir);
		bench.server = await ScriptedServer.start();
		let pairs = 0;
		bench.issue = (options) => bench.authority.issue(`pair${pairs++}`, options);
		bench.start = async (config = {}, options = {}) => {
			bench.pair = await bench.issue();
			const margay = await startSecure(bench.pair, {
				upstream: bench.server.url,
				...options,
				config: { workers: 2, ...config, timeouts: { shutdown: '5s', drain_spread: '1s', ...config.timeouts } },
			});
			bench.margays.push(margay);
			return margay;
		};
		bench.secure = async (...args) => {
			const socket = await connectSecurely(...args);
			bench.ends.push(() => socket.destroy());
			socket.text = '';
			socket.setEncoding('latin1').on('data', (data) => (socket.text += data));
			socket.on('error', () => {});
			return socket;
		};
		bench.load = (...args) => {
			const load = Load.start(...args);
			bench.ends.push(() => load.stop());
			return load;
		};
	});
	afterEach(async (t) => {
		bench.server.on = {};
		await Promise.allSettled(bench.ends.splice(0).map((end) => end()));
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			if (!margay.child) await margay.run().catch(() => {});
			await margay.stop({ deadline: 25_000 });
		}
	});
	after(async () => {
		await bench.server?.stop();
		if (bench.dir) fs.rmSync(bench.dir, { recursive: true, force: true });
	});
	return bench;
}

const ping = (body = '{"jsonrpc":"2.0","id":1,"method":"ping"}', session, more = '') =>
	`POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
	`Accept: application/json, text/event-stream\r\nMcp-Session-Id: ${session.id}\r\n${more}` +
	`Content-Length: ${body.length}\r\n\r\n${body}`;
const ended = (socket) => until('it is closed', () => socket.closed || socket.readableEnded);
const reload = async (margay, change) => {
	if (change) margay.write(change);
	const { code, stderr } = await margay.command('reload');
	assert.equal(code, 0, stderr);
};
const sums = async (margay) => {
	const metrics = await margay.metrics();
	return { completed: metrics.sum(COMPLETED), failed: metrics.sum(FAILED) };
};
const handshakes = (margay) => margay.log().filter(({ message }) => message === 'TLS handshake failed');

describe('clients over https', OPTIONS, () => {
	const bench = setUp();
	let everything;

	before(async () => (everything = await startEverything()));
	after(() => everything?.stop());

	test('of the SDK call tools and hear notifications', async () => {
		const margay = await bench.start({}, { upstream: everything.url });
		const client = new Client(INFO, { capabilities: {} });
		bench.ends.push(() => client.close());
		const heard = [];
		client.setNotificationHandler(LoggingMessageNotificationSchema, (one) => void heard.push(one));
		await client.connect(new StreamableHTTPClientTransport(new URL(margay.url)));
		const { content } = await client.callTool({ name: 'echo', arguments: { message: 'mañana' } });
		assert.deepEqual(content, [{ type: 'text', text: 'Echo: mañana' }]);
		await client.setLoggingLevel('debug');
		await client.callTool({ name: 'toggle-simulated-logging', arguments: {} });
		await until('a notification came by the stream', () => heard.length > 0, { timeout: 20_000 });
	});

	test('of the stateless era and of HTTP+SSE do, too', async () => {
		const margay = await bench.start({ routes: { '/mcp': { http_sse: true } } }, { upstream: everything.url });
		const modern = new modernClient.Client(INFO, { capabilities: {}, versionNegotiation: { mode: { pin: '2026-07-28' } } });
		const old = new Client(INFO, { capabilities: {} });
		bench.ends.push(() => modern.close(), () => old.close());
		await modern.connect(new modernClient.StreamableHTTPClientTransport(new URL(margay.url)));
		await old.connect(new SSEClientTransport(new URL(margay.url)));
		for (const client of [modern, old]) {
			const { content } = await client.callTool({ name: 'echo', arguments: { message: 'x' } });
			assert.deepEqual(content, [{ type: 'text', text: 'Echo: x' }]);
		}
		assert.ok((await sums(margay)).completed >= 2);
	});

	test('get events one by one as they come', async () => {
		const margay = await bench.start();
		let stream;
		bench.server.on.GET = ({ response }) => {
			response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
			stream = response;
		};
		const session = await RawSession.open(margay.url);
		const { status, response, request: sent } = await session.get();
		bench.ends.push(() => sent.destroy());
		assert.equal(status, 200);
		const all = events(response);
		for (let n = 0; n < 20; n++) {
			stream.write(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":${n}}}\n\n`);
			let { value } = await all.next();
			while (!value.data) ({ value } = await all.next());
			assert.equal(JSON.parse(value.data).params.data, n);
		}
	});

	// Control: a client that reads late finds its connection broken when what a full socket did not take is not given to
	// TLS again as it was.
	test('send and get messages that are longer than any buffer, at their own pace', async () => {
		const margay = await bench.start();
		const digest = (what) => createHash('sha256').update(what).digest('hex');
		const textOf = (count) => Array.from({ length: count }, (_, n) => `${n} 0123456789`).join(',');
		const session = await RawSession.open(margay.url);
		bench.server.on['tools/call'] = ({ message, response }) =>
			reply(response, message, { content: [{ type: 'text', text: message.params.arguments.text }] });
		const text = textOf(120_000);
		const { message } = await session.call('echo', { text });
		assert.equal(digest(message.result.content[0].text), digest(text));

		const long = textOf(1_000_000);
		let upstream;
		bench.server.on['tools/call'] = ({ message: asked, response }) => {
			upstream = response.socket;
			reply(response, asked, { content: [{ type: 'text', text: long }] });
		};
		const slow = await session.post(
			{ jsonrpc: '2.0', id: 9, method: 'tools/call', params: { name: 'echo' } },
			{ stream: true },
		);
		let before = -1;
		await until('all buffers on the way are full', () => {
			const moved = upstream.bytesWritten - upstream.writableLength;
			const still = moved === before;
			before = moved;
			return still && upstream.writableLength > 0;
		}, { every: 200 });
		let got = '';
		for await (const chunk of slow.response.setEncoding('utf8')) got += chunk;
		assert.equal(digest(JSON.parse(got).result.content[0].text), digest(long));
	});

	// A request in many small records and one more behind it, all there when the worker looks, and then nothing more
	// comes: what TLS has read ahead raises no event. Control: where the first request ends with the last record that one
	// read takes, the second is never answered.
	test('get an answer to what TLS has read ahead', async () => {
		const margay = await bench.start({ workers: 1 });
		const session = await RawSession.open(margay.url);
		const sockets = await Promise.all(Array.from({ length: 40 }, () => bench.secure(margay.port)));
		const [{ pid }] = (await margay.status()).workers;
		const say = (socket, bytes) => new Promise((resolve) => socket.write(bytes, resolve));
		const bodyOf = (id) => `{"jsonrpc":"2.0","id":${id},"method":"ping","params":{"_meta":{"x":"${'x'.repeat(40)}"}}}`;
		killPid(pid, 'SIGSTOP');
		try {
			await Promise.all(
				sockets.map(async (socket, pieces) => {
					const first = ping(bodyOf(1), session);
					await say(socket, first.slice(0, first.length - pieces));
					for (const byte of pieces ? first.slice(-pieces) : '') await say(socket, byte);
					await say(socket, ping(bodyOf(2), session));
				}),
			);
		} finally {
			killPid(pid, 'SIGCONT');
		}
		await until('all are answered', () => sockets.every(({ text }) => text.includes('"id":1') && text.includes('"id":2')));
	});

	// More than one read takes, and more than is kept of what waits.
	test('pipeline requests, and each is answered', async () => {
		const margay = await bench.start();
		const session = await RawSession.open(margay.url);
		const socket = await bench.secure(margay.port);
		const padding = 'x'.repeat(8000);
		const bodies = Array.from({ length: 60 }, (_, id) =>
			JSON.stringify({ jsonrpc: '2.0', id, method: 'ping', params: { _meta: { padding } } }),
		);
		socket.write(bodies.map((body) => ping(body, session)).join(''));
		const answers = () => [...socket.text.matchAll(/"id":(\d+)/g)].map(([, id]) => Number(id));
		await until('all are answered', () => answers().length === bodies.length);
		assert.deepEqual(answers(), bodies.map((_, id) => id));
	});

	test('are told to go on with a body that they announce', async () => {
		const margay = await bench.start();
		const session = await RawSession.open(margay.url);
		const socket = await bench.secure(margay.port);
		const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
		socket.write(ping(body, session, 'Expect: 100-continue\r\n').slice(0, -body.length));
		await until('it is told', () => socket.text.startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
		socket.write(body);
		await until('it is answered', () => socket.text.includes('"result"'));
	});

	// Its close_notify is the end of its side only.
	test('that have said all they will still get their answer', async () => {
		const margay = await bench.start();
		let answer;
		bench.server.on['notifications/progress'] = ({ response }) => {
			answer = () => response.writeHead(202).end();
		};
		const session = await RawSession.open(margay.url);
		const socket = await bench.secure(margay.port, { allowHalfOpen: true });
		socket.end(ping('{"jsonrpc":"2.0","method":"notifications/progress","params":{}}', session));
		await until('it is at the upstream', () => answer);
		answer();
		await until('it is answered', () => socket.text.startsWith('HTTP/1.1 202'));
		await ended(socket);
	});

	// openssl tells an end that was said from one that was not.
	test('are told that a connection ends', async () => {
		const margay = await bench.start();
		const session = await RawSession.open(margay.url);
		const child = new Child('openssl', ['s_client', '-quiet', '-no_ign_eof', '-connect', `127.0.0.1:${margay.port}`], { input: true });
		bench.ends.push(() => child.stop({ signal: 'SIGKILL' }));
		child.process.stdin.write(ping(undefined, session, 'Connection: close\r\n'));
		await child.output(/"result"/);
		const { code } = await child.exit;
		assert.equal(code, 0, child.stderr);
		assert.doesNotMatch(child.stderr, /unexpected eof/);
	});

	test('speak HTTP/1.1 in TLS 1.2 or 1.3', async () => {
		const margay = await bench.start();
		for (const version of ['TLSv1.2', 'TLSv1.3']) {
			const socket = await bench.secure(margay.port, {
				minVersion: version,
				maxVersion: version,
				ALPNProtocols: ['h2', 'http/1.1'],
			});
			assert.equal(socket.getProtocol(), version);
			assert.equal(socket.alpnProtocol, 'http/1.1');
			assert.ok(socket.authorized);
			socket.write('GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n');
			await until('it is answered', () => socket.text.startsWith('HTTP/1.1 404'));
			assert.equal(socket.isSessionReused(), false);
		}
	});

	test('show their operator who speaks what', async () => {
		const margay = await bench.start();
		assert.deepEqual(
			(await margay.status()).listen.map(({ admin, tls }) => [admin, tls]),
			[[false, true], [true, false]],
		);
		const { stdout } = await margay.command('status');
		assert.match(stdout, new RegExp(`listen +127.0.0.1:${margay.port} \\(TLS\\)\n`));
	});
});

describe('handshakes', OPTIONS, () => {
	const bench = setUp();

	const connect = (margay, bytes) =>
		new Promise((resolve, reject) => {
			const socket = net.connect(margay.port, '127.0.0.1', () => {
				if (bytes) socket.write(bytes);
				resolve(socket);
			});
			bench.ends.push(() => socket.destroy());
			socket.on('error', reject);
			socket.resume();
		});

	test('that are plain HTTP are answered so', async () => {
		const margay = await bench.start();
		const plain = margay.url.replace('https:', 'http:');
		const answer = await post(plain, { jsonrpc: '2.0', id: 1, method: 'ping' });
		assert.equal(answer.status, 400);
		assert.equal(answer.headers.connection, 'close');
		assert.match(answer.json.error.message, /https/);
		assert.deepEqual(await sums(margay), { completed: 0, failed: 1 });
		const [line] = await until('it is logged', () => handshakes(margay).length === 1 && handshakes(margay));
		assert.equal(line.client, '127.0.0.1');
		assert.equal(line.reason, 'http request');
		assert.equal(await serialOf(margay), bench.pair.serial);
	});

	// Control: waited for as an idle connection is, it would have a minute.
	test('that stall are cut by their deadline', async () => {
		const margay = await bench.start({ timeouts: { client_header: '1s', client_idle: '60s' } });
		const began = Date.now();
		const silent = await connect(margay);
		const halfway = await connect(margay, Buffer.from('16030100f4010000f00303', 'hex'));
		await Promise.all([ended(silent), ended(halfway)]);
		assert.ok(Date.now() - began >= 1000);
		assert.ok(Date.now() - began < 8000);
		assert.deepEqual(await sums(margay), { completed: 0, failed: 2 });
		await until('both are logged', () => handshakes(margay).length === 2);
		assert.match(handshakes(margay)[0].reason, /longer than timeouts.client_header/);
		// One that is secure waits for its request as long as any other.
		const socket = await bench.secure(margay.port);
		await new Promise((resolve) => setTimeout(resolve, 1500)); // outlasts client_header
		socket.write('GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n');
		await until('it is answered', () => socket.text.startsWith('HTTP/1.1 404'));
	});

	test('that fail are counted with their reason, and harm nobody', async () => {
		const margay = await bench.start();
		const refused = [
			{ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
			{ ALPNProtocols: ['h2'] },
		];
		for (const options of refused) await assert.rejects(bench.secure(margay.port, options), /alert|ALERT|SSL/);
		await ended(await connect(margay, 'SSH-2.0-OpenSSH_9.2\r\n'));
		await until('three have failed', async () => (await sums(margay)).failed === 3);
		await until('all are logged', () => handshakes(margay).length === 3);
		const reasons = handshakes(margay).map(({ reason }) => reason);
		assert.deepEqual(reasons.sort(), ['no application protocol', 'unsupported protocol', 'wrong version number']);
		// A probe that only connects is none of them.
		(await connect(margay)).end();
		await until('its connection is over', async () => (await margay.metrics()).sum('margay_connections_open') === 1);
		assert.deepEqual(await sums(margay), { completed: 0, failed: 3 });
	});

	// More than a turn of the loop makes.
	test('of many at once are all completed', async () => {
		const margay = await bench.start();
		const sockets = await Promise.all(Array.from({ length: 200 }, () => bench.secure(margay.port)));
		for (const socket of sockets) socket.write('GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
		await Promise.all(sockets.map(ended));
		assert.ok(sockets.every(({ text }) => text.startsWith('HTTP/1.1 404')));
		assert.deepEqual(await sums(margay), { completed: 200, failed: 0 });
	});

	test('of the admin listener, when it has a certificate', async () => {
		const margay = await bench.start();
		const admin = margay.admin;
		margay.admin = admin.replace('http:', 'https:');
		await reload(margay, { admin: { tls: tlsOf(bench.pair) } });
		assert.equal((await request(`${margay.admin}/readyz`)).status, 200);
		assert.equal((await request(`${admin}/readyz`)).status, 400);
	});
});

describe('certificates', OPTIONS, () => {
	const bench = setUp();

	// Control: when a reload keeps what it has read, the old serial number stays.
	test('are renewed by a reload, and nobody notices', async () => {
		const margay = await bench.start({ timeouts: { keepalive_linger: '2s' } });
		const sessions = await Promise.all(Array.from({ length: 4 }, () => RawSession.open(margay.url)));
		const load = bench.load(sessions, 8);
		await load.more(2);
		const before = (await margay.status()).config.sha256;
		const old = bench.pair.serial;
		assert.equal(await serialOf(margay), old);
		const renewed = await bench.issue();
		replace(bench.pair, renewed);
		assert.equal(await serialOf(margay), old, 'nothing is read before the reload');
		await reload(margay);
		assert.equal(await serialOf(margay), renewed.serial);
		assert.notEqual((await margay.status()).config.sha256, before);
		await load.more(5);
		await until('the old generation has gone', async () =>
			(await margay.status()).workers.every(({ generation }) => generation === 2), { timeout: 20_000 });
		await load.more(2);
		await load.stop();
		assert.deepEqual(load.failures, []);
		assert.equal((await margay.metrics()).sum('margay_drain_forced_total'), 0);
	});

	// Control: the old workers' connections end without being told, and requests on them are lost.
	test('leave the connections that are open to end in their time', async () => {
		const margay = await bench.start({ timeouts: { keepalive_linger: '30s' } });
		const session = await RawSession.open(margay.url);
		const socket = await bench.secure(margay.port);
		const old = socket.getPeerCertificate().serialNumber;
		socket.write(ping(undefined, session));
		await until('it is answered', () => socket.text.includes('"result"'));
		replace(bench.pair, await bench.issue());
		await reload(margay);
		assert.notEqual(await serialOf(margay), old);
		socket.text = '';
		socket.write(ping(undefined, session));
		await until('it is answered again', () => socket.text.includes('"result"'));
		assert.match(socket.text, /Connection: close/);
		await ended(socket);
	});

	test('that are broken change nothing, and the message names their place', async () => {
		const margay = await bench.start();
		const lines = fs.readFileSync(margay.file, 'utf8').split('\n');
		const place = (word) => `${margay.file}:${lines.findIndex((line) => line.includes(` ${word}: `)) + 1}: listen[0].tls.${word}: `;
		const { pair } = bench;
		const good = [pair.certificate, pair.key].map((file) => fs.readFileSync(file));
		const other = await bench.issue();
		const { pid, workers } = await margay.status();
		const faults = [
			['key', /is not the key of the certificate/, () => fs.copyFileSync(other.key, pair.key)],
			['key', /No such file/, () => fs.rmSync(pair.key)],
			['key', /holds no private key/, () => fs.writeFileSync(pair.key, 'x')],
			['certificate', /is damaged/, () => fs.truncateSync(pair.certificate, 300)],
			['certificate', /holds no certificate/, () => fs.truncateSync(pair.certificate, 0)],
		];
		for (const [word, problem, damage] of faults) {
			damage();
			const { code, stderr } = await margay.command('reload');
			assert.equal(code, 1);
			assert.match(stderr, problem);
			assert.ok(stderr.includes(place(word)), stderr);
			const check = await margay.command('check');
			assert.ok(check.stderr.includes(place(word)), check.stderr);
			[pair.certificate, pair.key].forEach((file, i) => fs.writeFileSync(file, good[i]));
		}
		const now = await margay.status();
		assert.deepEqual([now.pid, now.generation, now.workers.map((one) => one.pid)], [pid, 1, workers.map((one) => one.pid)]);
		assert.equal(await serialOf(margay), pair.serial);
		await reload(margay);
	});

	test('whose time is over are warned of, and served', async () => {
		const margay = await bench.start();
		replace(bench.pair, await bench.issue({ days: '-1' }));
		await reload(margay);
		const warning = margay.log().find(({ message }) => message === 'configuration warning');
		assert.equal(warning.key, 'listen[0].tls.certificate');
		assert.match(warning.problem, /not valid any more/);
		const { code, stderr } = await margay.command('check');
		assert.equal(code, 0);
		assert.match(stderr, /^warning: .*margay.yaml:\d+: listen\[0\].tls.certificate: .*not valid any more/);
	});

	// Control: a worker that reads files would find none.
	test('are what a worker started later serves by, whatever became of the files', async () => {
		const margay = await bench.start({ workers: 1 });
		fs.rmSync(bench.pair.certificate);
		replace({ certificate: bench.pair.certificate, key: bench.pair.key }, await bench.issue());
		fs.rmSync(bench.pair.key);
		const [{ pid }] = (await margay.status()).workers;
		killPid(pid, 'SIGKILL');
		await until('another worker accepts', async () => {
			const [worker] = (await margay.status()).workers;
			return worker.pid !== pid && worker.state === 'accepting';
		});
		assert.equal(await serialOf(margay), bench.pair.serial);
	});

	test('come to an address that was plain, and go again', async () => {
		const margay = await bench.start();
		const address = `127.0.0.1:${margay.port}`;
		const plain = margay.url.replace('https:', 'http:');
		assert.equal((await request(plain)).status, 400);
		await reload(margay, { listen: [{ address }] });
		assert.equal((await request(plain)).status, 406);
		await reload(margay, { listen: [{ address, tls: tlsOf(bench.pair) }] });
		assert.equal(await serialOf(margay), bench.pair.serial);
		assert.equal((await request(plain)).status, 400);
	});

	test('are read as the user of the master, and served as another', { skip: process.getuid() !== 0 && 'needs root' }, async () => {
		const margay = await bench.start({ user: 'nobody' }, { everybody: true });
		assert.equal(fs.statSync(bench.pair.key).mode & 0o077, 0);
		const [{ pid }] = (await margay.status()).workers;
		assert.doesNotMatch(fs.readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t0/m);
		assert.equal(await serialOf(margay), bench.pair.serial);
		assert.ok((await (await RawSession.open(margay.url)).call('echo')).message.result);
	});

	test('say nothing of their key to log, status or check', async () => {
		const margay = await bench.start({ log: { level: 'debug' } });
		const secret = fs.readFileSync(bench.pair.key, 'utf8').split('\n')[1];
		await reload(margay);
		const said = [
			fs.readFileSync(margay.logFile, 'utf8'),
			JSON.stringify(await margay.status()),
			...['status', 'check'].map(async (command) => Object.values(await margay.command(command)).join('\n')),
		];
		for (const text of await Promise.all(said)) assert.ok(!text.includes(secret) && !text.includes('PRIVATE KEY'));
	});
});

describe('masters', OPTIONS, () => {
	const bench = setUp();

	const killMaster = async (margay) => {
		margay.child.kill('SIGKILL');
		await margay.child.exit;
		margay.child = undefined;
	};
	const current = async (margay) => {
		const { generation, workers } = await margay.status();
		return workers.filter((one) => one.generation === generation);
	};

	// Control: when the files' texts are not handed over, workers of the new master have no certificate.
	test('that die are followed by one that has the certificates, too', async () => {
		const margay = await bench.start({ orphan_timeout: '1m' });
		const load = bench.load([await RawSession.open(margay.url)], 4);
		await load.more(2);
		await killMaster(margay);
		await load.more(2);
		assert.equal(await serialOf(margay), bench.pair.serial);
		await margay.run();
		await load.more(2);
		// Nothing was renewed: nothing is reloaded.
		assert.equal((await margay.status()).generation, 1);
		await load.stop();
		assert.deepEqual(load.failures, []);
		for (const { pid } of await current(margay)) killPid(pid, 'SIGKILL');
		await until('workers of the new master accept', async () =>
			(await current(margay)).every(({ state, restarts }) => state === 'accepting' && restarts > 0));
		assert.equal(await serialOf(margay), bench.pair.serial);
	});

	test('that take over see what was renewed meanwhile', async () => {
		const margay = await bench.start({ orphan_timeout: '1m' });
		await killMaster(margay);
		const renewed = await bench.issue();
		replace(bench.pair, renewed);
		assert.equal(await serialOf(margay), bench.pair.serial);
		await margay.run();
		await until('the renewed one is shown', async () => (await serialOf(margay)) === renewed.serial);
		assert.equal((await margay.status()).generation, 2);
	});

	test('hand https over in an upgrade and a rollback', async () => {
		const margay = await bench.start({ timeouts: { keepalive_linger: '60s' } });
		const ask = async (command) => {
			const control = await Control.open(margay);
			try {
				return await control.ask(command);
			} finally {
				control.close();
			}
		};
		const load = bench.load(await Promise.all([RawSession.open(margay.url), RawSession.open(margay.url)]), 4);
		const held = await bench.secure(margay.port); // keeps an old worker, and with it the old master
		await load.more(2);
		const { ok, message } = await ask('upgrade');
		assert.ok(ok, message);
		await load.more(3);
		assert.equal(await serialOf(margay), bench.pair.serial);
		const renewed = await bench.issue();
		replace(bench.pair, renewed);
		assert.equal((await ask('rollback')).ok, true);
		await load.more(3);
		// It goes back to what it had.
		assert.equal(await serialOf(margay), bench.pair.serial);
		await load.stop();
		assert.deepEqual(load.failures, []);
		held.destroy();
		await until('the other master has gone', async () => !(await margay.status()).other_master, { timeout: 20_000 });
	});
});
