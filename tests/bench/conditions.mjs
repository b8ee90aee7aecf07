// Under what conditions figures were measured: without them they are worth nothing.
import fs from 'node:fs';
import os from 'node:os';
import { run } from '../system/process.mjs';

async function commit() {
	const git = async (...args) => (await run('git', args)).stdout.trim();
	const hash = await git('rev-parse', '--short=12', 'HEAD');
	const changed = await git('status', '--porcelain', '-uno', ':!docs/benchmarks.*');
	return hash ? `${hash}${changed ? ', and changes' : ''}` : 'none';
}

const cpuModel = () =>
	/^model name\s*: (.*)$/m.exec(fs.readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? os.machine();

// `more`: what else, by name. Rows of name and value.
export async function conditions(more) {
	const rows = {
		date: new Date().toISOString().slice(0, 10),
		commit: await commit(),
		CPU: `${cpuModel()}, ${os.availableParallelism()} cores`,
		kernel: `Linux ${os.release()}`,
		'load before': os.loadavg()[0].toFixed(2),
		...more,
	};
	return Object.entries(rows).map(([name, value]) => [name, String(value)]);
}
