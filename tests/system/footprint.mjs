// What processes have of their own: memory, memory files, descriptors.
import fs from 'node:fs';
import { until } from './process.mjs';

const JOURNAL = '/memfd:margay-journal';

// Without the pages of programs and libraries, whose share changes with whatever else runs on the machine.
function proportional(pid) {
	const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
	const kibibytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)[1]);
	return (kibibytes('Pss_Anon') + kibibytes('Pss_Shmem')) * 1024;
}

// Memory files that nobody maps are in no process's figures, but somebody's memory all the same: [{ name, bytes }].
function unmappedFiles(pids) {
	const mapped = new Set();
	const files = new Map();
	for (const pid of pids) {
		for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n'))
			mapped.add(Number(line.split(/\s+/)[4]));
		for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
			const link = `/proc/${pid}/fd/${fd}`;
			try {
				const name = fs.readlinkSync(link);
				if (!name.startsWith('/memfd:')) continue;
				const { ino, blocks } = fs.statSync(link);
				files.set(ino, { name, bytes: blocks * 512 });
			} catch {
				// It was closed meanwhile.
			}
		}
	}
	return [...files].filter(([ino]) => !mapped.has(ino)).map(([, file]) => file);
}

const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);

// { memory, journal, descriptors } of all of them; the journal's bytes are not in `memory`.
export function footprint(pids) {
	const files = unmappedFiles(pids);
	const isJournal = ({ name }) => name.startsWith(JOURNAL);
	return {
		memory: sum(pids.map(proportional)) + sum(files.filter((one) => !isJournal(one)).map((one) => one.bytes)),
		journal: sum(files.filter(isJournal).map((one) => one.bytes)),
		descriptors: sum(pids.map((pid) => fs.readdirSync(`/proc/${pid}/fd`).length)),
	};
}

// Once it does not change any more.
export async function settledFootprint(pids) {
	let last = '';
	let now;
	await until(
		'memory is settled',
		() => {
			now = footprint(pids);
			return last === (last = JSON.stringify(now));
		},
		{ timeout: 20_000, every: 300 },
	);
	return now;
}

// All processes of a Margay.
export async function processesOf(margay) {
	const { pid, broker, keeper, workers } = await margay.status();
	return [pid, broker.pid, keeper.pid, ...workers.map((one) => one.pid)];
}
