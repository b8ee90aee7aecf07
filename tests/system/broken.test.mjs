// Broken configurations at reload: nothing changes, and the answer names file, line and key, to people
// and to programs alike. One Margay stands all of them, while clients call.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import { spawnSync } from 'node:child_process';
import { binary, freePorts, Margay, RawSession, run, ScriptedServer } from './harness.mjs';
import { Control } from './control.mjs';
import { Load } from './load.mjs';

const OPTIONS = { timeout: 180_000, skip: binary ? false : 'needs MARGAY_BIN' };

// How a file is broken: from the lines of the good one to others, or to bytes. PORT and ADMIN stand for
// the ports that Margay has, TAKEN for another program's, FREE for nobody's.
const add = (...more) => (lines) => [...lines, ...more];
const put = (from, ...to) => (lines) =>
	lines.flatMap((line) => (line.trim().startsWith(from) ? to : [line]));
const whole = (bytes) => () => bytes;
const upstream = (...more) => (lines) =>
	lines.flatMap((line) => (line === 'upstreams:' ? [line, ...more.map((one) => `  ${one}`)] : [line]));
const listen = (address, ...more) => (lines) =>
	lines.flatMap((line) =>
		line === 'admin:'
			? [`  - address: ${address}`, ...more.map((one) => `    ${one}`), line]
			: [line],
	);
const without = (from, to) => (lines) => [
	...lines.slice(0, lines.indexOf(from)),
	...lines.slice(lines.indexOf(to)),
];
// What stands where the file should.
const place = (make) => (lines, file) => void make(file);

