// A stdio MCP server by hand, one JSON-RPC message a line, that misbehaves as it is told.
//
//   node hostile.mjs [MODE [ARGUMENT]]
//
// Without a mode it behaves, and its tools misbehave when they are called.
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';

const [mode = 'well', argument] = process.argv.slice(2);

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const respond = (id, result) => say({ jsonrpc: '2.0', id, result });
const text = (value) => ({ content: [{ type: 'text', text: String(value) }] });
const delay = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let count = 0;
let asked = 0;
const waiting = new Map(); // questions of ours, by id

// Ask the client; its response.
function ask(method, params) {
	const id = `question-${++asked}`;
	say({ jsonrpc: '2.0', id, method, params });
	return new Promise((resolve) => waiting.set(id, resolve));
}

// A grandchild that holds our pipes and ignores SIGTERM; its pid.
function breed(detached) {
	const script = "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)";
	const child = spawn(process.execPath, ['-e', script], { stdio: 'inherit', detached });
	child.unref();
	return child.pid;
}

// Bytes without a newline, as many as the pipe takes.
async function flood(bytes) {
	const block = Buffer.alloc(65536, 'x');
	for (let sent = 0; sent < bytes; sent += block.length)
		if (!process.stdout.write(block))
			await new Promise((resolve) => process.stdout.once('drain', resolve));
	process.stdout.write('\n');
}

// What each tool does: its result, or nothing when it gives no answer.
const tools = {
	echo: ({ text: said }) => text(said),
	counter: () => text(`${++count} ${process.pid}`),
	env: () => text(JSON.stringify(process.env)),
	cwd: () => text(process.cwd()),
	sleep: async ({ ms }) => {
		await delay(ms);
		return text('slept');
	},
	big: ({ bytes }) => text('x'.repeat(bytes)),
	lines: ({ count: n }) => text('\n'.repeat(n)),
	progress: async ({ steps }, { _meta }) => {
		for (let step = 1; step <= steps; step++) {
			say({
				jsonrpc: '2.0',
				method: 'notifications/progress',
				params: { progressToken: _meta.progressToken, progress: step, total: steps },
			});
			await delay(5);
		}
		return text('done');
	},
	// Messages of these lengths, the last of which is the answer.
	recite: ({ lengths }, { _meta }) => {
		const last = lengths.pop();
		lengths.forEach((length, i) =>
			say({
				jsonrpc: '2.0',
				method: 'notifications/progress',
				params: { progressToken: _meta.progressToken, progress: i + 1, message: 'x'.repeat(length) },
			}));
		return text('x'.repeat(last));
	},
	ask: async () => {
		const { result, error } = await ask('elicitation/create', {
			message: 'well?',
			requestedSchema: { type: 'object', properties: {} },
		});
		return text(result ? result.action : `error ${error.code}`);
	},
	log: ({ text: data }) => {
		say({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data } });
		return text('logged');
	},
	// Numbers, outside of any request, until there were `count`.
	tick: ({ count: ticks, every }) => {
		let n = 0;
		const timer = setInterval(() => {
			say({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: ++n } });
			if (n === ticks) clearInterval(timer);
		}, every);
		return text('ticking');
	},
	touch: ({ uri }) => {
		say({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } });
		return text('touched');
	},
	changed: () => {
		say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' });
		return text('told');
	},
	stderr: ({ lines, line }) => {
		for (let i = 0; i < lines; i++) writeSync(2, `${line}\n`);
		return text('said');
	},
	banner: () => {
		process.stdout.write('*** Welcome to the server! ***\n\n{"not":"rpc"}\n');
		return text('greeted');
	},
	unknown: () => {
		respond(4242, text('nobody asked'));
		respond('what', text('nobody asked'));
		return text('known');
	},
	// Lines of that many bytes that answer nothing, one after the other.
	shout: async ({ lines, bytes }) => {
		const head = '{"jsonrpc":"2.0","id":4242,"result":{"x":"';
		const fill = '\\n'.repeat(Math.floor((bytes - head.length - 3) / 2));
		const line = Buffer.from(`${head}${fill}"}}\n`);
		for (let n = 0; n < lines; n++)
			await new Promise((resolve) => process.stdout.write(line, resolve));
		return text('shouted');
	},
	twice: (_, { id }) => {
		respond(id, text('first'));
		return text('second');
	},
	// `after` milliseconds, so that others may be in flight.
	die: async ({ after = 0, code = 3 }, { id }) => {
		await delay(after);
		writeSync(1, `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"resu`);
		process.exit(code);
	},
	// Its last words are that long.
	end: ({ bytes }, { id }) => {
		const line = JSON.stringify({ jsonrpc: '2.0', id, result: text('x'.repeat(bytes)) });
		process.stdout.write(`${line}\n`, () => process.exit(0));
	},
	// Its answer in two pieces, `ms` apart.
	slowly: async ({ ms }, { id }) => {
		const line = JSON.stringify({ jsonrpc: '2.0', id, result: text('said slowly') });
		writeSync(1, line.slice(0, 20));
		await delay(ms);
		writeSync(1, `${line.slice(20)}\n`);
	},
	half: (_, { id }) => {
		writeSync(1, `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"resu`);
	},
	flood: async ({ bytes }) => {
		await flood(bytes);
	},
	deaf: () => {
		process.stdin.pause();
		setInterval(() => {}, 1000);
		return text('not listening');
	},
	breed: ({ detached = false }) => text(breed(detached)),
};

const methods = {
	initialize: ({ protocolVersion }) => ({
		protocolVersion,
		capabilities: { tools: { listChanged: true }, resources: { subscribe: true }, logging: {} },
		serverInfo: { name: `hostile-${mode}`, version: '1' },
	}),
	ping: () => ({}),
	'resources/subscribe': () => ({}),
	'resources/unsubscribe': () => ({}),
	'tools/list': () => ({
		tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: 'object' } })),
	}),
	'tools/call': (params, id) =>
		tools[params.name](params.arguments ?? {}, { id, _meta: params._meta }),
};

async function handle({ id, method, params, result, error }) {
	if (method === undefined) {
		waiting.get(id)?.({ result, error });
		waiting.delete(id);
	} else if (id !== undefined) {
		const answer = await methods[method](params ?? {}, id);
		if (answer) respond(id, answer);
	}
}

function serve() {
	let rest = '';
	process.stdin.setEncoding('utf8').on('data', (data) => {
		const lines = (rest + data).split('\n');
		rest = lines.pop();
		for (const line of lines) if (line.trim() !== '') handle(JSON.parse(line));
	});
	process.stdin.once('end', () => mode !== 'stubborn' && process.exit(0));
}

// What each mode does before, or instead of, serving.
const modes = {
	well: serve,
	exit: () => process.exit(Number(argument)),
	silent: () => setInterval(() => {}, 1000),
	stubborn: () => {
		process.on('SIGTERM', () => {});
		setInterval(() => {}, 1000);
		serve();
	},
	slow: async () => {
		await delay(Number(argument));
		serve();
	},
	banner: () => {
		process.stdout.write('npm warn deprecated everything\n\nServer running on stdio\n');
		serve();
	},
	// Starts only while the file that the argument names is there.
	moody: async () => {
		const { existsSync } = await import('node:fs');
		if (existsSync(argument)) serve();
		else process.exit(9);
	},
};

modes[mode]();
