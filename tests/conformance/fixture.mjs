// The conformance fixture: an MCP server on the official SDK with all that the suite's scenarios
// name (catalogue.mjs). One Server and one transport per session; events are stored, so streams can
// be resumed; Host and Origin must be local. Listens on a free port of 127.0.0.1 and prints its URL.
//
//   node fixture.mjs [--port N]
//   node fixture.mjs --stdio      one session on stdin and stdout
//
// Ends on SIGTERM or SIGINT, with --stdio at the end of its input.
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import {
	CallToolRequestSchema,
	CompleteRequestSchema,
	GetPromptRequestSchema,
	ListPromptsRequestSchema,
	ListResourcesRequestSchema,
	ListResourceTemplatesRequestSchema,
	ListToolsRequestSchema,
	ReadResourceRequestSchema,
	Server,
	SSEServerTransport,
	StdioServerTransport,
	StreamableHTTPServerTransport,
	SubscribeRequestSchema,
	UnsubscribeRequestSchema,
} from '../system/sdk.mjs';
import {
	complete,
	listed,
	listedTemplates,
	prompts,
	readResource,
	resources,
	serverCapabilities,
	tools,
} from './catalogue.mjs';

const METHODS = ['POST', 'GET', 'DELETE'];

class RpcError extends Error {
	constructor(code, message, data) {
		super(message);
		this.code = code;
		this.data = data;
	}
}

// Events of one session, in order; an id says which stream it belongs to.
class EventStore {
	#events = [];

	async storeEvent(streamId, message) {
		const id = `${streamId}/${this.#events.length}`;
		this.#events.push({ id, streamId, message });
		return id;
	}

	async getStreamIdForEventId(id) {
		return this.#events.find((event) => event.id === id)?.streamId;
	}

	async replayEventsAfter(lastId, { send }) {
		const at = this.#events.findIndex((event) => event.id === lastId);
		if (at < 0) throw new Error(`unknown event ${lastId}`);
		const { streamId } = this.#events[at];
		for (const event of this.#events.slice(at + 1))
			if (event.streamId === streamId && Object.keys(event.message).length > 0)
				await send(event.id, event.message);
		return streamId;
	}
}

function find(table, name, what) {
	if (!Object.hasOwn(table, name)) throw new RpcError(-32602, `Unknown ${what}: ${name}`);
	return table[name];
}

function read(uri) {
	const result = readResource(uri);
	if (!result) throw new RpcError(-32002, 'Resource not found', { uri });
	return result;
}

// Method by method: what answers it.
const handlers = [
	[
		ListToolsRequestSchema,
		() => ({ tools: listed(tools, 'name', ['description', 'inputSchema']) }),
	],
	[
		CallToolRequestSchema,
		({ params }, extra) => find(tools, params.name, 'tool').call(params.arguments ?? {}, extra),
	],
	[
		ListPromptsRequestSchema,
		() => ({ prompts: listed(prompts, 'name', ['description', 'arguments']) }),
	],
	[
		GetPromptRequestSchema,
		async ({ params }, extra) => {
			const prompt = find(prompts, params.name, 'prompt');
			return {
				description: prompt.description,
				messages: await prompt.get(params.arguments ?? {}, extra),
			};
		},
	],
	[
		ListResourcesRequestSchema,
		() => ({ resources: listed(resources, 'uri', ['name', 'description', 'mimeType']) }),
	],
	[
		ListResourceTemplatesRequestSchema,
		() => ({ resourceTemplates: listedTemplates() }),
	],
	[ReadResourceRequestSchema, ({ params }) => read(params.uri)],
	[CompleteRequestSchema, ({ params }) => complete(params)],];

// All sessions of this process, each with the resources that it subscribed to: a list that changes
// changes for every one.
const servers = new Map();

async function announce(what, uri) {
	const heard = [...servers].filter(([, uris]) => uri === undefined || uris.has(uri));
	const message =
		uri === undefined
			? { method: `notifications/${what}/list_changed` }
			: { method: 'notifications/resources/updated', params: { uri } };
	await Promise.allSettled(heard.map(([server]) => server.notification(message)));
}

function createServer() {
	const server = new Server(
		{ name: 'margay-conformance-fixture', version: '1.0.0' },
		{ capabilities: serverCapabilities },
	);
	const uris = new Set();
	for (const [schema, handler] of handlers)
		server.setRequestHandler(schema, (request, extra) =>
			handler(request, {
				...extra,
				capabilities: server.getClientCapabilities(),
				questionsHaveIds: true,
				changed: announce,
			}),
		);
	server.setRequestHandler(SubscribeRequestSchema, ({ params }) => void uris.add(params.uri) ?? {});
	server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => void uris.delete(params.uri) ?? {});
	servers.set(server, uris);
	server.onclose = () => servers.delete(server);
	return server;
}

