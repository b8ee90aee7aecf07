// Which cases and peers a run takes, and what has to be started for them.
import fs from 'node:fs';
import path from 'node:path';
import { startLoadUpstream } from '../system/driver.mjs';
import { cases, quick, upstreams as kinds } from './cases.mjs';
import { peers } from './peers.mjs';

// The cases and peers that are wanted: `only` names either, or what several cases begin with.
export function choose({ only, isQuick }) {
	const isPeer = (name) => name in peers;
	const wantedPeers = only.filter(isPeer);
	const wantedCases = only.filter((name) => !isPeer(name));
	const all = Object.keys(cases);
	const matches = (name) => (all.includes(name) ? [name] : all.filter((one) => one.startsWith(`${name}_`)));
	for (const name of wantedCases)
		if (!matches(name).length)
			throw new Error(`no case or peer ${name}: ${[...all, ...Object.keys(peers)].join(' ')}`);
	const asked = wantedCases.length ? wantedCases.flatMap(matches) : isQuick ? quick : all;
	const names = all.filter((name) => asked.includes(name));
	const kindsWanted = new Set(names.map((name) => cases[name].kind));
	const peerNames = Object.keys(peers).filter(
		(name) => kindsWanted.has(peers[name].kind) && (!wantedPeers.length || wantedPeers.includes(name)),
	);
	return { names, peerNames };
}

export async function versions(peerNames) {
	const all = {};
	for (const name of peerNames) if (peers[name].version) all[peers[name].label] = await peers[name].version();
	return all;
}

async function startUpstreams(names, started) {
	const overHttp = names.filter((name) => cases[name].kind === 'http');
	const wanted = new Set(overHttp.map((name) => cases[name].upstream));
	const all = {};
	for (const name of wanted) {
		const { bytes, sse } = kinds[name];
		const args = ['--bytes', bytes, '--sessions', 1_000_000, ...(sse ? ['--sse'] : [])];
		const upstream = await startLoadUpstream(...args);
		started.push(upstream);
		all[name] = { url: upstream.url, sse };
	}
	return all;
}

// Start peers and what is behind them, let `use` have the gateways by name of peer, and stop them all; what `use`
// gives. `under(peer)`: a command that runs that peer.
export async function withGateways({ names, peerNames, workers, scratch, under = () => [] }, use) {
	const started = [];
	const gateways = new Map();
	try {
		const upstreams = await startUpstreams(names, started);
		for (const peer of peerNames) {
			const dir = fs.mkdtempSync(path.join(scratch, `${peer}-`));
			fs.chmodSync(dir, 0o755);
			gateways.set(peer, await peers[peer].start({ workers, upstreams, dir, under: under(peer) }));
		}
		return await use(gateways);
	} finally {
		for (const gateway of gateways.values()) await gateway.stop();
		for (const upstream of started) await upstream.stop();
	}
}
