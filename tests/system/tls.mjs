// Certificates for tests over https, made by the openssl command, and a Margay that serves with them.
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { Margay } from './margay.mjs';
import { run } from './process.mjs';

async function openssl(dir, ...args) {
	const { code, stderr } = await run('openssl', args, { cwd: dir });
	if (code !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

// A root, which this process trusts from now on, and an authority below it that signs for servers: whoever gets no
// whole chain trusts nobody.
export class Authority {
	#serial = 1000;

	static async make(dir) {
		const authority = Object.assign(new Authority(), { dir });
		const own = ['-addext', 'basicConstraints=critical,CA:TRUE', '-days', '2'];
		await openssl(dir, 'req', '-x509', ...KEY, '-keyout', 'root.key', '-out', 'root.pem', '-subj', '/CN=root', ...own);
		await authority.#sign('root', 'middle', '/CN=middle', 'basicConstraints=critical,CA:TRUE', '2');
		const root = fs.readFileSync(path.join(dir, 'root.pem'), 'utf8');
		tls.setDefaultCACertificates([...tls.getCACertificates('default'), root]);
		return authority;
	}

	async #sign(by, name, subject, extension, days) {
		const at = (end) => path.join(this.dir, `${name}.${end}`);
		const serial = this.#serial++;
		fs.writeFileSync(at('ext'), extension);
		await openssl(this.dir, 'req', '-new', ...KEY, '-keyout', at('key'), '-out', at('csr'), '-subj', subject);
		await openssl(
			...[this.dir, 'x509', '-req', '-in', at('csr'), '-CA', `${by}.pem`, '-CAkey', `${by}.key`],
			...['-set_serial', String(serial), '-days', days, '-extfile', at('ext'), '-out', at('pem')],
		);
		return serial;
	}

	// A new pair, in files of that name: { certificate, key, serial } (in hexadecimal, as node shows it).
	async issue(name, { days = '1' } = {}) {
		const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
		const serial = await this.#sign('middle', name, `/CN=${name}`, names, days);
		const [own, middle] = [name, 'middle'].map((one) => fs.readFileSync(path.join(this.dir, `${one}.pem`)));
		const certificate = path.join(this.dir, `${name}.chain`);
		fs.writeFileSync(certificate, Buffer.concat([own, middle]));
		const hex = serial.toString(16).toUpperCase();
		return { certificate, key: path.join(this.dir, `${name}.key`), serial: hex.length % 2 ? `0${hex}` : hex };
	}
}

// Put a pair in the place of another, as who renews it does.
export function replace(pair, by) {
	fs.copyFileSync(by.certificate, pair.certificate);
	fs.copyFileSync(by.key, pair.key);
}

export const tlsOf = ({ certificate, key }) => ({ certificate, key });

// Margay.start, over https. `everybody`: another user reaches its sockets, too.
export async function startSecure(pair, { everybody = false, ...options } = {}) {
	const margay = await Margay.prepare(options);
	if (everybody) for (const dir of [margay.dir, margay.config.runtime_dir]) fs.chmodSync(dir, 0o711);
	margay.write({ listen: [{ address: `127.0.0.1:${margay.port}`, tls: tlsOf(pair) }] });
	margay.origin = `https://127.0.0.1:${margay.port}`;
	margay.url = `${margay.origin}/mcp`;
	await margay.run();
	return margay;
}

// A connection: resolves when it is secure.
export function connectSecurely(port, options = {}) {
	return new Promise((resolve, reject) => {
		const socket = tls.connect({ port, host: '127.0.0.1', ...options }, () => resolve(socket));
		socket.once('error', reject);
	});
}

// The serial number of the certificate that a new connection is shown.
export async function serialOf(margay) {
	const socket = await connectSecurely(margay.port);
	const { serialNumber } = socket.getPeerCertificate();
	socket.destroy();
	return serialNumber;
}
