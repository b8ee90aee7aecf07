// A short storm (storm.mjs), with figures as diagnostics; scripts/storm has the long one. MARGAY_SEED=N makes another.
import { test } from 'node:test';
import { binary, isSanitized } from './margay.mjs';
import { judge, runStorm } from './storm.mjs';

const seed = Number(process.env.MARGAY_SEED ?? 1);
const slow = { seconds: 40, reloads: 8, kills: 8, keepalive: 8, connects: 4, streams: 8, late: 5000 };

test('no request fails in a storm, but those on connections of killed workers', {
	timeout: 240_000,
	skip: binary ? false : 'needs MARGAY_BIN',
}, async (t) => {
	const result = await runStorm({ seed, ...(isSanitized() ? slow : {}) });
	const { rows, unexplained, log, said, ...figures } = result;
	t.diagnostic(JSON.stringify(figures));
	judge(result);
});
