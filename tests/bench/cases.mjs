// What is measured, as data. A case is a kind of load on an upstream; which peers can serve it is its `kind`.
const KiB = 1024;

// Upstreams by the name that is also their path; `arguments` of margay-load-upstream.
export const upstreams = {
	json_200: { bytes: 200 },
	json_16k: { bytes: 16 * KiB },
	json_256k: { bytes: 256 * KiB },
	sse_200: { bytes: 200, sse: true },
	sse_16k: { bytes: 16 * KiB, sse: true },
	sse_256k: { bytes: 256 * KiB, sse: true },
};

const shapes = {
	'200': { upstream: 'json_200', connections: 64 },
	'200_1': { upstream: 'json_200', connections: 1 },
	'200_1000': { upstream: 'json_200', connections: 1000 },
	'16k': { upstream: 'json_16k', connections: 64 },
	'256k': { upstream: 'json_256k', connections: 64 },
	sse: { upstream: 'sse_200', connections: 64 },
	sse_16k: { upstream: 'sse_16k', connections: 64 },
	sse_256k: { upstream: 'sse_256k', connections: 64 },
	connect: { upstream: 'json_200', connections: 64, connects: true },
};

const http = (era) =>
	Object.entries(shapes).map(([name, shape]) => [`${era}_${name}`, { kind: 'http', era, ...shape }]);

export const cases = Object.fromEntries([
	...http('modern'),
	...http('legacy'),
	...[1, 64].map((connections) => [
		`stdio_${connections}`,
		{ kind: 'stdio', era: 'legacy', upstream: 'mcp', connections },
	]),
]);

// Each way through the code once.
export const quick = ['modern_200', 'modern_sse_256k', 'modern_connect', 'legacy_200', 'stdio_64'];

// What a case is, for a reader.
export function describe({ era, upstream, connections, connects }) {
	const [kind, size] = upstream.split('_');
	const answer = { 200: '200 B', '16k': '16 KiB', '256k': '256 KiB' }[size] ?? '200 B';
	const form = { json: 'JSON', sse: 'SSE', mcp: 'stdio' }[kind];
	const clients = connects
		? `${connections} clients that connect for each request`
		: `${connections} connection${connections > 1 ? 's' : ''}`;
	return `${era}, ${form} ${answer}, ${clients}`;
}
