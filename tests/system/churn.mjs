// Churn: sessions, connections and event streams that are opened and abandoned, for as long as one likes. Memory,
// descriptors and the broker's journal must not grow with their number, and once all have expired there is as
// much as there was before.
import net from 'node:net';
import assert from 'node:assert/strict';
import { Driver, startLoadUpstream, total } from './driver.mjs';
import { footprint, processesOf, settledFootprint } from './footprint.mjs';
import { Margay } from './margay.mjs';
import { until } from './process.mjs';

const KiB = 1024;
const SLACK = 384 * KiB; // pages that the allocator has not given back
const EXPIRY = 2; // seconds
const ROUND = 1; // seconds
const WARM_UP = 10; // rounds, after which buffers, tables and the allocator have what they need
const GAUGES = ['margay_sessions_active', 'margay_streams_open', 'margay_upstream_connections_open'];

// Clients that go in the middle of a request.
function tear(port, count) {
	const text = 'POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{';
	const one = (n) =>
		new Promise((resolve) => {
			const socket = net.connect(port, '127.0.0.1', () =>
				socket.write(text.slice(0, Math.ceil((text.length * (n + 1)) / count)), () => socket.destroy()),
			);
			socket.on('error', () => {}).once('close', resolve);
		});
	return Promise.all(Array.from({ length: count }, (_, n) => one(n)));
}

// Every client of a round has a session, if of the legacy era, and leaves it behind.
async function churnOnce(margay, clients) {
	const options = { seconds: ROUND, rate: 2, late: 0, era: 'both', silence: 0 };
	const driver = Driver.start(margay.url, {
		...options,
		keepalive: clients,
		connects: clients / 4,
		streams: clients / 2,
	});
	await tear(margay.port, 20);
	const report = await driver.end();
	assert.equal(report.failed, 0, JSON.stringify(report));
	return total(report, 'answered');
}

// All that was opened has ended, here and at the upstream.
async function settle(margay, pids) {
	await until(
		'all has expired',
		async () => {
			const metrics = await margay.metrics();
			const clients = metrics.sum('margay_connections_open') - 1; // but for who asks
			return clients === 0 && GAUGES.every((name) => metrics.sum(name) === 0);
		},
		{ timeout: 60_000, every: 200 },
	);
	return settledFootprint(pids);
}

// { start, end, samples: [{ seconds, memory, journal, descriptors }], sessions, calls }; `start` and `end` are when
// all has expired.
export async function runChurn({ seconds, clients, workers = 2, tell = () => {} }) {
	const upstream = await startLoadUpstream('--every', 100, '--sessions', 1_000_000);
	const margay = await Margay.start({
		upstream: upstream.url,
		config: {
			workers,
			sessions: { idle_timeout: `${EXPIRY}s` },
			limits: { connections_per_client: 0 },
			timeouts: { upstream_idle: '1s' },
			log: { level: 'warn', access: false },
		},
	});
	try {
		const pids = await processesOf(margay);
		for (let round = 0; round < WARM_UP; round++) await churnOnce(margay, clients);
		const result = { start: await settle(margay, pids), samples: [], calls: 0 };
		const created = async () => (await margay.metrics()).sum('margay_sessions_created_total');
		const before = await created();
		const begun = Date.now();
		while (Date.now() - begun < seconds * 1000) {
			result.calls += await churnOnce(margay, clients);
			result.samples.push({ seconds: (Date.now() - begun) / 1000, ...footprint(pids) });
			tell(result.samples.at(-1));
		}
		result.end = await settle(margay, pids);
		result.sessions = (await created()) - before;
		assert.deepEqual(await processesOf(margay), pids, 'a process has died');
		return result;
	} finally {
		await margay.stop();
		await upstream.stop();
	}
}

const middle = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

// How much more there is in the last third of the samples than in the second.
function growth(samples, name) {
	const third = Math.floor(samples.length / 3);
	const [second, last] = [samples.slice(third, 2 * third), samples.slice(-third)];
	return middle(last.map((one) => one[name])) - middle(second.map((one) => one[name]));
}

// Throws when something grew.
export function judgeChurn({ start, end, samples, sessions }) {
	const figures = JSON.stringify({ start, end, sessions, growth: growth(samples, 'memory') });
	assert.equal(end.descriptors, start.descriptors, `descriptors were left: ${figures}`);
	assert.ok(end.memory - start.memory <= SLACK, `memory was left: ${figures}`);
	assert.ok(growth(samples, 'memory') <= SLACK, `memory grew: ${figures}`);
	// Compaction begins at 1 MiB and writes what is alive, at most half of that, beside it.
	for (const { journal } of [...samples, end])
		assert.ok(journal <= 2048 * KiB, `the journal has ${journal} bytes: ${figures}`);
}
