// A keeper that is dead at the very moment of an upgrade's hand-over: the new master fills its place. Missing
// that, it runs on without one for good. (A broker is waited for before, by the new workers.)
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, killPid, Margay, until } from './harness.mjs';
import { Control } from './control.mjs';

const WAIT = 1500; // ms between two starts, longer than an upgrade takes

test('an upgrade while the keeper waits to be started again', {
	timeout: 60_000,
	skip: binary ? false : 'needs MARGAY_BIN',
}, async (t) => {
	const margay = await Margay.start({ config: { workers: 2 } });
	t.after(() => margay.stop());
	const waits = () =>
		margay.log().filter((line) => line.message === 'will be restarted' && line.child === 'keeper');
	const serving = async () => {
		const { pid, keeper } = await margay.status();
		return keeper.state === 'accepting' && { master: pid, keeper: keeper.pid };
	};
	// Each death makes the next wait longer.
	for (let deaths = 0; (waits().at(-1)?.after_ms ?? 0) < WAIT; deaths++) {
		const { keeper } = await until('the keeper serves', serving);
		killPid(keeper, 'SIGKILL');
		await until('its death is seen', () => waits().length > deaths);
	}
	const old = margay.pid;
	const control = await Control.open(margay);
	const { ok, message } = await control.ask('upgrade');
	control.close();
	assert.ok(ok, message);
	const { master } = await until('the new master has a keeper', serving, { timeout: 5000 });
	assert.notEqual(master, old);
});
