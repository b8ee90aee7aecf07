// Values that a schema allows, made at random, odd ones among them: what the tests of translations feed
// to both sides. A seed gives the same values again.
import { definition } from './schemas.mjs';

const STRINGS = ['', 'a', 'größe', 'a"b\\c', '\u2028\n\t', '😀', ' padded ', '=?base64?eA==?=', 'x'.repeat(300)];
const KEYS = ['k', 'null', 'task', 'inputResponses', 'example.com/x', 'ä"\\'];
const FORMATS = { uri: 'file:///a%20b', byte: 'aGVsbG8=', 'uri-template': 'file:///{path}' };
const MANY = 6; // levels after which only what must be there is made

export class Generator {
	#state;

	constructor(seed) {
		this.#state = seed >>> 0;
	}

	// From 0 to 1 (mulberry32).
	random() {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let t = this.#state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	}

	pick(list) {
		return list[Math.floor(this.random() * list.length)];
	}

	make(revision, name) {
		return this.#value(revision, definition(revision, name), 0);
	}

	#value(revision, schema, depth) {
		if (schema === true || Object.keys(schema).length === 0) return this.#any(depth);
		if (schema.$ref) return this.#value(revision, definition(revision, schema.$ref.split('/').at(-1)), depth);
		if (schema.const !== undefined) return schema.const;
		if (schema.enum) return this.pick(schema.enum);
		if (schema.anyOf ?? schema.oneOf) return this.#value(revision, this.pick(schema.anyOf ?? schema.oneOf), depth);
		if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => this.#value(revision, one, depth)));
		const type = Array.isArray(schema.type) ? this.pick(schema.type) : schema.type;
		const makers = {
			object: () => this.#object(revision, schema, depth),
			array: () => this.#array(revision, schema, depth),
			string: () => FORMATS[schema.format] ?? this.pick(STRINGS),
			number: () => this.#number(schema, this.random() < 0.5 ? this.random() : this.pick([0, -1, 1e21, 0.1])),
			integer: () => this.#number(schema, this.pick([0, 1, -7, 9007199254740991])),
			boolean: () => this.random() < 0.5,
			null: () => null,
		};
		return (makers[type] ?? (() => this.#any(depth)))();
	}

	#number({ minimum = -Infinity, maximum = Infinity }, value) {
		return Math.min(Math.max(value, minimum), maximum);
	}

	#array(revision, { items = {}, minItems = 0 }, depth) {
		const count = Math.max(minItems, depth > MANY ? 0 : Math.floor(this.random() * 3));
		return Array.from({ length: count }, () => this.#value(revision, items, depth + 1));
	}

	#object(revision, { properties = {}, required = [], additionalProperties }, depth) {
		const made = {};
		for (const [key, schema] of Object.entries(properties))
			if (required.includes(key) || (depth <= MANY && this.random() < 0.5))
				made[key] = this.#value(revision, schema, depth + 1);
		if (additionalProperties && depth <= MANY && this.random() < 0.4) {
			const key = this.pick(KEYS);
			if (!(key in properties)) made[key] = this.#value(revision, additionalProperties, depth + 1);
		}
		return made;
	}

	#any(depth) {
		const kinds = [null, true, 0.5, this.pick(STRINGS), [], {}];
		if (depth < MANY) kinds.push([this.pick(STRINGS), null], { [this.pick(KEYS)]: this.#any(depth + 1) });
		return this.pick(kinds);
	}
}
