// Requests as bytes, for connections that are held, and sessions by hand, many at a time.
import http from 'node:http';
import { request } from '../system/http.mjs';

const MODERN = '2026-07-28';
const LEGACY = '2025-11-25';
const AT_A_TIME = 16;

const accept = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' };
const meta = {
	'io.modelcontextprotocol/protocolVersion': MODERN,
	'io.modelcontextprotocol/clientCapabilities': {},
};

function text(method, path, headers, body = '') {
	const all = { Host: 'localhost', ...headers, ...(body ? { 'Content-Length': body.length } : {}) };
	const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
	return [`${method} ${path} HTTP/1.1`, ...lines, '', body].join('\r\n');
}

function modern(path, method, params, more = {}) {
	const headers = { ...accept, 'MCP-Protocol-Version': MODERN, 'Mcp-Method': method, ...more };
	const message = { jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: meta } };
	return text('POST', path, headers, JSON.stringify(message));
}

export const callText = (path) =>
	modern(path, 'tools/call', { name: 'echo', arguments: {} }, { 'Mcp-Name': 'echo' });
export const listenText = (path) =>
	modern(path, 'subscriptions/listen', { notifications: { toolsListChanged: true } });
export const getText = (path, session) =>
	text('GET', path, {
		Accept: 'text/event-stream',
		'MCP-Protocol-Version': LEGACY,
		'Mcp-Session-Id': session,
	});

async function openSession(url, agent, name) {
	const post = (message, headers) =>
		request(url, {
			method: 'POST',
			headers: { ...accept, ...headers },
			body: JSON.stringify({ jsonrpc: '2.0', ...message }),
			agent,
		});
	const clientInfo = { name, version: '1' };
	const params = { protocolVersion: LEGACY, capabilities: {}, clientInfo };
	const reply = await post({ id: 1, method: 'initialize', params });
	const session = reply.headers['mcp-session-id'];
	if (reply.status !== 200 || !session) throw new Error(`initialize: ${reply.status} ${reply.text}`);
	const headers = { 'MCP-Protocol-Version': LEGACY, 'Mcp-Session-Id': session };
	const { status } = await post({ method: 'notifications/initialized' }, headers);
	if (status !== 202) throw new Error(`notifications/initialized: ${status}`);
	return session;
}

// The ids of `count` new sessions; urls are taken in turn. `nameOf`: what the client of each says it is.
export async function openSessions(urls, count, nameOf = () => 'margay-bench') {
	const agent = new http.Agent({ keepAlive: true, maxSockets: AT_A_TIME });
	const ids = [];
	let next = 0;
	const lane = async () => {
		while (next < count) {
			const n = next++;
			ids[n] = await openSession(urls[n % urls.length], agent, nameOf(n));
		}
	};
	await Promise.all(Array.from({ length: AT_A_TIME }, lane));
	agent.destroy();
	return ids;
}
