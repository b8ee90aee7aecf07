// A stdio MCP server by hand of the stateless era, the one before it, or both.
//
//   node stateless.mjs [modern|legacy|both] [PROBE]
//
// PROBE says what a server that is not of the stateless era does when it is asked server/discover:
// `refuse` (default), `ignore` (but answer ping), `end` (exit), `deaf` (nothing, nor to ping).
import { createInterface } from 'node:readline';

const [era = 'modern', probe = 'refuse'] = process.argv.slice(2);
const P = 'io.modelcontextprotocol/';

const say = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const text = (value) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });

const capabilities = { tools: { listChanged: true }, resources: { subscribe: true }, logging: {} };
const listens = new Map(); // the id of each that is open: what it asked for
const cancelled = [];
let count = 0;
const held = []; // answers that were put off

const tools = {
	pid: () => text(process.pid),
	counter: () => text([++count, process.pid]),
	echo: () => text('x'.repeat(200)),
	heard: () => text({ cancelled, listens: [...listens.keys()] }),
	meta: ({ _meta }) => text(_meta),
	fail: ({ arguments: { code } }) => {
		throw Object.assign(new Error('as you wish'), { code, data: { requiredCapabilities: {} } });
	},
	hold: () => void 0,
	release: () => {
		for (const id of held.splice(0)) say({ id, result: { resultType: 'complete', ...text('held') } });
		return text('released');
	},
	progress: ({ _meta }) => {
		for (const progress of [1, 2])
			say({
				method: 'notifications/progress',
				params: { progressToken: _meta.progressToken, progress },
			});
		return text('done');
	},
	// Messages of these lengths, the last of which is the answer.
	recite: ({ _meta, arguments: { lengths } }) => {
		const last = lengths.pop();
		lengths.forEach((length, i) =>
			say({
				method: 'notifications/progress',
				params: { progressToken: _meta.progressToken, progress: i + 1, message: 'x'.repeat(length) },
			}));
		return { resultType: 'complete', content: [{ type: 'text', text: 'x'.repeat(last) }] };
	},
	log: () => {
		say({ method: 'notifications/message', params: { level: 'info', data: 'said' } });
		return text('logged');
	},
	change: () => {
		for (const id of listens.keys())
			say({
				method: 'notifications/tools/list_changed',
				params: { _meta: { [`${P}subscriptionId`]: id } },
			});
		return text('changed');
	},
	// Ends what listens there are: by their result, or the other way the specification knows.
	hangup: ({ arguments: { how } }) => {
		for (const id of listens.keys())
			if (how === 'result')
				say({ id, result: { resultType: 'complete', _meta: { [`${P}subscriptionId`]: id } } });
			else say({ method: 'notifications/cancelled', params: { requestId: id } });
		listens.clear();
		return text('hung up');
	},
	exit: () => process.exit(3),
};

const call = ({ id, params }) => {
	const result = tools[params.name](params);
	if (result) return result;
	held.push(id);
	return undefined;
};

const modern = {
	'server/discover': () => ({ supportedVersions: ['2026-07-28'], capabilities, ttlMs: 0, cacheScope: 'private' }),
	'tools/list': () => ({ tools: [], ttlMs: 0, cacheScope: 'private' }),
	'tools/call': call,
	'subscriptions/listen': ({ id, params }) => {
		listens.set(id, params.notifications);
		say({
			method: 'notifications/subscriptions/acknowledged',
			params: { _meta: { [`${P}subscriptionId`]: id }, notifications: params.notifications },
		});
		return undefined;
	},
};

const legacy = {
	initialize: () => ({
		protocolVersion: '2025-11-25',
		capabilities,
		serverInfo: { name: 'by hand', version: '1' },
	}),
	ping: () => ({}),
	'tools/list': () => ({ tools: [] }),
	'tools/call': call,
};

const refuse = (id) => say({ id, error: { code: -32601, message: 'no such method' } });

const probes = {
	refuse,
	ignore: () => {},
	end: () => process.exit(4),
	deaf: () => {},
};

function answer(message) {
	const { id, method, params } = message;
	const stateless = era !== 'legacy' && params?._meta?.[`${P}protocolVersion`] !== undefined;
	const method_ = (stateless ? modern : era === 'modern' ? {} : legacy)[method];
	if (method === 'notifications/cancelled') {
		cancelled.push(params.requestId);
		listens.delete(params.requestId);
	}
	if (id === undefined) return;
	if (method === 'server/discover' && !stateless) return probes[probe](id);
	if (probe === 'deaf' && method === 'ping') return;
	if (!method_) return refuse(id);
	try {
		const result = method_(message);
		if (result) say({ id, result: stateless ? { resultType: 'complete', ...result } : result });
	} catch ({ code = -32603, message: why, data }) {
		say({ id, error: { code, message: why, data } });
	}
}

createInterface({ input: process.stdin }).on('line', (line) => answer(JSON.parse(line)));
process.stdin.on('end', () => process.exit(0));
