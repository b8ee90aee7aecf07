// What Margay tells a service manager (a perl script is one, of which every Debian has what it needs)
// and what the manager passes to it: sockets, and what it kept of a Margay that died.
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
	binary,
	Child,
	freePorts,
	isAlive,
	killPid,
	Margay,
	post,
	RawSession,
	request,
	ScriptedServer,
	until,
	within,
} from './harness.mjs';
import { Control } from './control.mjs';
import { Service } from './manager.mjs';
import { childrenOf, hostile } from './stdio.mjs';

const OPTIONS = { timeout: 60_000, skip: binary ? false : 'needs MARGAY_BIN' };
// Prints each datagram, its lines joined by `|`.
const MANAGER = `use Socket; $| = 1;
socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die; print "bound\\n";
while (defined recv($s, my $m, 4096, 0)) { $m =~ s/\\n/|/g; print "$m\\n"; }`;

describe('systemd', OPTIONS, () => {
	let dir;
	let manager;
	let margay;

	beforeEach(async () => {
		dir = fs.mkdtempSync(path.join(os.tmpdir(), 'margay-systemd-'));
		manager = new Child('perl', ['-e', MANAGER, path.join(dir, 'notify')]);
		await manager.output(/bound/);
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(manager.stdout);
		await margay?.stop();
		margay = undefined;
		await manager.stop();
		fs.rmSync(dir, { recursive: true });
	});
	const start = async (env = {}) => {
		margay = await Margay.start({ env: { NOTIFY_SOCKET: path.join(dir, 'notify'), ...env } });
	};
	const heard = () => manager.stdout.split('\n').slice(1).filter((line) => line !== '');
	const hear = (pattern) => until(`${pattern}`, () => heard().find((line) => pattern.test(line)));

	test('hears when it is ready, reloads and stops', async () => {
		await start();
		assert.match(await hear(/READY=1/), /^READY=1\|STATUS=generation 1 serves with 4 workers/);
		assert.equal((await margay.command('reload')).code, 0);
		assert.match(await hear(/RELOADING=1/), /^RELOADING=1\|MONOTONIC_USEC=\d+\|/);
		await hear(/READY=1.*generation 2/);
		margay.write({ workers: 'many' });
		assert.equal((await margay.command('reload')).code, 1);
		assert.match(await hear(/1 error/), /^READY=1\|STATUS=generation 2 serves/);
		margay.write({ workers: 4 });
		await margay.stop();
		await hear(/STOPPING=1/);
		margay = undefined;
		assert.ok(!heard().some((line) => line.includes('WATCHDOG')), 'nobody asked for it');
	});

	test('hears that it lives, as long as somebody serves', async () => {
		await start({ WATCHDOG_USEC: '600000' });
		const beats = () => heard().filter((line) => line === 'WATCHDOG=1').length;
		await until('it beats', () => beats() > 2);
		for (const { pid } of (await margay.status()).workers) killPid(pid, 'SIGKILL');
		const before = beats();
		await until('it beats again', () => beats() > before);
	});

	// systemd takes MAINPID from the main process alone (NotifyAccess=main), so the old master has to say it; and a
	// service that said RELOADING=1 is reloading until READY=1.
	test('hears from the old master which one is the main process now', async () => {
		await start();
		const old = margay.pid;
		process.kill(old, 'SIGUSR2');
		await until('another master is there', () => margay.pid && margay.pid !== old);
		const pid = margay.pid;
		assert.match(await hear(/RELOADING=1/), /^RELOADING=1\|MONOTONIC_USEC=\d+\|STATUS=upgrading/);
		assert.match(await hear(/MAINPID/), new RegExp(`^MAINPID=${pid}\\|READY=1\\|`));
		await hear(/READY=1.*generation 2/);
		const said = heard();
		const at = (pattern) => said.findIndex((line) => pattern.test(line));
		assert.ok(at(/RELOADING=1/) < at(/MAINPID/));
		assert.equal(said.filter((line) => line.includes('RELOADING=1')).length, 1);
		assert.ok(!said.some((line) => line.includes('STOPPING')));

		fs.writeFileSync(margay.file, 'workers: many\n');
		await until('the old one has ended', () => margay.child.process.exitCode === 0);
		process.kill(pid, 'SIGUSR2');
		await hear(/^READY=1\|STATUS=upgrade failed/);
		assert.equal(heard().filter((line) => line.includes('MAINPID')).length, 1);
		assert.ok(!heard().some((line) => line.includes('STOPPING')));
	});
});

// A service per test, with one scripted upstream behind it.
function setUp() {
	const bench = {};
	beforeEach(async () => {
		bench.server = await ScriptedServer.start();
		bench.service = await Service.prepare({ upstream: bench.server.url });
		bench.margay = bench.service.margay;
	});
	afterEach(async (t) => {
		if (t.error) t.diagnostic(bench.service.report());
		await bench.service.stop();
		await bench.server.stop();
	});
	bench.refused = async (...passed) => {
		bench.service.run(...passed);
		const [, code] = await bench.service.prints(/^ended (-?\d+)$/m);
		assert.equal(code, '4');
		return bench.service.child.stderr;
	};
	// The master's: others may have time to see that they lost it.
	bench.warnings = () =>
		bench.margay
			.log()
			.filter(({ level, process }) => level === 'warn' && process === 'master')
			.map(({ message, name, address }) => `${message} ${name ?? address}`);
	return bench;
}

