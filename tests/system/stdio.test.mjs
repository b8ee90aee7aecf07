// stdio upstreams: real servers with the SDK client, the ways of sharing a child, its environment and
// its end, and the commands that show and restart it.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
	Client,
	ElicitRequestSchema,
	LoggingMessageNotificationSchema,
	StreamableHTTPClientTransport,
} from './sdk.mjs';
import {
	binary,
	Child,
	events,
	isAlive,
	Margay,
	messagesOf,
	node,
	RawSession,
	run,
	until,
} from './harness.mjs';
import { childrenOf, hostile, textOf, upstreamOf } from './stdio.mjs';

const OPTIONS = { timeout: 120_000, skip: binary ? false : 'needs MARGAY_BIN' };

const packaged = (name) =>
	path.join(import.meta.dirname, 'node_modules/@modelcontextprotocol', name, 'dist/index.js');

describe('real servers', OPTIONS, () => {
	let margay;
	let directory;
	const clients = new Set();

	before(async () => {
		directory = fs.mkdtempSync('/tmp/margay-files-');
		fs.writeFileSync(path.join(directory, 'greeting.txt'), 'good morning');
		const stdio = (name, ...args) => ({
			stdio: { command: node, args: [packaged(name), ...args] },
		});
		margay = await Margay.start({
			config: {
				upstreams: {
					main: undefined,
					everything: stdio('server-everything'),
					files: stdio('server-filesystem', directory),
					memory: {
						stdio: {
							...stdio('server-memory').stdio,
							env: { MEMORY_FILE_PATH: path.join(directory, 'memory.jsonl') },
						},
					},
				},
				routes: {
					'/mcp': { upstream: 'everything' },
					'/files': { upstream: 'files' },
					'/memory': { upstream: 'memory' },
				},
			},
		});
	});
	afterEach(async (t) => {
		await Promise.all([...clients].map((client) => client.close()));
		clients.clear();
		if (t.error) t.diagnostic(margay.report());
	});
	after(async () => {
		try {
			await margay?.stop();
		} finally {
			fs.rmSync(directory, { recursive: true });
		}
	});

	async function connect(route, { capabilities = {}, handlers = [], notifications = [] } = {}) {
		const client = new Client({ name: 'margay-test', version: '1.0.0' }, { capabilities });
		for (const [schema, handler] of handlers) client.setRequestHandler(schema, handler);
		for (const [schema, handler] of notifications)
			client.setNotificationHandler(schema, handler);
		await client.connect(new StreamableHTTPClientTransport(new URL(route, margay.url)));
		clients.add(client);
		return client;
	}

	const call = (client, name, args = {}, options) =>
		client.callTool({ name, arguments: args }, undefined, options);

	test('server-everything: tools, progress, logging and elicitation', async () => {
		const logged = [];
		const client = await connect('/mcp', {
			capabilities: { elicitation: {}, sampling: {} },
			handlers: [[ElicitRequestSchema, () => ({ action: 'decline' })]],
			notifications: [[LoggingMessageNotificationSchema, (one) => void logged.push(one)]],
		});
		assert.equal((await call(client, 'echo', { message: 'hi' })).content[0].text, 'Echo: hi');
		const steps = [];
		await call(
			client,
			'trigger-long-running-operation',
			{ duration: 0.2, steps: 4 },
			{ onprogress: (one) => steps.push(one.progress) },
		);
		assert.deepEqual(steps, [1, 2, 3, 4]);
		await until('the tool that asks is there', async () =>
			(await client.listTools()).tools.some(
				(tool) => tool.name === 'trigger-elicitation-request',
			),
		);
		const asked = await call(client, 'trigger-elicitation-request');
		assert.match(asked.content[0].text, /declin/);
		await call(client, 'toggle-simulated-logging');
		await until('it logs', () => logged.length > 0, { timeout: 20_000 });
	});

	test('server-filesystem reads and writes files', async () => {
		const client = await connect('/files');
		const read = await call(client, 'read_text_file', {
			path: path.join(directory, 'greeting.txt'),
		});
		assert.equal(read.content[0].text, 'good morning');
		await call(client, 'write_file', {
			path: path.join(directory, 'answer.txt'),
			content: 'good night',
		});
		assert.equal(fs.readFileSync(path.join(directory, 'answer.txt'), 'utf8'), 'good night');
	});

	test('server-memory remembers within a session', async () => {
		const client = await connect('/memory');
		await call(client, 'create_entities', {
			entities: [{ name: 'margay', entityType: 'cat', observations: ['climbs'] }],
		});
		const { structuredContent } = await call(client, 'read_graph');
		assert.equal(structuredContent.entities[0].name, 'margay');
	});
});

