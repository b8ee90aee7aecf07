// Churn in short (churn.mjs); scripts/churn has the hour. A record of 100 bytes that each session left would be
// more than is allowed.
import { test } from 'node:test';
import { binary, isSanitized } from './margay.mjs';
import { judgeChurn, runChurn } from './churn.mjs';

test('what is abandoned costs nothing once it has expired', {
	timeout: 120_000,
	skip: !binary ? 'needs MARGAY_BIN' : isSanitized() ? 'a sanitizer keeps memory of its own' : false,
}, async (t) => {
	const result = await runChurn({ seconds: 20, clients: 400 });
	const { samples, ...figures } = result;
	t.diagnostic(JSON.stringify(figures));
	judgeChurn(result);
});
