// What Margay tells a service manager: a perl script is one, of which every Debian has what it needs.
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { binary, Child, killPid, Margay, until } from './harness.mjs';

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
		const old = margay.master;
		process.kill(old, 'SIGUSR2');
		await until('another master is there', () => margay.master && margay.master !== old);
		const pid = margay.master;
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
