// What processes execute for a request, counted by callgrind: a process begins a new file where it calls a marker,
// and a run of some calls and one of twice as many differ by those calls, and by nothing else. Its files say how many
// instructions, and who called the allocator how often.
import fs from 'node:fs';
import path from 'node:path';
import { until } from '../system/process.mjs';

const WARM_UP = 30; // calls; connections, sessions and children are there after it

const ALLOCATORS = new Set(['malloc', 'calloc', 'realloc', 'posix_memalign', 'aligned_alloc']);

// The command that runs a program under callgrind, with files in `dir`.
export const underCallgrind = (dir, markers) => [
	...['valgrind', '-q', '--tool=callgrind', `--callgrind-out-file=${dir}/callgrind.%p`],
	...markers.map((marker) => `--dump-before=${marker}`),
];

// The files of a process in the order in which they were begun; the last is that of its end.
const profiles = (dir, pid) =>
	fs
		.readdirSync(dir)
		.map((name) => /^callgrind\.(\d+)\.(\d+)$/.exec(name))
		.filter((match) => Number(match?.[1]) === pid)
		.sort((a, b) => a[2] - b[2])
		.map(([name]) => path.join(dir, name));

async function nextProfile(dir, { pid, mark }) {
	const before = profiles(dir, pid).length;
	await mark();
	const file = await until(`a profile of ${pid}`, () => {
		const files = profiles(dir, pid);
		return files.length > before && files.at(-1);
	});
	return readProfile(file);
}

// What each of `processes`, { pid, mark() }, executes for each of `calls`. `drive(count)` has that many be answered,
// one after the other; `mark` has the process call a marker.
export async function countCalls(dir, processes, calls, drive) {
	const profilesAfter = async (count) => {
		await drive(count);
		const all = [];
		for (const one of processes) all.push(await nextProfile(dir, one));
		return all;
	};
	await profilesAfter(WARM_UP);
	const less = await profilesAfter(calls);
	const more = await profilesAfter(2 * calls);
	return processes.map((_, n) => perRequest(less[n], more[n], calls));
}

// { instructions, allocations: Map of the calling function to calls }
function readProfile(file) {
	const names = new Map(); // a name is written once, then by its number
	const allocations = new Map();
	let instructions = 0;
	let caller, callee;
	const named = (number, name) => {
		if (name) names.set(number, name);
		return names.get(number);
	};
	for (const line of fs.readFileSync(file, 'latin1').split('\n')) {
		const [, key, value] = /^([a-z]+)[:=] ?(.*)$/.exec(line) ?? [];
		const [, number, name] = /^\((\d+)\)(?: (.*))?$/.exec(value) ?? [];
		if (key === 'totals') instructions = Number(value);
		else if (key === 'fn') caller = named(number, name);
		else if (key === 'cfn') callee = named(number, name);
		else if (key === 'calls' && ALLOCATORS.has(callee) && !ALLOCATORS.has(caller))
			allocations.set(caller, (allocations.get(caller) ?? 0) + Number(value.split(' ')[0]));
	}
	return { instructions, allocations };
}

// What `more` has beyond `less`, for each of `count` requests.
function perRequest(less, more, count) {
	const allocations = {};
	for (const [caller, calls] of more.allocations) {
		const each = (calls - (less.allocations.get(caller) ?? 0)) / count;
		if (Math.abs(each) >= 0.01) allocations[caller] = Number(each.toFixed(2));
	}
	return {
		instructions: Math.round((more.instructions - less.instructions) / count),
		allocations: Number(
			Object.values(allocations)
				.reduce((sum, each) => sum + each, 0)
				.toFixed(2),
		),
		by: allocations,
	};
}
