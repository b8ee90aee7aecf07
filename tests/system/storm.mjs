// The storm: reloads, upgrades and deaths while clients of all kinds call without a pause. What is done
// when follows from a seed, so that a run that failed can be had again.
//
// A worker that is to be killed is stopped for the moment that it takes to note whose connections it
// serves: a request may be lost on one of these, at that time, and nowhere else.
import fs from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Control } from './control.mjs';
import { Driver, startLoadUpstream, total } from './driver.mjs';
import { Generator } from './generate.mjs';
import { request } from './http.mjs';
import { binary, Margay } from './margay.mjs';
import {
	descriptors,
	freeze,
	isAlive,
	killPid,
	residentBytes,
	servedPorts,
	until,
} from './process.mjs';

const WORKERS_MAX = 8;
const CALM = 2000; // ms between two deaths
const GENERATIONS_MAX = 3; // one serves, two drain: one more would cut the oldest
const VICTIMS = ['worker', 'broker', 'worker', 'keeper'];
const SPARE = 10; // descriptors that a master may have more in the end
const TRANSACTION = 30; // ms that one lasts, about
const AFTERMATH = 1000; // ms after an event that count as its window

export const DEFAULTS = {
	program: binary,
	seed: 1,
	seconds: 60,
	reloads: 12,
	upgrades: 2,
	kills: 10,
	takeovers: 1, // kill -9 of the master during a reload, and another one started
	keepalive: 24,
	connects: 8,
	streams: 12,
	late: 1000, // ms
	tell: () => {}, // is called with each thing that happened
};

// What becomes of one process is awaited before the next one dies.
class Storm {
	events = []; // { what, at, replied?, over? }, in milliseconds of the wall clock
	killed = []; // { at, pid, ports } of workers
	said = [];
	#last = 0;
	#turn = Promise.resolve();

	constructor(margay, options, begun) {
		this.margay = margay;
		this.options = options;
		this.begun = begun;
	}

	note(text) {
		const line = `${((Date.now() - this.begun) / 1000).toFixed(2)} s: ${text}`;
		this.said.push(line);
		this.options.tell(line);
	}

	async ask(command, more) {
		const control = await Control.open(this.margay);
		try {
			return await control.ask(command, more);
		} finally {
			control.close();
		}
	}

	// The control socket has nobody for a moment when the master dies.
	status() {
		return until('a status', () => this.ask('status'), { timeout: 20_000 });
	}

	// One death at a time, and never two within CALM.
	dying(kill) {
		const mine = this.#turn.then(async () => {
			await delay(Math.max(0, this.#last + CALM - Date.now()));
			try {
				await kill();
			} finally {
				this.#last = Date.now();
			}
		});
		this.#turn = mine.catch(() => {});
		return mine;
	}

	// Whether a process died between then and now: what was asked for meanwhile may have been refused.
	disturbedSince(time) {
		return this.events.some(({ what, at, over }) => what.startsWith('kill') && (over ?? Infinity) >= time && at <= Date.now());
	}

