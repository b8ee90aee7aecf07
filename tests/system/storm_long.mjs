// The long storm, as scripts/storm runs it: figures as a table, and as JSON on the last line.
import { parseArgs } from 'node:util';
import { judge, runStorm } from './storm.mjs';

const { values } = parseArgs({
	options: { seconds: { type: 'string', default: '300' }, seed: { type: 'string' } },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed ?? Date.now() % 2 ** 32);
console.log(`seed ${seed}, ${seconds} s`);
const result = await runStorm({
	seed,
	seconds,
	reloads: 50,
	upgrades: 10,
	kills: Math.floor(seconds / 5),
	takeovers: 3,
	keepalive: 48,
	connects: 16,
	streams: 32,
	tell: console.log,
});
const { rows, unexplained, complete, said, log, ...figures } = result;

const show = (value) =>
	typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(2) : String(value);
function print(object, prefix = '') {
	for (const [key, value] of Object.entries(object)) {
		const name = `${prefix}${key.replaceAll('_', ' ')}`;
		if (value !== null && typeof value === 'object') print(value, `${name}, `);
		else console.log(`${name.padEnd(44)} ${show(value).padStart(12)}`);
	}
}
print(figures);
console.log(JSON.stringify(figures));
judge(result);
