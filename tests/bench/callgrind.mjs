// The files that callgrind writes: how many instructions, and who called the allocator how often.
import fs from 'node:fs';

const ALLOCATORS = new Set(['malloc', 'calloc', 'realloc', 'posix_memalign', 'aligned_alloc']);

// { instructions, allocations: Map of the calling function to calls }
export function readProfile(file) {
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
export function perRequest(less, more, count) {
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
