// Plain data as block-style YAML, one key a line, so that tests can name the line of a fault.

const PLAIN = /^[A-Za-z0-9_./][A-Za-z0-9_./:-]*$/;
const scalar = (value) =>
	typeof value === 'string' && !(PLAIN.test(value) && !value.endsWith(':'))
		? JSON.stringify(value)
		: String(value);

function lines(value) {
	if (Array.isArray(value))
		return value.flatMap((item) => {
			const [first, ...rest] = typeof item === 'object' ? lines(item) : [scalar(item)];
			return [`- ${first}`, ...rest.map((line) => `  ${line}`)];
		});
	return Object.entries(value).flatMap(([key, item]) =>
		typeof item === 'object'
			? [`${scalar(key)}:`, ...lines(item).map((line) => `  ${line}`)]
			: [`${scalar(key)}: ${scalar(item)}`],
	);
}

export const toYaml = (value) => `${lines(value).join('\n')}\n`;
