// What a request costs a gateway and does not depend on the machine's mood: system calls under each case's own
// connections, and instructions in user space of one client that calls time and again.
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../system/process.mjs';
import { countCalls, underCallgrind } from './callgrind.mjs';
import { cases, describe } from './cases.mjs';
import { conditions } from './conditions.mjs';
import { choose, versions, withGateways } from './lineup.mjs';
import { drive } from './measure.mjs';
import { peers } from './peers.mjs';
import { countSystemCalls, requireTracepoints } from './syscalls.mjs';
import { conditionsTable, figure, table, writePart } from './table.mjs';

const WARM_UP = { calls: 20 }; // of each client
const INSTRUCTION_CALLS = 200;
const WORKERS = 1; // one is counted

// Requests of a run under perf, by what one takes.
const requestsOf = ({ upstream }, { slow }) => (slow ? 1000 : upstream.endsWith('256k') ? 2000 : 20_000);

function fail(name, peer, gateway, why) {
	throw new Error(`${name} ${peer}: ${why}\n${gateway.said()}`);
}

async function systemCalls(gateway, name, peer, scratch) {
	const { kind, upstream, ...shape } = cases[name];
	const url = gateway.url(upstream);
	const calls = Math.ceil(requestsOf(cases[name], peers[peer]) / shape.connections);
	const warm = await drive(url, { ...shape, ...WARM_UP });
	if (warm.errors) fail(name, peer, gateway, warm.why);
	const counted = await countSystemCalls(scratch, gateway.pids, url, { ...shape, calls });
	if (counted.errors) fail(name, peer, gateway, counted.why);
	return counted;
}

async function instructions(gateway, name, peer, dir) {
	const { kind, upstream, ...shape } = cases[name];
	const load = { ...shape, connections: 1, timeout: 60_000 };
	const all = await countCalls(dir, gateway.counted, INSTRUCTION_CALLS, async (calls) => {
		const { errors, answered, why } = await drive(gateway.url(upstream), { ...load, calls });
		if (errors || answered !== calls) fail(name, peer, gateway, `${answered} of ${calls}: ${why}`);
	});
	return all.reduce((sum, one) => sum + one.instructions, 0);
}

// Cases that differ by their connections only are one here, by the first's name.
function alike(names) {
	const first = new Map();
	const keyOf = ({ era, upstream, connects }) => [era, upstream, connects].join();
	for (const name of names) {
		const key = keyOf(cases[name]);
		if (!first.has(key)) first.set(key, name);
	}
	return (name) => first.get(keyOf(cases[name]));
}

// figures[case][peer] = { calls, waits, instructions }
async function countAll({ names, peerNames, scratch, tell }) {
	const figures = Object.fromEntries(names.map((name) => [name, {}]));
	const firstOf = alike(names);
	for (const peer of peerNames) {
		const { kind, label, markers } = peers[peer];
		const own = names.filter((name) => cases[name].kind === kind);
		const lineup = { names: own, peerNames: [peer], workers: WORKERS, scratch };
		await withGateways(lineup, async (gateways) => {
			for (const name of own)
				figures[name][peer] = await systemCalls(gateways.get(peer), name, peer, scratch);
		});
		tell(`${label}: system calls`);
		if (!markers) continue;
		const dir = fs.mkdtempSync(path.join(scratch, 'callgrind-'));
		fs.chmodSync(dir, 0o777); // a worker of nginx is another user
		await withGateways({ ...lineup, under: () => underCallgrind(dir, markers) }, async (gateways) => {
			for (const name of own) {
				const first = firstOf(name);
				figures[name][peer].instructions =
					first === name
						? await instructions(gateways.get(peer), name, peer, dir)
						: figures[first][peer].instructions;
			}
		});
		tell(`${label}: instructions`);
	}
	return figures;
}

// Waits are no more exact than that, and may come out a hundredth below none.
const tenths = (value) => (Math.round(value * 10) / 10 || 0).toFixed(1);
const hundredths = (value) => (value >= 100 ? figure(value) : value.toFixed(2));

function kindTable(kind, { names, peerNames, figures }) {
	const own = peerNames.filter((peer) => peers[peer].kind === kind);
	const rows = names.filter((name) => cases[name].kind === kind);
	if (!rows.length || !own.length) return [];
	const counted = own.filter((peer) => peers[peer].markers);
	const head = [
		'case',
		...own.map((peer) => `${peers[peer].label}: calls + waits`),
		...counted.map((peer) => `${peers[peer].label}: instructions`),
	];
	const cells = (name) => [
		describe(cases[name]),
		...own.map((peer) => {
			const { calls, waits } = figures[name][peer];
			return `${hundredths(calls)} + ${tenths(waits)}`;
		}),
		...counted.map((peer) => figure(figures[name][peer].instructions)),
	];
	return [table(head, rows.map(cells))];
}

export async function runCosts({ only, isQuick, workers, dir, scratch, tell }) {
	if (workers !== WORKERS) throw new Error('--costs counts what one worker does');
	await requireTracepoints(scratch);
	const valgrind = await run('valgrind', ['--version']);
	if (valgrind.code !== 0) throw new Error(`instructions are counted by valgrind: ${valgrind.stderr}`);
	const { names, peerNames: all } = choose({ only, isQuick });
	const peerNames = all.filter((peer) => peer !== 'direct');
	const where = await conditions({
		...(await versions(peerNames)),
		valgrind: valgrind.stdout.trim(),
		workers: WORKERS,
		'access log': 'off',
	});
	const figures = await countAll({ names, peerNames, scratch, tell });
	const tables = ['http', 'stdio'].flatMap((kind) => kindTable(kind, { names, peerNames, figures }));
	const file = writePart(dir, 'costs', [conditionsTable(where), ...tables].join('\n\n'));
	tell(`${tables.join('\n\n')}\n\n${file}`);
	return true;
}