// One Margay per test, with `stdio` as its only upstream.
function setUp() {
	const bench = { margays: [] };
	bench.start = async (stdio, config = {}) => {
		const margay = await Margay.start({
			config: { upstreams: { main: { http: undefined, stdio } }, ...config },
		});
		bench.margays.push(margay);
		return margay;
	};
	afterEach(async (t) => {
		for (const margay of bench.margays.splice(0)) {
			if (t.error) t.diagnostic(margay.report());
			await margay.stop();
		}
	});
	return bench;
}

describe('sharing', OPTIONS, () => {
	const bench = setUp();

	test('each session has a child of its own', async () => {
		const margay = await bench.start(hostile());
		const [one, two] = [await RawSession.open(margay.url), await RawSession.open(margay.url)];
		const first = textOf(await one.call('counter'));
		assert.match(first, /^1 /);
		assert.match(textOf(await one.call('counter')), /^2 /);
		const other = textOf(await two.call('counter'));
		assert.match(other, /^1 /);
		assert.notEqual(first.split(' ')[1], other.split(' ')[1]);
		// The end of a session is the end of its child, which ends with its input, unasked.
		const pid = Number(first.split(' ')[1]);
		assert.equal((await one.delete()).status, 200);
		await until('its child is gone', () => !isAlive(pid));
		const ends = () => margay.log().filter(({ child_pid: child }) => child === pid);
		await until('its end is in the log', () =>
			ends().some(({ message }) => message === 'child ended'),
		);
		assert.ok(ends().some(({ how }) => how === 'exit code 0'), JSON.stringify(ends()));
		assert.equal((await one.call('counter')).status, 404);
		assert.equal((await two.call('counter')).status, 200);
	});

	test('200 clients share one child with colliding ids', async () => {
		const margay = await bench.start({ ...hostile(), sharing: 'shared' });
		const sessions = await Promise.all(
			Array.from({ length: 200 }, () => RawSession.open(margay.url)),
		);
		// Without the keeper's own ids each answer would go to whoever asked first, or last.
		for (const id of [1, 'same', 2 ** 40])
			await Promise.all(
				sessions.map(async (session, i) => {
					const reply = await session.call('echo', { text: `mine ${i}` }, { id });
					assert.equal(textOf(reply), `mine ${i}`);
					assert.equal(reply.message.id, id);
				}),
			);
		const { children, sessions: count } = await upstreamOf(margay);
		assert.equal(children.length, 1);
		assert.equal(count, 200);
	});

	test('two clients with the same id and progress token get their own', async () => {
		const margay = await bench.start({ ...hostile(), sharing: 'shared' });
		const sessions = [await RawSession.open(margay.url), await RawSession.open(margay.url)];
		const replies = await Promise.all(
			sessions.map((session, i) =>
				session.post({
					jsonrpc: '2.0',
					id: 7,
					method: 'tools/call',
					params: {
						name: 'progress',
						arguments: { steps: 3 + i },
						_meta: { progressToken: 'token' },
					},
				}),
			),
		);
		replies.forEach((reply, i) => {
			const messages = messagesOf(reply).map((one) => JSON.parse(one));
			assert.deepEqual(
				messages.slice(0, -1).map((one) => [one.params.progressToken, one.params.total]),
				Array.from({ length: 3 + i }, () => ['token', 3 + i]),
			);
			assert.equal(messages.at(-1).id, 7);
		});
	});

	test('a shared child tells each session what is for it, and no more', async () => {
		const margay = await bench.start({ ...hostile(), sharing: 'shared' });
		const [one, two] = [await RawSession.open(margay.url), await RawSession.open(margay.url)];
		const heard = [one, two].map(() => []);
		const streams = await Promise.all([one.get(), two.get()]);
		streams.forEach(({ response }, i) => {
			response.on('error', () => {});
			(async () => {
				for await (const { data } of events(response)) heard[i].push(JSON.parse(data));
			})().catch(() => {});
		});
		try {
			assert.equal((await one.request('resources/subscribe', { uri: 'x:1' })).status, 200);
			await two.call('touch', { uri: 'x:1' });
			await two.call('changed');
			const list = 'notifications/tools/list_changed';
			await until('the subscriber hears of both', () => heard[0].length === 2);
			assert.deepEqual(
				heard[0].map((message) => message.method),
				['notifications/resources/updated', list],
			);
			// The other hears of the list, on the stream of its call or on its own.
			assert.ok(heard[1].every((message) => message.method === list));
			// The only call in flight is asked; one of two is never guessed.
			const asked = await two.post({
				jsonrpc: '2.0',
				id: 5,
				method: 'tools/call',
				params: { name: 'ask' },
			}, { stream: true });
			for await (const { data } of events(asked.response)) {
				const message = JSON.parse(data);
				if (message.method !== 'elicitation/create') {
					assert.equal(message.result.content[0].text, 'cancel');
					break;
				}
				// An answer from elsewhere counts for nothing.
				const answer = { jsonrpc: '2.0', id: message.id, result: { action: 'accept' } };
				assert.equal((await one.post(answer)).status, 202);
				answer.result.action = 'cancel';
				assert.equal((await two.post(answer)).status, 202);
			}
			const slow = one.call('sleep', { ms: 2000 });
			await until('that is in flight', async () =>
				(await childrenOf(margay))[0].calls === 1,
			);
			assert.equal(textOf(await two.call('ask')), 'error -32603');
			await slow;
		} finally {
			streams.forEach(({ request }) => request.destroy());
		}
	});

	test('a pool has children ready, and no more than its max', async () => {
		const margay = await bench.start({
			...hostile(),
			sharing: { pool: { min: 2, max: 3 } },
		});
		const spares = await until('two spares are there', async () => {
			const { children } = await upstreamOf(margay);
			return children.filter(({ state }) => state === 'spare').length === 2 && children;
		});
		const sessions = [await RawSession.open(margay.url)];
		const pid = Number(textOf(await sessions[0].call('counter')).split(' ')[1]);
		assert.ok(spares.some((child) => child.pid === pid));
		while (sessions.length < 3) sessions.push(await RawSession.open(margay.url));
		await assert.rejects(RawSession.open(margay.url), /503 .*main: all of its 3 children/);
		await sessions[0].delete();
		await until('there is room again', () => RawSession.open(margay.url).then(() => true));
	});
});

