// A strict reader of the Prometheus text format 0.0.4: what it accepts, Prometheus accepts, and what
// is only tolerated in the wild is refused. Rules: HELP then TYPE once each before the samples of a
// family, families contiguous, known escapes only, no sample twice, histograms cumulative with
// ascending `le`, `+Inf` equal to `_count` and a `_sum`, counters finite and not negative, and a
// newline at the end.
import { request } from './http.mjs';

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)$/;
const TYPES = ['counter', 'gauge', 'histogram', 'summary', 'untyped'];
const PARTS = { histogram: ['_bucket', '_sum', '_count'], summary: ['', '_sum', '_count'] };

function fail(line, number, why) {
	throw new Error(`metrics line ${number}: ${why}: ${line}`);
}

function toNumber(text) {
	if (!NUMBER.test(text)) return undefined;
	if (text.endsWith('Inf')) return text.startsWith('-') ? -Infinity : Infinity;
	return Number(text);
}

// `{a="b",c="d"}` at the start of `text`: [labels, rest], or a reason.
function readLabels(text) {
	const labels = {};
	let rest = text.slice(1);
	while (!rest.startsWith('}')) {
		const match = /^([^=,{}"\s]+)="((?:[^"\\\n]|\\[\\"n])*)"(,(?=[^}])|(?=\}))/.exec(rest);
		if (!match) return 'bad label';
		if (!LABEL.test(match[1])) return `bad label name ${match[1]}`;
		if (Object.hasOwn(labels, match[1])) return `label ${match[1]} twice`;
		labels[match[1]] = match[2].replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
		rest = rest.slice(match[0].length);
	}
	return [labels, rest.slice(1)];
}

function readSample(line, number) {
	const name = /^[^{\s]*/.exec(line)[0];
	if (!NAME.test(name)) fail(line, number, 'bad name');
	let rest = line.slice(name.length);
	let labels = {};
	if (rest.startsWith('{')) {
		const read = readLabels(rest);
		if (typeof read === 'string') fail(line, number, read);
		[labels, rest] = read;
	}
	const match = /^ (\S+)$/.exec(rest);
	const value = match && toNumber(match[1]);
	if (value === undefined || value === null) fail(line, number, 'bad value');
	return { name, labels, value };
}

function checkHistogram(family) {
	const series = new Map();
	for (const { name, labels, value } of family.samples) {
		const { le, ...others } = labels;
		const key = keyOf('', others);
		if (!series.has(key)) series.set(key, { buckets: [] });
		const part = name.slice(family.name.length + 1);
		if ((part === 'bucket') !== (le !== undefined))
			throw new Error(`${family.name}: le belongs to buckets alone`);
		if (part === 'bucket') series.get(key).buckets.push([toNumber(le), value]);
		else series.get(key)[part] = value;
	}
	for (const [key, { buckets, sum, count }] of series) {
		const where = `${family.name}${key}`;
		buckets.forEach(([le, value], i) => {
			if (le === undefined) throw new Error(`${where}: bad le`);
			if (i > 0 && le <= buckets[i - 1][0]) throw new Error(`${where}: le not ascending`);
			if (i > 0 && value < buckets[i - 1][1]) throw new Error(`${where}: not cumulative`);
		});
		if (buckets.at(-1)?.[0] !== Infinity) throw new Error(`${where}: no +Inf bucket`);
		if (sum === undefined || count === undefined) throw new Error(`${where}: no sum or count`);
		if (buckets.at(-1)[1] !== count) throw new Error(`${where}: +Inf is not count`);
	}
}

const keyOf = (name, labels) =>
	`${name}{${Object.keys(labels)
		.sort()
		.map((label) => `${label}=${JSON.stringify(labels[label])}`)
		.join(',')}}`;

// Families by name: { name, type, help, samples: [{ name, labels, value }] }. Throws on any fault.
export function parseMetrics(text) {
	if (text !== '' && !text.endsWith('\n')) throw new Error('metrics: no newline at the end');
	const families = new Map();
	const seen = new Set();
	let current;
	const open = (name, line, number) => {
		if (current?.name === name) return current;
		if (families.has(name)) fail(line, number, 'family not contiguous');
		current = { name, samples: [] };
		families.set(name, current);
		return current;
	};
	text.split('\n')
		.slice(0, -1)
		.forEach((line, i) => {
			const number = i + 1;
			const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
			if (comment) {
				const [, what, name, rest] = comment;
				if (!NAME.test(name)) fail(line, number, 'bad name');
				const family = open(name, line, number);
				const field = what.toLowerCase();
				if (family[field] !== undefined) fail(line, number, `${what} twice`);
				if (family.samples.length > 0) fail(line, number, `${what} after samples`);
				if (what === 'TYPE' && !TYPES.includes(rest)) fail(line, number, 'unknown type');
				if (what === 'HELP' && rest.replace(/\\[\\n]/g, '').includes('\\'))
					fail(line, number, 'bad escape');
				family[field] = rest;
			} else if (line.startsWith('#') || line.trim() === '') {
				fail(line, number, 'neither HELP, TYPE nor sample');
			} else {
				const sample = readSample(line, number);
				const parts = PARTS[current?.type] ?? [''];
				if (!current || !parts.some((part) => sample.name === current.name + part))
					fail(line, number, 'sample outside its family');
				if (current.help === undefined || current.type === undefined)
					fail(line, number, 'sample before HELP and TYPE');
				const key = keyOf(sample.name, sample.labels);
				if (seen.has(key)) fail(line, number, 'sample twice');
				if (current.type !== 'gauge' && !(sample.value >= 0 && sample.value < Infinity))
					fail(line, number, 'value of a counter or bucket');
				seen.add(key);
				current.samples.push(sample);
			}
		});
	for (const family of families.values()) {
		if (family.type === undefined || family.help === undefined)
			throw new Error(`${family.name}: HELP or TYPE missing`);
		if (family.type === 'histogram') checkHistogram(family);
	}
	return families;
}

// What one scrape says.
export class Scrape {
	constructor(text) {
		this.families = parseMetrics(text);
	}

	// Samples of that name whose labels hold all of `labels`.
	select(name, labels = {}) {
		const family =
			this.families.get(name) ?? this.families.get(name.replace(/_(bucket|sum|count)$/, ''));
		return (family?.samples ?? []).filter(
			(sample) =>
				sample.name === name &&
				Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
		);
	}

	sum(name, labels = {}) {
		return this.select(name, labels).reduce((total, { value }) => total + value, 0);
	}

	// Everything that must never go down: counters, buckets, counts and sums, by series.
	monotonic() {
		const series = new Map();
		for (const { type, samples } of this.families.values())
			if (type === 'counter' || type === 'histogram')
				for (const { name, labels, value } of samples)
					series.set(keyOf(name, labels), value);
		return series;
	}
}

export async function scrape(adminUrl) {
	const reply = await request(`${adminUrl}/metrics`);
	if (reply.status !== 200) throw new Error(`/metrics: ${reply.status}`);
	return Object.assign(new Scrape(reply.text), { headers: reply.headers, text: reply.text });
}

// Series of `before` that went down or vanished in `after`.
export function decreased(before, after) {
	const now = after.monotonic();
	return [...before.monotonic()]
		.filter(([key, value]) => !(now.get(key) >= value))
		.map(([key, value]) => `${key}: ${value} -> ${now.get(key)}`);
}
