// HTTP as the tests need it: every header under the test's control, bytes as they came, raw sockets
// for requests that no client library would send, SSE read event by event.
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';

const TIMEOUT = 20_000;

class Reply {
	get json() {
		return JSON.parse(this.text);
	}
}

// One request, by default on a connection of its own: { status, headers, text, json }. With
// `stream`, resolves at the head to { status, headers, response }.
export function request(url, options = {}) {
	const {
		method = 'GET',
		headers = {},
		body,
		agent = false,
		stream = false,
		timeout = TIMEOUT,
	} = options;
	return new Promise((resolve, reject) => {
		const { request: send } = String(url).startsWith('https:') ? https : http;
		const sent = send(url, { method, headers, agent }, (response) => {
			const head = { status: response.statusCode, headers: response.headers };
			if (stream) return resolve({ ...head, response, request: sent });
			const chunks = [];
			response.on('data', (chunk) => chunks.push(chunk));
			response.once('error', reject);
			response.once('close', () => {
				if (!response.complete)
					reject(Object.assign(new Error('answer cut short'), { code: 'ECUT', ...head }));
			});
			response.once('end', () => {
				const text = Buffer.concat(chunks).toString('utf8');
				resolve(Object.assign(new Reply(), head, { text }));
			});
		});
		sent.setTimeout(timeout, () => sent.destroy(new Error(`${method} ${url}: no answer`)));
		sent.once('error', reject);
		sent.end(body);
	});
}

// Send bytes on a new connection and read until the peer closes, `enough(text)` says so, or the
// deadline: { text, closed }.
export function exchange(
	port,
	bytes,
	{ enough = () => false, timeout = 5000, host = '127.0.0.1' } = {},
) {
	return new Promise((resolve, reject) => {
		const socket = net.connect(port, host, () => socket.write(bytes));
		let text = '';
		const finish = (closed) => {
			clearTimeout(timer);
			socket.destroy();
			resolve({ text, closed, status: Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1]) });
		};
		const timer = setTimeout(finish, timeout, false);
		socket.setEncoding('latin1').on('data', (data) => {
			text += data;
			if (enough(text)) finish(false);
		});
		socket.once('close', () => finish(true));
		socket.once('error', (error) =>
			text === '' && error.code !== 'ECONNRESET' ? reject(error) : finish(true),
		);
	});
}

// Events of an SSE body: { id, event, retry, data }; comments are left out.
export async function* events(response) {
	let rest = '';
	for await (const chunk of response.setEncoding('utf8')) {
		rest += chunk;
		const blocks = rest.split(/\r?\n\r?\n/);
		rest = blocks.pop();
		for (const block of blocks) {
			const event = {};
			for (const line of block.split(/\r?\n/)) {
				const match = /^(\w+): ?(.*)$/.exec(line);
				if (!match) continue;
				event[match[1]] =
					match[1] === 'data' && 'data' in event
						? `${event.data}\n${match[2]}`
						: match[2];
			}
			if (Object.keys(event).length > 0) yield event;
		}
	}
}

// The raw JSON texts of an answer, whether it is JSON or SSE.
export function messagesOf({ headers, text }) {
	if (!headers['content-type']?.startsWith('text/event-stream')) return text === '' ? [] : [text];
	return text
		.split(/\r?\n\r?\n/)
		.map((block) =>
			block
				.split(/\r?\n/)
				.filter((line) => line.startsWith('data:'))
				.map((line) => line.replace(/^data: ?/, ''))
				.join('\n'),
		)
		.filter((data) => data !== '');
}

function parse(text) {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

const BOTH = 'application/json, text/event-stream';
const HELLO = (version, client) => ({
	jsonrpc: '2.0',
	id: 0,
	method: 'initialize',
	params: {
		protocolVersion: version,
		capabilities: { elicitation: {}, sampling: {} },
		clientInfo: { name: client, version: '1' },
	},
});

export const post = (url, message, { headers = {}, ...options } = {}) =>
	request(url, {
		method: 'POST',
		headers: { 'content-type': 'application/json', accept: BOTH, ...headers },
		body:
			typeof message === 'string' || Buffer.isBuffer(message)
				? message
				: JSON.stringify(message),
		...options,
	});

// A legacy session held by hand. Its requests go on fresh connections unless an agent is given.
export class RawSession {
	#nextId = 1;

	static async open(url, { version = '2025-11-25', client = 'margay-test', headers = {}, ...options } = {}) {
		const session = new RawSession();
		const reply = await post(url, HELLO(version, client), { headers, ...options });
		if (reply.status !== 200) throw new Error(`initialize: ${reply.status} ${reply.text}`);
		Object.assign(session, {
			url,
			agent: options.agent,
			id: reply.headers['mcp-session-id'],
			initialized: reply,
		});
		session.result = JSON.parse(messagesOf(reply).at(-1)).result;
		session.version = session.result.protocolVersion;
		const ready = await session.post({ jsonrpc: '2.0', method: 'notifications/initialized' });
		if (ready.status !== 202) throw new Error(`initialized: ${ready.status} ${ready.text}`);
		return session;
	}

	get headers() {
		return {
			...(this.id === undefined ? {} : { 'mcp-session-id': this.id }),
			...(this.version > '2025-03-26' ? { 'mcp-protocol-version': this.version } : {}),
		};
	}

	post(message, { headers = {}, ...options } = {}) {
		return post(this.url, message, {
			headers: { ...this.headers, ...headers },
			agent: this.agent,
			...options,
		});
	}

	// A request of ours: the whole answer, with `message` its JSON-RPC response.
	async request(method, params = {}, { id = this.#nextId++, ...options } = {}) {
		const reply = await this.post({ jsonrpc: '2.0', id, method, params }, options);
		const message = messagesOf(reply)
			.map(parse)
			.find((one) => one?.id === id || one?.error);
		return Object.assign(reply, { message });
	}

	call(name, args = {}, options) {
		return this.request('tools/call', { name, arguments: args }, options);
	}

	get(headers = {}) {
		return request(this.url, {
			headers: { accept: 'text/event-stream', ...this.headers, ...headers },
			stream: true,
		});
	}

	delete(headers = {}) {
		return request(this.url, { method: 'DELETE', headers: { ...this.headers, ...headers } });
	}
}
