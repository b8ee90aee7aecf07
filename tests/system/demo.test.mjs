// The demo server of the binary, seen by the official SDK client three ways: over stdio, over HTTP,
// and over HTTP with Margay in between. All three must look the same.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
	Client,
	ElicitRequestSchema,
	LoggingMessageNotificationSchema,
	ResourceUpdatedNotificationSchema,
	StdioClientTransport,
	StreamableHTTPClientTransport,
} from './sdk.mjs';
import { binary, Margay, startDemo, until } from './harness.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
const MIB = 1024 * 1024;

const ways = {
	'over stdio': async () => ({
		open: () =>
			new StdioClientTransport({
				command: binary,
				args: ['demo-server'],
				stderr: 'ignore',
			}),
		stop() {},
	}),
	'over HTTP': async () => {
		const demo = await startDemo();
		return {
			open: () => new StreamableHTTPClientTransport(new URL(demo.url)),
			async stop() {
				const { code } = await demo.stop();
				assert.equal(code, 0, demo.child.stderr);
			},
		};
	},
	'through Margay': async () => {
		const demo = await startDemo();
		const margay = await Margay.start({ upstream: demo.url });
		return {
			open: () => new StreamableHTTPClientTransport(new URL(margay.url)),
			report: () => margay.report(),
			async stop() {
				try {
					await margay.stop();
				} finally {
					await demo.stop();
				}
			},
		};
	},
};

for (const [how, setUp] of Object.entries(ways))
	describe(`demo server ${how}`, OPTIONS, () => {
		let way;
		let client;
		const logged = [];
		const updated = [];

		before(async () => {
			way = await setUp();
			client = new Client(
				{ name: 'margay-test', version: '1' },
				{ capabilities: { elicitation: { form: {} } } },
			);
			client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({
				action: 'accept',
				content: Object.fromEntries(
					Object.keys(params.requestedSchema.properties).map((key) => [key, 'blue']),
				),
			}));
			client.setNotificationHandler(
				LoggingMessageNotificationSchema,
				({ params }) => void logged.push(params),
			);
			client.setNotificationHandler(
				ResourceUpdatedNotificationSchema,
				({ params }) => void updated.push(params.uri),
			);
			await client.connect(way.open());
		});
		afterEach((t) => {
			if (t.error && way?.report) t.diagnostic(way.report());
		});
		after(async () => {
			await client?.close();
			await way?.stop();
		});

		const call = async (name, args = {}, options) => {
			const result = await client.callTool({ name, arguments: args }, undefined, options);
			return { ...result, text: result.content?.[0]?.text };
		};

		test('says who it is', () => assert.equal(client.getServerVersion().name, 'margay-demo'));

		test('echo, add and count', async () => {
			assert.equal((await call('echo', { text: 'ñ"\\\n😺' })).text, 'ñ"\\\n😺');
			const sum = await call('add', { a: 0.5, b: 41.5 });
			assert.deepEqual(sum.structuredContent, { sum: 42 });
			assert.equal((await call('count')).text, '1');
			assert.equal((await call('count')).text, '2');
		});

		test('sleep tells its progress', async () => {
			const steps = [];
			const onprogress = ({ progress }) => steps.push(progress);
			await call('sleep', { milliseconds: 200, steps: 4 }, { onprogress });
			// The client drops what it reads together with the answer.
			assert.ok(steps.length >= 3, String(steps));
			assert.deepEqual(
				steps,
				[...steps].sort((a, b) => a - b),
			);
		});

		test('ask elicits', async () => {
			assert.match((await call('ask', { question: 'Colour?' })).text, /blue/);
		});

		test('big is as big as it was asked to be', async () => {
			for (const bytes of [0, 1, 65_536, 4 * MIB])
				assert.equal((await call('big', { bytes })).text.length, bytes);
		});

		test('log sends what the level lets through', async () => {
			await client.setLoggingLevel('warning');
			await call('log', { level: 'info', text: 'quiet' });
			await call('log', { level: 'error', text: 'loud' });
			await until('the message', () => logged.length > 0);
			assert.deepEqual(
				logged.map(({ data }) => data),
				['loud'],
			);
		});

		test('the greeting is read, and its subscribers are told', async () => {
			const uri = 'demo://greeting';
			const { resources } = await client.listResources();
			assert.ok(resources.some((one) => one.uri === uri));
			assert.match((await client.readResource({ uri })).contents[0].text, /\w/);
			await client.subscribeResource({ uri });
			await until(
				'the update',
				async () => {
					await call('touch_resource');
					return updated.includes(uri);
				},
				{ every: 100 },
			);
		});

		test('the prompt is listed and fetched', async () => {
			const { prompts } = await client.listPrompts();
			assert.deepEqual(
				prompts.map(({ name }) => name),
				['summarize'],
			);
			const prompt = await client.getPrompt({
				name: 'summarize',
				arguments: { text: 'Cats.' },
			});
			assert.match(prompt.messages[0].content.text, /Cats\./);
		});

		test('mistakes are answered, not punished', async () => {
			await assert.rejects(call('no_such_tool'));
			assert.equal((await call('big', { bytes: -1 })).isError, true);
			assert.equal((await call('echo', { text: 'still there' })).text, 'still there');
		});
	});
