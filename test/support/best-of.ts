/*
 * A promise in milliseconds, measured on a machine that does other things too: a busy second of the machine
 * passes, a promise that is broken stays broken.
 */

import { createHash } from 'node:crypto';

const ATTEMPTS = 3;

/** The first result below `bound`, or the best of some. Each `measure` must be able to follow another. */
export async function bestOf(
  bound: number,
  measure: () => Promise<number>,
  attempts = ATTEMPTS,
): Promise<number> {
  let best = Infinity;
  for (let n = 0; n < attempts && best >= bound; n++) {
    best = Math.min(best, await measure());
  }
  return best;
}

/** CPU time of one measurement of contention, ms. */
const SPIN_MS = 20;

/**
 * How many times longer than its CPU time work takes on this machine now: 1 where a processor is free. Keeps the
 * caller's event loop busy meanwhile.
 */
export function contention(): number {
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  const usedMs = (): number => {
    const { user, system } = process.cpuUsage(cpu);
    return (user + system) / 1000;
  };
  while (usedMs() < SPIN_MS) {
    // It is the waiting for a processor that is measured.
  }
  return Math.max(1, (performance.now() - began) / usedMs());
}

/**
 * `bestOf` for a time in ms: on a machine of which the processors are taken by others each is divided by how much longer
 * everything takes there.
 */
export async function bestMs(boundMs: number, measure: () => Promise<number>): Promise<number> {
  return bestOf(boundMs, async () => {
    const before = contention();
    const ms = await measure();
    return ms / Math.max(before, contention());
  });
}

/** CPU time of `slowness`'s work on the machine for which promises are made, ms. */
const REFERENCE_MS = 25;
const ROUNDS = 12;

/**
 * How many times the CPU time of a fast machine work takes on this one now: 1 or more. Not how long it waits for a processor:
 * a processor that is slow, or shared with another thread, does less in its time.
 */
export function slowness(): number {
  const before = process.cpuUsage();
  for (let round = 0; round < ROUNDS; round++) {
    const rows = Array.from({ length: 2000 }, (_, n) => ({ [`key${n}`]: `${round} value ${n}` }));
    const bytes = Buffer.from(JSON.stringify(rows));
    createHash('sha256').update(bytes.toString('base64')).digest();
  }
  const { user, system } = process.cpuUsage(before);
  return Math.max(1, (user + system) / 1000 / REFERENCE_MS);
}
