// Instructions and allocations of a worker for one request of each kind, counted by callgrind and held
// against instructions.json: scripts/instructions. A build without metrics shows what counting costs.
//
// The driver calls one after the other on one connection, so every run does the same. callgrind begins
// a new file where a client's connection begins (--dump-before). A run of CALLS and one of twice as many
// differ by CALLS requests, and by nothing else.
import fs from 'node:fs';
import path from 'node:path';
import { Margay, request, until } from '../system/harness.mjs';
import { Driver, startLoadUpstream } from '../system/driver.mjs';
import { node } from '../system/upstreams.mjs';
import { perRequest, readProfile } from './callgrind.mjs';

const CALLS = 600;
const WARM_UP = 30; // connections, sessions and children are there after it
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
	const under = [
		'valgrind',
		'-q',
		'--tool=callgrind',
		`--callgrind-out-file=${margay.dir}/callgrind.%p`,
		'--dump-before=conn_open',
	];
	await margay.run({ under });
	return margay;
}

async function drive(margay, kind, calls) {
	const { era } = KINDS[kind];
	const options = { keepalive: 1, era, calls, seconds: 60, late: 0, timeout: 60_000, rows: 5 };
	const report = await Driver.start(`${margay.origin}/${kind}`, options).end();
	const { answered } = report.kinds[`keepalive_${era}`];
	if (report.code !== 0 || report.failed > 0 || answered !== calls)
		throw new Error(`${kind}: ${JSON.stringify(report)}\n${margay.report()}`);
}

// The files of a process in the order in which they were begun; the last is that of its end.
const profiles = (margay, pid) =>
	fs
		.readdirSync(margay.dir)
		.map((name) => /^callgrind\.(\d+)\.(\d+)$/.exec(name))
		.filter((match) => Number(match?.[1]) === pid)
		.sort((a, b) => a[2] - b[2])
		.map(([name]) => path.join(margay.dir, name));

async function measure(margay, kinds) {
	const { workers } = await margay.status();
	const pid = workers[0].pid;
	const figures = {};
	const mark = async () => {
		const before = profiles(margay, pid).length;
		await request(`${margay.admin}/healthz`);
		return until('a profile', () => {
			const files = profiles(margay, pid);
			return files.length > before && files.at(-1);
		});
	};
	for (const kind of kinds) {
		await drive(margay, kind, WARM_UP);
		await drive(margay, kind, CALLS);
		const less = readProfile(await mark());
		await drive(margay, kind, 2 * CALLS);
		const more = readProfile(await mark());
		figures[kind] = perRequest(less, more, CALLS);
	}
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

// A busy machine adds turns of the loop that no request asked for, to either build: the least of three tries counts.
async function shareOfMetrics(kinds) {
	const shares = Object.fromEntries(kinds.map((kind) => [kind, Infinity]));
	for (let tries = 3; tries > 0 && Object.values(shares).some((share) => share >= METRICS_MOST); tries--) {
		const counted = tries === 3 ? figures : await run(program, kinds);
		const uncounted = await run(programIn(process.env.MARGAY_WITHOUT_METRICS), kinds);
		for (const kind of kinds) {
			const share = counted[kind].instructions / uncounted[kind].instructions - 1;
			shares[kind] = Math.min(shares[kind], share);
		}
	}
	return shares;
}

for (const [kind, share] of Object.entries(await shareOfMetrics(['modern', 'legacy']))) {
	const bad = share >= METRICS_MOST;
	console.log(`${bad ? 'FAIL' : 'ok  '} ${kind.padEnd(13)} metrics cost ${(100 * share).toFixed(2)} % of it`);
	if (bad) process.exitCode = 1;
}
