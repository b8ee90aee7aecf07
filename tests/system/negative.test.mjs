// Whether the check of reload under load would see what it is there for: the same check with two builds
// that are wrong on purpose (tests/faults/) must see requests fail, and none with the real one.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { binary, Margay, RawSession, ScriptedServer, until } from './harness.mjs';
import { Control } from './control.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const BURST = 64;
const KEPT = 16;
const RELOADS = 80; // that must do no harm
const PATIENCE = 20_000; // ms for harm to be seen

const faulty = (name) => path.join(path.dirname(binary), 'tests', `margay-${name}`);

function callOf(session, connection) {
	const body = JSON.stringify({
		jsonrpc: '2.0',
		id: 1,
		method: 'tools/call',
		params: { name: 'echo', arguments: {} },
	});
	const headers = {
		host: new URL(session.url).host,
		'content-type': 'application/json',
		accept: 'application/json, text/event-stream',
		'content-length': Buffer.byteLength(body),
		connection,
		...session.headers,
	};
	const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
	return `POST /mcp HTTP/1.1\r\n${fields.join('')}\r\n${body}`;
}

// One connection on which calls follow each other until the server says, in an answer, that it was the
// last, or `running` says so. Resolves to how it failed: 'refused', 'reset', 'cut', 'status 503', or undefined.
function converse(port, call, running) {
	return new Promise((resolve) => {
		const socket = net.connect(port, '127.0.0.1');
		let text = '';
		let answers = 0;
		const finish = (failure) => {
			socket.destroy();
			resolve(failure);
		};
		socket.setTimeout(10_000, () => finish('silent'));
		socket.setNoDelay(true).setEncoding('latin1');
		socket.once('connect', () => socket.write(call));
		socket.once('error', ({ code }) =>
			finish(code === 'ECONNREFUSED' ? 'refused' : answers > 0 ? 'cut' : 'reset'),
		);
		socket.once('end', () => finish(answers > 0 ? 'cut' : 'reset'));
		socket.on('data', (data) => {
			text += data;
			const head = text.indexOf('\r\n\r\n') + 4;
			const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1]);
			if (head < 4 || !(text.length >= head + length)) return;
			const status = text.slice(9, 12);
			const last = /\r\nconnection: close\r\n/i.test(text.slice(0, head));
			text = '';
			answers++;
			if (status !== '200') finish(`status ${status}`);
			else if (last || !running()) finish();
			else socket.write(call);
		});
	});
}

// Reload again and again while bursts of clients come and others stay. All failures, by kind, when one of
// `wanted` was seen, or else after `count` reloads or PATIENCE.
async function reloadUnderLoad(margay, { count = Infinity, wanted = () => false } = {}) {
	const session = await RawSession.open(margay.url);
	const control = await Control.open(margay);
	const failures = {};
	const note = (failure) => {
		if (failure) failures[failure] = (failures[failure] ?? 0) + 1;
	};
	let running = true;
	let conversations = 0;
	const again = async (one) => {
		while (running) {
			note(await one());
			conversations++;
		}
	};
	const once = callOf(session, 'close');
	const kept = callOf(session, 'keep-alive');
	const clients = [
		...Array.from({ length: BURST }, () => again(() => converse(margay.port, once, () => false))),
		...Array.from({ length: KEPT }, () => again(() => converse(margay.port, kept, () => running))),
	];
	const deadline = Date.now() + PATIENCE;
	let reloads = 0;
	for (; reloads < count && Date.now() < deadline && !wanted(failures); reloads++) {
		const { ok, message } = await control.ask('reload');
		assert.ok(ok, message);
		// As many clients come to the new workers as a burst has.
		const goal = conversations + BURST;
		await until('clients were served', () => conversations >= goal, { every: 1 });
	}
	running = false;
	await Promise.all(clients);
	control.close();
	return { failures, reloads, conversations };
}

describe('reload under load', OPTIONS, () => {
	let server;
	let margay;
	before(async () => (server = await ScriptedServer.start()));
	afterEach(async () => {
		await margay?.stop();
		margay = undefined;
	});
	after(() => server?.stop());

	const start = async (program) => {
		assert.ok(fs.existsSync(program), `${program} was not built`);
		margay = await Margay.start({
			upstream: server.url,
			program,
			config: { workers: 2, log: { level: 'warn' } },
		});
		return margay;
	};

	test('fails no request', async (t) => {
		const seen = await reloadUnderLoad(await start(binary), { count: RELOADS });
		t.diagnostic(JSON.stringify(seen));
		assert.deepEqual(seen.failures, {});
		assert.equal(seen.reloads, RELOADS, `not in ${PATIENCE} ms`);
	});

	for (const [what, name, kinds] of [
		['listeners of the workers themselves: connections refused or reset', 'own-listeners', ['refused', 'reset']],
		['no lingering: calls on connections that were kept cut off', 'no-linger', ['cut']],
	])
		test(`shows ${what}`, async (t) => {
			const wanted = (failures) => kinds.some((kind) => failures[kind] > 0);
			const seen = await reloadUnderLoad(await start(faulty(name)), { wanted });
			t.diagnostic(JSON.stringify(seen));
			assert.ok(wanted(seen.failures), `${seen.reloads} reloads, ${seen.conversations} connections`);
		});
});
