// What the conformance fixture offers: the tools, prompts and resources that the scenarios of
// `conformance server --requirements 2025-11-25` ask for by name, as tables. Each row is what a
// scenario's description demands and nothing more; fixture.mjs puts the tables on the wire.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CreateMessageResultSchema, ElicitResultSchema, ResultSchema } from '../system/sdk.mjs';
import { asking, askingPrompt, canBeAsked, promptRounds } from './asking.mjs';

// 1x1 red pixel, and 8 samples of silence.
const PNG =
	'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const WAV = Buffer.concat([
	Buffer.from('RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0', 'latin1'),
	Buffer.from([0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0]),
	Buffer.from('data\x08\0\0\0', 'latin1'),
	Buffer.alloc(8, 0x80),
]).toString('base64');

const text = (string) => ({ type: 'text', text: string });
const image = () => ({ type: 'image', data: PNG, mimeType: 'image/png' });
const resource = (uri, mimeType, string) => ({
	type: 'resource',
	resource: { uri, mimeType, text: string },
});
const object = (properties = {}, required = []) => ({ type: 'object', properties, required });
const string = (description) => ({ type: 'string', description });
const answer = (...content) => ({ content });

const log = (extra, data) =>
	extra.sendNotification({
		method: 'notifications/message',
		params: { level: 'info', logger: 'fixture', data },
	});

async function elicit(extra, message, requestedSchema) {
	const result = await extra.sendRequest(
		{ method: 'elicitation/create', params: { mode: 'form', message, requestedSchema } },
		ElicitResultSchema,
	);
	return `action=${result.action}, content=${JSON.stringify(result.content ?? {})}`;
}

const ENUMS = {
	untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
	titledSingle: {
		type: 'string',
		oneOf: [
			{ const: 'value1', title: 'First Option' },
			{ const: 'value2', title: 'Second Option' },
			{ const: 'value3', title: 'Third Option' },
		],
	},
	legacyEnum: {
		type: 'string',
		enum: ['opt1', 'opt2', 'opt3'],
		enumNames: ['Option One', 'Option Two', 'Option Three'],
	},
	untitledMulti: {
		type: 'array',
		items: { type: 'string', enum: ['option1', 'option2', 'option3'] },
	},
	titledMulti: {
		type: 'array',
		items: {
			anyOf: [
				{ const: 'value1', title: 'First Choice' },
				{ const: 'value2', title: 'Second Choice' },
				{ const: 'value3', title: 'Third Choice' },
			],
		},
	},
};

const DEFAULTS = {
	name: { type: 'string', default: 'John Doe' },
	age: { type: 'integer', default: 30 },
	score: { type: 'number', default: 95.5 },
	status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
	verified: { type: 'boolean', default: true },
};

const SCHEMA_2020_12 = {
	$schema: 'https://json-schema.org/draft/2020-12/schema',
	type: 'object',
	$defs: {
		address: {
			$anchor: 'addressDef',
			type: 'object',
			properties: { street: { type: 'string' }, city: { type: 'string' } },
		},
	},
	properties: {
		name: { type: 'string' },
		address: { $ref: '#/$defs/address' },
		contactMethod: { type: 'string', enum: ['phone', 'email'] },
		phone: { type: 'string' },
		email: { type: 'string' },
	},
	allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
	if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
	then: { required: ['phone'] },
	else: { required: ['email'] },
	additionalProperties: false,
};

// Ask the client round by round, as servers did before 2026-07-28; what it said, as JSON.
async function askAll(rounds, extra) {
	const said = [];
	for (const round of rounds) {
		const questions = Object.entries(round).filter(([, one]) => canBeAsked(extra.capabilities, one));
		said.push(...(await Promise.all(questions.map(([name, one]) => extra.sendRequest(one, ResultSchema, { name })))));
	}
	return JSON.stringify(said);
}

