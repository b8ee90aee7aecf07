// The conformance fixture of the stateless era: the same catalogue on the SDK's second generation,
// which refuses every legacy request here. What a tool asks its client becomes input_required: the
// tool runs anew for each retry and is given the answers that came so far.
//
//   node modern.mjs            on a free port of 127.0.0.1; prints its URL
//   node modern.mjs --stdio    on stdin and stdout
import http from 'node:http';
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { modern } from '../system/sdk.mjs';
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
import { canBeAsked } from './asking.mjs';

const { createMcpHandler, hostHeaderValidationResponse, localhostAllowedHostnames } = modern;
const { localhostAllowedOrigins, originValidationResponse, ProtocolError, Server } = modern;

const SETTLE_MS = 10; // after which what a tool has asked is all that it asks at once

// --- what a tool asks -------------------------------------------------------------------------------

const key = randomBytes(32);
const sign = (text) => createHmac('sha256', key).update(text).digest('base64url');

function seal(answers) {
	const text = Buffer.from(JSON.stringify(answers)).toString('base64url');
	return `${text}.${sign(text)}`;
}

function open(state) {
	if (state === undefined) return {};
	const [text, mac = ''] = String(state).split('.');
	const good = sign(text);
	if (mac.length !== good.length || !timingSafeEqual(Buffer.from(mac), Buffer.from(good)))
		throw new ProtocolError(-32602, 'requestState is not mine');
	return JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
}

const isAnswer = (value) => value !== null && typeof value === 'object';

// Run what may ask; its result, or what must be known first.
async function interactive(params, ctx, changed, run) {
	const capabilities = ctx.mcpReq.envelope['io.modelcontextprotocol/clientCapabilities'];
	const answers = open(params.requestState ?? ctx.mcpReq.requestState());
	for (const [name, value] of Object.entries(ctx.mcpReq.inputResponses ?? {}))
		if (isAnswer(value)) answers[name] = value;
	const wanted = {};
	let count = 0;
	let asked;
	const pending = new Promise((resolve) => (asked = resolve));
	const extra = {
		_meta: ctx.mcpReq._meta,
		capabilities,
		// Nobody asked for log messages who named no level.
		sendNotification: async (notification) =>
			notification.method === 'notifications/message' &&
			ctx.mcpReq.envelope['io.modelcontextprotocol/logLevel'] === undefined
				? undefined
				: ctx.mcpReq.notify(notification),
		changed: async (what, uri) => changed[what](uri),
		sendRequest(question, _schema, { name = `ask-${++count}` } = {}) {
			if (!canBeAsked(capabilities, question))
				throw new ProtocolError(-32021, 'A capability is missing', {
					requiredCapabilities: { sampling: {} },
				});
			if (answers[name]) return Promise.resolve(answers[name]);
			wanted[name] = question;
			asked();
			return new Promise(() => {});
		},
	};
	const result = run(extra);
	const settled = pending.then(() => new Promise((resolve) => setTimeout(resolve, SETTLE_MS)));
	const done = await Promise.race([Promise.resolve(result), settled]);
	if (done !== undefined) return done;
	return { resultType: 'input_required', inputRequests: wanted, requestState: seal(answers) };
}

// --- methods ------------------------------------------------------------------------------------------

function find(table, name, what) {
	if (!Object.hasOwn(table, name)) throw new ProtocolError(-32602, `Unknown ${what}: ${name}`);
	return table[name];
}

function read(uri) {
	const result = readResource(uri);
	if (!result) throw new ProtocolError(-32602, 'Resource not found', { uri });
	return result;
}

const methods = (changed) => ({
	'tools/list': () => ({ tools: listed(tools, 'name', ['description', 'inputSchema']) }),
	'tools/call': ({ params }, ctx) =>
		interactive(params, ctx, changed, (extra) =>
			find(tools, params.name, 'tool').call(params.arguments ?? {}, extra),
		),
	'prompts/list': () => ({ prompts: listed(prompts, 'name', ['description', 'arguments']) }),
	'prompts/get': ({ params }, ctx) => {
		const { description, get } = find(prompts, params.name, 'prompt');
		return interactive(params, ctx, changed, async (extra) => ({
			description,
			messages: await get(params.arguments ?? {}, extra),
		}));
	},
	'resources/list': () => ({
		resources: listed(resources, 'uri', ['name', 'description', 'mimeType']),
	}),
	'resources/templates/list': () => ({ resourceTemplates: listedTemplates() }),
	'resources/read': ({ params }) => read(params.uri),
	'completion/complete': ({ params }) => complete(params),
});

// `changed` tells those who listen that a list has changed.
function createServer(changed) {
	const server = new Server(
		{ name: 'margay-modern-fixture', version: '1.0.0' },
		{ capabilities: serverCapabilities },
	);
	for (const [method, handler] of Object.entries(methods(changed)))
		server.setRequestHandler(method, handler);
	return server;
}

// --- HTTP ---------------------------------------------------------------------------------------------

function toRequest(incoming, body) {
	const headers = new Headers();
	for (let i = 0; i < incoming.rawHeaders.length; i += 2)
		headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1]);
	const abort = new AbortController();
	const url = `http://${incoming.headers.host}${incoming.url}`;
	const hasBody = !['GET', 'HEAD', 'DELETE'].includes(incoming.method);
	const request = new Request(url, {
		method: incoming.method,
		headers,
		signal: abort.signal,
		...(hasBody && { body }),
	});
	return { request, abort };
}

async function pipe(answer, response) {
	response.writeHead(answer.status, Object.fromEntries(answer.headers));
	if (answer.body)
		for await (const chunk of answer.body) {
			if (response.destroyed) return;
			response.write(chunk);
		}
	response.end();
}

// Start on 127.0.0.1; resolves to { url, notify, seen, close() } once it listens.
export async function startModern() {
	const changed = {
		tools: () => handler.notify.toolsChanged(),
		prompts: () => handler.notify.promptsChanged(),
		resource: (uri) => handler.notify.resourceUpdated(uri),
	};
	const handler = createMcpHandler(() => createServer(changed), { legacy: 'reject' });
	const seen = [];
	const listener = http.createServer(async (incoming, response) => {
		const chunks = [];
		for await (const chunk of incoming) chunks.push(chunk);
		const body = Buffer.concat(chunks);
		const { request, abort } = toRequest(incoming, body);
		seen.push({ headers: incoming.headers, body: body.toString('utf8') });
		response.once('close', () => abort.abort());
		try {
			const refused =
				hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
				originValidationResponse(request, localhostAllowedOrigins());
			await pipe(refused ?? (await handler.fetch(request)), response);
		} catch {
			response.destroy();
		}
	});
	await new Promise((resolve, reject) => {
		listener.once('error', reject).listen(0, '127.0.0.1', resolve);
	});
	return {
		url: `http://127.0.0.1:${listener.address().port}/mcp`,
		notify: handler.notify,
		seen,
		async close() {
			await handler.close();
			listener.closeAllConnections();
			await new Promise((resolve) => listener.close(resolve));
		},
	};
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
	if (process.argv[2] === '--stdio') {
		modern.serveStdio(
			() => {
				const server = createServer({
					tools: () => server.sendToolListChanged(),
					prompts: () => server.sendPromptListChanged(),
					resource: (uri) => server.sendResourceUpdated({ uri }),
				});
				return server;
			},
			{ legacy: 'reject' },
		);
	} else {
		const { url } = await startModern();
		console.log(url);
	}
}
