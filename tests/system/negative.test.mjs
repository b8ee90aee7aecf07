// Whether the storm would see what it is there for: the same short storm over two builds that are wrong on purpose
// (tests/faults/) must end with failures that nothing explains, and without any over the real one.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { binary, isSanitized } from './margay.mjs';
import { judge, runStorm } from './storm.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const STORM = {
	seconds: 6,
	reloads: 5,
	upgrades: 1,
	kills: 1,
	takeovers: 0,
	keepalive: 16,
	connects: 64,
	streams: 4,
	late: 5000,
};

async function storm(t, program, options) {
	assert.ok(fs.existsSync(program), `${program} was not built`);
	const seed = Number(process.env.MARGAY_SEED ?? 1);
	const result = await runStorm({ ...STORM, program, seed, ...options });
	const kinds = {};
	for (const { failure } of result.unexplained) kinds[failure] = (kinds[failure] ?? 0) + 1;
	const { requests, reloads, upgrades, kills, failures } = result;
	t.diagnostic(JSON.stringify({ requests, reloads, upgrades, kills, failures, kinds }));
	return { result, kinds };
}

describe('a short storm', OPTIONS, () => {
	test('fails no request', async (t) => {
		const { result } = await storm(t, binary);
		judge(result);
	});

	// Another master would refuse listeners that do not listen.
	const OWN = { reloads: 6, upgrades: 0 };
	for (const [what, name, wanted, options] of [
		['listeners of the workers themselves: connections refused or reset', 'own-listeners', ['refused', 'reset'], OWN],
		['no lingering: calls on connections that were kept cut off', 'no-linger', ['reset', 'closed'], {}],
	])
		test(`shows ${what}`, async (t) => {
			const program = path.join(path.dirname(binary), 'tests', `margay-${name}`);
			const { result, kinds } = await storm(t, program, options);
			assert.ok(wanted.some((kind) => kinds[kind] > 0), JSON.stringify(kinds));
			assert.throws(() => judge(result), /failures are not a killed worker's/);
		});
});
