// The official conformance suite, in the words of both eras, through Margay: each against an upstream
// of the same era and of the other only, by HTTP and by stdio. Fails unless the fixture of an era passes
// its suite directly (so that a broken fixture cannot hide a fault) and every check that passes
// directly also passes through Margay, or is excused below with its reason.
//
//   MARGAY_BIN=PATH node run.mjs [--requirements 2025-11-25|2026-07-28] [--scenario NAME]
//
// Without MARGAY_BIN only the direct part runs. In the dns-rebinding scenario the parts test
// different code: directly the SDK's guard, through Margay Margay's own.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startFixture } from './fixture.mjs';
import { startModern } from './modern.mjs';
import { binary, conformance, Margay, node, run } from '../system/harness.mjs';

const { values: options } = parseArgs({
	options: {
		requirements: { type: 'string' },
		scenario: { type: 'string' },
	},
});

// The suite's verdicts that count; INFO and SKIPPED say nothing about the server.
const PASSED = 'SUCCESS';
const COUNTED = [PASSED, 'FAILURE', 'WARNING'];

// The experimental tasks of the suite's extension are not what the fixtures offer, and the reference
// server does not check the headers of a tool's arguments (the suite calls that check pending).
const IGNORED = /^tasks-/;
const MARGAY_ONLY = ['http-custom-header-server-validation'];

// What the suite checks only of answers that come as event streams with ids, and calls optional. The
// answer of a stdio server is JSON when nothing came before it; streams of 2026-07-28 have no ids.
const STREAMS = {
	'server-sse-multiple-streams/server-sse-streams-functional#1': 'a lone answer is JSON',
	'server-sse-polling/server-sse-priming-event#1': 'no event ids',
	'server-sse-polling/server-sse-retry-field#1': 'no event ids',
	'server-sse-polling/server-sse-disconnect-resume#1': 'no event ids',
};

// A question of a legacy server has no name but its JSON-RPC id, so Margay names it; and the call that
// asked is found by requestState only, never by the names of answers (2026-07-28, input_required).
const QUESTIONS = {
	'input-required-result-basic-elicitation/sep-2322-elicitation-incomplete#1':
		'the suite wants the key `user_name`, which no legacy question carries',
	'input-required-result-basic-elicitation/sep-2322-elicitation-complete#1':
		'not reached without that key',
	'input-required-result-ignore-extra-params/sep-2322-ignore-unexpected-params#1':
		'it sends answers that belong to no call, as it has no requestState',
};

// Each session of a stdio server has a process of its own, which knows nothing of the others' lists.
const OWN_PROCESS = {
	'server-stateless/sep-2575-server-sends-prompts-list-changed-on-subscription#1': 'another process',
	'server-stateless/sep-2575-server-sends-tools-list-changed-on-subscription#1': 'another process',
};

