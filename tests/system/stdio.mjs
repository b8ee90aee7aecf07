// What the tests of stdio upstreams share: the hostile fixture as an upstream, and what Margay says
// of its children.
import path from 'node:path';
import { node } from './harness.mjs';

const program = path.join(import.meta.dirname, 'stdio/hostile.mjs');

export const hostile = (...args) => ({ command: node, args: [program, ...args.map(String)] });

// The text of a tool's result.
export function textOf({ status, message }) {
	if (!message?.result) throw new Error(`${status} ${JSON.stringify(message)}`);
	return message.result.content[0].text;
}

// `margay upstreams --json`: all of it.
export async function upstreams(margay) {
	const { code, stdout, stderr } = await margay.command('upstreams', '--json');
	if (code !== 0) throw new Error(`upstreams: ${code} ${stderr}`);
	return JSON.parse(stdout).upstreams;
}

export async function upstreamOf(margay, name = 'main') {
	const rows = await upstreams(margay);
	return rows.find((row) => row.name === name && row.state !== 'ending');
}

// Every child of every stdio upstream, those of definitions that end included.
export async function childrenOf(margay) {
	return (await upstreams(margay)).flatMap(({ children = [] }) => children);
}
