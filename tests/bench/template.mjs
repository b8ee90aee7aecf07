// Configurations of other proxies, tests/bench/*.in: @WORD@ is replaced, and a paragraph that names @NAME@
// is written once for each upstream.
import fs from 'node:fs';
import path from 'node:path';

const fill = (text, words) =>
	text.replace(/@([A-Z]+)@/g, (whole, word) => {
		if (!(word in words)) throw new Error(`nothing for ${whole}`);
		return words[word];
	});

// `upstreams`: the words of each.
export function fillTemplate(name, words, upstreams) {
	const text = fs.readFileSync(path.join(import.meta.dirname, name), 'utf8');
	return text
		.split('\n\n')
		.flatMap((paragraph) =>
			paragraph.includes('@NAME@')
				? upstreams.map((each) => fill(paragraph, { ...words, ...each }))
				: [fill(paragraph, words)],
		)
		.join('\n\n');
}
