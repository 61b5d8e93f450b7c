/*
 * The real processes that belong to a simulated zone: those whose root is the zone's.
 */
import { readdir, readlink } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** SIGKILL leaves a process no choice; more rounds than this means that it keeps forking. */
const KILL_ROUNDS = 50;
const ROUND_MS = 10;

/** Kills every process that is chrooted to the folder, and waits until none is left (at most 0.5 s). */
export async function killProcessesOf(zoneroot: string): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const pids = await processesOf(zoneroot);
    if (pids.length === 0) {
      return;
    }
    for (const pid of pids) {
      kill(pid);
    }
    await delay(ROUND_MS);
  }
}

async function processesOf(zoneroot: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const roots = await Promise.all(
    // Ended meanwhile, or somebody else's: then it is not one of ours.
    pids.map((pid) => readlink(`/proc/${pid}/root`).catch(() => null)),
  );
  return pids.filter((_, i) => roots[i] === zoneroot);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Ended between the look and the kill: that is what was wanted.
  }
}
