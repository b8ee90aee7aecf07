// The official conformance suite against the fixture, directly and through Margay, which reaches it
// by HTTP and by stdio. Fails unless the fixture passes every check directly (so that a broken
// fixture cannot hide a fault) and every check that passes directly also passes through Margay.
//
//   MARGAY_BIN=PATH node run.mjs [--requirements 2025-11-25] [--scenario NAME]
//
// Without MARGAY_BIN only the direct part runs. In the dns-rebinding scenario the parts test
// different code: directly the SDK's guard, through Margay Margay's own.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startFixture } from './fixture.mjs';
import { binary, conformance, Margay, node, run } from '../system/harness.mjs';

const { values: options } = parseArgs({
	options: {
		requirements: { type: 'string', default: '2025-11-25' },
		scenario: { type: 'string' },
	},
});

// The suite's verdicts that count; INFO and SKIPPED say nothing about the server.
const PASSED = 'SUCCESS';
const COUNTED = [PASSED, 'FAILURE', 'WARNING'];

// What the suite checks only of answers that come as event streams, and calls optional. The answer
// of a stdio server is JSON when nothing came before it; and it knows no streams that it could close.
const OF_STREAMS = [
	'server-sse-multiple-streams/server-sse-streams-functional#1',
	'server-sse-polling/server-sse-priming-event#1',
	'server-sse-polling/server-sse-retry-field#1',
	'server-sse-polling/server-sse-disconnect-resume#1',
];

// Checks of one run by `scenario/check#n`: a check may come several times in a scenario.
function readChecks(directory) {
	const checks = new Map();
	for (const name of fs.readdirSync(directory).sort()) {
		const file = path.join(directory, name, 'checks.json');
		if (!fs.existsSync(file)) continue; // it does not apply
		const scenario = name.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '');
		const times = new Map();
		for (const check of JSON.parse(fs.readFileSync(file, 'utf8'))) {
			if (!COUNTED.includes(check.status)) continue;
			const n = (times.get(check.id) ?? 0) + 1;
			times.set(check.id, n);
			checks.set(`${scenario}/${check.id}#${n}`, check);
		}
	}
	return checks;
}

async function runSuite(url) {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-conformance-'));
	const which = options.scenario
		? ['--scenario', options.scenario, '--spec-version', options.requirements]
		: ['--requirements', options.requirements];
	const args = [conformance, 'server', '--url', url, '-o', directory, ...which];
	const { stdout, stderr, signal } = await run(node, args, { deadline: 240_000 });
	const checks = readChecks(directory);
	fs.rmSync(directory, { recursive: true });
	if (signal || checks.size === 0) throw new Error(`the suite did not run:\n${stdout}${stderr}`);
	return checks;
}

function summarise(name, checks) {
	const passed = [...checks.values()].filter(({ status }) => status === PASSED).length;
	console.log(`${name}: ${passed} of ${checks.size} checks passed`);
	for (const [key, { status, errorMessage }] of checks)
		if (status !== PASSED) console.log(`  ${status} ${key}: ${errorMessage}`);
	return passed;
}

async function throughMargay(upstream) {
	const margay = await Margay.start({ config: { upstreams: { main: upstream } } });
	try {
		return await runSuite(margay.url);
	} finally {
		await margay.stop();
	}
}

const fixture = await startFixture();
const http = { http: { url: fixture.url } };
const program = path.join(import.meta.dirname, 'fixture.mjs');
const stdio = { http: undefined, stdio: { command: node, args: [program, '--stdio'] } };
let failed = false;
try {
	const direct = await runSuite(fixture.url);
	failed = summarise('direct', direct) < direct.size;
	if (binary) {
		for (const [way, upstream] of Object.entries({ http, stdio })) {
			const through = await throughMargay(upstream);
			summarise(`through margay by ${way}`, through);
			for (const [key, { status }] of direct)
				if (status === PASSED && through.get(key)?.status !== PASSED) {
					if (way === 'stdio' && OF_STREAMS.includes(key) && !through.has(key)) continue;
					const instead = through.get(key)?.status ?? 'not run';
					console.log(`lost through margay by ${way}: ${key} (${instead})`);
					failed = true;
				}
		}
	}
} finally {
	await fixture.close();
}
process.exitCode = failed ? 1 : 0;
