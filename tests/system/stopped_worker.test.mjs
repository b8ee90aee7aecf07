// A worker that is stopped (SIGSTOP) under load: its siblings accept for it, who was on its connections loses
// them and comes back to a sibling, nobody waits for longer than LATE, and it is ended and replaced.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, freeze, isAlive, isSanitized, Margay, servedPorts, until } from './harness.mjs';
import { Driver, startLoadUpstream, total } from './driver.mjs';

const LATE = 3000; // ms
const ADOPTED = 2000; // ms

test('a worker that is stopped holds up none but its own clients', {
	timeout: 120_000,
	skip: !binary ? 'needs MARGAY_BIN' : isSanitized() ? 'its times are those of a fast binary' : false,
}, async (t) => {
	const upstream = await startLoadUpstream();
	t.after(() => upstream.child.stop());
	const margay = await Margay.start({ upstream: upstream.url, config: { log: { access: false } } });
	t.after(() => margay.stop());
	const driver = Driver.start(margay.url, {
		keepalive: 16,
		connects: 8,
		streams: 8,
		late: LATE,
		timeout: 60_000,
		silence: 60_000,
		rows: 5000,
	});
	t.after(() => driver.child.stop());
	await driver.until('all are served', (report) => total(report, 'answered') > 1000);
	// A master that could not watch for long, so also one that has just begun, judges nobody for two seconds.
	const { workers } = await until('the watchdog is awake', async () => {
		const status = await margay.status();
		return status.uptime_seconds > 4 && status;
	});
	const worker = workers[1];
	const stopped = Date.now();
	assert.ok(freeze(worker.pid));
	const ports = servedPorts(worker.pid, margay.port);
	const told = (message) =>
		until(message, () =>
			margay.log().find((line) => line.child_pid === worker.pid && line.message === message),
			{ timeout: 20_000 },
		).then(({ time }) => Date.parse(time) - stopped);
	const adopted = await told('does not turn: its siblings accept for it');
	assert.ok(adopted <= ADOPTED, `${adopted} ms`);
	const aborted = await told('did not turn for too long: aborted');
	assert.ok(aborted >= 9000 && aborted <= 12_000, `${aborted} ms`);
	await until('the stopped worker is killed', () => !isAlive(worker.pid));
	const killed = Date.now() - stopped;
	assert.ok(killed <= 15_000, `${killed} ms`);
	const { pid } = await until('another one has its place', async () =>
		(await margay.status()).workers.find(
			({ number, pid: other, state }) => number === worker.number && other !== worker.pid && state === 'accepting',
		),
	);
	assert.notEqual(pid, worker.pid);
	// All who lost a connection have had another for a while.
	const answered = (report) => total(report, 'answered');
	const before = answered(await driver.report());
	await driver.until('all are served again', (report) => answered(report) > before + 10_000);
	const report = await driver.stop();

	// Control: without hangup.c they are lost when it is killed.
	const explained = ({ failure, port, t: at }) =>
		['reset', 'closed'].includes(failure) && ports.has(port) && at >= stopped && at <= stopped + LATE;
	const { failures } = report;
	const lost = Math.max(...failures.map(({ t: at }) => at - stopped));
	const waited = Math.max(...Object.values(report.kinds).map(({ latency_us: { max } }) => max / 1000));
	t.diagnostic(JSON.stringify({ adopted, lost, aborted, killed, held: ports.size, failed: failures.length, waited, requests: total(report, 'requests') }));
	assert.deepEqual(failures.filter((row) => !explained(row)), []);
	assert.equal(failures.length, report.failed);
	assert.ok(failures.length > 0, 'those who were on its connections are seen to have lost them');
});
