// Churn for long, as scripts/churn runs it: a line for each minute, then figures as JSON.
import { parseArgs } from 'node:util';
import { judgeChurn, runChurn } from './churn.mjs';

const { values } = parseArgs({
	options: {
		seconds: { type: 'string', default: '3600' },
		clients: { type: 'string', default: '400' },
		workers: { type: 'string', default: '2' },
	},
});
const line = ({ seconds, memory, journal, descriptors }) =>
	console.log(
		`${seconds.toFixed(0).padStart(6)} s  memory ${(memory / 1024).toFixed(0).padStart(7)} KiB` +
			`  journal ${(journal / 1024).toFixed(0).padStart(5)} KiB  descriptors ${descriptors}`,
	);
let next = 0;
const result = await runChurn({
	seconds: Number(values.seconds),
	clients: Number(values.clients),
	workers: Number(values.workers),
	tell(sample) {
		if (sample.seconds < next) return;
		next = sample.seconds + Math.min(60, Number(values.seconds) / 20);
		line(sample);
	},
});
const { samples, ...figures } = result;
console.log(JSON.stringify({ ...figures, rounds: samples.length }));
judgeChurn(result);
