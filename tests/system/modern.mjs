// Requests of the stateless era (2026-07-28), as its clients send them.
import { post } from './http.mjs';

export const VERSION = '2026-07-28';
export const P = 'io.modelcontextprotocol/';

export const metaOf = (more = {}) => ({
	[`${P}protocolVersion`]: VERSION,
	[`${P}clientCapabilities`]: {},
	...more,
});

// A request as a modern client sends it; `headers` and `params` change it.
export function send(url, method, { params = {}, headers = {}, id = 1, ...options } = {}) {
	const all = {
		'mcp-protocol-version': VERSION,
		'mcp-method': method,
		'mcp-name': params.name ?? params.uri,
		...headers,
	};
	const given = Object.entries(all).filter(([, value]) => value !== undefined);
	const message = { jsonrpc: '2.0', id, method, params: { _meta: metaOf(), ...params } };
	return post(url, message, { headers: Object.fromEntries(given), ...options });
}
