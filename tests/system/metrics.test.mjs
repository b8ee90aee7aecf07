// What operators see: /metrics by a strict parser, /healthz, /readyz, and the access log.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
	binary,
	Margay,
	parseMetrics,
	post,
	RawSession,
	request,
	ScriptedServer,
	until,
} from './harness.mjs';

describe('the parser of the tests', () => {
	const HEAD = '# HELP a_total Text.\n# TYPE a_total counter\n';
	const H = '# HELP h Text.\n# TYPE h histogram\n';
	const good = [
		['nothing', ''],
		['a counter', `${HEAD}a_total 1\n`],
		['escapes', `# HELP a \\\\ and \\n\n# TYPE a gauge\na{x="\\\\ \\" \\n, }"} -1.5e+10\n`],
		['a histogram', `${H}h_bucket{le="0.1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n`],
		['a family without samples', HEAD],
	];
	for (const [what, text] of good) test(`accepts ${what}`, () => void parseMetrics(text));

	const bad = [
		['no newline at the end', `${HEAD}a_total 1`],
		['HELP twice', `# HELP a_total b\n${HEAD}a_total 1\n`],
		['TYPE after samples', '# HELP a b\na 1\n# TYPE a gauge\n'],
		['no TYPE', '# HELP a b\na 1\n'],
		['an unknown type', '# HELP a b\n# TYPE a number\na 1\n'],
		['families apart', `${HEAD}a_total 1\n# HELP b c\n# TYPE b gauge\nb 1\na_total{x="1"} 1\n`],
		['a sample twice', `${HEAD}a_total{x="1",y="2"} 1\na_total{y="2",x="1"} 1\n`],
		['a label twice', `${HEAD}a_total{x="1",x="2"} 1\n`],
		['an unknown escape', `${HEAD}a_total{x="\\t"} 1\n`],
		['an open quote', `${HEAD}a_total{x="1} 1\n`],
		['a bad label name', `${HEAD}a_total{0x="1"} 1\n`],
		['no value', `${HEAD}a_total \n`],
		['a value that is none', `${HEAD}a_total 1x\n`],
		['a negative counter', `${HEAD}a_total -1\n`],
		['an empty line', `${HEAD}\na_total 1\n`],
		[
			'le that goes down',
			`${H}h_bucket{le="2"} 1\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`,
		],
		[
			'buckets that are not cumulative',
			`${H}h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`,
		],
		['no +Inf', `${H}h_bucket{le="1"} 2\nh_sum 1\nh_count 2\n`],
		['+Inf that is not the count', `${H}h_bucket{le="+Inf"} 2\nh_sum 1\nh_count 3\n`],
		['no sum', `${H}h_bucket{le="+Inf"} 2\nh_count 2\n`],
	];
	for (const [what, text] of bad)
		test(`refuses ${what}`, () => assert.throws(() => parseMetrics(text)));
});

const TYPES = {
	margay_accept_pauses_total: 'counter',
	margay_broker_restarts_total: 'counter',
	margay_build_info: 'gauge',
	margay_bytes_total: 'counter',
	margay_config_last_reload_successful: 'gauge',
	margay_config_last_reload_timestamp_seconds: 'gauge',
	margay_config_reloads_total: 'counter',
	margay_connection_duration_seconds: 'histogram',
	margay_connections_open: 'gauge',
	margay_connections_total: 'counter',
	margay_drain_forced_total: 'counter',
	margay_generation: 'gauge',
	margay_loop_busy_seconds: 'histogram',
	margay_request_duration_seconds: 'histogram',
	margay_requests_total: 'counter',
	margay_session_cache_hits_total: 'counter',
	margay_session_cache_misses_total: 'counter',
	margay_sessions_active: 'gauge',
	margay_sessions_created_total: 'counter',
	margay_sessions_ended_total: 'counter',
	margay_start_time_seconds: 'gauge',
	margay_streams_open: 'gauge',
	margay_upstream_connections_open: 'gauge',
	margay_upstream_errors_total: 'counter',
	margay_upstream_requests_total: 'counter',
	margay_worker_restarts_total: 'counter',
};

