// System calls of processes, counted by the kernel's tracepoints (perf), which does not slow them: strace does, and
// a process that is late finds more to do at each turn.
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../system/process.mjs';
import { drive } from './measure.mjs';

const ALL = 'raw_syscalls:sys_enter';
const WAITING = ['epoll_wait', 'epoll_pwait'].map((name) => `syscalls:sys_enter_${name}`);

// Children are other processes: what a gateway starts is not it.
const countBy = (file, ...more) => [
	...['perf', 'stat', '--no-inherit', '-x', ',', '-o', file],
	...['-e', [ALL, ...WAITING].join(','), ...more, '--'],
];

function readCounts(file) {
	const text = fs.readFileSync(file, 'utf8');
	const count = (event) => {
		const row = text.split('\n').find((line) => line.split(',')[2] === event);
		const value = Number(row?.split(',')[0]);
		if (!Number.isInteger(value)) throw new Error(`perf did not count ${event}: ${text}`);
		return value;
	};
	const waits = WAITING.map(count).reduce((sum, each) => sum + each, 0);
	return { calls: count(ALL) - waits, waits };
}

// Throws where there are no tracepoints to be had.
export async function requireTracepoints(dir) {
	const [command, ...args] = [...countBy(path.join(dir, 'perf')), 'true'];
	const { code, stderr } = await run(command, args);
	if (code !== 0)
		throw new Error(`system calls are counted by perf (linux-perf), as root: ${stderr.trim() || code}`);
}

// Of `pids` for each request, waits apart: { calls, waits }, and failures of the runs: { errors, why }. A run of one call
// of each client and one of `calls` more differ by those, and not by what it takes to begin.
export async function countSystemCalls(dir, pids, url, { calls, ...shape }) {
	const file = path.join(dir, 'perf');
	const under = countBy(file, '-p', pids.join(','));
	const runs = [];
	for (const each of [1, 1 + calls]) {
		const { answered, errors, why } = await drive(url, { ...shape, calls: each }, { under });
		if (errors) return { errors, why };
		runs.push({ answered, ...readCounts(file) });
	}
	const [less, more] = runs;
	const each = (name) => (more[name] - less[name]) / (more.answered - less.answered);
	return { calls: each('calls'), waits: each('waits'), errors: 0 };
}
