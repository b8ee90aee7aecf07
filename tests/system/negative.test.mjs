// Whether the check of reload under load would see what it is there for: the same check with two builds
// that are wrong on purpose (tests/faults/) must see requests fail, and none with the real one.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { binary, Margay, until } from './harness.mjs';
import { Control } from './control.mjs';
import { Driver, failed, startLoadUpstream, total } from './driver.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const CLIENTS = { keepalive: 16, connects: 64 };
const RELOADS = 80; // that must do no harm
const PATIENCE = 20_000; // ms for harm to be seen

const faulty = (name) => path.join(path.dirname(binary), 'tests', `margay-${name}`);

// Reload again and again under load: the driver's report when one of `wanted` was seen, or else after
// `count` reloads or PATIENCE.
async function reloadUnderLoad(t, program, { count = Infinity, wanted = [], clients = CLIENTS } = {}) {
	assert.ok(fs.existsSync(program), `${program} was not built`);
	const upstream = await startLoadUpstream();
	t.after(() => upstream.child.stop());
	const margay = await Margay.start({
		upstream: upstream.url,
		program,
		config: { workers: 2, log: { level: 'warn' } },
	});
	t.after(() => margay.stop());
	const driver = Driver.start(margay.url, clients);
	t.after(() => driver.child.stop());
	const control = await Control.open(margay);
	const seen = (report) => wanted.some((kind) => failed(report, kind) > 0);
	const deadline = Date.now() + PATIENCE;
	let reloads = 0;
	let report = await driver.report();
	for (; reloads < count && Date.now() < deadline && !seen(report); reloads++) {
		const { ok, message } = await control.ask('reload');
		assert.ok(ok, message);
		// Each client comes to the new workers.
		const goal = total(report, 'answered') + 2 * (clients.keepalive + clients.connects);
		report = await driver.until('clients were served', (now) => total(now, 'answered') >= goal || seen(now));
	}
	control.close();
	const { failures, ...rest } = await driver.stop();
	const requests = total(rest, 'requests');
	t.diagnostic(JSON.stringify({ reloads, requests, failed: rest.failed }));
	return { reloads, failures, requests, seen: seen(rest) };
}

describe('reload under load', OPTIONS, () => {
	test('fails no request', async (t) => {
		const { failures, reloads } = await reloadUnderLoad(t, binary, { count: RELOADS });
		assert.deepEqual(failures, []);
		assert.equal(reloads, RELOADS, `not in ${PATIENCE} ms`);
	});

	for (const [what, name, wanted] of [
		['listeners of the workers themselves: connections refused or reset', 'own-listeners', ['refused', 'reset']],
		['no lingering: calls on connections that were kept cut off', 'no-linger', ['reset', 'closed']],
	])
		test(`shows ${what}`, async (t) => {
			const { reloads, requests, seen } = await reloadUnderLoad(t, faulty(name), { wanted });
			assert.ok(seen, `${reloads} reloads, ${requests} requests`);
		});
});
