// Very many reloads: whatever lives on is as small afterwards as it was before: descriptors, memory,
// mappings, processes. Clients call all the while and notice nothing.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { binary, freePorts, Margay, RawSession, residentBytes, ScriptedServer, until } from './harness.mjs';
import { Control } from './control.mjs';
import { Load } from './load.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };
const MIB = 1 << 20;

const lines = (path) => fs.readFileSync(path, 'utf8').trim().split('\n');
const parentOf = (pid) => Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[1]);

function childrenOf(parent) {
	return fs.readdirSync('/proc').filter((name) => {
		try {
			return /^\d+$/.test(name) && parentOf(name) === parent;
		} catch {
			return false;
		}
	}).length;
}

// What a process holds.
const holdings = (pid) => ({
	descriptors: fs.readdirSync(`/proc/${pid}/fd`).length,
	shared: lines(`/proc/${pid}/maps`).filter((map) => /^\S+ \S{3}s /.test(map)).length,
	memfds: lines(`/proc/${pid}/maps`).filter((map) => map.includes('/memfd:')).length,
});

describe('many reloads', OPTIONS, () => {
	const bench = {};
	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.margay = await Margay.start({
			upstream: bench.server.url,
			// Connections to upstreams that nobody uses are not to be counted.
			config: { workers: 1, timeouts: { upstream_idle: '100ms' }, log: { level: 'warn' } },
		});
		const [port] = await freePorts(1);
		const small = fs.readFileSync(bench.margay.file);
		const written = (change) => {
			bench.margay.write(change);
			return fs.readFileSync(bench.margay.file);
		};
		bench.large = written({ workers: 3, routes: { '/more': { upstream: 'main' } } });
		bench.wide = written({
			listen: [...bench.margay.config.listen, { address: `127.0.0.1:${port}` }],
		});
		bench.small = small;
		bench.control = await Control.open(bench.margay);
		bench.session = await RawSession.open(bench.margay.url);
	});
	after(async () => {
		await bench.load?.stop();
		bench.control?.close();
		await bench.margay?.stop();
		await bench.server?.stop();
	});

	// An even number, so that the configuration is the first one again. An address that goes holds its
	// generation for two seconds, so that not every time one does.
	async function reload(count) {
		bench.load = Load.start([bench.session], 4, { pause: 10 });
		for (let n = 0; n < count; n++) {
			const more = n % 100 === 0 ? bench.wide : bench.large;
			fs.writeFileSync(bench.margay.file, n % 2 ? bench.small : more);
			const { ok, message } = await bench.control.ask('reload');
			assert.ok(ok, message);
		}
		await bench.load.more(2);
		await bench.load.stop();
		assert.deepEqual(bench.load.failures, []);
	}

	// All that there is, once the older generations are gone.
	async function measure() {
		const status = await until('only one generation is left, and no connection', async () => {
			const now = await bench.control.ask('status');
			const { upstreams } = await bench.control.ask('upstreams');
			const open = now.workers[0].connections + upstreams[0].connections;
			// Broker, keeper and one worker, and those that status has named.
			return now.workers.length === 1 && childrenOf(now.pid) === 3 && open === 0 && now;
		});
		const { pid, broker, keeper, workers } = status;
		const pids = { master: pid, broker: broker.pid, keeper: keeper.pid, worker: workers[0].pid };
		const names = Object.keys(pids);
		const each = (probe) => Object.fromEntries(names.map((name) => [name, probe(pids[name])]));
		// Whose worker is gone is seen by one after the other.
		let held = each(holdings);
		let same = 0;
		await until(
			'all have closed what they close',
			() => {
				const before = held;
				held = each(holdings);
				same = isDeepStrictEqual(held, before) ? same + 1 : 0;
				return same > 5;
			},
			{ every: 50 },
		);
		return { generation: status.generation, held, memory: each(residentBytes) };
	}

	// Control: a descriptor of each generation that is not closed (the copy of its configuration, say)
	// stands here as hundreds more in the master.
	test('nothing grows', async (t) => {
		const [first, all] = bench.margay.sanitized ? [20, 100] : [50, 1000];
		await reload(first);
		const early = await measure();
		const began = Date.now();
		await reload(all - first);
		t.diagnostic(`${all - first} reloads in ${Date.now() - began} ms`);
		const late = await measure();
		assert.equal(late.generation, early.generation + all - first);
		assert.deepEqual(late.held, early.held);
		t.diagnostic(`resident before ${JSON.stringify(early.memory)}, after ${JSON.stringify(late.memory)}`);
		// Sanitizers keep freed memory for a while.
		if (bench.margay.sanitized) return;
		for (const [name, bytes] of Object.entries(late.memory))
			assert.ok(bytes < early.memory[name] + MIB, `${name}: ${early.memory[name]}, then ${bytes}`);
	});
});
