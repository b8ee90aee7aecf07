// Margay and its peers under load, interleaved: in each round every case is run with every peer, one after the
// other, and each round begins with another peer. What stands in the table is the median of the rounds.
import fs from 'node:fs';
import path from 'node:path';
import { cases, describe } from './cases.mjs';
import { conditions } from './conditions.mjs';
import { choose, versions, withGateways } from './lineup.mjs';
import { measure, summary } from './measure.mjs';
import { peers } from './peers.mjs';
import { plot } from './plot.mjs';
import { conditionsTable, figure, microseconds, table, writePart } from './table.mjs';

const WARM_UP = { calls: 20 }; // connections, sessions and children are there after it

// Runs of each case with each peer: results[case][peer].
async function runRounds({ names, gateways, rounds, seconds, tell }) {
	const results = {};
	const once = async (name, peer, load) => {
		const { kind, upstream, ...shape } = cases[name];
		if (peers[peer].kind !== kind) return;
		const gateway = gateways.get(peer);
		const result = await measure(gateway, gateway.url(upstream), { ...shape, ...load });
		if (result.errors) tell(`${name} ${peer}: ${result.errors} errors: ${result.why}\n${gateway.said()}`);
		if (load === WARM_UP && !result.errors) return;
		((results[name] ??= {})[peer] ??= []).push(result);
	};
	const order = [...gateways.keys()];
	for (const name of names) for (const peer of order) await once(name, peer, WARM_UP);
	for (let round = 0; round < rounds; round++) {
		for (const name of names) for (const peer of order) await once(name, peer, { seconds });
		order.push(order.shift());
		tell(`round ${round + 1} of ${rounds}`);
	}
	return results;
}

const head = [
	...['peer', 'requests/s', 'p50', 'p99', 'p99.9', 'CPU a request'],
	...['requests/s to nginx', 'CPU to nginx', 'errors'],
];

function caseTable(byPeer) {
	const figures = Object.fromEntries(Object.entries(byPeer).map(([peer, runs]) => [peer, summary(runs)]));
	const ratio = (value, base) => (value && base ? (value / base).toFixed(2) : '');
	const rows = Object.keys(peers)
		.filter((peer) => peer in figures)
		.map((peer) => {
			const one = figures[peer];
			const { rate, cpu } = figures.nginx ?? {};
			return [
				peers[peer].label,
				figure(one.rate),
				...[one.p50, one.p99, one.p999, one.cpu].map(microseconds),
				...(peer === 'direct' ? ['', ''] : [ratio(one.rate, rate), ratio(one.cpu, cpu)]),
				one.errors,
			];
		});
	const used = head.map((_, n) => rows.some((row) => row[n] !== ''));
	const keep = (row) => row.filter((_, n) => used[n]);
	return { figures, text: table(keep(head), rows.map(keep)) };
}

function write({ results, where, dir, part }) {
	const groups = [];
	const texts = [];
	for (const [name, byPeer] of Object.entries(results)) {
		const { figures, text } = caseTable(byPeer);
		const title = describe(cases[name]);
		texts.push(`### ${name}: ${title}\n\n${text}`);
		const shown = Object.keys(peers).filter((peer) => peer in figures);
		groups.push({ title, bars: shown.map((peer) => ({ label: peers[peer].label, values: figures[peer] })) });
	}
	const columns = [
		{ name: 'rate', title: 'requests/s' },
		{ name: 'cpu', title: 'CPU a request (µs)' },
		{ name: 'p99', title: 'p99 (µs)' },
	];
	const picture = '![Requests/s, CPU and p99 of each case](benchmarks.svg)';
	const file = writePart(dir, part, [conditionsTable(where), picture, ...texts].join('\n\n'));
	fs.writeFileSync(path.join(dir, 'benchmarks.svg'), plot(groups, columns));
	return { file, texts };
}

export async function runLoad({ only, isQuick, workers, rounds, seconds, dir, scratch, tell }) {
	const { names, peerNames } = choose({ only, isQuick });
	const where = await conditions({
		...(await versions(peerNames)),
		Node: process.version,
		workers,
		'seconds of a run': seconds,
		rounds,
	});
	const results = await withGateways({ names, peerNames, workers, scratch }, (gateways) =>
		runRounds({ names, gateways, rounds, seconds, tell }),
	);
	const { file, texts } = write({ results, where, dir, part: 'load' });
	tell(`${texts.join('\n\n')}\n\n${file}`);
	const all = Object.values(results).flatMap((byPeer) => Object.values(byPeer).flat());
	return all.every(({ errors }) => errors === 0);
}