describe('observability', { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' }, () => {
	let server;
	let margay;

	before(async () => {
		server = await ScriptedServer.start();
		margay = await Margay.start({
			upstream: server.url,
			config: { routes: { '/second': { upstream: 'main' } } },
		});
	});
	afterEach((t) => {
		server.on = {};
		if (t.error) t.diagnostic(margay.report());
	});
	after(async () => {
		try {
			await margay?.stop();
		} finally {
			await server?.stop();
		}
	});

	test('/metrics is valid and has the families', async () => {
		const metrics = await margay.metrics();
		assert.equal(metrics.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
		for (const [name, type] of Object.entries(TYPES))
			assert.equal(metrics.families.get(name)?.type, type, name);
		for (const { name, type } of metrics.families.values()) {
			assert.match(name, /^margay_[a-z_]+$/);
			assert.equal(name.endsWith('_total'), type === 'counter', name);
		}
		assert.equal(metrics.sum('margay_build_info'), 1);
		assert.match(metrics.select('margay_build_info')[0].labels.version, /^\d+\.\d+\.\d+/);
		const age = Date.now() / 1000 - metrics.sum('margay_start_time_seconds');
		assert.ok(age >= -1 && age < 120, `started ${age} s ago`);
	});

	// Labels that exist start at 0, so that rate() sees the first increment.
	test('known labels are there before anything happened', async () => {
		const metrics = await margay.metrics();
		const labels = { route: '/second', method: 'tools/call', outcome: 'ok' };
		assert.deepEqual(
			metrics.select('margay_requests_total', labels).map(({ value }) => value),
			[0],
		);
	});

	test('/healthz and /readyz say yes', async () => {
		for (const path of ['/healthz', '/readyz']) {
			const { status } = await request(margay.admin + path);
			assert.equal(status, 200, path);
		}
		assert.equal((await request(`${margay.admin}/elsewhere`)).status, 404);
		const refused = await request(`${margay.admin}/metrics`, { method: 'POST' });
		assert.equal(refused.status, 405);
	});

	test('the admin paths are not served to clients', async () => {
		for (const path of ['/metrics', '/healthz', '/readyz'])
			assert.equal((await request(margay.origin + path)).status, 404, path);
	});

	// Each row does one thing and says which counter must move, by how much.
	const moves = [
		['a call', (s) => s.call('echo'), { method: 'tools/call', outcome: 'ok' }],
		['a list', (s) => s.request('tools/list'), { method: 'tools/list', outcome: 'ok' }],
		['a ping', (s) => s.request('ping'), { method: 'control', outcome: 'ok' }],
		['an unknown method', (s) => s.request('x/y'), { method: 'other', outcome: 'ok' }],
		[
			'a notification',
			(s) => s.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: {} }),
			{ method: 'notification', outcome: 'ok' },
		],
		[
			'an error of the server',
			(s) => {
				server.on['tools/call'] = ({ response, message }) =>
					response.writeHead(200, { 'content-type': 'application/json' }).end(
						JSON.stringify({
							jsonrpc: '2.0',
							id: message.id,
							error: { code: -32602, message: 'no' },
						}),
					);
				return s.call('echo');
			},
			{ method: 'tools/call', outcome: 'rpc_error' },
		],
		['a refusal', (s) => s.post('{'), { outcome: 'rejected' }],
		[
			'a broken upstream',
			(s) => {
				server.on['tools/call'] = ({ response }) => response.socket.destroy();
				return s.call('echo');
			},
			{ method: 'tools/call', outcome: 'upstream_error' },
		],
		['the end of the session', (s) => s.delete(), { method: 'delete', outcome: 'ok' }],
	];
	for (const [what, act, labels] of moves)
		test(`${what} is counted once, where it belongs`, async () => {
			const all = (metrics) => metrics.sum('margay_requests_total', { route: '/mcp' });
			// A request is counted when its last byte is out, which the client may see first.
			const settled = (count) =>
				until(`${count} requests are counted`, async () => {
					const metrics = await margay.metrics();
					return all(metrics) >= count && metrics;
				});
			const start = all(await margay.metrics());
			const session = await RawSession.open(margay.url);
			const before = await settled(start + 2);
			await act(session);
			const now = await settled(all(before) + 1);
			const full = { route: '/mcp', ...labels };
			const moved =
				now.sum('margay_requests_total', full) - before.sum('margay_requests_total', full);
			assert.equal(moved, 1, JSON.stringify(labels));
			assert.equal(all(now), all(before) + 1);
		});

	test('sessions, upstream and bytes are counted', async () => {
		const before = await margay.metrics();
		const session = await RawSession.open(margay.url);
		await session.call('echo', { padding: 'x'.repeat(10_000) });
		const calls = { route: '/mcp', method: 'tools/call' };
		const count = 'margay_request_duration_seconds_count';
		const now = await until('the call is counted', async () => {
			const metrics = await margay.metrics();
			const active = 'margay_sessions_active';
			return (
				metrics.sum(count, calls) > before.sum(count, calls) &&
				metrics.sum(active) > before.sum(active) &&
				metrics
			);
		});
		const moved = (name, labels) => now.sum(name, labels) - before.sum(name, labels);
		assert.equal(moved(count, calls), 1);
		assert.ok(moved('margay_request_duration_seconds_sum', calls) > 0);
		assert.equal(moved('margay_sessions_created_total'), 1);
		assert.equal(moved('margay_sessions_active'), 1);
		assert.equal(moved('margay_upstream_requests_total', { upstream: 'main' }), 3);
		assert.ok(moved('margay_bytes_total', { route: '/mcp', direction: 'in' }) > 10_000);
		assert.ok(moved('margay_bytes_total', { route: '/mcp', direction: 'out' }) > 100);
		assert.ok(moved('margay_connections_total') >= 3);
		await session.delete();
		const ended = ['margay_sessions_ended_total', { reason: 'client' }];
		await until('the end is counted', async () => {
			const metrics = await margay.metrics();
			return metrics.sum(...ended) === now.sum(...ended) + 1;
		});
	});

	test('a request has one line with all that it needs', async () => {
		const session = await RawSession.open(margay.url);
		const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
		await session.call(
			'echo',
			{ text: 'payload-secret' },
			{
				id: 'line',
				headers: {
					authorization: 'Bearer token-secret',
					cookie: 'cookie-secret=1',
					traceparent: `00-${trace}-00f067aa0ba902b7-01`,
				},
			},
		);
		const [line] = await until('the line', () => {
			const lines = margay.accesses({ id: 'line' });
			return lines.length > 0 && lines;
		});
		assert.ok(Math.abs(Date.parse(line.time) - Date.now()) < 60_000, line.time);
		assert.match(line.client, /^127\.0\.0\.1/);
		assert.equal(line.route, '/mcp');
		assert.equal(line.upstream, 'main');
		assert.equal(line.method, 'tools/call');
		assert.equal(line.tool, 'echo');
		assert.equal(line.status, 200);
		assert.equal(line.outcome, 'ok');
		assert.ok(line.bytes_in > 100 && line.bytes_out > 50, JSON.stringify(line));
		assert.ok(
			line.ms > 0 && line.upstream_ms > 0 && line.upstream_ms <= line.ms,
			JSON.stringify(line),
		);
		assert.ok([0, 1, 2, 3].includes(line.worker), JSON.stringify(line));
		assert.ok(line.trace.includes(trace), line.trace);
		assert.ok(line.session.length >= 6 && line.session.length <= 12);
		assert.ok(session.id.startsWith(line.session));
	});

	test('refused requests have a line too', async () => {
		await post(margay.url, '{"jsonrpc":"2.0","id":"refused","method":"ping"}');
		const lines = await until('the line', () => {
			const found = margay.accesses({ status: 400 });
			return found.length > 0 && found;
		});
		assert.equal(lines.at(-1).outcome, 'rejected');
		assert.equal(lines.at(-1).route, '/mcp');
	});

	// Control: log any header, body or id whole and one of these is found.
	test('the log holds no token, payload or whole session id', async () => {
		const session = await RawSession.open(margay.url);
		const forged = 'Zm9yZ2VkLXNlc3Npb24taWQtbm9ib2R5LW1h';
		await session.call(
			'echo',
			{ text: 'payload-secret' },
			{
				headers: { authorization: 'Bearer token-secret', cookie: 'cookie-secret=1' },
			},
		);
		await session.post('{"payload-secret"');
		await post(`${margay.url}?access_token=query-secret`, '{}', { headers: session.headers });
		await post(margay.url, '{}', { headers: { 'mcp-session-id': forged } });
		await session.call('echo', {}, { id: 'after-secrets' });
		await until('the last line', () => margay.accesses({ id: 'after-secrets' }).length);
		const text =
			fs.readFileSync(margay.logFile, 'utf8') + margay.child.stderr + margay.child.stdout;
		assert.doesNotMatch(text, /-secret(?!s)/);
		assert.ok(!text.includes(session.id), 'a whole session id');
		assert.ok(!text.includes(forged), 'a whole forged id');
		const upstreamId = [...server.sessions].at(-1);
		assert.ok(!text.includes(upstreamId), "the upstream's session id");
	});

	test('nothing from outside can forge a line', async () => {
		const session = await RawSession.open(margay.url);
		const evil = '"}\n{"forged":true}\r\n\u2028\u0007';
		await session.call(evil, {}, { id: 'evil"\n{"forged":true}' });
		await until('the line', () => margay.accesses({ tool: evil }).length);
		assert.ok(margay.log().every((line) => !('forged' in line)));
	});
});

