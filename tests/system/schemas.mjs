// The JSON schema of each revision (schemas/, as published with the specification), to hold what Margay
// sends against it.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const Ajv = require('ajv').default;
const Ajv2020 = require('ajv/dist/2020.js').default;
const loaded = new Map();

function schemaOf(revision) {
	if (!loaded.has(revision)) {
		const file = path.join(import.meta.dirname, 'schemas', `${revision}.json`);
		const schema = JSON.parse(fs.readFileSync(file, 'utf8'));
		const place = schema.$defs ? '$defs' : 'definitions';
		const ajv = new (schema.$defs ? Ajv2020 : Ajv)({ strict: false, validateFormats: false });
		ajv.addSchema(schema, 'mcp');
		loaded.set(revision, { ajv, place, names: schema[place] });
	}
	return loaded.get(revision);
}

// A part of a revision's schema, by name.
export const definition = (revision, name) => schemaOf(revision).names[name];

export const RESULTS = {
	initialize: 'InitializeResult',
	'server/discover': 'DiscoverResult',
	'subscriptions/listen': 'SubscriptionsListenResult',
	'tools/list': 'ListToolsResult',
	'tools/call': 'CallToolResult',
	'prompts/list': 'ListPromptsResult',
	'prompts/get': 'GetPromptResult',
	'resources/list': 'ListResourcesResult',
	'resources/templates/list': 'ListResourceTemplatesResult',
	'resources/read': 'ReadResourceResult',
	'completion/complete': 'CompleteResult',
};

// What its schema says against a message; undefined: nothing. `from` is 'Client' or 'Server'; `method`
// is that of the request that a result answers.
export function refusal(revision, from, message, method) {
	const { ajv, place, names } = schemaOf(revision);
	const check = (name, value) => {
		const validate = ajv.getSchema(`mcp#/${place}/${name}`);
		return validate(value) ? undefined : `${name}: ${ajv.errorsText(validate.errors)}`;
	};
	if (message.method !== undefined) {
		const kind = message.id === undefined ? 'Notification' : 'Request';
		if (!names[from + kind]) return `${from}s send no ${kind.toLowerCase()}s in ${revision}`;
		return check('JSONRPCMessage', message) ?? check(from + kind, message);
	}
	if (message.error) return check(names.JSONRPCErrorResponse ? 'JSONRPCErrorResponse' : 'JSONRPCError', message);
	const whole = check('JSONRPCMessage', message);
	if (whole || !RESULTS[method]) return whole ?? check(`${from}Result`, message.result);
	return message.result.resultType === 'input_required'
		? check('InputRequiredResult', message.result)
		: check(RESULTS[method], message.result);
}