// Checks of one run by `scenario/check#n`: a check may come several times in a scenario.
function readChecks(directory) {
	const checks = new Map();
	for (const name of fs.readdirSync(directory).sort()) {
		const file = path.join(directory, name, 'checks.json');
		if (!fs.existsSync(file)) continue; // it does not apply
		const scenario = name.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '');
		if (IGNORED.test(scenario)) continue;
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

async function runSuite(url, requirements) {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-conformance-'));
	const which = options.scenario
		? ['--scenario', options.scenario, '--spec-version', requirements]
		: ['--requirements', requirements];
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

async function throughMargay(upstream, requirements) {
	const margay = await Margay.start({ config: { upstreams: { main: upstream } } });
	try {
		return await runSuite(margay.url, requirements);
	} finally {
		await margay.stop();
	}
}

// True when something that passes directly is lost, or an excuse is not needed any more.
function compare(name, direct, through, excused) {
	let failed = false;
	const passes = (checks, key) => checks.get(key)?.status === PASSED;
	for (const key of direct.keys())
		if (passes(direct, key) && !passes(through, key) && !excused[key]) {
			console.log(`lost through margay ${name}: ${key} (${through.get(key)?.status ?? 'not run'})`);
			failed = true;
		}
	for (const scenario of MARGAY_ONLY)
		for (const [key, { status }] of through)
			if (key.startsWith(`${scenario}/`) && status !== PASSED) failed = true;
	for (const [key, reason] of Object.entries(excused)) {
		if (!direct.has(key)) continue;
		if (passes(through, key)) {
			console.log(`passes through margay ${name}, so needs no excuse: ${key}`);
			failed = true;
		} else {
			console.log(`  excused: ${key}: ${reason}`);
		}
	}
	return failed;
}

// The suite's scenarios for clients that fit a gateway, each with the generation of the client behind
// Margay. Of the other era, where the test server lets itself be used in it.
const CLIENTS = [
	['initialize', 'legacy'],
	['tools_call', 'legacy'],
	['tools_call', 'modern'],
	['elicitation-sep1034-client-defaults', 'legacy'],
	['sse-retry', 'legacy'],
	['request-metadata', 'modern'],
	['http-standard-headers', 'modern'],
	['http-custom-headers', 'modern'],
	['http-invalid-tool-headers', 'modern'],
	['sep-2322-client-request-state', 'legacy'],
	['json-schema-ref-no-deref', 'legacy'],
];

// True when Margay fails as a client.
async function runAsClient([scenario, generation]) {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-conformance-'));
	const command = `${node} ${path.join(import.meta.dirname, 'client.mjs')} ${generation}`;
	const args = ['client', '--command', command, '--scenario', scenario, '-o', directory];
	await run(node, [conformance, ...args], { deadline: 60_000 });
	const checks = readChecks(directory);
	fs.rmSync(directory, { recursive: true });
	summarise(`as a client, ${scenario} with a ${generation} one`, checks);
	return checks.size === 0 || [...checks.values()].some(({ status }) => status !== PASSED);
}

const legacy = await startFixture();
const modern = await startModern();
const http = ({ url }) => ({ http: { url } });
const stdio = (program) => ({
	http: undefined,
	stdio: { command: node, args: [path.join(import.meta.dirname, program), '--stdio'] },
});
const suites = [
	{
		requirements: '2025-11-25',
		direct: legacy,
		cells: [
			['to 2025-11-25 by http', http(legacy), {}],
			['to 2025-11-25 by stdio', stdio('fixture.mjs'), STREAMS],
			['to 2026-07-28 by http', http(modern), STREAMS],
			['to 2026-07-28 by stdio', stdio('modern.mjs'), STREAMS],
		],
	},
	{
		requirements: '2026-07-28',
		direct: modern,
		cells: [
			['to 2026-07-28 by http', http(modern), {}],
			['to 2026-07-28 by stdio', stdio('modern.mjs'), {}],
			['to 2025-11-25 by http', http(legacy), QUESTIONS],
			['to 2025-11-25 by stdio', stdio('fixture.mjs'), { ...QUESTIONS, ...OWN_PROCESS }],
		],
	},
];
let failed = false;
try {
	for (const { requirements, direct, cells } of suites) {
		if (options.requirements && options.requirements !== requirements) continue;
		const expected = await runSuite(direct.url, requirements);
		summarise(`${requirements} direct`, expected);
		for (const [key, { status }] of expected)
			if (status !== PASSED && !MARGAY_ONLY.some((name) => key.startsWith(`${name}/`)))
				failed = true;
		for (const [name, upstream, excused] of binary ? cells : []) {
			const through = await throughMargay(upstream, requirements);
			summarise(`${requirements} through margay ${name}`, through);
			failed = compare(name, expected, through, excused) || failed;
		}
	}
	for (const row of binary && !options.requirements ? CLIENTS : [])
		failed = (await runAsClient(row)) || failed;
} finally {
	await legacy.close();
	await modern.close();
}
process.exitCode = failed ? 1 : 0;
