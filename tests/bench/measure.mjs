// One run of the load driver against one gateway, and what it costs the gateway's processes.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { Driver } from '../system/driver.mjs';
import { isAlive } from '../system/process.mjs';

const ticks = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

// CPU that processes have used, all their threads, in seconds. One that has ended is an error: what was to be
// measured is not what ran.
export const cpuSeconds = (pids) =>
	pids.reduce((sum, pid) => {
		if (!isAlive(pid)) throw new Error(`process ${pid} of the gateway has ended`);
		const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
		const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
		return sum + (Number(fields[11]) + Number(fields[12])) / ticks;
	}, 0);

export function median(values) {
	const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
	const middle = sorted.length / 2;
	if (sorted.length === 0) return null;
	return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// One run of the driver. `load`: { era, connections, connects }, and `seconds` or `calls` of each client; what else is
// its option. `onBegin` is called when all sessions are open and the calls begin; `under`: a command that runs it.
export async function drive(url, { era, connections, connects, ...more }, { onBegin, under } = {}) {
	const clients = { [connects ? 'connects' : 'keepalive']: connections };
	const driver = Driver.start(url, { ...clients, era, ...more, late: 0, rows: 3 }, { under });
	if (onBegin) driver.child.process.stdout.once('data', onBegin);
	const report = await driver.end();
	const [kind] = Object.values(report.kinds);
	const { answered, latency_us: latency } = kind;
	const errors = report.failed + report.unopened + (answered === 0 ? 1 : 0);
	return {
		answered,
		latency,
		seconds: (report.t - report.started) / 1000,
		errors,
		why: errors ? JSON.stringify([kind.failures, kind.statuses, report.opening_failures, report.failures]) : '',
	};
}

// `load` as above. The result has requests/s, microseconds, CPU microseconds per request (null without a gateway), and
// how many requests failed, with why.
export async function measure(gateway, url, load) {
	let before;
	const onBegin = () => (before = cpuSeconds(gateway.pids));
	const { answered, latency, seconds, errors, why } = await drive(url, load, { onBegin });
	const cpu = cpuSeconds(gateway.pids) - before;
	return {
		rate: answered / seconds,
		p50: latency.p50,
		p99: latency.p99,
		p999: latency.p999,
		cpu: gateway.pids.length ? (cpu / answered) * 1e6 : null,
		answered,
		errors,
		why,
	};
}

// Of several runs of the same.
export const summary = (runs) => ({
	...Object.fromEntries(
		['rate', 'p50', 'p99', 'p999', 'cpu'].map((name) => [name, median(runs.map((one) => one[name]))]),
	),
	errors: runs.reduce((sum, { errors }) => sum + errors, 0),
	answered: runs.reduce((sum, { answered }) => sum + answered, 0),
});