// It is answered when somebody serves; that it connected is not known before.
const asked = (url) => request(url).then(({ status }) => status);

describe('socket activation', OPTIONS, () => {
	const bench = setUp();
	const socketOf = ({ port }) => `socket:margay.socket=127.0.0.1:${port}`;

	test('serves the socket that it was given, with all its workers', async () => {
		const { margay, service } = bench;
		service.run(socketOf(margay));
		await margay.ready();
		const sessions = await Promise.all(
			Array.from({ length: 100 }, () => RawSession.open(margay.url)),
		);
		const replies = await Promise.all(sessions.map((one) => one.call('echo')));
		assert.ok(replies.every(({ status }) => status === 200));
		// Nothing was bound beside it: who accepts from another socket would be seen here.
		const port = margay.port.toString(16).toUpperCase().padStart(4, '0');
		const bound = fs
			.readFileSync('/proc/net/tcp', 'utf8')
			.split('\n')
			.filter((line) => line.includes(` 0100007F:${port} 00000000:0000 0A`));
		assert.equal(bound.length, 1);
		for (const { pid } of (await margay.status()).workers.slice(1)) killPid(pid, 'SIGKILL');
		await Promise.all(sessions.map((one) => one.call('echo')));
		// It is the manager's already.
		await service.storeHas(
			`listener-${new URL(margay.admin).host.replace(':', '-')}`,
			'journal-0',
			'journal-1',
			'session-key',
		);
	});

	test('its variables reach no child', async () => {
		const { margay, service } = bench;
		const variables = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'];
		margay.write({
			upstreams: {
				own: { stdio: { ...hostile(), inherit: variables } },
			},
			routes: { '/own': { upstream: 'own' } },
		});
		service.run(socketOf(margay));
		await margay.ready();
		await RawSession.open(`${margay.origin}/own`);
		const [{ pid }] = await childrenOf(margay);
		const env = fs.readFileSync(`/proc/${pid}/environ`, 'latin1');
		for (const name of variables) assert.doesNotMatch(env, new RegExp(`${name}=[^\0]`));
	});

	test('an address that goes keeps who connects, until it comes back', async () => {
		const { margay, service } = bench;
		service.run(socketOf(margay));
		await margay.ready();
		const listen = margay.config.listen;
		const [other] = await freePorts(1);
		margay.write({ listen: [{ address: `127.0.0.1:${other}` }] });
		assert.equal((await margay.command('reload')).code, 0);
		await until('one generation is left', async () => {
			const { workers } = await margay.status();
			return workers.every(({ generation }) => generation === 2);
		});
		assert.ok(bench.warnings().some((one) => one.endsWith(` 127.0.0.1:${margay.port}`)));
		let answered = false;
		const waiting = asked(margay.url).finally(() => (answered = true));
		assert.equal((await post(`http://127.0.0.1:${other}/mcp`, '{}')).status, 400);
		assert.equal(answered, false);
		margay.write({ listen });
		assert.equal((await margay.command('reload')).code, 0);
		await within('the one who waited is served', waiting);
		await RawSession.open(margay.url);
	});

	test('who connects while it is stopped is served by the next', async () => {
		const { margay, service } = bench;
		service.run(socketOf(margay));
		await margay.ready();
		await service.order('stop', /^ended 0$/m);
		const waiting = asked(margay.url);
		await service.order('start', /^told READY=1/m);
		assert.equal(typeof (await within('it is served', waiting)), 'number');
	});

	test('an upgrade goes on with it', async () => {
		const { margay, service } = bench;
		service.run(socketOf(margay));
		await margay.ready();
		await upgrade(margay);
		await service.prints(/^told MAINPID=/m);
		const [other] = await freePorts(1);
		const listen = margay.config.listen;
		margay.write({ listen: [{ address: `127.0.0.1:${other}` }] });
		assert.equal((await margay.command('reload')).code, 0);
		// One that is nobody's is handed on too.
		await until('the first upgrade is over', async () => (await upgradeOnce(margay)).ok);
		margay.write({ listen });
		assert.equal((await margay.command('reload')).code, 0);
		await RawSession.open(margay.url);
	});

	test('a socket that the configuration does not name is refused', async () => {
		const [port] = await freePorts(1);
		const said = await bench.refused(`socket:web=127.0.0.1:${port}`);
		assert.match(said, new RegExp(`listens on 127\\.0\\.0\\.1:${port} .*\`web\`.*\`listen\``));
	});

	test('what is no listening TCP socket is refused', async () => {
		const said = await bench.refused(`unix:odd=${path.join(bench.margay.dir, 'odd')}`);
		assert.match(said, /descriptor 3 \(`odd`\).*no listening TCP socket: .*ListenStream=/);
	});
});

const upgradeOnce = async (margay) => {
	const control = await Control.open(margay);
	try {
		return await control.ask('upgrade');
	} finally {
		control.close();
	}
};