function refuse(response, status, code, message) {
	response.writeHead(status, { 'content-type': 'application/json' });
	response.end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }));
}

async function openTransport(sessions, authorities) {
	const transport = new StreamableHTTPServerTransport({
		sessionIdGenerator: randomUUID,
		eventStore: new EventStore(),
		retryInterval: 100,
		enableDnsRebindingProtection: true,
		allowedHosts: authorities,
		allowedOrigins: authorities.map((authority) => `http://${authority}`),
		onsessioninitialized: (id) => void sessions.set(id, transport),
		onsessionclosed: (id) => void sessions.delete(id),
	});
	await createServer().connect(transport);
	return transport;
}

// Start on 127.0.0.1; resolves to { url, sessions, close() } once it listens.
export async function startFixture({ port = 0 } = {}) {
	const sessions = new Map();
	let authorities = [];
	const listener = http.createServer(async (request, response) => {
		try {
			if (new URL(request.url, 'http://local').pathname !== '/mcp')
				return refuse(response, 404, -32600, 'Not Found');
			if (!METHODS.includes(request.method))
				return refuse(response, 405, -32600, 'Method Not Allowed');
			const id = request.headers['mcp-session-id'];
			if (id !== undefined && !sessions.has(id))
				return refuse(response, 404, -32001, 'Session not found');
			const transport = sessions.get(id) ?? (await openTransport(sessions, authorities));
			await transport.handleRequest(request, response);
		} catch (error) {
			if (!response.headersSent) refuse(response, 500, -32603, String(error));
			else response.destroy();
		}
	});
	await new Promise((resolve, reject) => {
		listener.once('error', reject).listen(port, '127.0.0.1', resolve);
	});
	const bound = listener.address().port;
	authorities = [`127.0.0.1:${bound}`, `localhost:${bound}`];
	return {
		url: `http://127.0.0.1:${bound}/mcp`,
		sessions,
		async close() {
			const closed = new Promise((resolve) => listener.close(resolve));
			listener.closeAllConnections();
			await closed;
		},
	};
}

// The same over HTTP+SSE (2024-11-05): { url, sessions, seen, close() }; `seen` is what was POSTed.
export async function startSseFixture() {
	const sessions = new Map();
	const seen = [];
	const listener = http.createServer(async (request, response) => {
		const { pathname, searchParams } = new URL(request.url, 'http://local');
		seen.push({ verb: request.method, headers: request.headers });
		if (request.method === 'GET' && pathname === '/old/sse') {
			const transport = new SSEServerTransport('/old/messages', response);
			sessions.set(transport.sessionId, transport);
			response.on('close', () => sessions.delete(transport.sessionId));
			return void (await createServer().connect(transport));
		}
		const transport = sessions.get(searchParams.get('sessionId'));
		if (request.method !== 'POST' || !transport) return refuse(response, 404, -32600, 'Not Found');
		await transport.handlePostMessage(request, response);
	});
	await new Promise((resolve, reject) => {
		listener.once('error', reject).listen(0, '127.0.0.1', resolve);
	});
	return {
		url: `http://127.0.0.1:${listener.address().port}/old/sse`,
		sessions,
		seen,
		async close() {
			const closed = new Promise((resolve) => listener.close(resolve));
			listener.closeAllConnections();
			await closed;
		},
	};
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
	const at = process.argv.indexOf('--port');
	if (process.argv.includes('--stdio')) {
		process.stdin.once('end', () => process.exit(0));
		await createServer().connect(new StdioServerTransport());
	} else {
		await serve(at);
	}
}

async function serve(at) {
	const fixture = await startFixture({ port: at < 0 ? 0 : Number(process.argv[at + 1]) });
	console.log(fixture.url);
	for (const signal of ['SIGTERM', 'SIGINT'])
		process.once(signal, () => fixture.close().then(() => process.exit(0)));
}
