// Tables in Markdown, and the document they stand in: each kind of run owns the part between its two marks.
import fs from 'node:fs';
import path from 'node:path';

const document = path.join(import.meta.dirname, '../../docs/benchmarks.md');

// Three digits that count.
export function figure(value) {
	if (value === null || value === undefined) return '';
	if (value >= 1000) return Math.round(Number(value.toPrecision(3))).toLocaleString('en-US');
	return String(Number(value.toPrecision(3)));
}

export const microseconds = (value) =>
	value === null ? '' : value >= 1000 ? `${figure(value / 1000)} ms` : `${figure(value)} µs`;

export const table = (head, rows) =>
	[head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

// Of an object's entries those that are named; none named: all.
export function chooseRows(all, names) {
	for (const name of names)
		if (!(name in all)) throw new Error(`no ${name}: ${Object.keys(all).join(' ')}`);
	return Object.entries(all).filter(([name]) => names.length === 0 || names.includes(name));
}

export const conditionsTable = (rows) => table(['condition', ''], rows);

// Put `text` between the marks of `part` in the document of `dir`, which begins as the one in docs/.
export function writePart(dir, part, text) {
	const file = path.join(dir, 'benchmarks.md');
	const old = fs.readFileSync(fs.existsSync(file) ? file : document, 'utf8');
	const marks = [`<!-- ${part}: scripts/bench writes from here -->\n`, `<!-- ${part}: to here -->\n`];
	const [begin, end] = marks.map((mark) => old.indexOf(mark));
	if (begin < 0 || end < begin) throw new Error(`${file}: no part ${part}`);
	fs.mkdirSync(dir, { recursive: true });
	fs.writeFileSync(file, `${old.slice(0, begin)}${marks[0]}\n${text}\n\n${old.slice(end)}`);
	return file;
}