async function upgrade(margay) {
	const answer = await upgradeOnce(margay);
	assert.ok(answer.ok, JSON.stringify(answer));
}

describe('the store', OPTIONS, () => {
	const bench = setUp();
	const always = ['journal-0', 'journal-1', 'session-key'];
	const nameOf = (port) => `listener-127.0.0.1-${port}`;
	const names = () => [
		...always,
		nameOf(bench.margay.port),
		nameOf(new URL(bench.margay.admin).port),
	];
	// All of it dies at once; who asks meanwhile is served by the next, and it knows the session.
	const dieAndComeBack = async (session) => {
		const { margay, service } = bench;
		await service.order('crash', /^crashed$/m);
		const waiting = session.call('echo');
		await service.order('start', /^told READY=1/m);
		assert.equal((await within('it is served', waiting)).message?.result?.content[0].text, 'done');
		assert.equal((await session.call('echo')).status, 200);
		const initialized = bench.server.count('initialize');
		await RawSession.open(margay.url);
		assert.equal(bench.server.count('initialize'), initialized + 1);
	};

	test('keeps queue and sessions while all processes are dead, again and again', async () => {
		const { margay, service } = bench;
		service.run();
		await margay.ready();
		const session = await RawSession.open(margay.url);
		await service.storeHas(...names());
		for (let i = 0; i < 3; i++) await dieAndComeBack(session);
		assert.deepEqual(bench.warnings(), []);
		assert.equal(bench.server.count('initialize'), 4);
		await service.storeHas(...names());
	});

	test('follows the configuration, and is empty after a stop', async () => {
		const { margay, service } = bench;
		service.run();
		await margay.ready();
		await service.storeHas(...names());
		const [other] = await freePorts(1);
		margay.write({ listen: [{ address: `127.0.0.1:${other}` }] });
		assert.equal((await margay.command('reload')).code, 0);
		await service.storeHas(...always, nameOf(other), nameOf(new URL(margay.admin).port));
		await service.order('stop', /^ended 0$/m);
		assert.deepEqual(await service.store(), []);
	});

	test('an address that is no longer configured is let go of', async () => {
		const { margay, service } = bench;
		service.run();
		await margay.ready();
		await service.storeHas(...names());
		await service.order('crash', /^crashed$/m);
		const [other] = await freePorts(1);
		const old = margay.port;
		margay.write({ listen: [{ address: `127.0.0.1:${other}` }] });
		await service.order('start', /^told READY=1/m);
		await service.storeHas(...always, nameOf(other), nameOf(new URL(margay.admin).port));
		await assert.rejects(request(`http://127.0.0.1:${old}/`), /ECONNREFUSED/);
	});

	const root = { skip: process.getuid() === 0 ? false : 'only root changes user' };
	test('a start that fails keeps it', root, async () => {
		const { margay, service } = bench;
		service.run();
		await margay.ready();
		const session = await RawSession.open(margay.url);
		await service.storeHas(...names());
		await service.order('crash', /^crashed$/m);
		// Workers that can't reach the broker's socket never get READY, and there is time to kill one: a failure
		// that comes when all was taken over.
		margay.write({ user: 'nobody' });
		const waiting = session.call('echo');
		const [, master] = await service.order('start', /^started (\d+)$/m);
		const worker = await until('a worker is there', () =>
			margay
				.log()
				.find((one) => one.pid === Number(master) && one.child === 'worker 0'),
		);
		killPid(worker.child_pid, 'SIGKILL');
		await service.prints(/^ended 1$/m);
		margay.write({ user: undefined });
		await service.order('start', /^told READY=1/m);
		assert.equal((await within('it is served', waiting)).status, 200);
		assert.equal((await session.call('echo')).status, 200);
	});

	test('what is not what its name says is closed, and keeps nobody from starting', async () => {
		const { margay, service } = bench;
		const file = path.join(margay.dir, 'file');
		fs.writeFileSync(file, 'short');
		service.run(
			`stored:session-key=${file}`,
			`stored:journal-0=/dev/null`,
			`stored:journal-1=${file}`,
			`stored:journal-12=${file}`,
			`stored:${nameOf(margay.port)}=${file}`,
			`stored:other=${file}`,
		);
		await margay.ready();
		await RawSession.open(margay.url);
		assert.equal(bench.warnings().length, 6);
		await service.storeHas(...names());
	});

	test('an upgrade goes on with it, and its new addresses come into it', async () => {
		const { margay, service } = bench;
		service.run();
		await margay.ready();
		const session = await RawSession.open(margay.url);
		await service.storeHas(...names());
		const [other] = await freePorts(1);
		margay.write({ listen: [...margay.config.listen, { address: `127.0.0.1:${other}` }] });
		const { pid } = await margay.status();
		await upgrade(margay);
		await service.storeHas(...names(), nameOf(other));
		// The manager hears nobody but the main process, and nothing is said before it may be.
		assert.doesNotMatch(service.printed, /not from the main process: FDSTORE/);
		await until('the old master is gone', () => !isAlive(pid), { timeout: 20_000 });
		await dieAndComeBack(session);
	});
});
