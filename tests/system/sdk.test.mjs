// The official SDK client and the official reference server, with Margay and 4 workers between them.
// Without MARGAY_BIN the client talks to the server itself: what fails then is no fault of Margay.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
	Client,
	CreateMessageRequestSchema,
	ElicitRequestSchema,
	LoggingMessageNotificationSchema,
	ResourceUpdatedNotificationSchema,
	StreamableHTTPClientTransport,
} from './sdk.mjs';
import { binary, Margay, post, startEverything, until } from './harness.mjs';

const skip = binary ? false : 'needs MARGAY_BIN';
const STREAM_PATIENCE = { timeout: 20_000, every: 250 };

describe('SDK client and reference server', { timeout: 120_000 }, () => {
	let everything;
	let margay;
	let url;
	const clients = new Set();

	before(async () => {
		everything = await startEverything();
		if (binary) margay = await Margay.start({ upstream: everything.url });
		url = new URL(margay?.url ?? everything.url);
	});

	afterEach(async (t) => {
		await Promise.all([...clients].map((client) => client.close()));
		clients.clear();
		if (t.error && margay) t.diagnostic(margay.report());
	});

	after(async () => {
		await Promise.all([...clients].map((client) => client.close()));
		try {
			await margay?.stop();
		} finally {
			await everything?.stop();
		}
	});

	async function connect({ capabilities = {}, handlers = [], notifications = [] } = {}) {
		const client = new Client({ name: 'margay-test', version: '1.0.0' }, { capabilities });
		for (const [schema, handler] of handlers) client.setRequestHandler(schema, handler);
		for (const [schema, handler] of notifications)
			client.setNotificationHandler(schema, handler);
		await client.connect(new StreamableHTTPClientTransport(url));
		clients.add(client);
		return client;
	}

	const call = (client, name, args = {}, options) =>
		client.callTool({ name, arguments: args }, undefined, options);

	test('initialize tells the server its client and the client its server', async () => {
		const client = await connect();
		assert.equal(client.getServerVersion().name, 'mcp-servers/everything');
		assert.match(client.getInstructions(), /\w/);
		assert.ok(client.getServerCapabilities().resources.subscribe);
		assert.equal(client.transport.protocolVersion, '2025-11-25');
		assert.deepEqual(await client.ping(), {});
	});

	// Control: a gateway that handed out the server's own ids would show a UUID here.
	test("the session id is Margay's own", { skip }, async () => {
		const client = await connect();
		assert.match(client.transport.sessionId, /^[A-Za-z0-9_-]{36}$/);
		assert.doesNotMatch(client.transport.sessionId, /^[0-9a-f]{8}-[0-9a-f]{4}-/);
		assert.ok(!everything.child.stdout.includes(client.transport.sessionId));
	});

	test('tools are listed and called', async () => {
		const client = await connect();
		const { tools } = await client.listTools();
		assert.ok(tools.some(({ name }) => name === 'echo'));
		const { content } = await call(client, 'echo', { message: 'mañana \u0001 😺' });
		assert.deepEqual(content, [{ type: 'text', text: 'Echo: mañana \u0001 😺' }]);
		const image = await call(client, 'get-tiny-image');
		assert.ok(image.content.some(({ type, data }) => type === 'image' && data.length > 1000));
	});

	test('an error of the server stays what it is', async () => {
		const client = await connect();
		const { isError, content } = await call(client, 'no-such-tool');
		assert.equal(isError, true);
		assert.match(content[0].text, /no-such-tool/);
		await assert.rejects(client.readResource({ uri: 'demo://nothing' }), { code: -32602 });
	});

	// Control: if SSE were buffered, all progress would come at the end, with the result.
	test('progress arrives while the tool runs', async () => {
		const client = await connect();
		const seen = [];
		const result = await call(
			client,
			'trigger-long-running-operation',
			{ duration: 2, steps: 4 },
			{ onprogress: ({ progress, total }) => seen.push({ progress, total, at: Date.now() }) },
		);
		const end = Date.now();
		assert.match(result.content[0].text, /completed/);
		assert.deepEqual(
			seen.map(({ progress, total }) => [progress, total]),
			[
				[1, 4],
				[2, 4],
				[3, 4],
				[4, 4],
			],
		);
		assert.ok(end - seen[0].at > 1000, `first progress ${end - seen[0].at} ms before the end`);
	});

	test('log messages arrive on the GET stream', async () => {
		const messages = [];
		const client = await connect({
			notifications: [
				[LoggingMessageNotificationSchema, ({ params }) => void messages.push(params)],
			],
		});
		await client.setLoggingLevel('debug');
		// The stream opens after the handshake; each second toggle logs once at once.
		await until(
			'a log message',
			async () => {
				if (messages.length > 0) return true;
				await call(client, 'toggle-simulated-logging');
				return false;
			},
			STREAM_PATIENCE,
		);
		assert.match(String(messages[0].data), /message/);
	});

	test('sampling goes to the client and back', async () => {
		let asked;
		const client = await connect({
			capabilities: { sampling: {} },
			handlers: [
				[
					CreateMessageRequestSchema,
					({ params }) => {
						asked = params;
						return {
							role: 'assistant',
							model: 'none',
							stopReason: 'endTurn',
							content: { type: 'text', text: 'forty-two' },
						};
					},
				],
			],
		});
		const result = await call(client, 'trigger-sampling-request', {
			prompt: 'six by seven',
			maxTokens: 7,
		});
		assert.equal(asked.maxTokens, 7);
		assert.match(asked.messages[0].content.text, /six by seven/);
		assert.match(result.content[0].text, /forty-two/);
	});

	test('elicitation goes to the user and back', async () => {
		let asked;
		const client = await connect({
			capabilities: { elicitation: { form: {} } },
			handlers: [
				[
					ElicitRequestSchema,
					({ params }) => {
						asked = params;
						return { action: 'accept', content: { name: 'Mar Gay', check: true } };
					},
				],
			],
		});
		const result = await call(client, 'trigger-elicitation-request');
		assert.equal(asked.requestedSchema.type, 'object');
		assert.match(JSON.stringify(result.content), /Mar Gay/);
		const declined = await connect({
			capabilities: { elicitation: { form: {} } },
			handlers: [[ElicitRequestSchema, () => ({ action: 'decline' })]],
		});
		const refusal = await call(declined, 'trigger-elicitation-request');
		assert.match(JSON.stringify(refusal.content), /declined/);
	});

	test('resources are listed, read and subscribed to', async () => {
		const updated = [];
		const client = await connect({
			notifications: [
				[ResourceUpdatedNotificationSchema, ({ params }) => void updated.push(params.uri)],
			],
		});
		const { resources } = await client.listResources();
		const { resourceTemplates } = await client.listResourceTemplates();
		assert.ok(resources.length > 0 && resourceTemplates.length > 0);
		const uri = 'demo://resource/dynamic/text/7';
		const { contents } = await client.readResource({ uri });
		assert.equal(contents[0].uri, uri);
		assert.deepEqual(await client.subscribeResource({ uri }), {});
		await until(
			'an update of the resource',
			async () => {
				if (updated.includes(uri)) return true;
				await call(client, 'toggle-subscriber-updates');
				return false;
			},
			STREAM_PATIENCE,
		);
		assert.deepEqual(await client.unsubscribeResource({ uri }), {});
	});

	test('prompts are listed, fetched and completed', async () => {
		const client = await connect();
		const { prompts } = await client.listPrompts();
		assert.ok(prompts.some(({ name }) => name === 'args-prompt'));
		const { messages } = await client.getPrompt({
			name: 'args-prompt',
			arguments: { city: 'Leticia', state: 'Amazonas' },
		});
		assert.equal(messages[0].content.text, "What's weather in Leticia, Amazonas?");
		const { completion } = await client.complete({
			ref: { type: 'ref/prompt', name: 'completable-prompt' },
			argument: { name: 'department', value: 'S' },
		});
		assert.deepEqual(completion.values, ['Sales', 'Support']);
	});

	// Every client counts its ids from 0, so all ids collide; an answer that went to the wrong
	// session would name another client's number.
	test('200 clients at once get their own answers', { timeout: 90_000 }, async () => {
		const crowd = await Promise.all(Array.from({ length: 200 }, () => connect()));
		await Promise.all(
			crowd.map(async (client, n) => {
				for (let i = 0; i < 5; i++) {
					const { content } = await call(client, 'echo', { message: `${n}/${i}` });
					assert.equal(content[0].text, `Echo: ${n}/${i}`);
				}
				const sum = await call(client, 'get-sum', { a: n, b: 1000 });
				assert.match(sum.content[0].text, new RegExp(`is ${n + 1000}\\.`));
			}),
		);
		const ids = new Set(crowd.map((client) => client.transport.sessionId));
		assert.equal(ids.size, 200);
		if (margay) {
			const metrics = await margay.metrics();
			assert.ok(metrics.sum('margay_sessions_active') >= 200);
		}
	});

	// Control: with sessions kept in a worker, the others would answer 404 and calls would fail.
	test('one session is served by several workers', { skip }, async () => {
		const client = await connect();
		const served = async () => {
			const metrics = await margay.metrics();
			return [0, 1, 2, 3].map((worker) =>
				metrics.sum('margay_worker_requests_total', { worker: String(worker) }),
			);
		};
		const earlier = await served();
		const calls = await Promise.all(
			Array.from({ length: 64 }, (_, n) =>
				call(client, 'echo', { message: `parallel ${n}` }),
			),
		);
		calls.forEach(({ content }, n) => assert.equal(content[0].text, `Echo: parallel ${n}`));
		const workers = await until('64 calls in the access log', () => {
			const lines = margay
				.accesses({ tool: 'echo' })
				.filter(({ session }) => client.transport.sessionId.startsWith(session));
			return lines.length >= 64 && new Set(lines.map(({ worker }) => worker));
		});
		assert.ok(workers.size >= 2, `workers ${[...workers]}`);
		const busy = (await served()).filter((count, worker) => count > earlier[worker]);
		assert.ok(busy.length >= workers.size, `${earlier} grew in ${busy.length} places`);
	});

	test('DELETE ends the session on both sides', { skip }, async () => {
		const client = await connect();
		const id = client.transport.sessionId;
		await client.transport.terminateSession();
		const headers = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' };
		const reply = await post(url, { jsonrpc: '2.0', id: 1, method: 'ping' }, { headers });
		assert.equal(reply.status, 404);
		await until('the server saw the DELETE', () =>
			/session termination request/.test(everything.child.stdout),
		);
	});
});