// name: { description, inputSchema, call(arguments, extra) }
export const tools = {
	...Object.fromEntries(
		Object.entries(asking).map(([name, rounds]) => [
			name,
			{
				description: 'Asks the client.',
				inputSchema: object(),
				call: async (_, extra) => answer(text(`state-ok ${await askAll(rounds, extra)}`)),
			},
		]),
	),
	test_streaming_elicitation: {
		description: 'Logs, then asks the client.',
		inputSchema: object(),
		async call(_, extra) {
			await log(extra, 'About to ask');
			return answer(text(await askAll(asking.test_input_required_result_elicitation, extra)));
		},
	},
	test_missing_capability: {
		description: 'Asks the client for a completion, whether it said that it can or not.',
		inputSchema: object(),
		async call(_, extra) {
			const [question] = Object.values(asking.test_input_required_result_sampling[0]);
			return answer(text(JSON.stringify(await extra.sendRequest(question, ResultSchema))));
		},
	},
	test_trigger_tool_change: {
		description: 'Says that the list of tools has changed.',
		inputSchema: object(),
		async call(_, extra) {
			await extra.changed('tools');
			return answer(text('Changed.'));
		},
	},
	test_trigger_prompt_change: {
		description: 'Says that the list of prompts has changed.',
		inputSchema: object(),
		async call(_, extra) {
			await extra.changed('prompts');
			return answer(text('Changed.'));
		},
	},
	test_trigger_resource_update: {
		description: 'Says to those who subscribed to it that a resource has changed.',
		inputSchema: object({ uri: string('Which resource') }, ['uri']),
		async call({ uri }, extra) {
			await extra.changed('resource', uri);
			return answer(text('Updated.'));
		},
	},
	test_region: {
		description: 'Has an argument that a header repeats.',
		inputSchema: object({
			region: { type: 'string', 'x-mcp-header': 'Region' },
			count: { type: 'integer', 'x-mcp-header': 'Count' },
		}),
		call: (args) => answer(text(JSON.stringify(args))),
	},
	test_logging_tool: {
		description: 'Logs once.',
		inputSchema: object(),
		async call(_, extra) {
			await log(extra, 'Logged');
			return answer(text('Logged.'));
		},
	},
	test_simple_text: {
		description: 'Returns one text.',
		inputSchema: object(),
		call: () => answer(text('This is a simple text response for testing.')),
	},
	test_image_content: {
		description: 'Returns one image.',
		inputSchema: object(),
		call: () => answer(image()),
	},
	test_audio_content: {
		description: 'Returns one sound.',
		inputSchema: object(),
		call: () => answer({ type: 'audio', data: WAV, mimeType: 'audio/wav' }),
	},
	test_embedded_resource: {
		description: 'Returns an embedded resource.',
		inputSchema: object(),
		call: () =>
			answer(
				resource(
					'test://embedded-resource',
					'text/plain',
					'This is an embedded resource content.',
				),
			),
	},
	test_multiple_content_types: {
		description: 'Returns a text, an image and a resource.',
		inputSchema: object(),
		call: () =>
			answer(
				text('Multiple content types test:'),
				image(),
				resource(
					'test://mixed-content-resource',
					'application/json',
					'{"test":"data","value":123}',
				),
			),
	},
	test_tool_with_logging: {
		description: 'Logs three times while it runs.',
		inputSchema: object(),
		async call(_, extra) {
			await log(extra, 'Tool execution started');
			await delay(50);
			await log(extra, 'Tool processing data');
			await delay(50);
			await log(extra, 'Tool execution completed');
			return answer(text('Logged three times.'));
		},
	},
	test_tool_with_progress: {
		description: 'Reports progress three times when a token was given.',
		inputSchema: object(),
		async call(_, extra) {
			const progressToken = extra._meta?.progressToken;
			for (const progress of [0, 50, 100]) {
				if (progressToken !== undefined)
					await extra.sendNotification({
						method: 'notifications/progress',
						params: { progressToken, progress, total: 100 },
					});
				if (progress < 100) await delay(50);
			}
			return answer(text('Reported progress.'));
		},
	},
	test_error_handling: {
		description: 'Always fails.',
		inputSchema: object(),
		call: () => ({
			isError: true,
			content: [text('This tool intentionally returns an error for testing')],
		}),
	},
	test_sampling: {
		description: 'Asks the client for a completion.',
		inputSchema: object({ prompt: string('What to send to the model') }, ['prompt']),
		async call({ prompt }, extra) {
			const result = await extra.sendRequest(
				{
					method: 'sampling/createMessage',
					params: {
						messages: [{ role: 'user', content: text(prompt) }],
						maxTokens: 100,
					},
				},
				CreateMessageResultSchema,
			);
			return answer(text(`LLM response: ${result.content.text}`));
		},
	},
	test_elicitation: {
		description: 'Asks the user for a name and an address.',
		inputSchema: object({ message: string('What to show to the user') }, ['message']),
		async call({ message }, extra) {
			const schema = object(
				{ username: string("User's response"), email: string("User's email address") },
				['username', 'email'],
			);
			return answer(text(`User response: ${await elicit(extra, message, schema)}`));
		},
	},
	test_elicitation_url: {
		description: 'Asks the user to see a page.',
		inputSchema: object(),
		async call(_, extra) {
			const params = { mode: 'url', message: 'Please look', url: 'https://example.com/consent' };
			if (extra.questionsHaveIds) params.elicitationId = randomUUID();
			const { action } = await extra.sendRequest(
				{ method: 'elicitation/create', params },
				ElicitResultSchema,
			);
			return answer(text(`action=${action}`));
		},
	},
	test_elicitation_sep1034_defaults: {
		description: 'Asks with a default value of each primitive type.',
		inputSchema: object(),
		async call(_, extra) {
			const said = await elicit(extra, 'Please check the values.', object(DEFAULTS));
			return answer(text(`Elicitation completed: ${said}`));
		},
	},
	test_elicitation_sep1330_enums: {
		description: 'Asks with each kind of enumeration.',
		inputSchema: object(),
		async call(_, extra) {
			const said = await elicit(extra, 'Please choose.', object(ENUMS));
			return answer(text(`Elicitation completed: ${said}`));
		},
	},
	test_reconnection: {
		description: 'Closes its stream before it answers, so that the client must resume.',
		inputSchema: object(),
		async call(_, extra) {
			await delay(50);
			extra.closeSSEStream?.();
			await delay(100);
			return answer(text('The answer came after the stream was closed.'));
		},
	},
	json_schema_2020_12_tool: {
		description: 'Tool with JSON Schema 2020-12 features',
		inputSchema: SCHEMA_2020_12,
		call: (args) => answer(text(JSON.stringify(args))),
	},
};