describe('a table of hundreds of routes', { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' }, () => {
	let margay;
	before(async () => {
		// More text than the kernel keeps for a socket.
		const long = 'x'.repeat(100);
		const numbers = Array.from({ length: 250 }, (_, n) => n);
		const routes = numbers.map((n) => [`/route/${n}/${long}`, { upstream: `up_${n}` }]);
		const upstreams = numbers.map((n) => [`up_${n}`, { http: { url: 'http://127.0.0.1:9/mcp' } }]);
		margay = await Margay.start({
			config: {
				workers: 1,
				upstreams: { main: undefined, ...Object.fromEntries(upstreams) },
				routes: { '/mcp': undefined, ...Object.fromEntries(routes) },
			},
		});
		// Histograms are there once they observed something; nobody is at port 9.
		for (const [route] of routes)
			await Promise.all(
				['tools/call', 'tools/list', 'ping', 'prompts/list'].map((method) => post(margay.origin + route, { jsonrpc: '2.0', id: 1, method })),
			);
	});
	after(() => margay.stop());

	// Control: when drained() does not go on, the text ends where the reader stopped.
	test('reaches a reader that is slow, and holds up nobody meanwhile', async () => {
		const { response } = await request(`${margay.admin}/metrics`, { stream: true });
		response.setEncoding('utf8').pause();
		for (let n = 0; n < 20; n++) assert.equal((await request(`${margay.admin}/healthz`)).status, 200);
		let text = '';
		for await (const piece of response) text += piece;
		assert.ok(text.length > 6_000_000, `${text.length} bytes`);
		const slow = [...parseMetrics(text).keys()];
		const { text: fast } = await request(`${margay.admin}/metrics`);
		assert.deepEqual(slow, [...parseMetrics(fast).keys()]);
	});

	test('may be left in the middle', async () => {
		await Promise.all(
			Array.from({ length: 30 }, async () => {
				const { response } = await request(`${margay.admin}/metrics`, { stream: true });
				response.once('data', () => response.destroy());
				await new Promise((resolve) => response.once('close', resolve));
			}),
		);
		await until('only who asks is connected', async () =>
			(await margay.metrics()).sum('margay_connections_open') <= 1,
		);
	});
});