// [what, how, the line at fault, key, piece of the message, { and: more such places, ... }]. The line is
// that which holds a text, the first or the last of them, or a number; 0: the file as a whole.
const DOCUMENT = '(document)';
const UNIT = 'timeouts: {client_idle: ';
const ROWS = [
	// Keys
	['an unknown section', add('wrokers: 3'), 'wrokers', 'wrokers', 'did you mean `workers`?'],
	['an unknown key far from all', add('zzzzzz: 3'), 'zzzzzz', 'zzzzzz', 'lists all keys'],
	['an unknown timeout', add('timeouts:', '  client_haeder: 1s'), 'haeder', 'timeouts.client_haeder', '`client_header`?'],
	['an unknown limit', add('limits: {body_sise: 1MiB}'), 'body_sise', 'limits.body_sise', '`body_size`?'],
	['an unknown session key', add('sessions:', '  maximum: 3'), 'maximum', 'sessions.maximum', 'is no known key'],
	['an unknown cache key', add('cache: {sise: 1MiB}'), 'sise', 'cache.sise', '`size`?'],
	['an unknown log key', put('level:', '  levle: info'), 'levle', 'log.levle', '`level`?'],
	['an unknown admin key', put('admin:', 'admin:', '  host: [x]'), 'host: [x]', 'admin.host', '`hosts`?'],
	['an unknown listen key', listen('127.0.0.1:FREE', 'adress: x'), 'adress: x', 'listen[1].adress', '`address`?'],
	['an unknown kind of upstream', upstream('second: {htp: {url: "http://x"}}'), 'second:', 'upstreams.second.htp', '`http`?'],
	['an unknown http key', upstream('second: {http: {url: "http://x", hedders: {A: b}}}'), 'second:', 'upstreams.second.http.hedders', '`headers`?'],
	['an unknown stdio key', upstream('second: {stdio: {command: sh, arg: [x]}}'), 'second:', 'upstreams.second.stdio.arg', '`args`?'],
	['an unknown stdio limit', upstream('second: {stdio: {command: sh, limits: {memroy: 1MiB}}}'), 'second:', 'upstreams.second.stdio.limits.memroy', '`memory`?'],
	['an unknown restart key', upstream('second: {stdio: {command: sh, restart: {failure: 1}}}'), 'second:', 'upstreams.second.stdio.restart.failure', '`failures`?'],
	['an unknown route key', put('upstream:', '    upstream: main', '    http-sse: true'), 'http-sse', 'routes./mcp.http-sse', '`http_sse`?'],
	['a key with dots', add('timeouts.client_idle: 5s'), 'client_idle', 'timeouts.client_idle', 'is no known key'],
	['a section twice', add('log: {level: warn}'), 'warn', 'log', 'is there twice'],
	['a key twice', put('level:', '  level: info', '  level: warn'), 'warn', 'log.level', 'first in line'],
	['an upstream twice', upstream('main: {stdio: {command: sh}}'), '  main:', 'upstreams.main', 'is there twice', { last: true }],
	['a route twice', put('/mcp:', '  /mcp: {upstream: main}', '  /mcp:'), '  /mcp:', 'routes./mcp', 'is there twice', { last: true }],
	['a header twice', upstream('second: {http: {url: "http://x", headers: {A: b, A: c}}}'), 'second:', 'upstreams.second.http.headers.A', 'is there twice'],
	['a variable twice', upstream('second: {stdio: {command: sh, env: {A: b, A: c}}}'), 'second:', 'upstreams.second.stdio.env.A', 'is there twice'],
	// Types
	['a section that is a value', add('limits: 3'), 'limits', 'limits', 'a single value, not a mapping'],
	['a section that is a list', add('timeouts: [1s]'), 'timeouts', 'timeouts', 'a list, not a mapping'],
	['a section that is empty', add('limits:'), 'limits', 'limits', 'comment the key out'],
	['a value that is a mapping', put('level:', '  level: {a: b}'), 'level', 'log.level', 'not a single value'],
	['a value that is a list', add('sessions: {max: [1]}'), 'sessions', 'sessions.max', 'not a single value'],
	['a value that is missing', add('sessions:', '  max:'), '  max:', 'sessions.max', 'has no value'],
	['a value that is null', add('sessions: {max: ~}'), 'sessions', 'sessions.max', 'has no value'],
	['listen as a mapping', put('- address:', '  address: x'), '  address: x', 'listen', 'a mapping, not a list'],
	['args that are no list', upstream('second: {stdio: {command: sh, args: x}}'), 'second:', 'upstreams.second.stdio.args', 'not a list'],
	['hosts that are no list', listen('127.0.0.1:FREE', 'hosts: x'), 'hosts: x', 'listen[1].hosts', 'not a list'],
	['workers by a word', put('workers:', 'workers: all'), 'workers', 'workers', 'write auto or a number'],
	['a switch by a word', put('level:', '  access: maybe'), 'access', 'log.access', 'write true or false'],
	['an unknown log level', put('level:', '  level: loud'), 'loud', 'log.level', 'error, warn, info or debug'],
	['an unknown log format', put('format:', '  format: xml'), 'xml', 'log.format', 'write json or text'],
	['a relative log file', put('file:', '  file: margay.log'), 'file:', 'log.file', 'begins with /'],
	// Numbers, sizes, durations
	['no workers', put('workers:', 'workers: 0'), 'workers', 'workers', 'is not from 1 to 32'],
	['too many workers', put('workers:', 'workers: 33'), 'workers', 'workers', 'is not from 1 to 32'],
	['a negative number', add('sessions: {max: -1}'), 'sessions', 'sessions.max', 'write a whole number'],
	['a fraction', add('sessions: {max: 1.5}'), 'sessions', 'sessions.max', 'is no number'],
	['a number too large for any type', add('limits: {connections: 99999999999999999999}'), 'limits', 'limits.connections', 'is not from'],
	['a size without known unit', add('limits: {body_size: 4MiX}'), 'limits', 'limits.body_size', 'is no size'],
	['a size too small', add('limits: {header_size: 10}'), 'limits', 'limits.header_size', 'is not from 1KiB'],
	['a size too large', add('limits: {body_size: 2GiB}'), 'limits', 'limits.body_size', 'to 1GiB'],
	['a size that overflows', add('cache: {size: 99999999999999999999GiB}'), 'cache', 'cache.size', '99999999999999999999GiB'],
	['a duration without unit', add(`${UNIT}75}`), 'timeouts', 'timeouts.client_idle', 'is no duration'],
	['a duration without known unit', add(`${UNIT}75x}`), 'timeouts', 'timeouts.client_idle', 'as in 30s'],
	['a negative duration', add(`${UNIT}-1s}`), 'timeouts', 'timeouts.client_idle', 'is no duration'],
	['a duration too long', add(`${UNIT}400d}`), 'timeouts', 'timeouts.client_idle', 'is not from 100ms to 1d'],
	['a duration of nothing', add(`${UNIT}0}`), 'timeouts', 'timeouts.client_idle', 'is not from'],
	// What must be there
	['no listen', without('listen:', 'admin:'), 0, 'listen', 'is missing'],
	['no upstreams', without('upstreams:', 'routes:'), 0, 'upstreams', 'is missing'],
	['no routes', without('routes:', 'log:'), 0, 'routes', 'is missing'],
	['mcpServers that are empty', add('mcpServers: {}'), 'mcpServers', 'mcpServers', 'is empty'],
	['a listener without address', (lines) => lines.map((line) => line.replace(/^ {2}- address: .*/, '  - hosts: [x]')), '- hosts', 'listen[0].address', 'is missing'],
	['an upstream without kind', upstream('second: {}'), 'second:', 'upstreams.second', 'does not say how to reach it'],
	['an upstream of two kinds', upstream('second: {http: {url: "http://x"}, stdio: {command: sh}}'), 'second:', 'upstreams.second', 'in two ways at once'],
	['http without url', upstream('second: {http: {}}'), 'second:', 'upstreams.second.http.url', 'is missing'],
	['sse without url', upstream('second: {sse: {}}'), 'second:', 'upstreams.second.sse.url', 'is missing'],
	['stdio without command', upstream('second: {stdio: {args: [x]}}'), 'second:', 'upstreams.second.stdio.command', 'is missing'],
	['a route without upstream', put('/mcp:', '  /x: {}', '  /mcp:'), '/x', 'routes./x.upstream', 'is missing'],
	// References
	['a route to nobody', put('upstream:', '    upstream: mian'), 'mian', 'routes./mcp.upstream', 'did you mean `main`?'],
	['a route of an mcpServer', (lines) => [...put('/mcp:', '  /a/mcp: {upstream: main}', '  /mcp:')(lines), 'mcpServers: {a: {command: sh}}'], '/a/mcp', 'routes./a/mcp', 'is the route of an entry'],
	['an mcpServer that is an upstream', add('mcpServers: {main: {command: sh}}'), 'mcpServers', 'mcpServers.main', 'is an upstream already'],
	['a variable that is not set', upstream('second: {stdio: {command: sh, env: {K: "${env:MARGAY_NOT_SET}"}}}'), 'second:', 'upstreams.second.stdio.env.K', 'is not set'],
	['a secret whose file is missing', upstream('second: {stdio: {command: sh, env: {K: "${file:/nonexistent}"}}}'), 'second:', 'upstreams.second.stdio.env.K', 'No such file'],
	['a header with a reference to nothing', upstream('second: {http: {url: "http://x", headers: {A: "${env:MARGAY_NOT_SET}"}}}'), 'second:', 'upstreams.second.http.headers.A', 'is not set'],
	['a reference that does not end', upstream('second: {stdio: {command: sh, args: ["${env:"]}}'), 'second:', 'upstreams.second.stdio.args', 'no closing brace'],
	// Names, paths, URLs, programs
	['an upstream with a slash in its name', upstream('"a/b": {http: {url: "http://x"}}'), 'a/b', 'upstreams.a/b', 'no name for an upstream'],
	['a route that is no path', put('/mcp:', '  x: {upstream: main}', '  /mcp:'), '  x:', 'routes.x', 'is no path'],
	['a route with a query', put('/mcp:', '  /a?b: {upstream: main}', '  /mcp:'), '/a?b', 'routes./a?b', 'is no path'],
	['a URL of another scheme', upstream('second: {http: {url: "ftp://x"}}'), 'second:', 'upstreams.second.http.url', 'does not begin with http://'],
	['an https URL', upstream('second: {http: {url: "https://x"}}'), 'second:', 'upstreams.second.http.url', 'uses https'],
	['a URL with a password', upstream('second: {http: {url: "http://u:p@x"}}'), 'second:', 'upstreams.second.http.url', 'password'],
	['a URL with a space', upstream('second: {http: {url: "http://x/a b"}}'), 'second:', 'upstreams.second.http.url', 'percent-encoded'],
	['a URL with port 0', upstream('second: {http: {url: "http://x:0"}}'), 'second:', 'upstreams.second.http.url', 'no valid host and port'],
	['a URL without host', upstream('second: {http: {url: "http:///x"}}'), 'second:', 'upstreams.second.http.url', 'no valid host and port'],
	['a header of our own', upstream('second: {http: {url: "http://x", headers: {Host: y}}}'), 'second:', 'upstreams.second.http.headers.Host', 'can be set here'],
	['a header of two lines', upstream('second: {http: {url: "http://x", headers: {A: "b\\r\\nc"}}}'), 'second:', 'upstreams.second.http.headers.A', 'no header may hold'],
	['a program that is not there', upstream('second: {stdio: {command: no-such-program}}'), 'second:', 'upstreams.second.stdio.command', 'is not in PATH'],
	['a program that is none', upstream('second: {stdio: {command: /etc/passwd}}'), 'second:', 'upstreams.second.stdio.command', 'is no program'],
	['a program by a relative path', upstream('second: {stdio: {command: ./x}}'), 'second:', 'upstreams.second.stdio.command', 'depends on the directory'],
	['a relative directory', upstream('second: {stdio: {command: sh, cwd: x}}'), 'second:', 'upstreams.second.stdio.cwd', 'begins with /'],
	['a pool upside down', upstream('second: {stdio: {command: sh, sharing: {pool: {min: 3, max: 2}}}}'), 'second:', 'upstreams.second.stdio.sharing.pool', 'above its `max`'],
	['an unknown way of sharing', upstream('second: {stdio: {command: sh, sharing: all}}'), 'second:', 'upstreams.second.stdio.sharing', 'no way of sharing'],
	// Addresses
	['an address without port', listen('127.0.0.2'), '127.0.0.2', 'listen[1].address', 'is no address'],
	['port 0', listen('127.0.0.1:0'), '127.0.0.1:0', 'listen[1].address', 'port from 1 to 65535'],
	['a port too large', listen('127.0.0.1:65536'), ':65536', 'listen[1].address', 'port from 1 to 65535'],
	['an address by name', listen('example.com:80'), 'example.com', 'listen[1].address', 'is no address'],
	['an address twice', listen('localhost:PORT'), 'localhost', 'listen[1].address', 'is there twice'],
	['an address that covers another', listen('"*:PORT"'), '*', 'listen[1].address', 'cover each other'],
	['the address of admin', listen('127.0.0.1:ADMIN'), '  address: 127.0.0.1:ADMIN', 'admin.address', 'is there twice', { last: true }],
	['a host that is a URL', listen('127.0.0.1:FREE', 'hosts: ["http://x"]'), 'hosts', 'listen[1].hosts', 'write HOST'],
	['a host with a pattern', listen('127.0.0.1:FREE', 'hosts: ["*.x"]'), 'hosts', 'listen[1].hosts', '* for any'],
	['an origin without scheme', listen('127.0.0.1:FREE', 'origins: [x]'), 'origins', 'listen[1].origins', 'SCHEME://HOST'],
	['an origin with a path', listen('127.0.0.1:FREE', 'origins: ["http://x/y"]'), 'origins', 'listen[1].origins', 'SCHEME://HOST'],
	// Only binding shows it
	['the address of another program', listen('127.0.0.1:TAKEN'), ':TAKEN', 'listen[1].address', 'Address already in use; stop the program'],
	['an address of another machine', listen('192.0.2.1:FREE'), '192.0.2.1', 'listen[1].address', 'use an address of this machine'],
	['an admin address of another program', (lines) => lines.map((line) => line.replace(/^ {2}address: .*/, '  address: 127.0.0.1:TAKEN')), ':TAKEN', 'admin.address', 'Address already in use'],
	['an address that covers what serves', (lines) => lines.map((line) => line.replace(/- address: .*/, '- address: "*:PORT"')), '*', 'listen[0].address', 'Margay itself has a part of it'],
	['a new address that is free before one that is taken', (lines) => listen('127.0.0.1:TAKEN')(listen('127.0.0.1:FREE')(lines)), ':TAKEN', 'listen[2].address', 'already in use'],
	['two addresses that can not be bound', (lines) => listen('127.0.0.1:TAKEN')(listen('192.0.2.1:FREE')(lines)), '192.0.2.1', 'listen[1].address', 'Cannot assign', { and: [[':TAKEN', 'listen[2].address', 'already in use']] }],
	// What can't change, and who is not there
	['another runtime_dir', put('runtime_dir:', 'runtime_dir: /tmp/elsewhere'), 'elsewhere', 'runtime_dir', "can't change while Margay runs"],
	['no runtime_dir, which is another, too', (lines) => lines.filter((line) => !line.startsWith('runtime_dir')), 0, 'runtime_dir', "can't change while Margay runs"],
	['an unknown user', add('user: margay-nobody-has'), 'user:', 'user', 'is no user of this machine', { root: true }],
	['a user that is no text', add('user: ""'), 'user:', 'user', 'is no text'],
	// YAML
	['a tab', add('limits:', '\tbody_size: 1MiB'), '\tbody', DOCUMENT, 'no valid YAML'],
	['an open bracket', add('limits: [1'), 'limits', DOCUMENT, 'no valid YAML', { after: 1 }],
	['an open quote', add('limits: "1'), 'limits', DOCUMENT, 'no valid YAML', { after: 1 }],
	['wrong indentation', add('limits:', '    body_size: 1MiB', '  header_size: 1MiB'), 'header_size', DOCUMENT, 'no valid YAML'],
	['an anchor', add('limits: &x {}'), '&x', DOCUMENT, 'anchors are not supported'],
	['an alias', add('limits: *x'), '*x', DOCUMENT, 'aliases are not supported'],
	['a second document', add('---', 'log: {}'), '---', DOCUMENT, 'remove the `---`'],
	['a list as a key', add('[a, b]: 3'), '[a, b]', DOCUMENT, 'write keys as plain words'],
	['deep nesting', add(`limits: ${'['.repeat(1000)}`), 'limits', DOCUMENT, 'nested too deeply'],
	['too many values', add(`limits: [${'1,'.repeat(70_000)}]`), 'limits', DOCUMENT, 'too many values'],
	['bytes that are no text', add('user: \xff'), 'user', DOCUMENT, 'no valid YAML'],
	['a control character', add('user: "a\x01"'), 'user', DOCUMENT, 'no valid YAML'],
	['a list as a whole', whole('- 1\n'), 1, DOCUMENT, 'a list, not a mapping'],
	// The file itself
	['nothing in it', whole(''), 0, DOCUMENT, 'is empty'],
	['only a comment in it', whole('# later\n'), 0, DOCUMENT, 'is empty'],
	['binary garbage', whole(Buffer.from('7f454c4602010100000000000000000003003e00', 'hex')), 1, DOCUMENT, 'no valid YAML'],
	['5 MiB of comments', whole(`#${'x'.repeat(5 << 20)}\n`), 0, DOCUMENT, '4 MiB are the most'],
	['5 MiB of garbage', whole(Buffer.alloc(5 << 20, 0xfe)), 0, DOCUMENT, '4 MiB are the most'],
	['no file', place(() => {}), 0, DOCUMENT, 'No such file'],
	['a directory in its place', place((file) => fs.mkdirSync(file)), 0, DOCUMENT, 'is no regular file'],
	['a pipe in its place, which nobody writes to', place((file) => spawnSync('mkfifo', [file])), 0, DOCUMENT, 'is no regular file'],
	['a device in its place', place((file) => fs.symlinkSync('/dev/zero', file)), 0, DOCUMENT, 'is no regular file'],
	['a link to nothing', place((file) => fs.symlinkSync('/nonexistent', file)), 0, DOCUMENT, 'No such file'],
	['a link to itself', place((file) => fs.symlinkSync(file, file)), 0, DOCUMENT, 'symbolic links'],
	// Several at once
	['two mistakes', (lines) => [...put('workers:', 'workers: many')(lines), 'zzzzzz: 1'], 'workers', 'workers', 'write auto', { and: [['zzzzzz', 'zzzzzz', 'is no known key']] }],
	['a mistake and another runtime_dir', (lines) => [...put('runtime_dir:', 'runtime_dir: /tmp/elsewhere')(lines), 'zzzzzz: 1'], 'elsewhere', 'runtime_dir', "can't change", { and: [['zzzzzz', 'zzzzzz', 'is no known key']] }],
];

