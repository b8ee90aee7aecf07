// Clients of both generations of the official SDK at servers of both eras, each pair through Margay with
// four workers. Everything that Margay sends, to the client and to the server, is held against the schema
// of the revision it was sent under.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { binary, Margay, messagesOf, node, until } from './harness.mjs';
import {
	Client,
	CreateMessageRequestSchema,
	ElicitRequestSchema,
	ListRootsRequestSchema,
	ResourceUpdatedNotificationSchema,
	SSEClientTransport,
	LoggingMessageNotificationSchema,
	modernClient,
	StdioClientTransport,
	StreamableHTTPClientTransport,
	ToolListChangedNotificationSchema,
} from './sdk.mjs';
import { refusal } from './schemas.mjs';
import { startFixture, startSseFixture } from '../conformance/fixture.mjs';
import { startModern } from '../conformance/modern.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const firstClasses = { SSEClientTransport, StdioClientTransport, StreamableHTTPClientTransport };
const INFO = { name: 'margay-pairs', version: '1' };
const CAPABILITIES = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
const HEADER = 'mcp-protocol-version';
const MODERN = '2026-07-28';

const ELICITED = { action: 'accept', content: { username: 'Ada', email: 'a@b.c', name: 'Ada' } };
// A page is only looked at, a form is filled in.
const elicited = ({ params }) => (params.mode === 'url' ? { action: 'accept' } : ELICITED);
const SAMPLED = { role: 'assistant', model: 'm', content: { type: 'text', text: 'sampled' } };
const ROOTS = { roots: [{ uri: 'file:///root', name: 'root' }] };

// What was sent that its schema refuses.
class Inspector {
	wrong = [];
	methods = new Map(); // of requests, by id
	later = []; // to be done before the verdict

	see(revision, from, message) {
		const asked = from === 'Server' ? this.methods.get(message.id) : undefined;
		const why = refusal(revision, from, message, asked);
		if (why) this.wrong.push(`${revision} ${from}: ${why}\n${JSON.stringify(message)}`);
	}

