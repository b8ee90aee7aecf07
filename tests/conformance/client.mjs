// Margay as the suite's client: what `conformance client --command` runs. Starts Margay in front of the
// suite's test server, whose URL is the last argument, and uses all that it offers through a client of
// the generation that is named.
//
//   MARGAY_BIN=PATH node client.mjs legacy|modern URL
import { Margay } from '../system/harness.mjs';
import {
	Client,
	CreateMessageRequestSchema,
	ElicitRequestSchema,
	ListRootsRequestSchema,
	modernClient,
	StreamableHTTPClientTransport,
} from '../system/sdk.mjs';

const [generation, upstream] = process.argv.slice(2);
const INFO = { name: 'margay-conformance', version: '1' };
const CAPABILITIES = { elicitation: { form: {} }, sampling: {}, roots: {} };
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');

const elicited = ({ params }) => {
	const properties = params.requestedSchema?.properties ?? {};
	const content = Object.entries(properties).map(([name, schema]) => [name, valueOf(schema)]);
	return { action: 'accept', content: Object.fromEntries(content) };
};
const sampled = () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'x' } });
const roots = () => ({ roots: [{ uri: 'file:///root' }] });

function valueOf({ type, default: preset, enum: values, properties }) {
	if (preset !== undefined) return preset;
	if (values) return values[0];
	if (type === 'number' || type === 'integer') return 5;
	if (type === 'boolean') return true;
	if (type === 'array') return [];
	if (type === 'object')
		return Object.fromEntries(
			Object.entries(properties ?? {}).map(([name, schema]) => [name, valueOf(schema)]),
		);
	return 'text';
}

async function connect(url) {
	if (generation === 'modern') {
		const client = new modernClient.Client(INFO, {
			capabilities: CAPABILITIES,
			versionNegotiation: { mode: { pin: '2026-07-28' } },
		});
		client.setRequestHandler('elicitation/create', elicited);
		client.setRequestHandler('sampling/createMessage', sampled);
		client.setRequestHandler('roots/list', roots);
		await client.connect(new modernClient.StreamableHTTPClientTransport(new URL(url)));
		return client;
	}
	const client = new Client(INFO, { capabilities: CAPABILITIES });
	client.setRequestHandler(ElicitRequestSchema, elicited);
	client.setRequestHandler(CreateMessageRequestSchema, sampled);
	client.setRequestHandler(ListRootsRequestSchema, roots);
	await client.connect(new StreamableHTTPClientTransport(new URL(url)));
	return client;
}

// What a server lacks is no fault of ours.
const attempt = (promise) => promise.catch((error) => console.error(String(error)));

const margay = await Margay.start({ upstream, config: { workers: 1 } });
try {
	const client = await connect(margay.url);
	const { tools } = (await attempt(client.listTools())) ?? { tools: [] };
	const calls = tools.map((tool) => ({
		name: tool.name,
		arguments: valueOf({ type: 'object', properties: tool.inputSchema.properties }),
	}));
	for (const call of context.toolCalls ?? calls) await attempt(client.callTool(call));
	const prompts = (await attempt(client.listPrompts()))?.prompts ?? [];
	for (const { name } of prompts) await attempt(client.getPrompt({ name }));
	const resources = (await attempt(client.listResources()))?.resources ?? [];
	for (const { uri } of resources) await attempt(client.readResource({ uri }));
	await client.close();
} finally {
	await margay.stop();
}