describe('a child', OPTIONS, () => {
	const bench = setUp();

	test('gets the environment that it is given, and nothing else', async () => {
		const margay = await bench.start({
			...hostile(),
			env: { PLAIN: 'as is', FROM_ENV: 'x${env:HOME}y', ESCAPED: '$${env:HOME}' },
			cwd: '/usr',
		});
		const session = await RawSession.open(margay.url);
		const env = JSON.parse(textOf(await session.call('env')));
		assert.equal(env.PLAIN, 'as is');
		assert.equal(env.FROM_ENV, `x${process.env.HOME}y`);
		assert.equal(env.ESCAPED, '${env:HOME}');
		assert.equal(env.PATH, process.env.PATH);
		assert.equal(env.ASAN_OPTIONS, undefined, 'what is not listed is not passed on');
		assert.equal(textOf(await session.call('cwd')), '/usr');
	});

	test('leads a session and a group of its own and holds no descriptor of ours', async () => {
		const margay = await bench.start({ ...hostile(), limits: { files: 1000 } });
		const session = await RawSession.open(margay.url);
		const pid = Number(textOf(await session.call('counter')).split(' ')[1]);
		const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
		assert.deepEqual(stat.slice(2, 4).map(Number), [pid, pid]);
		const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
		assert.match(status, /^NoNewPrivs:\s+1$/m);
		assert.match(status, /^SigBlk:\s+0+$/m);
		assert.match(fs.readFileSync(`/proc/${pid}/limits`, 'utf8'), /Max open files\s+1000\s+1000/);
		// Sockets and memfds would be ours; Node's own are pipes and anonymous inodes.
		const links = fs
			.readdirSync(`/proc/${pid}/fd`)
			.map((fd) => {
				try {
					return fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
				} catch {
					return '';
				}
			});
		assert.deepEqual(
			links.filter((one) => one.startsWith('socket:') || one.startsWith('/memfd:')),
			[],
		);
	});

	test('has a control group of its own where one is delegated', async (t) => {
		const mounts = fs.readFileSync('/proc/mounts', 'utf8');
		const mount = /^cgroup2 (\S+) cgroup2 /m.exec(mounts)?.[1];
		const group = path.join(mount ?? '/nonexistent', `margay-test-${process.pid}`);
		// As systemd marks what it delegates: setxattr(2), which Node can't call.
		const mark = `my ($name, $value) = ("user.delegate", "1");
			exit(syscall(188, $ARGV[0], $name, $value, 1, 0) == 0 ? 0 : 1)`;
		try {
			fs.mkdirSync(group);
			fs.writeFileSync(path.join(group, 'cgroup.procs'), String(process.pid));
		} catch {
			return t.skip('no control group can be made here');
		}
		const back = path.join(mount, 'cgroup.procs');
		try {
			const marked = await run('perl', ['-e', mark, group]);
			if (marked.code !== 0) return t.skip('no extended attribute can be set here');
			const margay = await bench.start(hostile());
			// The test itself must not hold the group that hands its controllers down.
			const session = await RawSession.open(margay.url);
			const pid = Number(textOf(await session.call('counter')).split(' ')[1]);
			assert.match(
				fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8'),
				/^0::.*margay-test-\d+\/child-\w+\.1\.0$/m,
			);
			assert.equal((await margay.status()).keeper.limits, 'control groups');
			const detached = Number(textOf(await session.call('breed', { detached: true })));
			await session.delete();
			await until('its group is ended and removed', () => {
				const groups = fs.readdirSync(group).filter((name) => name.startsWith('child-'));
				return groups.length === 0 && !isAlive(detached);
			});
			await bench.margays.pop().stop();
		} finally {
			fs.writeFileSync(back, String(process.pid));
			for (const name of ['margay', '.'])
				await until('the group is empty', () => {
					fs.rmdirSync(path.join(group, name));
					return true;
				}).catch(() => {});
		}
	});

	test('that can not be executed says so', async () => {
		const margay = await bench.start(hostile());
		margay.write({ upstreams: { main: { stdio: { command: '/etc/passwd' } } } });
		const { code, stderr } = await margay.command('check');
		assert.equal(code, 4);
		assert.match(stderr, /yaml:\d+: upstreams.main.stdio.command: .*is no program/);
		// What is wrong with it only its start can tell.
		const broken = path.join(margay.dir, 'broken');
		fs.writeFileSync(broken, '#!/nonexistent/interpreter\n', { mode: 0o755 });
		margay.write({ upstreams: { main: { stdio: { command: broken } } } });
		assert.equal((await margay.command('reload')).code, 0);
		await assert.rejects(
			RawSession.open(margay.url),
			/502 .*main: can't be executed: No such file or directory/,
		);
	});

	test('ends when it was idle, and all that it took is given back', { timeout: 60_000 }, async () => {
		const margay = await bench.start(
			{
				command: binary,
				args: ['demo-server'],
				idle_timeout: '6s',
				limits: { children: 256 },
			},
			{ workers: 2 },
		);
		const open = async (count) => {
			const sessions = await Promise.all(
				Array.from({ length: count }, () => RawSession.open(margay.url)),
			);
			await Promise.all(sessions.map((one) => one.call('echo', { text: 'hi' })));
			return sessions;
		};
		const idle = () =>
			until('all children are gone', async () => (await childrenOf(margay)).length === 0, {
				timeout: 30_000,
				every: 200,
			});
		// What is made once, is made before the first measurement.
		await open(20);
		await idle();
		const status = await margay.status();
		const pids = [status.pid, status.keeper.pid, ...status.workers.map(({ pid }) => pid)];
		const descriptors = () => pids.map((pid) => fs.readdirSync(`/proc/${pid}/fd`).length);
		const fds = descriptors();
		const resident = (pid) =>
			Number(/^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
		const rss = pids.map(resident);
		const sessions = await open(200);
		assert.equal((await margay.metrics()).sum('margay_stdio_starts_total'), 220);
		await idle();
		// Connections that clients keep alive close in their own time.
		await until('no descriptor is left', () =>
			descriptors().every((count, i) => count <= fds[i]),
		);
		// A sanitizer keeps freed memory for a while.
		const bound = margay.sanitized ? 262_144 : 8192;
		pids.forEach((pid, i) => {
			const grown = resident(pid) - rss[i];
			assert.ok(grown < bound, `process ${i} has grown by ${grown} KiB`);
		});
		assert.equal((await sessions[0].call('echo', { text: 'hi' })).status, 404);
	});

	test('that is restartable is initialized again as it was', async () => {
		const margay = await bench.start({ ...hostile(), restart: { restartable: true } });
		const session = await RawSession.open(margay.url);
		const before = textOf(await session.call('counter'));
		const died = await session.call('die');
		assert.equal(died.status, 502);
		assert.match(died.message.error.message, /main: its process \d+ ended: exit code 3/);
		const after = textOf(await session.call('counter'));
		assert.match(after, /^1 /, 'a new process counts from the start');
		assert.notEqual(before.split(' ')[1], after.split(' ')[1]);
		assert.equal((await upstreamOf(margay)).restarts, 1);
		// The operator and idleness end its process, not its session.
		assert.equal((await margay.command('restart', 'main')).code, 0);
		const pid = Number(after.split(' ')[1]);
		assert.match(textOf(await session.call('counter')), /^1 /);
		assert.ok(!isAlive(pid));
		await session.delete();
		await until('it is gone for good', async () => (await childrenOf(margay)).length === 0);
		assert.equal((await session.call('counter')).status, 404);
	});

	test('that is restartable sleeps when it is idle', async () => {
		const margay = await bench.start({
			...hostile(),
			sharing: 'shared',
			idle_timeout: '500ms',
			restart: { restartable: true },
		});
		const session = await RawSession.open(margay.url);
		for (let round = 0; round < 2; round++) {
			const [count, pid] = textOf(await session.call('counter')).split(' ').map(Number);
			assert.equal(count, 1);
			await until('it sleeps', async () => (await childrenOf(margay))[0].state === 'down');
			assert.ok(!isAlive(pid));
		}
	});

	test('that is restartable keeps its session when its start fails', async () => {
		const directory = fs.mkdtempSync('/tmp/margay-moody-');
		const file = path.join(directory, 'mood');
		fs.writeFileSync(file, '');
		const margay = await bench.start({
			...hostile('moody', file),
			restart: { restartable: true, failures: 2, delay_max: '300ms' },
		});
		try {
			const session = await RawSession.open(margay.url);
			fs.rmSync(file);
			assert.equal((await session.call('die')).status, 502);
			assert.match((await session.call('counter')).text, /main: .*exit code 9/);
			fs.writeFileSync(file, '');
			await until('it works again', async () => {
				const reply = await session.call('counter');
				assert.notEqual(reply.status, 404);
				return reply.status === 200;
			});
		} finally {
			fs.rmSync(directory, { recursive: true });
		}
	});

	test('is restarted by the operator', async () => {
		const margay = await bench.start(hostile());
		const session = await RawSession.open(margay.url);
		const pid = Number(textOf(await session.call('counter')).split(' ')[1]);
		const { code, stdout } = await margay.command('restart', 'main');
		assert.equal(code, 0);
		assert.match(stdout, /main: 1 child is ended/);
		await until('the old one is gone', () => !isAlive(pid));
		assert.equal((await session.call('counter')).status, 404);
		assert.match(textOf(await (await RawSession.open(margay.url)).call('counter')), /^1 /);
		const wrong = await margay.command('restart', 'mian');
		assert.equal(wrong.code, 1);
		assert.match(wrong.stderr, /`mian` is no stdio upstream/);
	});

	test('goes on through a reload unless its definition changed', async () => {
		const margay = await bench.start(hostile());
		const session = await RawSession.open(margay.url);
		await session.call('counter');
		margay.write({ limits: { json_depth: 50 } });
		assert.equal((await margay.command('reload')).code, 0);
		assert.match(textOf(await session.call('counter')), /^2 /);
		margay.write({ upstreams: { main: { stdio: { ...hostile(), env: { NEW: 'yes' } } } } });
		const slow = session.call('sleep', { ms: 500 });
		assert.equal((await margay.command('reload')).code, 0);
		assert.equal(textOf(await slow), 'slept', 'what was in flight is answered');
		await until('the old child is gone', async () => {
			const rows = await childrenOf(margay);
			return rows.length === 0;
		});
		assert.equal((await session.call('counter')).status, 404);
		const next = await RawSession.open(margay.url);
		assert.equal(JSON.parse(textOf(await next.call('env'))).NEW, 'yes');
	});

	test('is shown by status, upstreams and metrics', async () => {
		const margay = await bench.start(hostile());
		const session = await RawSession.open(margay.url);
		const [, pid] = textOf(await session.call('counter')).split(' ').map(Number);
		const row = await until('its memory was looked at', async () => {
			const found = await upstreamOf(margay);
			return found.children[0].memory_bytes > 1e6 && found;
		});
		assert.equal(row.state, 'running');
		assert.equal(row.children[0].pid, pid);
		assert.equal(row.children[0].sessions, 1);
		const { stdout } = await margay.command('upstreams');
		assert.match(stdout, new RegExp(`main +stdio +running +1 +1 +0`));
		assert.match(stdout, new RegExp(`  ${pid} +child +ready +1 +0 `));
		assert.equal((await margay.status()).keeper.children, 1);
		const metrics = await margay.metrics();
		const value = (name) => metrics.sum(name, { upstream: 'main' });
		assert.equal(value('margay_stdio_children'), 1);
		assert.equal(value('margay_stdio_sessions'), 1);
		assert.equal(value('margay_stdio_starts_total'), 1);
		await until('the memory is a metric', async () =>
			(await margay.metrics()).sum('margay_stdio_memory_bytes', { upstream: 'main' }) > 1e6,
		);
	});
});

describe('run without a configuration', OPTIONS, () => {
	async function quick(t, args, options = {}) {
		const child = new Child(binary, ['run', ...args], options);
		t.after(async () => {
			const { code, stderr } = await child.stop();
			assert.equal(code, 0, stderr);
			const [, directory] = /--runtime-dir (\S+)/.exec(stderr) ?? [];
			assert.ok(directory && !fs.existsSync(directory), 'its directory is gone');
		});
		return child;
	}
	const program = path.join(import.meta.dirname, 'stdio/hostile.mjs');

	test('a command, in this directory and with this environment', async (t) => {
		const child = await quick(t, ['--', node, path.relative('/usr', program)], {
			cwd: '/usr',
			env: { MARGAY_TEST_WORD: 'passed on' },
		});
		const [url] = await child.output(/^http:\/\/127\.0\.0\.1:\d+\/mcp$/m);
		const session = await RawSession.open(url);
		assert.equal(textOf(await session.call('cwd')), '/usr');
		assert.equal(JSON.parse(textOf(await session.call('env'))).MARGAY_TEST_WORD, 'passed on');
	});

	test('a URL', async (t) => {
		const behind = await quick(t, ['--', node, program]);
		const [upstream] = await behind.output(/^http:\S+$/m);
		const child = await quick(t, ['--upstream', upstream]);
		const [url] = await child.output(/^http:\S+$/m);
		assert.notEqual(url, upstream);
		assert.match(textOf(await (await RawSession.open(url)).call('counter')), /^1 /);
	});

	test("a desktop client's list of servers", async (t) => {
		const directory = fs.mkdtempSync('/tmp/margay-list-');
		t.after(() => fs.rmSync(directory, { recursive: true }));
		const file = path.join(directory, 'servers.json');
		const entry = (word) => ({
			command: node,
			args: [program],
			env: { WORD: word },
			autoApprove: ['echo'],
		});
		const list = {
			mcpServers: {
				one: entry('first'),
				two: entry('second'),
				off: { ...entry('off'), disabled: true },
			},
		};
		// As editors write it: JSON, indented by tabs.
		fs.writeFileSync(file, JSON.stringify(list, null, '\t'));
		const child = await quick(t, ['--mcp-servers', file]);
		await child.output(/\/two\/mcp$/m);
		const urls = child.stdout.trim().split('\n');
		assert.deepEqual(
			urls.map((url) => new URL(url).pathname),
			['/one/mcp', '/two/mcp'],
		);
		for (const [i, word] of ['first', 'second'].entries()) {
			const session = await RawSession.open(urls[i]);
			assert.equal(JSON.parse(textOf(await session.call('env'))).WORD, word);
		}
	});

	test('what is missing or too much is said', async () => {
		for (const [args, said] of [
			[[], /margay run -c FILE, or margay run -- COMMAND/],
			[['-c', 'x', '--', 'y'], /is enough/],
			[['--', 'no-such-program-at-all'], /is not in PATH/],
			[['--mcp-servers', '/nonexistent'], /can't be read/],
			[['--port', '99999', '--', 'true'], /--port takes a number/],
			[['--port', '1', '-c', 'x'], /the configuration says where to listen/],
		]) {
			const { code, stderr } = await run(binary, ['run', ...args]);
			assert.notEqual(code, 0);
			assert.match(stderr, said);
		}
	});
});
