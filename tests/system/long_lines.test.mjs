// Long messages to and from stdio children, and the calls of others meanwhile (docs/event-loop.md). What the keeper
// does in one go for each is a long turn of its loop for each, and turns are counted by length
// (margay_loop_busy_seconds). The processes that are measured run before everything else (SCHED_FIFO), as in
// neighbours.test.mjs.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, isSanitized, Margay, RawSession, run, scrape } from './harness.mjs';
import { hostile, textOf } from './stdio.mjs';

const LONG = 4 * 1024 * 1024 - 4096; // bytes; limits.line is 4 MiB
const LINES = 12;
const TURN = 0.004096; // seconds: longer turns are counted; a bound of the histogram
const TRIES = 3; // a machine that stumbles has others

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };

describe('long lines', OPTIONS, () => {
	let margay;
	let allowed; // to run before others
	let bad; // the session of who is loud
	let good;

	before(async () => {
		margay = await Margay.start({
			config: {
				workers: 1,
				log: { access: false },
				limits: { body_size: 4 * 1024 * 1024 },
				upstreams: { main: { http: undefined, stdio: hostile() }, good: { stdio: hostile() } },
				routes: { '/mcp': { upstream: 'main' }, '/good': { upstream: 'good' } },
			},
		});
		bad = await RawSession.open(margay.url);
		good = await RawSession.open(`${margay.origin}/good`);
		const { keeper, workers } = await margay.status();
		const first = await Promise.all(
			[keeper.pid, workers[0].pid].map((pid) => run('chrt', ['--fifo', '--pid', '1', String(pid)])),
		);
		allowed = !isSanitized() && first.every(({ code }) => code === 0);
	});
	after(() => margay?.stop());

	async function longTurns() {
		const now = await scrape(margay.admin);
		const name = 'margay_loop_busy_seconds';
		return now.sum(`${name}_count`) - now.sum(`${name}_bucket`, { le: String(TURN) });
	}
	// `work` makes LINES long messages; meanwhile another child is called. Fewer than every fourth is felt.
	async function bear(t, work) {
		for (let tries = TRIES; ; tries--) {
			const turns = await longTurns();
			let calls = 0;
			let busy = true;
			const others = (async () => {
				for (; busy || calls < 10; calls++)
					assert.equal(textOf(await good.call('echo', { text: `call ${calls}` })), `call ${calls}`);
			})();
			try {
				await work();
			} finally {
				busy = false;
				await others;
			}
			const more = (await longTurns()) - turns;
			t.diagnostic(JSON.stringify({ calls, turns: more }));
			if (!allowed || more < LINES / 4) return;
			assert.ok(tries > 1, `${more} turns over ${TURN} s`);
		}
	}

	// Control: scanned in one go (SCANNING_SHORT of 64 MiB), each takes a turn of 10 ms.
	test('of a child that nobody asked for', (t) =>
		bear(t, async () => assert.equal(textOf(await bad.call('shout', { lines: LINES, bytes: LONG })), 'shouted')));

	test('that are answers', (t) =>
		bear(t, async () => {
			const count = LONG / 2 - 1000;
			for (let n = 0; n < LINES; n++)
				assert.equal(textOf(await bad.call('lines', { count })), '\n'.repeat(count));
		}));

	// Control: with its end seen before what it said was scanned, a call that fails.
	test('that are last words', async () => {
		for (let n = 0; n < LINES; n++) {
			const session = await RawSession.open(`${margay.origin}/good`);
			const bytes = LONG - 1000;
			assert.equal(textOf(await session.call('end', { bytes })), 'x'.repeat(bytes));
		}
	});

	test('for a child', (t) =>
		bear(t, async () => {
			const said = '\n'.repeat(LONG / 2 - 1000);
			for (let n = 1; n <= LINES; n++)
				assert.match(textOf(await bad.call('counter', { said })), /^\d+ \d+$/);
		}));
});
