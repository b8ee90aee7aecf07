// What a proxied request costs in system calls: read, write, read, write. strace counts those of the worker.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, Child, isSanitized, Margay } from './harness.mjs';
import { Driver, startLoadUpstream } from './driver.mjs';

const OPTIONS = {
	timeout: 60_000,
	skip: !binary ? 'needs MARGAY_BIN' : isSanitized() ? 'a sanitizer maps memory of its own' : false,
};

const CALLS = 1000;
const WAITING = /^epoll_/; // counted by turns of the loop, which requests share

// Calls by name, from the table of `strace -c`.
const counts = (table) =>
	Object.fromEntries(
		[...table.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z]\w*)$/gm)]
			.filter(([, , name]) => name !== 'total')
			.map(([, calls, name]) => [name, Number(calls)]),
	);

async function drive(margay, era, calls) {
	const { answered } = (
		await Driver.start(margay.url, { keepalive: 1, era, calls, seconds: 40, late: 0 }).end()
	).kinds[`keepalive_${era}`];
	assert.equal(answered, calls);
}

for (const era of ['modern', 'legacy'])
	test(`a ${era} request takes a worker four system calls`, OPTIONS, async (t) => {
		const upstream = await startLoadUpstream();
		t.after(() => upstream.stop());
		const margay = await Margay.start({ upstream: upstream.url, config: { workers: 1 } });
		t.after(() => margay.stop());
		await drive(margay, era, 10);
		const { workers } = await margay.status();
		const strace = new Child('strace', ['-c', '-f', '-p', String(workers[0].pid)]);
		await strace.output(/attached/);
		await drive(margay, era, CALLS);
		const { stderr } = await strace.stop({ signal: 'SIGINT' });
		const calls = counts(stderr);
		t.diagnostic(JSON.stringify(calls));
		const sum = Object.entries(calls)
			.filter(([name]) => !WAITING.test(name))
			.reduce((total, [, count]) => total + count, 0);
		// strace saw it; a tenth beside the four is for heartbeats, the log, and what began the run.
		assert.ok(sum >= 3.9 * CALLS, `only ${sum}: ${stderr}`);
		assert.ok(sum <= 4.1 * CALLS, `${sum / CALLS} calls a request: ${stderr}`);
	});
