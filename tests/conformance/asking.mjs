// What the scenarios about questions to the client (`input-required-result-*`) ask for by name: each
// tool, and one prompt, asks in rounds; a round is what is asked at once.
const form = (name, type, message) => ({
	method: 'elicitation/create',
	params: {
		mode: 'form',
		message,
		requestedSchema: { type: 'object', properties: { [name]: { type } }, required: [name] },
	},
});
const sample = (text, maxTokens) => ({
	method: 'sampling/createMessage',
	params: { messages: [{ role: 'user', content: { type: 'text', text } }], maxTokens },
});
const roots = { method: 'roots/list', params: {} };
const name = form('name', 'string', 'What is your name?');
const confirm = form('ok', 'boolean', 'Please confirm');

const PREFIX = 'test_input_required_result_';

// Tool: rounds; a round maps keys to questions.
export const asking = Object.fromEntries(
	Object.entries({
		elicitation: [{ user_name: name }],
		sampling: [{ capital_question: sample('What is the capital of France?', 100) }],
		list_roots: [{ client_roots: roots }],
		request_state: [{ confirm }],
		multiple_inputs: [
			{ user_name: name, greeting: sample('Generate a greeting', 50), client_roots: roots },
		],
		multi_round: [
			{ step1: form('name', 'string', 'Step 1: What is your name?') },
			{ step2: form('color', 'string', 'Step 2: What is your favorite color?') },
		],
		tampered_state: [{ confirm }],
		capabilities: [{ user_name: name, greeting: sample('Generate a greeting', 50) }],
	}).map(([tool, rounds]) => [PREFIX + tool, rounds]),
);

export const askingPrompt = `${PREFIX}prompt`;
export const promptRounds = [
	{ user_context: form('context', 'string', 'What context should the prompt use?') },
];

const NEEDED = {
	'elicitation/create': 'elicitation',
	'sampling/createMessage': 'sampling',
	'roots/list': 'roots',
};

// Whether a client that declared this can be asked that.
export const canBeAsked = (capabilities, { method }) => capabilities?.[NEEDED[method]] !== undefined;
