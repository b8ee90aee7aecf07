// What waits costs memory: sessions, connections and event streams that do nothing. Each kind is opened
// in a Margay of its own, a few first, so that what is counted is what each more costs.
import net from 'node:net';
import { Driver, startLoadUpstream } from '../system/driver.mjs';
import { settledFootprint } from '../system/footprint.mjs';
import { conditions } from './conditions.mjs';
import { startMargay } from './peers.mjs';
import { callText, getText, listenText, openSessions } from './messages.mjs';
import { chooseRows, conditionsTable, figure, table, writePart } from './table.mjs';

const OPENING = 16; // at a time
const BATCH = 250; // clients of the driver, each of which opens a session

async function settled(pids) {
	const { memory, journal } = await settledFootprint(pids);
	return memory + journal;
}

// A connection on which a request was answered, or a stream begun, and which stays.
function hold(port, bytes, isAnswered, held) {
	return new Promise((resolve, reject) => {
		let text = '';
		const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
		held.push(socket);
		socket.once('error', reject);
		socket.once('close', () => reject(new Error(`a connection that was to stay was closed: ${text}`)));
		socket.setEncoding('latin1').on('data', (data) => {
			text = (text + data).slice(0, 4096);
			if (!text.startsWith('HTTP/1.1 200'.slice(0, text.length)))
				reject(new Error(text));
			else if (isAnswered(text)) resolve();
		});
	});
}

async function holdMany(port, count, bytesOf, isAnswered, held) {
	let next = 0;
	const lane = async () => {
		while (next < count) await hold(port, bytesOf(next++), isAnswered, held);
	};
	await Promise.all(Array.from({ length: OPENING }, lane));
}

const isWhole = (text) => text.endsWith('}');
const hasHead = (text) => text.includes('\r\n\r\n');

async function driveSessions(url, count) {
	for (let left = count; left > 0; left -= BATCH) {
		const options = { keepalive: Math.min(BATCH, left), era: 'legacy', calls: 1, seconds: 60, late: 0 };
		const report = await Driver.start(url, options).end();
		if (report.code !== 0 || report.failed) throw new Error(JSON.stringify(report));
	}
}

async function openGetStreams({ url, port, first, count, mark, held, nameOf }) {
	const sessions = await openSessions([url], first + count, nameOf);
	const stream = (from) => (n) => getText('/mcp_idle', sessions[from + n]);
	await holdMany(port, first, stream(0), hasHead, held);
	await mark();
	await holdMany(port, count, stream(first), hasHead, held);
}

async function openListenStreams({ port, first, count, mark, held }) {
	await holdMany(port, first, () => listenText('/mcp_idle'), hasHead, held);
	await mark();
	await holdMany(port, count, () => listenText('/mcp_idle'), hasHead, held);
}

// Each opens `first`, then `count` more; `mark` is called between the two. `era`: of the upstream, if not both.
const kinds = {
	session: {
		label: 'idle session',
		count: 10_000,
		first: BATCH,
		async open({ url, first, count, mark }) {
			await driveSessions(url, first);
			await mark();
			await driveSessions(url, count);
		},
	},
	connection: {
		label: 'idle keep-alive connection',
		count: 5000,
		first: 64,
		async open({ port, first, count, mark, held }) {
			await holdMany(port, first, () => callText('/mcp_idle'), isWhole, held);
			await mark();
			await holdMany(port, count, () => callText('/mcp_idle'), isWhole, held);
		},
	},
	get_stream: { label: 'idle event stream (GET, legacy)', count: 5000, first: 64, open: openGetStreams },
	listen_stream: {
		label: 'idle event stream (subscriptions/listen, modern)',
		count: 5000,
		first: 64,
		open: openListenStreams,
	},
	get_stream_translated: {
		label: 'the same (GET), to a modern upstream',
		count: 5000,
		first: 64,
		era: 'modern',
		open: openGetStreams,
	},
	get_stream_alone: {
		label: 'the same, each client of another name',
		count: 5000,
		first: 64,
		era: 'modern',
		open: (options) => openGetStreams({ ...options, nameOf: (n) => `margay-bench-${n}` }),
	},
	listen_stream_translated: {
		label: 'the same (subscriptions/listen), to a legacy upstream',
		count: 5000,
		first: 64,
		era: 'legacy',
		open: openListenStreams,
	},
};

// { before, after, each }: bytes. `count`: how many more than the first.
export async function measureKind(name, { count = kinds[name].count, workers = 1 } = {}) {
	const { open, first, era = 'both' } = kinds[name];
	const upstream = await startLoadUpstream('--era', era, '--every', 3_600_000, '--sessions', 1_000_000);
	const gateway = await startMargay({ workers, upstreams: { mcp_idle: { http: { url: upstream.url } } } });
	const url = gateway.url('mcp_idle');
	const held = [];
	let before;
	try {
		const mark = async () => (before = await settled(gateway.pids));
		await open({ url, port: Number(new URL(url).port), first, count, mark, held });
		const after = await settled(gateway.pids);
		const gone = held.filter((socket) => socket.destroyed).length;
		if (gone) throw new Error(`${gone} of ${held.length} did not stay`);
		return { before, after, each: (after - before) / count };
	} finally {
		for (const socket of held) socket.removeAllListeners('close').destroy();
		await gateway.stop();
		await upstream.stop();
	}
}

export async function runMemory({ only, isQuick, workers, dir, tell }) {
	const chosen = chooseRows(kinds, only);
	const where = await conditions({ workers });
	const rows = [];
	for (const [name, kind] of chosen) {
		const count = isQuick ? kind.count / 10 : kind.count;
		const { before, after, each } = await measureKind(name, { count, workers });
		const kibibytes = [before, after].map((bytes) => figure(bytes / 1024));
		rows.push([kind.label, figure(count), ...kibibytes, Math.round(each)]);
		tell(rows.at(-1).join('  '));
	}
	const text = table(['what', 'how many', 'KiB before', 'KiB after', 'bytes each'], rows);
	tell(writePart(dir, 'memory', `${conditionsTable(where)}\n\n${text}`));
	return true;
}
