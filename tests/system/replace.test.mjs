// Keeper and broker are replaced while they work: `margay replace`. Whatever runs through them must
// not notice: servers count what they were asked, so a call that was lost or repeated shows, and a
// connection that was not handed over shows in the log.
import { afterEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import path from 'node:path';
import {
	binary,
	events,
	isAlive,
	killPid,
	Margay,
	node,
	RawSession,
	until,
	within,
} from './harness.mjs';
import { childrenOf, hostile, textOf } from './stdio.mjs';
import * as modern from './modern.mjs';

const OPTIONS = { timeout: 180_000, skip: binary ? false : 'needs MARGAY_BIN' };

const stateless = {
	command: node,
	args: [path.join(import.meta.dirname, 'stdio/stateless.mjs')],
};

// Calls without a pause until it is stopped; what its server counted, in the order of its calls.
class Caller {
	counts = [];
	running = true;

	constructor(call) {
		this.done = (async () => {
			while (this.running) {
				const [count, pid] = await call();
				this.counts.push(count);
				this.pid ??= pid;
				assert.equal(pid, this.pid, 'it is the same process');
			}
		})();
		this.done.catch(() => {});
	}

	async stop() {
		this.running = false;
		await this.done;
	}
}

const counterOf = (session) => async () =>
	textOf(await session.call('counter')).split(' ').map(Number);

async function statelessCounter(url) {
	const { json } = await modern.send(url, 'tools/call', { params: { name: 'counter' } });
	assert.ok(json.result, JSON.stringify(json));
	return JSON.parse(json.result.content[0].text);
}

// A session from its beginning to its end, as one call.
async function wholeSession(url) {
	const session = await RawSession.open(url);
	const [count] = await counterOf(session)();
	assert.equal(count, 1);
	assert.equal((await session.delete()).status, 200);
	return [count, 0];
}

const upTo = (n) => Array.from({ length: n }, (_, i) => i + 1);
const sorted = (callers) => callers.flatMap(({ counts }) => counts).sort((a, b) => a - b);

describe('replacement', OPTIONS, () => {
	let margay;

	async function start(own = hostile()) {
		const upstreams = {
			main: undefined,
			own: { stdio: own },
			shared: { stdio: { ...hostile(), sharing: 'shared' } },
			modern: { stdio: stateless },
		};
		const routes = {
			'/mcp': undefined,
			...Object.fromEntries(
				['own', 'shared', 'modern'].map((name) => [`/${name}`, { upstream: name }]),
			),
		};
		margay = await Margay.start({ config: { upstreams, routes } });
		return (name) => `${margay.origin}/${name}`;
	}
	afterEach(async (t) => {
		if (t.error && margay) t.diagnostic(margay.report());
		await margay?.stop();
		margay = undefined;
	});

	async function replace(name) {
		const before = (await margay.status())[name];
		const { code, stdout, stderr } = await margay.command('replace', name);
		assert.equal(code, 0, stderr);
		assert.equal(stdout, `${name}: replaced\n`);
		const after = (await margay.status())[name];
		assert.notEqual(after.pid, before.pid);
		assert.equal(after.restarts, 0, 'it is no crash');
		await until('the old one is gone', () => !isAlive(before.pid));
	}

	// Stop it, so that it can't make room yet, and ask: its pid, and the command's outcome to come.
	async function begin(name) {
		const { pid } = (await margay.status())[name];
		killPid(pid, 'SIGSTOP');
		const told = margay.command('replace', name);
		await until('it is asked', async () => (await margay.status())[name].state === 'replacing');
		return { pid, told };
	}

	// No worker had to come again, and nobody says that anything went wrong.
	async function unnoticed() {
		const metrics = await margay.metrics();
		for (const name of ['keeper', 'broker'])
			for (const what of ['reconnects', 'restarts'])
				assert.equal(metrics.sum(`margay_${name}_${what}_total`), 0, `${name} ${what}`);
		assert.deepEqual(
			margay
				.log()
				.filter(({ level, message }) => /lost|left the keeper/.test(message) || level === 'error'),
			[],
		);
	}

	// Everything that it says on a stream outside of requests, as numbers.
	async function tick(session, every = 5) {
		const heard = [];
		const { response, request } = await session.get();
		response.on('error', () => {});
		(async () => {
			for await (const { data } of events(response))
				if (data) heard.push(JSON.parse(data).params.data);
		})().catch(() => {});
		textOf(await session.call('tick', { count: 100_000, every }));
		return { heard, end: () => request.destroy() };
	}

	test('costs no call, no message and no child under load', async () => {
		const url = await start();
		const sessions = await Promise.all(upTo(5).map(() => RawSession.open(url('shared'))));
		const own = await Promise.all(upTo(5).map(() => RawSession.open(url('own'))));
		const ticker = await tick(await RawSession.open(url('own')));
		const callers = {
			own: own.map((session) => new Caller(counterOf(session))),
			shared: sessions.map((session) => new Caller(counterOf(session))),
			modern: upTo(4).map(() => new Caller(() => statelessCounter(url('modern')))),
			whole: upTo(2).map(() => new Caller(() => wholeSession(url('own')))),
		};
		const all = Object.values(callers).flat();
		const more = async (n) => {
			const goals = all.map(({ counts }) => counts.length + n);
			await until(`${n} more calls of everybody`, async () => {
				for (const { done, running } of all)
					if (running) await Promise.race([done, Promise.resolve()]);
				return all.every(({ counts }, i) => counts.length >= goals[i]);
			});
		};
		await more(2);
		const lasting = [...callers.own, ...callers.shared, ...callers.modern].map(({ pid }) => pid);
		for (let round = 0; round < 20; round++) {
			await replace('keeper');
			await replace('broker');
			await more(2);
		}
		for (const caller of all) await caller.stop();
		for (const { counts } of callers.own) assert.deepEqual(counts, upTo(counts.length));
		for (const kind of ['shared', 'modern'])
			assert.deepEqual(sorted(callers[kind]), upTo(sorted(callers[kind]).length), kind);
		assert.ok(lasting.every(isAlive));
		const heard = ticker.heard.length;
		await until('it ticks on', () => ticker.heard.length > heard + 10);
		ticker.end();
		assert.deepEqual(ticker.heard, upTo(ticker.heard.length));
		await unnoticed();
	});

	for (const name of ['keeper', 'broker'])
		test(`of the ${name} does not wait for a call, nor cut it`, async () => {
			const url = await start();
			const session = await RawSession.open(url('own'));
			const pid = textOf(await session.call('counter')).split(' ')[1];
			const begun = Date.now();
			const slept = session.call('sleep', { ms: 3000 });
			await until('it is in flight', async () =>
				(await childrenOf(margay)).some(({ calls }) => calls === 1),
			);
			await replace(name);
			assert.ok(Date.now() - begun < 2900, 'the call is still in flight');
			assert.equal(textOf(await slept), 'slept');
			assert.equal(textOf(await session.call('counter')), `2 ${pid}`);
			await unnoticed();
		});

	test('keeps a line that is half said, a question, and a subscription', async () => {
		const url = await start();
		const session = await RawSession.open(url('shared'));
		const other = await RawSession.open(url('shared'));
		const { response, request } = await session.get();
		const heard = [];
		(async () => {
			for await (const { data } of events(response)) if (data) heard.push(JSON.parse(data));
		})().catch(() => {});
		await session.request('resources/subscribe', { uri: 'x:1' });
		const slow = session.call('slowly', { ms: 1500 });
		await until('it has begun', async () =>
			(await childrenOf(margay)).some(({ calls }) => calls === 1),
		);
		await replace('keeper');
		assert.equal(textOf(await slow), 'said slowly');
		await other.call('touch', { uri: 'x:1' });
		await until('the subscriber is told', () =>
			heard.some(({ method }) => method === 'notifications/resources/updated'),
		);
		const asks = session.post(
			{ jsonrpc: '2.0', id: 'q', method: 'tools/call', params: { name: 'ask' } },
			{ stream: true },
		);
		const asked = await asks;
		const answers = events(asked.response);
		const question = JSON.parse((await answers.next()).value.data);
		await replace('keeper');
		await replace('broker');
		await session.post({ jsonrpc: '2.0', id: question.id, result: { action: 'accept' } });
		const answer = JSON.parse((await answers.next()).value.data);
		assert.equal(answer.result.content[0].text, 'accept');
		request.destroy();
		await unnoticed();
	});

	// Either way a message of 4 MiB is scanned in many turns: a good deal of the time one is under way.
	test('loses and repeats no long message', async () => {
		const url = await start();
		const count = 2 * 1024 * 1024 - 4096;
		const long = '\n'.repeat(count);
		const session = await RawSession.open(url('own'));
		const callers = [
			new Caller(async () => [textOf(await session.call('lines', { count })).length, 0]),
			...(await Promise.all(upTo(2).map(() => RawSession.open(url('own'))))).map(
				(one) =>
					new Caller(async () => textOf(await one.call('counter', { long })).split(' ').map(Number)),
			),
		];
		for (let round = 0; round < 10; round++) {
			const goals = callers.map(({ counts }) => counts.length + 2);
			await replace('keeper');
			await until('more calls of everybody', () =>
				callers.every(({ counts, running }, n) => !running || counts.length >= goals[n]));
		}
		for (const caller of callers) await caller.stop();
		assert.ok(callers[0].counts.every((length) => length === count));
		for (const { counts } of callers.slice(1)) assert.deepEqual(counts, upTo(counts.length));
		await unnoticed();
	});

	test('keeps a stream of the stateless era', async () => {
		const url = await start();
		const { response, request } = await modern.send(url('modern'), 'subscriptions/listen', {
			params: { notifications: { toolsListChanged: true } },
			stream: true,
		});
		const stream = events(response);
		const next = async () => JSON.parse((await within('an event', stream.next())).value.data);
		assert.equal((await next()).method, 'notifications/subscriptions/acknowledged');
		for (const name of ['keeper', 'broker', 'keeper']) {
			await replace(name);
			await modern.send(url('modern'), 'tools/call', { params: { name: 'change' } });
			assert.equal((await next()).method, 'notifications/tools/list_changed');
		}
		request.destroy();
		await unnoticed();
	});

	test('keeps a child that is still starting, and who waits for it', async () => {
		const url = await start(hostile('slow', 1500));
		const opened = [RawSession.open(url('own')), RawSession.open(url('own'))];
		await until('they start', async () =>
			(await childrenOf(margay)).filter(({ state }) => state === 'starting').length === 2,
		);
		await replace('keeper');
		for (const session of await Promise.all(opened))
			assert.match(textOf(await session.call('counter')), /^1 /);
		await unnoticed();
	});

	test('keeps a call of a child whose definition has changed', async () => {
		const url = await start();
		const session = await RawSession.open(url('own'));
		const slept = session.call('sleep', { ms: 1500 });
		await until('it is in flight', async () =>
			(await childrenOf(margay)).some(({ calls }) => calls === 1),
		);
		margay.write({ upstreams: { own: { stdio: hostile('banner') } } });
		assert.equal((await margay.command('reload')).code, 0);
		await replace('keeper');
		assert.equal(textOf(await slept), 'slept');
		await until('it is gone', async () => (await childrenOf(margay)).length === 0);
	});

	test('that does not come about is told, and comes about later', async () => {
		const url = await start();
		const session = await RawSession.open(url('own'));
		const { pid: old, told } = await begin('keeper');
		const { code, stderr } = await told;
		assert.equal(code, 1);
		assert.match(stderr, /keeper: it has not made room yet; it goes on trying/);
		killPid(old, 'SIGCONT');
		await until('it has made room', async () => {
			const { pid, state } = (await margay.status()).keeper;
			return pid > 0 && pid !== old && state === 'accepting';
		});
		assert.match(textOf(await session.call('counter')), /^1 /);
		await unnoticed();
	});

	test('loses no question of an operator', async () => {
		const url = await start();
		const session = await RawSession.open(url('own'));
		const { pid, told } = await begin('keeper');
		const asked = childrenOf(margay);
		await delay(200); // it may be asked before or after
		killPid(pid, 'SIGCONT');
		assert.equal((await told).code, 0);
		assert.equal((await asked).length, 1);
		assert.match(textOf(await session.call('counter')), /^1 /);
		await unnoticed();
	});

	// Its end is seen before its last words are read.
	for (const name of ['keeper', 'broker'])
		test(`of the ${name} loses nothing when the master is slow`, async () => {
			const url = await start();
			const session = await RawSession.open(url('own'));
			const slept = session.call('sleep', { ms: 1000 });
			await until('it is in flight', async () =>
				(await childrenOf(margay)).some(({ calls }) => calls === 1),
			);
			const { pid, told } = await begin(name);
			margay.child.kill('SIGSTOP');
			killPid(pid, 'SIGCONT');
			await until('it has ended', () => !isAlive(pid));
			margay.child.kill('SIGCONT');
			assert.equal((await told).code, 0);
			assert.equal(textOf(await slept), 'slept');
			await unnoticed();
		});

	test('that turns into a death is told', async () => {
		const url = await start();
		const session = await RawSession.open(url('own'));
		const { pid, told } = await begin('keeper');
		killPid(pid, 'SIGKILL');
		const { code, stderr } = await told;
		assert.equal(code, 1);
		assert.match(stderr, /keeper: it ended by itself/);
		await until('there is another', async () => (await margay.status()).keeper.state === 'accepting');
		assert.match(textOf(await session.call('counter')), /^1 /);
	});

	for (const signal of ['SIGTERM', 'SIGQUIT'])
		test(`does not keep ${signal} from ending everything`, async () => {
			const url = await start();
			const session = await RawSession.open(url('own'));
			const pid = Number(textOf(await session.call('counter')).split(' ')[1]);
			const replaced = ['keeper', 'broker'].map((name) => margay.command('replace', name));
			await delay(Math.random() * 50); // at any point of it
			await margay.stop({ signal });
			margay = undefined;
			assert.ok(!isAlive(pid));
			await Promise.all(replaced);
		});

	// Without a configuration to start by nobody would be there to end the children as it is due; the
	// master would kill them with its last breath.
	for (const name of ['keeper', 'broker'])
		test(`of the ${name} comes about although the workers have ended`, async () => {
			const url = await start(hostile('stubborn'));
			const session = await RawSession.open(url('own'));
			const child = Number(textOf(await session.call('counter')).split(' ')[1]);
			const { pid, told } = await begin(name);
			const { workers } = await margay.status();
			margay.child.kill('SIGTERM');
			await until('the workers have ended', () =>
				workers.every((worker) => !isAlive(worker.pid)),
			);
			killPid(pid, 'SIGCONT');
			await margay.child.exit;
			assert.ok(!margay.log().some(({ message }) => /earlier Margay left/.test(message)));
			await margay.stop();
			margay = undefined;
			assert.ok(!isAlive(child));
			await told;
		});

	test('is refused for what is no such process', async () => {
		await start();
		const { code, stderr } = await margay.command('replace', 'worker');
		assert.equal(code, 1);
		assert.match(stderr, /say which/);
	});
});