const user = (content) => ({ role: 'user', content });

// name: { description, arguments, get(arguments, extra) }
export const prompts = {
	[askingPrompt]: {
		description: 'Asks the client.',
		arguments: [],
		get: async (_, extra) => [user(text(await askAll(promptRounds, extra)))],
	},
	test_simple_prompt: {
		description: 'A prompt without arguments.',
		arguments: [],
		get: () => [user(text('This is a simple prompt for testing.'))],
	},
	test_prompt_with_arguments: {
		description: 'A prompt with two arguments.',
		arguments: [
			{ name: 'arg1', description: 'First test argument', required: true },
			{ name: 'arg2', description: 'Second test argument', required: true },
		],
		get: ({ arg1, arg2 }) => [
			user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
		],
	},
	test_prompt_with_embedded_resource: {
		description: 'A prompt that embeds a resource.',
		arguments: [
			{ name: 'resourceUri', description: 'URI of the resource to embed', required: true },
		],
		get: ({ resourceUri }) => [
			user(resource(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
			user(text('Please process the embedded resource above.')),
		],
	},
	test_prompt_with_image: {
		description: 'A prompt that holds an image.',
		arguments: [],
		get: () => [user(image()), user(text('Please analyze the image above.'))],
	},
};

// uri: { name, description, mimeType, and text or blob }
export const resources = {
	'test://static-text': {
		name: 'static-text',
		description: 'A text that never changes.',
		mimeType: 'text/plain',
		text: 'This is the content of the static text resource.',
	},
	'test://static-binary': {
		name: 'static-binary',
		description: 'An image that never changes.',
		mimeType: 'image/png',
		blob: PNG,
	},
	'test://watched-resource': {
		name: 'watched-resource',
		description: 'A text to subscribe to.',
		mimeType: 'text/plain',
		text: 'Watched.',
	},
};

export const templates = [
	{
		uriTemplate: 'test://template/{id}/data',
		name: 'template-data',
		description: 'Data made from an id.',
		mimeType: 'application/json',
		pattern: /^test:\/\/template\/([^/]+)\/data$/,
		text: (id) => JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
	},
];

export const serverCapabilities = {
	completions: {},
	logging: {},
	prompts: { listChanged: true },
	resources: { listChanged: true, subscribe: true },
	tools: { listChanged: true },
};

// --- what both fixtures answer from the tables -----------------------------------------------------

export const listed = (table, key, fields) =>
	Object.entries(table).map(([name, row]) => ({
		[key]: name,
		...Object.fromEntries(fields.map((field) => [field, row[field]])),
	}));

export const listedTemplates = () =>
	templates.map(({ uriTemplate, name, description, mimeType }) => ({
		uriTemplate,
		name,
		description,
		mimeType,
	}));

export function readResource(uri) {
	if (Object.hasOwn(resources, uri)) {
		const { mimeType, text: plain, blob } = resources[uri];
		return { contents: [{ uri, mimeType, ...(plain === undefined ? { blob } : { text: plain }) }] };
	}
	for (const { pattern, mimeType, text: make } of templates) {
		const match = pattern.exec(uri);
		if (match) return { contents: [{ uri, mimeType, text: make(match[1]) }] };
	}
	return undefined;
}

export function complete({ argument }) {
	const values = ['paris', 'park', 'party', 'test', 'testing'].filter((word) =>
		word.startsWith(argument.value),
	);
	return { completion: { values, total: values.length, hasMore: false } };
}
