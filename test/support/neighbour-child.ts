/*
 * A guest with a process of its own (neighbour.ts forks it): asks for its uuid again and again, and says
 * how long the answers took from the word `begin` to the word `end`, or until there are some. A wrong
 * answer, or none, is its end.
 *
 *   neighbour-child SOCKET UUID
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { GuestSession, quantile } from './guest-session';

const PAUSE_MS = 2;
/** They are slow: processes that have just started give them. */
const FIRST_ANSWERS = 50;
const LEAST_ANSWERS = 50;

async function main(path: string, uuid: string): Promise<void> {
  let times: number[] = [];
  const turn = { ending: false };
  process.on('message', (word) => {
    turn.ending = word === 'end';
    times = turn.ending ? times : [];
  });
  process.once('disconnect', () => process.exit(0));
  const session = await GuestSession.open(path);
  for (let n = 0; ; n++) {
    if (n === FIRST_ANSWERS) {
      process.send?.('ready');
    }
    const { code, text, ms } = await session.get('sdc:uuid');
    assert.deepStrictEqual([code, text], ['SUCCESS', uuid]);
    times.push(ms);
    if (turn.ending && times.length >= LEAST_ANSWERS) {
      turn.ending = false;
      process.send?.(quantile(times, 0.99));
    }
    await delay(PAUSE_MS);
  }
}

void main(process.argv[2] ?? '', process.argv[3] ?? '');
