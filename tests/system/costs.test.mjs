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

async function drive(margay, { kind, era }, calls) {
	const { answered } = (
		await Driver.start(margay.url, { [kind]: 1, era, calls, seconds: 40, late: 0 }).end()
	).kinds[`${kind}_${era}`];
	assert.equal(answered, calls);
}

const CASES = [
	{ title: 'a modern request takes a worker four system calls', kind: 'keepalive', era: 'modern', most: 4 },
	{ title: 'a legacy request takes a worker four system calls', kind: 'keepalive', era: 'legacy', most: 4 },
	{ title: 'a connection takes two more: accept and close', kind: 'connects', era: 'modern', most: 6 },
];

for (const { title, most, ...load } of CASES)
	test(title, OPTIONS, async (t) => {
		const upstream = await startLoadUpstream();
		t.after(() => upstream.stop());
		const margay = await Margay.start({ upstream: upstream.url, config: { workers: 1 } });
		t.after(() => margay.stop());
		await drive(margay, load, 10);
		const { workers } = await margay.status();
		const strace = new Child('strace', ['-c', '-f', '-p', String(workers[0].pid)]);
		await strace.output(/attached/);
		await drive(margay, load, CALLS);
		const { stderr } = await strace.stop({ signal: 'SIGINT' });
		const calls = counts(stderr);
		t.diagnostic(JSON.stringify(calls));
		const sum = Object.entries(calls)
			.filter(([name]) => !WAITING.test(name))
			.reduce((total, [, count]) => total + count, 0);
		// strace saw it; a tenth beside is for heartbeats, the log, and what began the run.
		assert.ok(sum >= (most - 0.1) * CALLS, `only ${sum}: ${stderr}`);
		assert.ok(sum <= (most + 0.1) * CALLS, `${sum / CALLS} calls a request: ${stderr}`);
	});
