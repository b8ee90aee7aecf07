// scripts/bench: the command line. Everything that is started lives in a directory of its own, which goes with
// this process however it ends (process.mjs ends the processes).
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { runCosts } from './costs.mjs';
import { runLoad } from './load.mjs';
import { runMemory } from './memory.mjs';
import { runScale } from './scale.mjs';

const docs = path.join(import.meta.dirname, '../../docs');

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		quick: { type: 'boolean', default: false },
		memory: { type: 'boolean', default: false },
		scale: { type: 'boolean', default: false },
		costs: { type: 'boolean', default: false },
		only: { type: 'boolean', default: false },
		workers: { type: 'string', default: '1' },
		rounds: { type: 'string' },
		seconds: { type: 'string' },
		out: { type: 'string' },
	},
});

const count = (name, fallback) => {
	const value = Number(values[name] ?? fallback);
	if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a number from 1 on`);
	return value;
};

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-bench-'));
fs.chmodSync(scratch, 0o755); // workers of nginx are another user
process.env.TMPDIR = scratch;
process.on('exit', () => fs.rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));

const isPart = values.quick || positionals.length > 0;
const options = {
	only: positionals,
	isQuick: values.quick,
	workers: count('workers'),
	rounds: count('rounds', values.quick ? 1 : 5),
	seconds: count('seconds', values.quick ? 1 : 4),
	// A part of the figures, or hasty ones, are not for the documents.
	dir: path.resolve(values.out ?? (isPart ? path.join(path.dirname(process.env.MARGAY_BIN), 'bench') : docs)),
	scratch,
	tell: console.log,
};
const modes = [
	[values.memory, runMemory],
	[values.scale, runScale],
	[values.costs, runCosts],
	[!values.memory && !values.scale && !values.costs, runLoad],
];
try {
	for (const [wanted, run] of modes) if (wanted && !(await run(options))) process.exitCode = 1;
} catch (error) {
	console.error(`scripts/bench: ${error.message}`);
	process.exitCode = 1;
}