// The listening sockets that a process has, by inode.
function listening(pid) {
	const states = ['tcp', 'tcp6'].flatMap((name) =>
		fs.readFileSync(`/proc/net/${name}`, 'utf8').trim().split('\n').slice(1),
	);
	const inodes = new Set(
		states
			.map((row) => row.trim().split(/\s+/))
			.filter((row) => row[3] === '0A')
			.map((row) => row[9]),
	);
	return descriptors(pid)
		.map((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1])
		.filter((inode) => inodes.has(inode))
		.sort();
}

function descriptors(pid) {
	return fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
		try {
			return [fs.readlinkSync(`/proc/${pid}/fd/${fd}`)];
		} catch {
			return [];
		}
	});
}

describe('broken configurations at reload', OPTIONS, () => {
	const bench = {};
	const fill = (line) => line.replace(/\b(PORT|ADMIN|TAKEN|FREE)\b/, (name) => bench.ports[name]);

	before(async () => {
		bench.server = await ScriptedServer.start();
		bench.margay = await Margay.start({ upstream: bench.server.url, config: { workers: 2 } });
		bench.taken = net.createServer();
		await new Promise((resolve) => bench.taken.listen(0, '127.0.0.1', resolve));
		const [FREE] = await freePorts(1);
		bench.ports = {
			PORT: bench.margay.port,
			ADMIN: new URL(bench.margay.admin).port,
			TAKEN: bench.taken.address().port,
			FREE,
		};
		bench.good = fs.readFileSync(bench.margay.file, 'utf8').trimEnd().split('\n');
		bench.control = await Control.open(bench.margay);
		bench.load = Load.start([await RawSession.open(bench.margay.url)], 2, { pause: 5 });
		bench.before = await state();
	});
	after(async () => {
		await bench.load?.stop();
		bench.control?.close();
		bench.taken?.close();
		await bench.margay?.stop();
		await bench.server?.stop();
	});

	// What a reload that fails must leave as it is.
	async function state() {
		const { pid, generation, workers, broker, keeper, listen } = await bench.control.ask('status');
		return {
			generation,
			pids: [pid, broker.pid, keeper.pid, ...workers.map((one) => one.pid)],
			states: workers.map((one) => one.state),
			addresses: listen.map(({ address }) => address),
			listening: listening(pid),
		};
	}

	function breakFile(change) {
		const { file } = bench.margay;
		fs.rmSync(file, { recursive: true, force: true });
		const changed = change(bench.good, file);
		if (changed === undefined) return [];
		const lines = Array.isArray(changed) ? changed.map(fill) : undefined;
		fs.writeFileSync(file, lines ? `${lines.join('\n')}\n` : changed, 'latin1');
		return lines ?? [];
	}

	// `margay reload --json`, found by its directory, because the file may be anything.
	const reload = () =>
		run(binary, ['reload', '--json', '--runtime-dir', bench.margay.config.runtime_dir], {
			env: bench.margay.environment,
		});

	function lineOf(lines, at, { last, after: more = 0 }) {
		if (typeof at === 'number') return at;
		const has = (line) => line.includes(fill(at));
		const index = last ? lines.findLastIndex(has) : lines.findIndex(has);
		assert.ok(index >= 0, `no line holds ${at}`);
		return index + 1 + more;
	}

	test('the table is long enough', () => assert.ok(ROWS.length >= 60));

	// Control: without the check in a child the workers change; without the place in an address the line
	// is 0; with a release too many after a failed bind the master loses the sockets that serve.
	for (const [what, change, at, key, says, how = {}] of ROWS)
		test(what, { skip: how.root && process.getuid() !== 0 ? 'only root changes user' : false }, async () => {
			const { file } = bench.margay;
			const lines = breakFile(change);
			const expected = [[at, key, says], ...(how.and ?? [])].map(([place, ...rest]) => [
				lineOf(lines, place, how),
				...rest,
			]);
			const { code, stdout, stderr } = await reload();
			assert.equal(code, 1, stderr);
			const answer = JSON.parse(stdout);
			assert.equal(answer.ok, false);
			assert.equal(answer.generation, bench.before.generation);
			assert.deepEqual(
				answer.errors.map((one) => [one.file, one.line, one.key]).sort(),
				expected.map(([line, name]) => [file, line, name]).sort(),
				stderr,
			);
			for (const [line, name, piece] of expected) {
				const row = answer.errors.find((one) => one.line === line && one.key === name);
				assert.ok(`${row.problem}; ${row.remedy}`.includes(piece), stderr);
				assert.ok(row.problem && row.remedy, stderr);
				const start = `${file}${line > 0 ? `:${line}` : ''}: ${name}: `;
				assert.ok(
					stderr.split('\n').some((text) => text.startsWith(start) && text.includes(piece)),
					`${start}... is not in:\n${stderr}`,
				);
			}
			assert.deepEqual(await state(), bench.before);
		});

	test('a client of -c FILE is told what is wrong with it when it names no directory', async () => {
		breakFile(add('limits: [1'));
		const { code, stdout, stderr } = await bench.margay.command('reload', '--json');
		assert.equal(code, 4);
		assert.equal(stdout, '');
		assert.match(stderr, /margay\.yaml:\d+: \(document\): no valid YAML/);
	});

	test('no client noticed, and a good file is taken', async () => {
		await bench.load.more(5);
		fs.rmSync(bench.margay.file, { recursive: true, force: true });
		bench.margay.write({
			listen: [{ address: `127.0.0.1:${bench.ports.PORT}` }, { address: `127.0.0.1:${bench.ports.FREE}` }],
			routes: { '/new': { upstream: 'main' } },
		});
		const { code, stdout, stderr } = await reload();
		assert.equal(code, 0, stderr);
		assert.equal(stderr, '');
		const answer = JSON.parse(stdout);
		assert.deepEqual([answer.ok, answer.errors], [true, []]);
		assert.equal(answer.generation, bench.before.generation + 1);
		const session = await RawSession.open(`http://127.0.0.1:${bench.ports.FREE}/new`);
		assert.equal((await session.call('echo')).status, 200);
		await bench.load.more(5);
		await bench.load.stop();
		assert.deepEqual(bench.load.failures, []);
	});
});
