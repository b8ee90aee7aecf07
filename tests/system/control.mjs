// The control socket, spoken to directly: one connection, requests answered in order.
import net from 'node:net';
import path from 'node:path';
import { within } from './process.mjs';

export class Control {
	#waiting = [];

	static async open(margay) {
		const control = new Control();
		control.socket = net.connect(path.join(margay.config.runtime_dir, 'control.sock'));
		let text = '';
		control.socket.setEncoding('utf8').on('data', (data) => {
			const lines = (text + data).split('\n');
			text = lines.pop();
			for (const line of lines) control.#waiting.shift().resolve(JSON.parse(line));
		});
		control.socket.once('close', () => {
			for (const { reject } of control.#waiting.splice(0))
				reject(new Error('the control connection ended'));
		});
		await new Promise((resolve, reject) =>
			control.socket.once('connect', resolve).once('error', reject),
		);
		return control;
	}

	ask(command, { timeout = 20_000, ...more } = {}) {
		const answer = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
		this.socket.write(`${JSON.stringify({ command, ...more })}\n`);
		return within(`the answer to ${command}`, answer, timeout);
	}

	close() {
		this.socket.destroy();
	}
}
