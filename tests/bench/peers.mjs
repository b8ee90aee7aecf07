// Who is measured: Margay, the proxies that know nothing of MCP, the gateways on npm, and none at all. Each is
// started on free ports of 127.0.0.1 and gives { url(name), pids, stop() }; pids are all its processes, without
// the servers behind it. Those that valgrind can count give `counted`, too: the processes that a request passes,
// each { pid, mark() }, and `mark` has it call one of the peer's `markers`, functions that no request calls.
import fs from 'node:fs';
import path from 'node:path';
import { binary, Margay } from '../system/margay.mjs';
import { Child, freePorts, isAlive, run, running, until } from '../system/process.mjs';
import { exchange, request } from '../system/http.mjs';
import { node } from '../system/upstreams.mjs';
import { openSessions } from './messages.mjs';
import { fillTemplate } from './template.mjs';

const builtTests = path.join(path.dirname(binary), 'tests');
const stdioServer = path.join(builtTests, 'margay-bench-stdio');
const packages = path.join(import.meta.dirname, 'node_modules');
const entries = {
	supergateway: 'supergateway/dist/index.js',
	'mcp-proxy': 'mcp-proxy/dist/bin/mcp-proxy.mjs',
};

// A process and all that it started, and they.
export function family(pid) {
	const children = new Map();
	for (const name of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
		try {
			const stat = fs.readFileSync(`/proc/${name}/stat`, 'latin1');
			const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
			children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
		} catch {
			// It has ended.
		}
	}
	const all = [pid];
	for (const one of all) all.push(...(children.get(one) ?? []));
	return all;
}

const accepts = (port) => () =>
	exchange(port, 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', { timeout: 1000 }).then(
		({ status }) => status > 0,
	);

// What it started must not outlive this process either, should that end too early.
function adopt(gateway) {
	const owned = gateway.pids.map((pid) => ({ pid }));
	for (const one of owned) running.add(one);
	const stop = gateway.stop;
	gateway.stop = async () => {
		await stop();
		await until('all its processes are gone', () => !gateway.pids.some(isAlive));
		for (const one of owned) running.delete(one);
	};
	return gateway;
}

// What no peer has a route for, which has each call its marker.
const markBy = (url) => () => request(url('none'));

async function startProxy(command, args, port, { under = [], signal = 'SIGTERM', counted } = {}) {
	const [first, ...rest] = [...under, command, ...args];
	const child = new Child(first, rest);
	try {
		await until(`${child.name} accepts`, async () => {
			if (child.ended) throw Object.assign(new Error(child.stderr), { fatal: true });
			return accepts(port)();
		});
	} catch (error) {
		await child.stop();
		throw error;
	}
	const pids = family(child.pid);
	const url = (name) => `http://127.0.0.1:${port}/${name}`;
	return adopt({
		pids,
		counted: counted?.(pids).map((pid) => ({ pid, mark: markBy(url) })),
		url,
		stop: () => child.stop({ signal }),
		said: () => child.stderr,
	});
}

// `upstreams`: { name: { url, sse } }.
function writeTemplate(name, { dir, port, workers, upstreams }) {
	const words = { DIR: dir, PORT: port, WORKERS: workers };
	const each = Object.entries(upstreams).map(([one, { url, sse }]) => ({
		NAME: one,
		ADDRESS: new URL(url).host,
		BUFFERING: sse ? 'off' : 'on',
	}));
	const file = path.join(dir, name.replace(/\.in$/, ''));
	fs.writeFileSync(file, fillTemplate(name, words, each));
	return file;
}

async function startNginx(options) {
	const [port] = await freePorts(1);
	const file = writeTemplate('nginx.conf.in', { ...options, port });
	const args = ['-p', options.dir, '-e', 'stderr', '-c', file];
	// Its master serves nobody.
	return startProxy('nginx', args, port, { under: options.under, counted: ([, ...workers]) => workers });
}

async function startHaproxy(options) {
	const [port] = await freePorts(1);
	const file = writeTemplate('haproxy.cfg.in', { ...options, port });
	return startProxy('haproxy', ['-db', '-q', '-f', file], port, { under: options.under, counted: (pids) => pids });
}

// The connections that the others keep and allow, so that no limit of one is what is measured.
const limits = {
	connections: 20000,
	connections_per_client: 0,
	upstream_connections: 20000,
	upstream_idle: 1024,
};

