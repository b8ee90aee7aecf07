// What waits costs little memory: a session in all processes, a connection and an event stream in its worker.
// docs/benchmarks.md has the figures of many more of each.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, isSanitized } from './margay.mjs';

const OPTIONS = {
	timeout: 60_000,
	skip: !binary ? 'needs MARGAY_BIN' : isSanitized() ? 'a sanitizer keeps memory of its own' : false,
};

// Sessions are more, for the journal and the broker's tables grow by steps.
const rows = [
	['session', 4000, 1024],
	['connection', 1000, 1024],
	['get_stream', 1000, 2048],
	['listen_stream', 1000, 2048],
	['listen_stream_translated', 1000, 2048],
	['get_stream_translated', 1000, 2048],
	['get_stream_alone', 1000, 2048],
];

for (const [kind, count, bytes] of rows)
	test(`an idle ${kind.replaceAll('_', ' ')} costs at most ${bytes} bytes`, OPTIONS, async (t) => {
		const { measureKind } = await import('../bench/memory.mjs');
		const { each } = await measureKind(kind, { count });
		t.diagnostic(`${Math.round(each)} bytes`);
		assert.ok(each > 0 && each <= bytes, `${Math.round(each)} bytes each`);
	});
