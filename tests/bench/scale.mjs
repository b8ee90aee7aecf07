// Whether a request costs more where there is more: sessions, routes; and what more workers bring. wrk
// asks, for its requests can go from session to session and from route to route (rotate.lua).
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startLoadUpstream } from '../system/driver.mjs';
import { run } from '../system/process.mjs';
import { conditions } from './conditions.mjs';
import { cpuSeconds, median } from './measure.mjs';
import { openSessions } from './messages.mjs';
import { peers } from './peers.mjs';
import { chooseRows, conditionsTable, figure, table, writePart } from './table.mjs';

const CONNECTIONS = 64;
const SCRAPES = 20; // of an idle gateway

// nginx knows no sessions: what it takes more is the share of the machine, whose caches driver and upstream fill, too.
const besideNginx = (sizes) => ['margay', 'nginx'].flatMap((peer) => sizes.map((size) => ({ peer, ...size })));

const sets = {
	sessions: besideNginx([
		{ sessions: 10, routes: 1 },
		{ sessions: 10_000, routes: 1 },
	]),
	routes: besideNginx([
		{ sessions: 200, routes: 1 },
		{ sessions: 200, routes: 200 },
	]),
	// The second is scraped, more often than by any Prometheus.
	scrapes: [
		{ sessions: 200, routes: 200 },
		{ sessions: 200, routes: 200, scrapesEvery: 1000 },
	],
	workers: [1, 2, 4].map((workers) => ({ sessions: CONNECTIONS, routes: 1, workers })),
};

async function start({ peer, sessions, routes, workers, scrapesEvery }, upstream, scratch) {
	const names = Array.from({ length: routes }, (_, n) => `route_${n}`);
	const upstreams = Object.fromEntries(names.map((name) => [name, { url: upstream.url }]));
	const dir = fs.mkdtempSync(path.join(scratch, 'scale-'));
	const gateway = await peers[peer].start({ dir, workers, upstreams });
	const file = path.join(dir, 'requests');
	const ids = await openSessions(names.map((name) => gateway.url(name)), sessions);
	fs.writeFileSync(file, ids.map((id, n) => `/${names[n % routes]} ${id}\n`).join(''));
	return { gateway, file, scrapesEvery };
}

// Milliseconds that one GET /metrics takes, from its first byte to the answer's last, which is only counted.
function scrape(gateway) {
	const { hostname, port } = new URL(gateway.margay.admin);
	return new Promise((resolve, reject) => {
		const socket = net.connect(port, hostname, () => {
			const begun = performance.now();
			let bytes = 0;
			socket.on('data', (data) => (bytes += data.length));
			socket.once('end', () => {
				if (bytes > 10_000) resolve(performance.now() - begun);
				else reject(new Error(`/metrics has ${bytes} bytes`));
			});
			socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
		});
		socket.once('error', reject);
	});
}

// A scrape every so often, until stopped.
function scrapeOften(gateway, every) {
	let goesOn = every > 0;
	const all = (async () => {
		for (; goesOn; await delay(every)) await scrape(gateway);
	})();
	return {
		stop() {
			goesOn = false;
			return all;
		},
	};
}

async function ask({ gateway, file, scrapesEvery }, seconds) {
	const script = path.join(import.meta.dirname, 'rotate.lua');
	const { origin } = new URL(gateway.url(''));
	const args = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--latency', '-s', script, origin];
	const before = cpuSeconds(gateway.pids);
	const scraper = scrapeOften(gateway, scrapesEvery);
	const { code, stdout, stderr } = await run('wrk', [...args, '--', file], { deadline: (seconds + 30) * 1000 });
	const cpu = cpuSeconds(gateway.pids) - before;
	await scraper.stop();
	const alone = [];
	for (let n = 0; gateway.margay && n < SCRAPES; n++) alone.push(await scrape(gateway));
	if (code !== 0) throw new Error(`wrk: ${code} ${stderr}`);
	const { requests, seconds: took, errors, p99 } = JSON.parse(stdout.trim().split('\n').at(-1));
	return { rate: requests / took, p99, scrape: median(alone), cpu: (cpu / requests) * 1e6, errors: errors + (requests === 0 ? 1 : 0) };
}

// One set, its sizes in turn. Each round begins with another: a machine that slows down does so for all of them.
async function measureSet(sizes, { rounds, seconds, scratch }) {
	const upstream = await startLoadUpstream('--sessions', 1_000_000);
	const places = [];
	try {
		for (const size of sizes) places.push({ ...(await start(size, upstream, scratch)), runs: [] });
		for (const place of places) await ask(place, 1);
		const order = [...places];
		for (let round = 0; round < rounds; round++) {
			for (const place of order) place.runs.push(await ask(place, seconds));
			order.push(order.shift());
		}
	} finally {
		for (const { gateway } of places) await gateway.stop();
		await upstream.stop();
	}
	return places.map(({ runs }) => ({
		...Object.fromEntries(['rate', 'p99', 'cpu', 'scrape'].map((name) => [name, median(runs.map((one) => one[name]))])),
		errors: runs.reduce((sum, { errors }) => sum + errors, 0),
	}));
}

export async function runScale({ only, isQuick, workers, rounds, seconds, dir, scratch, tell }) {
	const chosen = chooseRows(sets, only);
	const where = await conditions({ 'seconds of a run': seconds, rounds, connections: CONNECTIONS });
	const rows = [];
	let failures = 0;
	for (const [name, sizes] of chosen) {
		const most = isQuick ? 1000 : Infinity;
		const whole = sizes.map((size) => ({
			peer: 'margay',
			workers,
			...size,
			sessions: Math.min(size.sessions, most),
		}));
		const results = await measureSet(whole, { rounds, seconds, scratch });
		for (const [n, { rate, p99, cpu, scrape, errors }] of results.entries()) {
			const { peer, sessions, routes, workers: count } = whole[n];
			const first = whole.findIndex((one) => one.peer === peer);
			const more = 100 * (cpu / results[first].cpu - 1);
			const change = n > first ? `${more >= 0 ? '+' : ''}${more.toFixed(1)} %` : '';
			const figures = [figure(rate), figure(cpu), change, figure(p99), scrape ? figure(scrape) : '', errors];
			const what = whole[n].scrapesEvery ? `${name}, one each ${whole[n].scrapesEvery} ms` : name;
			rows.push([what, peers[peer].label, figure(sessions), routes, count, ...figures]);
			tell(rows.at(-1).join('  '));
			failures += errors;
		}
	}
	const head = [
		...['more', 'peer', 'sessions', 'routes', 'workers'],
		...['requests/s', 'CPU µs a request', 'to the first', 'p99 µs', 'a scrape, ms', 'errors'],
	];
	tell(writePart(dir, 'scale', `${conditionsTable(where)}\n\n${table(head, rows)}`));
	return failures === 0;
}
