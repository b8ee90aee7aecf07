// Instructions and allocations of a worker for one request of each kind, counted by callgrind and held
// against instructions.json: scripts/instructions. A build without metrics shows what counting costs.
//
// The driver calls one after the other on one connection, so every run does the same. The marker is that a client
// connects.
import fs from 'node:fs';
import path from 'node:path';
import { Margay, request } from '../system/harness.mjs';
import { startLoadUpstream } from '../system/driver.mjs';
import { node } from '../system/upstreams.mjs';
import { countCalls, underCallgrind } from './callgrind.mjs';
import { drive } from './measure.mjs';

const CALLS = 600;
const SLACK = 0.05;
const METRICS_MOST = 0.01; // of a request's instructions

const recordFile = path.join(import.meta.dirname, 'instructions.json');
const programIn = (build) => path.join(build, 'tests/margay-under-valgrind');
const program = programIn(path.dirname(process.env.MARGAY_BIN));
const stdioServer = path.join(import.meta.dirname, '../system/stdio/stateless.mjs');

const KINDS = {
	modern: { era: 'modern', upstream: 'small' },
	legacy: { era: 'legacy', upstream: 'small' },
	modern_16k: { era: 'modern', upstream: 'large' },
	modern_sse: { era: 'modern', upstream: 'events' },
	modern_sse_16k: { era: 'modern', upstream: 'large_events' },
	stdio_modern: { era: 'modern', upstream: 'stdio_modern' },
	stdio_legacy: { era: 'legacy', upstream: 'stdio_legacy' },
};

const stdio = (era) => ({ stdio: { command: node, args: [stdioServer, era], sharing: 'shared' } });

async function start(program, upstreams) {
	const http = ({ url }) => ({ http: { url } });
	const margay = await Margay.prepare({
		program,
		config: {
			workers: 1,
			upstreams: {
				main: undefined,
				small: http(upstreams[0]),
				large: http(upstreams[1]),
				events: http(upstreams[2]),
				large_events: http(upstreams[3]),
				stdio_modern: stdio('modern'),
				stdio_legacy: stdio('legacy'),
			},
			routes: {
				'/mcp': undefined,
				...Object.fromEntries(
					Object.entries(KINDS).map(([name, { upstream }]) => [`/${name}`, { upstream }]),
				),
			},
		},
	});
	await margay.run({ under: underCallgrind(margay.dir, ['conn_open']) });
	return margay;
}

async function callOften(margay, kind, calls) {
	const load = { era: KINDS[kind].era, connections: 1, calls, seconds: 60, timeout: 60_000 };
	const { answered, errors, why } = await drive(`${margay.origin}/${kind}`, load);
	if (errors || answered !== calls) throw new Error(`${kind}: ${answered} of ${calls}: ${why}\n${margay.report()}`);
}

async function measure(margay, kinds) {
	const { workers } = await margay.status();
	const worker = { pid: workers[0].pid, mark: () => request(`${margay.admin}/healthz`) };
	const figures = {};
	for (const kind of kinds)
		[figures[kind]] = await countCalls(margay.dir, [worker], CALLS, (calls) => callOften(margay, kind, calls));
	return figures;
}

async function run(program, kinds) {
	const upstreams = [
		await startLoadUpstream(),
		await startLoadUpstream('--bytes', 16384),
		await startLoadUpstream('--sse'),
		await startLoadUpstream('--sse', '--bytes', 16384),
	];
	const margay = await start(program, upstreams);
	let figures;
	try {
		figures = await measure(margay, kinds);
	} finally {
		await margay.stop({ deadline: 60_000 });
		for (const upstream of upstreams) await upstream.stop();
	}
	return figures;
}

const figures = await run(program, Object.keys(KINDS));
if (process.argv[2] === '--record') {
	const lines = Object.entries(figures).map(([kind, figure]) => {
		const { instructions, allocations } = figure;
		return `\t"${kind}": ${JSON.stringify({ instructions, allocations })}`;
	});
	fs.writeFileSync(recordFile, `{\n${lines.join(',\n')}\n}\n`);
}
const recorded = JSON.parse(fs.readFileSync(recordFile, 'utf8'));
for (const [kind, { instructions, allocations, by }] of Object.entries(figures)) {
	const before = recorded[kind];
	const change = before ? instructions / before.instructions - 1 : Infinity;
	const bad = change > SLACK || allocations > before.allocations + 0.05;
	console.log(
		`${bad ? 'FAIL' : 'ok  '} ${kind.padEnd(14)} ${String(instructions).padStart(7)} instructions` +
			` (${(100 * change).toFixed(2)} %)  ${allocations} allocations`,
		by,
	);
	if (bad) process.exitCode = 1;
}
if (process.exitCode) console.log('If it must be so: scripts/instructions BUILD_DIR --record');

// A busy machine adds turns of the loop that no request asked for, to either build: of each, the least of at most
// three tries counts.
async function shareOfMetrics(kinds) {
	const least = Object.fromEntries(kinds.map((kind) => [kind, { counted: Infinity, uncounted: Infinity }]));
	const share = (kind) => least[kind].counted / least[kind].uncounted - 1;
	const keep = (build, found) => {
		for (const kind of kinds) least[kind][build] = Math.min(least[kind][build], found[kind].instructions);
	};
	keep('counted', figures);
	for (let tries = 1; tries <= 3; tries++) {
		keep('uncounted', await run(programIn(process.env.MARGAY_WITHOUT_METRICS), kinds));
		if (kinds.every((kind) => share(kind) < METRICS_MOST)) break;
		keep('counted', await run(program, kinds));
	}
	return Object.fromEntries(kinds.map((kind) => [kind, share(kind)]));
}

for (const [kind, share] of Object.entries(await shareOfMetrics(['modern', 'legacy']))) {
	const bad = share >= METRICS_MOST;
	console.log(`${bad ? 'FAIL' : 'ok  '} ${kind.padEnd(13)} metrics cost ${(100 * share).toFixed(2)} % of it`);
	if (bad) process.exitCode = 1;
}