	// A fetch that holds against the schema what comes back, as it passes; of `known` revision, or the
	// one that the request names.
	fetch(known) {
		return async (url, init = {}) => {
			const sent = typeof init.body === 'string' ? JSON.parse(init.body) : undefined;
			if (sent?.id !== undefined && sent.method) this.methods.set(sent.id, sent.method);
			const answer = await fetch(url, init);
			const revision =
				known ?? new Headers(init.headers).get(HEADER) ?? sent?.params?.protocolVersion;
			const type = answer.headers.get('content-type') ?? '';
			if (!revision || !answer.body || !/json|event-stream/.test(type)) return answer;
			const { status, headers } = answer;
			return new Response(answer.body.pipeThrough(this.#look(revision, type)), { status, headers });
		};
	}

	#look(revision, type) {
		const decoder = new TextDecoder();
		let rest = '';
		const take = (text) => {
			for (const one of messagesOf({ headers: { 'content-type': type }, text }))
				if (one.startsWith('{')) this.see(revision, 'Server', JSON.parse(one));
		};
		return new TransformStream({
			transform: (chunk, controller) => {
				rest += decoder.decode(chunk, { stream: true });
				const end = type.includes('event-stream') ? rest.lastIndexOf('\n\n') : -1;
				if (end >= 0) take(rest.slice(0, end));
				if (end >= 0) rest = rest.slice(end + 2);
				controller.enqueue(chunk);
			},
			flush: () => void (rest.trim() !== '' && !rest.startsWith(':') && take(rest)),
		});
	}
}

// Between Margay and a server: holds against the schema what Margay sends.
async function startTap(target, inspector, otherwise = '2025-03-26') {
	const listener = http.createServer((request, response) => {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('end', () => {
			const body = Buffer.concat(chunks);
			if (body.length > 0) {
				const message = JSON.parse(body.toString('utf8'));
				const revision =
					request.headers[HEADER] ?? message.params?.protocolVersion ?? otherwise;
				inspector.see(revision, 'Client', message);
			}
			const onward = http.request(
				new URL(request.url, target),
				{ method: request.method, headers: { ...request.headers, host: new URL(target).host } },
				(answer) => {
					response.writeHead(answer.statusCode, answer.headers);
					response.flushHeaders();
					answer.pipe(response);
				},
			);
			onward.on('error', () => response.destroy());
			response.on('close', () => onward.destroy());
			onward.end(body);
		});
	});
	await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
	return {
		url: `http://127.0.0.1:${listener.address().port}/mcp`,
		close() {
			listener.closeAllConnections();
			return new Promise((resolve) => listener.close(resolve));
		},
	};
}

// A transport over HTTP, of the generation whose classes these are.
const overHttp = (classes) => (url, inspector) =>
	new classes.StreamableHTTPClientTransport(new URL(url), { fetch: inspector.fetch() });

// The transport of 2024-11-05.
const overSse = (classes) => (url, inspector) => {
	const fetch = inspector.fetch('2025-11-25');
	return new classes.SSEClientTransport(new URL(url), { fetch, eventSourceInit: { fetch } });
};

// A client that speaks stdio only, through `margay connect`; what passes is written down.
const overStdio = (classes) => (url, inspector) => {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-connect-'));
	const script = `tee "$0/in" | "$1" connect "$2" | tee "$0/out"`;
	const transport = new classes.StdioClientTransport({
		command: '/bin/sh',
		args: ['-c', script, directory, binary, url],
		env: { ...process.env, TMPDIR: directory },
	});
	const read = (name) =>
		fs
			.readFileSync(path.join(directory, name), 'utf8')
			.split('\n')
			.filter((line) => line !== '')
			.map((line) => JSON.parse(line));
	inspector.later.push(async () => {
		const asked = read('in');
		for (const { id, method } of asked) if (id !== undefined && method) inspector.methods.set(id, method);
		const stateless = asked.some(({ params }) => params?._meta?.['io.modelcontextprotocol/protocolVersion']);
		for (const message of read('out')) inspector.see(stateless ? MODERN : '2025-11-25', 'Server', message);
		fs.rmSync(directory, { recursive: true });
	});
	return transport;
};

// A client of the first generation: { client, on(notification) }.
async function firstGeneration(transport) {
	const client = new Client(INFO, { capabilities: CAPABILITIES });
	client.setRequestHandler(ElicitRequestSchema, elicited);
	client.setRequestHandler(CreateMessageRequestSchema, () => SAMPLED);
	client.setRequestHandler(ListRootsRequestSchema, () => ROOTS);
	const heard = [];
	const schemas = [
		LoggingMessageNotificationSchema,
		ResourceUpdatedNotificationSchema,
		ToolListChangedNotificationSchema,
	];
	for (const schema of schemas)
		client.setNotificationHandler(schema, (one) => void heard.push(one.method));
	await client.connect(transport);
	return {
		client,
		heard,
		call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
		listen: async () => {},
		subscribe: (uri) => client.subscribeResource({ uri }),
		log: () => client.setLoggingLevel('debug'),
	};
}

// One of the second, which speaks the era that `mode` says.
async function secondGeneration(transport, mode) {
	const client = new modernClient.Client(INFO, {
		capabilities: CAPABILITIES,
		versionNegotiation: { mode },
	});
	client.setRequestHandler('elicitation/create', elicited);
	client.setRequestHandler('sampling/createMessage', () => SAMPLED);
	client.setRequestHandler('roots/list', () => ROOTS);
	const heard = [];
	const methods = ['message', 'resources/updated', 'tools/list_changed'];
	for (const method of methods.map((name) => `notifications/${name}`))
		client.setNotificationHandler(method, () => void heard.push(method));
	await client.connect(transport);
	let meta;
	return {
		client,
		heard,
		call: (name, args, options) =>
			client.callTool({ name, arguments: args, ...(meta && { _meta: meta }) }, options),
		listen: () => (mode === 'legacy' ? undefined : client.listen({ toolsListChanged: true })),
		subscribe: (uri) =>
			mode === 'legacy'
				? client.subscribeResource({ uri })
				: client.listen({ resourceSubscriptions: [uri] }),
		log: async () => {
			if (mode === 'legacy') await client.setLoggingLevel('debug');
			else meta = { 'io.modelcontextprotocol/logLevel': 'debug' };
		},
	};
}

const GENERATIONS = {
	'SDK v1': [firstClasses, firstGeneration],
	'SDK v2 as legacy': [modernClient, (transport) => secondGeneration(transport, 'legacy')],
	'SDK v2 as modern': [modernClient, (transport) => secondGeneration(transport, { pin: MODERN })],
	'SDK v2 that finds out': [modernClient, (transport) => secondGeneration(transport, 'auto')],
};
const CLIENTS = Object.fromEntries(
	Object.entries(GENERATIONS).flatMap(([name, [classes, connect]]) =>
		Object.entries({
			'': overHttp(classes),
			' on stdio': overStdio(classes),
			...(/v1|legacy/.test(name) && { ' by HTTP+SSE': overSse(classes) }),
		}).map(
			([way, transport]) => [
				name + way,
				(url, inspector) => connect(transport(url, inspector)),
			],
		),
	),
);

// A server on stdio; what Margay writes to it goes through `tee`.
const onStdio = (name) => async (inspector) => {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-pairs-'));
	const program = path.join(import.meta.dirname, '../conformance', name);
	const script = `tee "$0/$$" | "$1" "$2" --stdio`;
	const inspect = (line) => {
		const message = JSON.parse(line);
		const revision = message.params?._meta?.['io.modelcontextprotocol/protocolVersion'];
		inspector.see(revision ?? '2025-11-25', 'Client', message);
	};
	return {
		upstream: {
			http: undefined,
			stdio: { command: '/bin/sh', args: ['-c', script, directory, node, program] },
		},
		stop: async () => {
			for (const file of fs.readdirSync(directory))
				fs.readFileSync(path.join(directory, file), 'utf8')
					.split('\n')
					.filter((line) => line !== '')
					.forEach(inspect);
			fs.rmSync(directory, { recursive: true });
		},
	};
};

const SERVERS = {
	'an SDK v1 server': async (inspector) => {
		const fixture = await startFixture();
		const tap = await startTap(fixture.url, inspector);
		return {
			upstream: { http: { url: tap.url } },
			stop: () => Promise.all([tap.close(), fixture.close()]),
		};
	},
	'an SDK v2 server': async (inspector) => {
		const fixture = await startModern();
		const tap = await startTap(fixture.url, inspector);
		return {
			upstream: { http: { url: tap.url } },
			stop: () => Promise.all([tap.close(), fixture.close()]),
		};
	},
	'an SDK v1 server of HTTP+SSE': async (inspector) => {
		const fixture = await startSseFixture();
		const tap = await startTap(fixture.url, inspector, '2025-11-25');
		return {
			upstream: { http: undefined, sse: { url: tap.url.replace('/mcp', '/old/sse') } },
			stop: () => Promise.all([tap.close(), fixture.close()]),
		};
	},
	'an SDK v1 server on stdio': onStdio('fixture.mjs'),
	'an SDK v2 server on stdio': onStdio('modern.mjs'),
};

for (const [serverName, startServer] of Object.entries(SERVERS))
	for (const [clientName, connect] of Object.entries(CLIENTS))
		describe(`${clientName} at ${serverName}`, OPTIONS, () => {
			const inspector = new Inspector();
			let server;
			let margay;
			let peer;

			before(async () => {
				server = await startServer(inspector);
				margay = await Margay.start({ config: { upstreams: { main: server.upstream }, routes: { '/mcp': { http_sse: true } } } });
				peer = await connect(margay.url, inspector);
			});
			afterEach((t) => {
				if (t.error) t.diagnostic(margay.report());
			});
			after(async () => {
				await peer?.client.close();
				await margay?.stop();
				await server?.stop();
				for (const look of inspector.later) await look();
				assert.deepEqual(inspector.wrong, []);
			});

			test('lists, prompts, resources, completion', async () => {
				const { client } = peer;
				const { tools } = await client.listTools();
				assert.ok(tools.some(({ name }) => name === 'test_simple_text'));
				assert.ok((await client.listPrompts()).prompts.length > 3);
				assert.ok((await client.listResources()).resources.length > 2);
				assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 1);
				const { messages } = await client.getPrompt({
					name: 'test_prompt_with_arguments',
					arguments: { arg1: 'x', arg2: 'y' },
				});
				assert.match(messages[0].content.text, /arg1='x'/);
				const { contents } = await client.readResource({ uri: 'test://static-text' });
				assert.match(contents[0].text, /static text/);
				const { completion } = await client.complete({
					ref: { type: 'ref/prompt', name: 'test_prompt_with_arguments' },
					argument: { name: 'arg1', value: 'par' },
				});
				assert.deepEqual(completion.values, ['paris', 'park', 'party']);
			});

			test('calls, errors, arguments that headers repeat', async () => {
				const { content } = await peer.call('test_simple_text', {});
				assert.match(content[0].text, /simple text/);
				assert.equal((await peer.call('test_error_handling', {})).isError, true);
				const { content: region } = await peer.call('test_region', { region: 'größe', count: 42 });
				assert.deepEqual(JSON.parse(region[0].text), { region: 'größe', count: 42 });
				await assert.rejects(peer.call('no_such_tool', {}), ({ code }) => code === -32602);
			});

			test('sampling, elicitation and roots', async () => {
				const sampled = await peer.call('test_sampling', { prompt: 'p' });
				assert.equal(sampled.content[0].text, 'LLM response: sampled');
				const elicited = await peer.call('test_elicitation', { message: 'm' });
				assert.match(elicited.content[0].text, /action=accept.*Ada/);
				const looked = await peer.call('test_elicitation_url', {});
				assert.equal(looked.content[0].text, 'action=accept');
				const all = await peer.call('test_input_required_result_multiple_inputs', {});
				for (const part of ['Ada', 'sampled', 'file:///root'])
					assert.ok(all.content[0].text.includes(part), part);
				const rounds = await peer.call('test_input_required_result_multi_round', {});
				assert.equal(JSON.parse(rounds.content[0].text.replace('state-ok ', '')).length, 2);
			});

			test('progress and log messages', async () => {
				const steps = [];
				await peer.call('test_tool_with_progress', {}, { onprogress: ({ progress }) => steps.push(progress) });
				const all = [0, 50, 100];
				assert.deepEqual(steps, all.slice(0, steps.length));
				// On one stream for all the SDK forgets the steps that come in the same read as the answer.
				assert.ok(steps.length >= (/stdio$|SSE$/.test(clientName) ? 1 : all.length), steps);
				await peer.log();
				peer.heard.length = 0;
				await peer.call('test_tool_with_logging', {});
				await until(
					'three messages came',
					() => peer.heard.filter((one) => one === 'notifications/message').length === 3,
				);
			});

			test('a call that is cancelled is over', async () => {
				const abort = new AbortController();
				const call = peer.call('test_tool_with_logging', {}, { signal: abort.signal });
				abort.abort(new Error('enough'));
				await assert.rejects(call);
				assert.ok((await peer.call('test_simple_text', {})).content);
			});

			test('a list that changes is heard of, and a resource that was subscribed to', async () => {
				await peer.listen();
				await peer.subscribe('test://static-text');
				// In a legacy server on stdio it listens to another process.
				const modern = /modern|finds out/.test(clientName);
				if (modern && /v1 server (on stdio|of HTTP)/.test(serverName)) return;
				await until('it is heard', async () => {
					await peer.call('test_trigger_tool_change', {});
					await peer.call('test_trigger_resource_update', { uri: 'test://other' });
					return peer.heard.includes('notifications/tools/list_changed');
				});
				assert.ok(!peer.heard.includes('notifications/resources/updated'));
				await until('it is heard', async () => {
					await peer.call('test_trigger_resource_update', { uri: 'test://static-text' });
					return peer.heard.includes('notifications/resources/updated');
				});
			});
		});