export async function startMargay({ workers, upstreams, config = {}, under = [] }) {
	const margay = await Margay.prepare({
		program: under.length ? path.join(builtTests, 'margay-under-valgrind') : binary,
		config: {
			workers,
			limits,
			timeouts: { client_idle: '1h', upstream_idle: '1h' },
			log: { level: 'warn', access: false },
			...config,
			upstreams: { main: undefined, ...upstreams },
			routes: {
				'/mcp': undefined,
				...Object.fromEntries(Object.keys(upstreams).map((name) => [`/${name}`, { upstream: name }])),
			},
		},
	});
	await margay.run({ under });
	const status = await margay.status();
	const pids = [status, status.broker, status.keeper, ...status.workers].map(({ pid }) => pid);
	const url = (name) => `${margay.origin}/${name}`;
	return adopt({
		pids,
		margay,
		counted: status.workers.map(({ pid }) => ({ pid, mark: markBy(url) })),
		keeper: status.keeper.pid,
		url,
		stop: () => margay.stop({ deadline: under.length ? 60_000 : 15_000 }),
		said: () => margay.report(),
	});
}

const overHttp = (upstreams) =>
	Object.fromEntries(Object.entries(upstreams).map(([name, { url }]) => [name, { http: { url } }]));

const overStdio = (sharing) => async ({ workers, under }) => {
	const upstreams = { mcp: { stdio: { command: stdioServer, sharing, limits: { children: 2000 } } } };
	const gateway = await startMargay({ workers, upstreams, under });
	const mark = () => openSessions([gateway.url('mcp')], 1);
	gateway.counted.push({ pid: gateway.keeper, mark });
	return gateway;
};

// Their one node process; a shell may be between it and its servers.
async function startNpm(name, args) {
	const [port] = await freePorts(1);
	const gateway = await startProxy(node, [path.join(packages, entries[name]), ...args(port)], port);
	return { ...gateway, pids: gateway.pids.slice(0, 1) };
}

const startSupergateway = () =>
	startNpm('supergateway', (port) => [
		...['--stdio', stdioServer, '--outputTransport', 'streamableHttp', '--stateful'],
		...['--port', port, '--logLevel', 'none'].map(String),
	]);

const startMcpProxy = () =>
	startNpm('mcp-proxy', (port) => [
		...['--host', '127.0.0.1', '--port', String(port), '--server', 'stream', '--', stdioServer],
	]);

const startDirect = ({ upstreams }) => ({
	pids: [],
	url: (name) => upstreams[name].url,
	stop() {},
	said: () => '',
});

const firstLine = async (command, ...args) => {
	const { stdout, stderr } = await run(command, args);
	return (stdout || stderr).split('\n')[0];
};
const npmVersion = (name) => () =>
	JSON.parse(fs.readFileSync(path.join(packages, name, 'package.json'), 'utf8')).version;

// In the order of the table. `kind`: which cases are theirs. `slow`: a thousand requests take them a second.
export const peers = {
	direct: { kind: 'http', label: 'no proxy', start: startDirect },
	margay: {
		kind: 'http',
		label: 'Margay',
		markers: ['exchange_refuse'],
		start: ({ upstreams, ...more }) => startMargay({ ...more, upstreams: overHttp(upstreams) }),
		version: () => firstLine(binary, '--version'),
	},
	nginx: {
		kind: 'http',
		label: 'nginx',
		markers: ['ngx_http_special_response_handler'],
		start: startNginx,
		version: () => firstLine('nginx', '-v'),
	},
	haproxy: {
		kind: 'http',
		label: 'haproxy',
		markers: ['http_return_srv_error'],
		start: startHaproxy,
		version: () => firstLine('haproxy', '-v'),
	},
	margay_shared: {
		kind: 'stdio',
		label: 'Margay, shared',
		markers: ['exchange_refuse', 'send_open'],
		start: overStdio('shared'),
	},
	margay_per_session: {
		kind: 'stdio',
		label: 'Margay, per session',
		markers: ['exchange_refuse', 'send_open'],
		start: overStdio('per_session'),
	},
	supergateway: {
		kind: 'stdio',
		label: 'supergateway',
		slow: true,
		start: startSupergateway,
		version: npmVersion('supergateway'),
	},
	mcp_proxy: {
		kind: 'stdio',
		label: 'mcp-proxy',
		slow: true,
		start: startMcpProxy,
		version: npmVersion('mcp-proxy'),
	},
};