	// Note when all that serves an older generation has ended.
	async #outlived(event, pids) {
		await until('the old workers end', () => !pids.some(isAlive), { timeout: 60_000, every: 50 });
		event.over = Date.now();
	}

	// A transaction: what was refused because a process died is asked for again.
	async #transact(what, command) {
		for (let tries = 0; ; tries++) {
			await until(
				'older generations have ended',
				async () => {
					const { workers } = await this.status();
					return new Set(workers.map((one) => one.generation)).size < GENERATIONS_MAX;
				},
				{ timeout: 60_000 },
			);
			const event = { what, at: Date.now() };
			const before = (await this.status()).workers.map(({ pid }) => pid);
			event.at = Date.now();
			const reply = await this.ask(command).catch((error) => ({ ok: false, message: String(error) }));
			event.replied = Date.now();
			this.note(`${what}: ${event.replied - event.at} ms: ${reply.message}`);
			if (reply.ok) {
				this.events.push(event);
				event.gone = this.#outlived(event, before);
				event.gone.catch(() => {});
				return event;
			}
			this.refused = (this.refused ?? 0) + 1;
			assert.ok(
				this.disturbedSince(event.at) && tries < 5,
				`${what} failed: ${JSON.stringify(reply)}`,
			);
		}
	}

	async reload({ workers, extra }) {
		const { listen } = this.margay.config;
		this.margay.write({ workers, listen: [listen[0], ...(extra ? [{ address: this.extra }] : [])] });
		const event = await this.#transact(`reload: ${workers} workers${extra ? ', one more address' : ''}`, 'reload');
		if (extra) {
			const { status } = await request(`http://${this.extra}/mcp`, { method: 'OPTIONS' });
			assert.ok(status > 0, 'the address that was added serves');
		}
		return event;
	}

	async upgrade() {
		const { pid } = this.margay;
		const event = await this.#transact('upgrade', 'upgrade');
		await until('the old master has ended', () => !isAlive(pid), { timeout: 60_000 });
		event.mastered = Date.now();
		assert.notEqual(this.margay.pid, pid);
	}

	// One of them, at random.
	async #victim(what, share) {
		return until('there is one to be killed', async () => {
			const status = await this.status();
			const workers = status.workers.filter(({ pid }) => pid > 0);
			const one = what === 'worker' ? workers[Math.floor(share * workers.length)] : status[what];
			return freeze(one.pid) && one.pid;
		});
	}

	// Every process but `dead` that is wanted serves.
	#whole(dead) {
		const serves = ({ pid, state }) => pid > 0 && pid !== dead && state === 'accepting';
		return until(
			'another one serves',
			async () => {
				const { workers, broker, keeper, generation } = await this.status();
				const own = workers.filter((one) => one.generation === generation);
				return [...own, broker, keeper].every(serves);
			},
			{ timeout: 30_000 },
		);
	}

	// `beside`: something that is begun `after` milliseconds before the death.
	kill({ what, share, after = 0 }, beside = () => {}) {
		return this.dying(async () => {
			const event = { what: `kill ${what}`, at: Date.now() };
			this.events.push(event);
			const other = beside();
			other?.catch(() => {});
			await delay(after);
			const pid = await this.#victim(what, share);
			const ports = what === 'worker' ? servedPorts(pid, this.margay.port) : new Set();
			event.at = Date.now();
			killPid(pid, 'SIGKILL');
			this.note(`kill ${what} ${pid} with ${ports.size} connections`);
			if (what === 'worker') this.killed.push({ at: event.at, pid, ports });
			await other;
			await this.#whole(pid);
			event.over = Date.now();
		});
	}

	// The master dies `after` milliseconds of a reload.
	takeOver({ after, ...reload }) {
		return this.dying(async () => {
			const { pid } = this.margay;
			const event = { what: 'kill master', at: Date.now() };
			this.events.push(event);
			const other = this.reload(reload);
			other.catch(() => {});
			await delay(after);
			event.at = Date.now();
			killPid(pid, 'SIGKILL');
			await until('it is dead', () => !isAlive(pid), { every: 1 });
			await this.margay.run();
			event.over = Date.now();
			this.note(`kill master ${pid}: ${event.over - event.at} ms until ${this.margay.pid} served`);
			await other;
		});
	}
}

