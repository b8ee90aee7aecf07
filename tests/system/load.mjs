// Closed-loop load for the tests that disturb Margay meanwhile: clients that each keep one connection
// and call as fast as they are answered. Nothing is retried in silence: every failure is kept with
// the connection it happened on, so that a test can tell whose connection died with whom.
import http from 'node:http';
import https from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from './process.mjs';

class LoadClient {
	connections = 0;
	answered = 0;
	failures = [];
	connectionOf = new Map(); // id of an answered call -> connection

	constructor(name, session) {
		this.name = name;
		this.session = session;
		this.#reconnect();
	}

	#reconnect() {
		this.agent?.destroy();
		const { Agent } = this.session.url.startsWith('https:') ? https : http;
		this.agent = new Agent({ keepAlive: true, maxSockets: 1 });
		// A connection that was closed politely is replaced without ado and has a name of its own.
		const create = this.agent.createConnection;
		this.agent.createConnection = (...args) => {
			this.connections++;
			return create.apply(this.agent, args);
		};
	}

	// JSON-RPC ids name the connection, and stand in the access log beside the worker.
	get connection() {
		return `${this.name}/${this.connections}`;
	}

	async loop(running, pause) {
		for (let n = 0; running(); n++) {
			if (pause) await delay(pause);
			const params = { name: 'echo', arguments: { n } };
			const id = `${this.name}:${n}`;
			try {
				const { status, message, text } = await this.session.request('tools/call', params, {
					id,
					agent: this.agent,
				});
				if (status !== 200 || message?.id !== id || !message.result)
					throw new Error(`${status} ${text}`);
				this.answered++;
				this.connectionOf.set(id, this.connection);
			} catch (error) {
				this.failures.push({
					client: this.name,
					connection: this.connection,
					id,
					error: `${error.code ?? ''} ${error.message}`,
				});
				this.#reconnect();
			}
		}
		this.agent.destroy();
	}
}

export class Load {
	#running = true;

	// `sessions`: RawSessions, dealt out to `clients` clients in turn. `pause`: of each client before a call, in ms.
	static start(sessions, clients = 16, { pause = 0 } = {}) {
		const load = new Load();
		load.clients = Array.from(
			{ length: clients },
			(_, n) => new LoadClient(`c${n}`, sessions[n % sessions.length]),
		);
		load.done = Promise.all(load.clients.map((client) => client.loop(() => load.#running, pause)));
		return load;
	}

	get answered() {
		return this.clients.reduce((total, { answered }) => total + answered, 0);
	}

	get failures() {
		return this.clients.flatMap(({ failures }) => failures);
	}

	// Connections that a worker served, by its number: from the access log, which names call and worker.
	servedBy(margay) {
		const all = new Map(this.clients.flatMap(({ connectionOf }) => [...connectionOf]));
		const served = new Map();
		for (const { id, worker } of margay.accesses())
			if (all.has(id)) served.set(all.get(id), worker);
		return served;
	}

	// Wait until every client has had `count` more answers.
	more(count) {
		const goals = this.clients.map((client) => client.answered + count);
		return until(
			`${count} more answers for each client`,
			() => this.clients.every((client, i) => client.answered >= goals[i]),
			{ timeout: 20_000 },
		);
	}

	async stop() {
		this.#running = false;
		await this.done;
		return this;
	}
}
