import assert from 'node:assert';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turns } from '../../src/lib/turns';

describe('turns of long work', () => {
  it('come one in each turn of the event loop, first come, first served', async () => {
    const turns = new Turns();
    const served: number[] = [];
    const all = [1, 2, 3].map((n) => turns.next().then(() => served.push(n)));
    const seen: number[] = [];
    while (served.length < 3) {
      await nextTurn();
      seen.push(served.length);
    }
    await Promise.all(all);
    assert.deepStrictEqual(served, [1, 2, 3]);
    // Never two between two turns of another's.
    assert(
      seen.every((count, at) => count - (seen[at - 1] ?? 0) <= 1),
      seen.join(' '),
    );
  });
});