// What is done when, in milliseconds: two lists, of what the operator does and of what dies.
function plan({ seed, seconds, reloads, upgrades, kills, takeovers }) {
	const random = new Generator(seed);
	const share = () => random.random();
	const acts = [
		...Array.from({ length: reloads }, () => 'reload'),
		...Array.from({ length: upgrades }, () => 'upgrade'),
		...Array.from({ length: takeovers }, () => 'takeOver'),
	];
	for (let i = acts.length - 1; i > 0; i--) {
		const j = Math.floor(share() * (i + 1));
		[acts[i], acts[j]] = [acts[j], acts[i]];
	}
	// The first tenth is calm, for the figures that others are held against.
	const spread = (count) =>
		Array.from({ length: count }, (_, i) => ((0.1 + (0.9 * (i + share())) / count) * seconds * 1000));
	const counts = [WORKERS_MAX, 3, 1];
	const operator = spread(acts.length).map((at, i) => ({ at, act: acts[i] }));
	operator
		.filter(({ act }) => act !== 'upgrade')
		.forEach((one, i) => Object.assign(one, { workers: counts[i % 3], extra: i % 2 === 0 }));
	const death = (_, i) => ({ what: VICTIMS[i % VICTIMS.length], share: share() });
	// Some die in the middle of a reload or an upgrade.
	operator
		.filter(({ act }, i) => act !== 'takeOver' && (i % 4 === 1 || act === 'upgrade'))
		.forEach((one, i) => (one.death = { ...death(one, i), after: share() * TRANSACTION }));
	operator
		.filter(({ act }) => act === 'takeOver')
		.forEach((one) => (one.after = share() * TRANSACTION));
	const fate = spread(kills).map((at, i) => ({ at, ...death(at, i) }));
	return { operator, fate };
}

async function follow(storm, { operator, fate }) {
	const at = async (time) => delay(Math.max(0, storm.begun + time - Date.now()));
	const operate = async () => {
		for (const { at: time, act, ...how } of operator) {
			await at(time);
			const { death, ...what } = how;
			if (death) await storm.kill(death, () => storm[act](what));
			else await storm[act](what);
		}
	};
	const kill = async () => {
		for (const { at: time, ...death } of fate) {
			await at(time);
			await storm.kill(death);
		}
	};
	await Promise.all([operate(), kill()]);
	await at(storm.options.seconds * 1000);
	await Promise.all(storm.events.map(({ gone }) => gone));
}

// The killed worker that took a request with it; undefined: nothing explains this failure.
export const killerOf = (killed, row, patience) =>
	['reset', 'closed'].includes(row.failure)
		? killed.find(
				({ at, ports }) => ports.has(row.port) && row.t >= at - 1 && row.t <= at + patience,
			)
		: undefined;

const sizes = (pid) => ({ rss_mib: residentBytes(pid) / 2 ** 20, descriptors: descriptors(pid).length });

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const spreadOf = (numbers) =>
	numbers.length && { count: numbers.length, median: median(numbers), max: Math.max(...numbers) };

// The latencies of 100 ms windows: of those in which nothing happened, and of those around each kind of event.
function latencies(file, events) {
	const windows = fs
		.readFileSync(file, 'utf8')
		.trim()
		.split('\n')
		.map((line) => JSON.parse(line))
		.filter(({ answered }) => answered > 0);
	const around = ({ at, replied, over }) => ({ from: at - 100, to: (replied ?? over ?? at) + AFTERMATH });
	const spans = events.map((event) => ({ what: event.what.split(':')[0], ...around(event) }));
	const kinds = { steady: [], reload: [], upgrade: [], kill: [] };
	for (const { t, p999 } of windows) {
		const hit = spans.filter(({ from, to }) => t >= from && t <= to);
		if (hit.length === 0) kinds.steady.push(p999);
		for (const kind of new Set(hit.map(({ what }) => what.split(' ')[0]))) kinds[kind].push(p999);
	}
	return Object.fromEntries(
		Object.entries(kinds).map(([kind, list]) => [kind, spreadOf(list)]),
	);
}

