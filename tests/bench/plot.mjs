// Horizontal bars as SVG: a group for each case, a bar for each peer, a column for each figure. Every group has
// a scale of its own, so that a case of 500 requests/s can be read beside one of 50,000.
import { figure } from './table.mjs';

const ROW = 16;
const COLUMN = 330;
const LABEL = 130;
const BAR = 130;
const TITLE = 22;

const colours = ['#9aa0a6', '#1a66c2', '#2e9e5b', '#d08a1d', '#7a4fb5', '#b5474f'];
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

const text = (x, y, content, more = '') => `<text x="${x}" y="${y}" ${more}>${escape(content)}</text>`;

function bars(group, figures, y, colourOf) {
	return figures.flatMap(({ name }, column) => {
		const most = Math.max(...group.bars.map(({ values }) => values[name] ?? 0));
		return group.bars.flatMap(({ label, values }, n) => {
			const x = LABEL + column * COLUMN;
			const top = y + n * ROW;
			const width = most > 0 ? ((values[name] ?? 0) / most) * BAR : 0;
			return [
				column === 0 ? text(LABEL - 6, top + 12, label, 'text-anchor="end"') : '',
				`<rect x="${x}" y="${top + 2}" width="${width.toFixed(1)}" height="${ROW - 4}" fill="${colourOf(label)}"/>`,
				text((x + width + 5).toFixed(1), top + 12, figure(values[name])),
			];
		});
	});
}

// `groups`: { title, bars: [{ label, values }] }; `figures`: { name, title }, the columns.
export function plot(groups, figures) {
	const labels = [...new Set(groups.flatMap((group) => group.bars.map(({ label }) => label)))];
	const colourOf = (label) => colours[labels.indexOf(label) % colours.length];
	const parts = figures.map(({ title }, n) => text(LABEL + n * COLUMN, 16, title, 'font-weight="bold"'));
	let y = 28;
	for (const group of groups) {
		parts.push(text(6, y + 15, group.title, 'fill="#555"'));
		parts.push(...bars(group, figures, y + TITLE, colourOf));
		y += TITLE + group.bars.length * ROW + 8;
	}
	const width = LABEL + figures.length * COLUMN;
	return [
		`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}"`,
		'	font-family="sans-serif" font-size="11">',
		`<rect width="${width}" height="${y}" fill="#fff"/>`,
		...parts.filter(Boolean),
		'</svg>\n',
	].join('\n');
}
