// Request smuggling: each of these is understood differently by different HTTP software, so Margay
// must understand none of them: it answers 4xx or 5xx, closes, and neither the request nor what is
// hidden behind it reaches the upstream. The first rows are the control: the same bytes without the
// trick are served, so the table cannot pass because everything is refused.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { binary, exchange, Margay, RawSession, ScriptedServer } from './harness.mjs';

const BODY = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
const CHUNKED = `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`;
const HIDDEN = 'POST /mcp HTTP/1.1\r\nX-Hidden: 1\r\n\r\n';

describe(
	'request smuggling',
	{ timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' },
	() => {
		let server;
		let margay;
		let session;

		before(async () => {
			server = await ScriptedServer.start();
			margay = await Margay.start({ upstream: server.url, config: { workers: 1 } });
			session = await RawSession.open(margay.url);
		});
		afterEach((t) => {
			if (t.error) t.diagnostic(margay.report());
		});
		after(async () => {
			try {
				await margay?.stop();
			} finally {
				await server?.stop();
			}
		});

		/*
		 * A request of `lines` (the request line first when `line` is given), with the headers any
		 * request needs. `host: null` leaves Host out.
		 */
		function build({
			line = 'POST /mcp HTTP/1.1',
			lines = [],
			body = '',
			host,
			eol = '\r\n',
		} = {}) {
			const hosts = host === null ? [] : [`Host: ${host ?? `127.0.0.1:${margay.port}`}`];
			return (
				[
					line,
					...hosts,
					'Content-Type: application/json',
					'Accept: application/json, text/event-stream',
					`Mcp-Session-Id: ${session.id}`,
					`MCP-Protocol-Version: ${session.version}`,
					...lines,
				].join(eol) +
				eol +
				eol +
				body
			);
		}
		const LENGTH = `Content-Length: ${BODY.length}`;
		const TE = 'Transfer-Encoding: chunked';

		const served = [
			['a plain request', () => build({ lines: [LENGTH], body: BODY })],
			['a chunked request', () => build({ lines: [TE], body: CHUNKED })],
			[
				'one empty line before the request',
				() => `\r\n${build({ lines: [LENGTH], body: BODY })}`,
			],
		];
		for (const [what, bytes] of served)
			test(`${what} is served`, async () => {
				const { text, status } = await exchange(margay.port, bytes(), {
					enough: (got) => got.includes('"id":1'),
				});
				assert.equal(status, 200, text);
			});

		const refused = [
			['Content-Length and Transfer-Encoding', { lines: [LENGTH, TE], body: CHUNKED }],
			[
				'Transfer-Encoding and Content-Length',
				{ lines: [TE, 'Content-Length: 4'], body: CHUNKED },
			],
			['two Content-Lengths', { lines: [LENGTH, 'Content-Length: 3'], body: BODY }],
			['the same Content-Length twice', { lines: [LENGTH, LENGTH], body: BODY }],
			['a list as Content-Length', { lines: [`${LENGTH}, ${BODY.length}`], body: BODY }],
			['a signed Content-Length', { lines: [`Content-Length: +${BODY.length}`], body: BODY }],
			['a hexadecimal Content-Length', { lines: ['Content-Length: 0x28'], body: BODY }],
			['a negative Content-Length', { lines: ['Content-Length: -1'], body: BODY }],
			[
				'an enormous Content-Length',
				{ lines: ['Content-Length: 18446744073709551657'], body: BODY },
			],
			['an empty Content-Length', { lines: ['Content-Length:'], body: BODY }],
			[
				'white space before the colon',
				{ lines: [`Content-Length : ${BODY.length}`], body: BODY },
			],
			['a folded header', { lines: ['X-Fold: a', ' b', LENGTH], body: BODY }],
			[
				'a folded Transfer-Encoding',
				{ lines: ['Transfer-Encoding:', ' chunked'], body: CHUNKED },
			],
			['a header line that starts with a space', { lines: [` ${LENGTH}`], body: BODY }],
			['bare line feeds', { lines: [LENGTH], body: BODY, eol: '\n' }],
			['one bare line feed', { lines: [`X-A: b\n${LENGTH}`], body: BODY }],
			[
				'a lone carriage return in a value',
				{ lines: ['X-A: b\rX-B: c', LENGTH], body: BODY },
			],
			['a NUL in a value', { lines: ['X-A: b\0c', LENGTH], body: BODY }],
			['a NUL in a name', { lines: ['X\0A: b', LENGTH], body: BODY }],
			['a header without colon', { lines: ['X-A', LENGTH], body: BODY }],
			['an empty header name', { lines: [': b', LENGTH], body: BODY }],
			[
				'a coding before chunked',
				{ lines: ['Transfer-Encoding: gzip, chunked'], body: CHUNKED },
			],
			[
				'a coding after chunked',
				{ lines: ['Transfer-Encoding: chunked, identity'], body: CHUNKED },
			],
			['an unknown coding', { lines: ['Transfer-Encoding: xchunked'], body: CHUNKED }],
			['a quoted coding', { lines: ['Transfer-Encoding: "chunked"'], body: CHUNKED }],
			['two Transfer-Encodings', { lines: [TE, TE], body: CHUNKED }],
			['chunked on HTTP/1.0', { line: 'POST /mcp HTTP/1.0', lines: [TE], body: CHUNKED }],
			[
				'a chunk extension with a bare line feed',
				{ lines: [TE], body: `5;a\nb\r\n{"a":\r\n0\r\n\r\n${HIDDEN}` },
			],
			[
				'garbage after the chunk size',
				{ lines: [TE], body: `3 5zz\r\nabc\r\n0\r\n\r\n${HIDDEN}` },
			],
			[
				'a chunk size that overflows',
				{ lines: [TE], body: `100000000000000028\r\n${BODY}\r\n0\r\n\r\n` },
			],
			['a chunk size with 0x', { lines: [TE], body: `0x28\r\n${BODY}\r\n0\r\n\r\n` }],
			['a chunk longer than it says', { lines: [TE], body: `4\r\n${BODY}\r\n0\r\n\r\n` }],
			[
				'a chunk ended by a bare line feed',
				{ lines: [TE], body: `28\r\n${BODY}\n0\r\n\r\n` },
			],
			['no Host', { host: null, lines: [LENGTH], body: BODY }],
			['two Hosts', { lines: ['Host: evil.example', LENGTH], body: BODY }],
			[
				'an absolute target with another host',
				{ line: 'POST http://evil.example/mcp HTTP/1.1', lines: [LENGTH], body: BODY },
			],
			['HTTP/0.9', { line: 'POST /mcp HTTP/0.9', lines: [LENGTH], body: BODY }],
			['HTTP/9.9', { line: 'POST /mcp HTTP/9.9', lines: [LENGTH], body: BODY }],
			['HTTP/2.0', { line: 'POST /mcp HTTP/2.0', lines: [LENGTH], body: BODY }],
			['no version', { line: 'POST /mcp', lines: [LENGTH], body: BODY }],
			[
				'two spaces in the request line',
				{ line: 'POST  /mcp HTTP/1.1', lines: [LENGTH], body: BODY },
			],
			[
				'a tab in the request line',
				{ line: 'POST\t/mcp HTTP/1.1', lines: [LENGTH], body: BODY },
			],
			[
				'white space after the version',
				{ line: 'POST /mcp HTTP/1.1 ', lines: [LENGTH], body: BODY },
			],
			[
				'a target with a fragment',
				{ line: 'POST /mcp#x HTTP/1.1', lines: [LENGTH], body: BODY },
			],
			[
				'bytes that are no ASCII in the target',
				{ line: 'POST /mcp\xe9 HTTP/1.1', lines: [LENGTH], body: BODY },
			],
			[
				'bytes that are no HTTP',
				{ line: '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', lines: [], body: '' },
			],
		];
		for (const [what, parts] of refused)
			test(`${what} is refused`, async () => {
				server.seen.length = 0;
				const bytes = Buffer.from(build(parts), 'latin1');
				const { text, status, closed } = await exchange(margay.port, bytes);
				assert.ok(status >= 400 && status < 600, `status ${status}: ${text}`);
				assert.ok(closed, 'the connection stayed open');
				assert.equal(text.match(/HTTP\/1\.1 \d/g).length, 1, 'one answer');
				assert.equal(server.seen.length, 0, 'reached the upstream');
			});

		// Not refused at once, but what follows it must never be taken as a request.
		test('what follows an Upgrade is not another protocol', async () => {
			server.seen.length = 0;
			const bytes = build({
				lines: ['Connection: Upgrade', 'Upgrade: h2c', LENGTH],
				body: BODY,
			});
			const { text } = await exchange(margay.port, bytes, {
				enough: (got) => got.includes('\r\n\r\n'),
			});
			assert.match(text, /^HTTP\/1\.1 (200|4\d\d|501) /);
			assert.doesNotMatch(text, /101 /);
		});

		test('a refused request ends its connection, not the worker', async () => {
			const reply = await session.request('ping');
			assert.equal(reply.status, 200);
			const { workers } = await margay.status();
			assert.equal(workers.length, 1);
			assert.equal((await margay.metrics()).sum('margay_worker_restarts_total'), 0);
		});
	},
);