function figures({ options, storm, report, start, end, windows }) {
	const requests = total(report, 'requests');
	const rows = report.failures.map((row) => ({
		...row,
		worker: killerOf(storm.killed, row, options.late)?.pid,
	}));
	const unexplained = rows.filter(({ worker }) => worker === undefined);
	const lost = report.failed - unexplained.length;
	const done = (what) => storm.events.filter((event) => event.what.startsWith(what));
	return {
		seed: options.seed,
		seconds: options.seconds,
		requests,
		events: total(report, 'events'),
		reloads: done('reload').length,
		upgrades: done('upgrade').length,
		refused_while_one_died: storm.refused ?? 0,
		kills: Object.fromEntries(
			['worker', 'broker', 'keeper', 'master'].map((what) => [what, done(`kill ${what}`).length]),
		),
		failures: {
			explained: lost,
			explained_per_million: (lost / requests) * 1e6,
			unexplained: unexplained.length,
			unexplained_per_million: (unexplained.length / requests) * 1e6,
		},
		reload_reply_ms: spreadOf(done('reload').map(({ at, replied }) => replied - at)),
		upgrade_reply_ms: spreadOf(done('upgrade').map(({ at, replied }) => replied - at)),
		last_old_worker_gone_ms: spreadOf(
			[...done('reload'), ...done('upgrade')].map(({ at, over }) => over - at),
		),
		old_master_gone_ms: spreadOf(done('upgrade').map(({ at, mastered }) => mastered - at)),
		takeover_ms: spreadOf(done('kill master').map(({ at, over }) => over - at)),
		p999_us: latencies(windows, storm.events),
		master: { start, end },
		rows,
		unexplained,
		complete: rows.length === report.failed,
		said: storm.said,
	};
}

// Run it to the end: the figures. Nothing is judged here but what an operator would see.
export async function runStorm(given = {}) {
	const options = { ...DEFAULTS, ...given };
	const upstream = await startLoadUpstream();
	const margay = await Margay.start({
		upstream: upstream.url,
		program: options.program,
		config: {
			workers: 3,
			orphan_timeout: '30s',
			timeouts: { keepalive_linger: '1s', drain_spread: '2s' },
			log: { access: false },
		},
	});
	const windows = path.join(margay.dir, 'windows.json');
	let driver;
	let result;
	try {
		const { keepalive, connects, streams, late } = options;
		driver = Driver.start(margay.url, { keepalive, connects, streams, late, rows: 5000, windows });
		const { opened, unopened } = await driver.begun();
		assert.equal(unopened, 0, `${opened} clients of ${opened + unopened} began`);
		const storm = new Storm(margay, options, Date.now());
		// Clients have their ports at another address.
		storm.extra = `127.0.0.2:${margay.port}`;
		const start = sizes(margay.pid);
		const stalls = monitorEventLoopDelay();
		stalls.enable();
		try {
			await follow(storm, plan(options));
			await storm.reload({ workers: 3, extra: false }).then(({ gone }) => gone);
		} catch (error) {
			error.message += `\nseed ${options.seed}\n${storm.said.join('\n')}\n${margay.report()}`;
			throw error;
		}
		const end = sizes(margay.pid);
		const report = await driver.stop();
		result = figures({ options, storm, report, start, end, windows });
		// What is late on a machine that stood still itself is not Margay's.
		result.test_stalled_ms = stalls.max / 1e6;
		if (result.unexplained.length > 0) result.log = fs.readFileSync(margay.logFile, 'utf8');
	} finally {
		await driver?.child.stop();
		try {
			await margay.stop();
		} finally {
			await upstream.child.stop();
		}
	}
	return result;
}

// What must hold after each storm; says all that is needed to find out why not.
export function judge(result) {
	const { seed, said, unexplained, rows, failures, master } = result;
	const stalled = result.test_stalled_ms.toFixed();
	const story = [`seed ${seed}; the test itself stood still for up to ${stalled} ms`, ...said].join('\n');
	assert.ok(result.complete, `only ${rows.length} failures were listed: ${JSON.stringify(failures)}\n${story}`);
	assert.ok(
		master.end.descriptors <= master.start.descriptors + SPARE,
		`the master keeps descriptors: ${JSON.stringify(master)}\n${story}`,
	);
	const shown = unexplained.slice(0, 50).map((row) => JSON.stringify(row));
	assert.equal(
		unexplained.length,
		0,
		`${unexplained.length} of ${rows.length} failures are not a killed worker's:\n${shown.join('\n')}\n${story}\n${result.log}`,
	);
}
