import assert from 'node:assert';
import { Backoff } from '../../src/lib/backoff';

describe('a backoff', () => {
  it('doubles the wait up to its bound, and begins again after a reset', () => {
    const backoff = new Backoff(100, 500);
    assert.deepStrictEqual(
      [backoff.next(), backoff.next(), backoff.next(), backoff.next(), backoff.next()],
      [100, 200, 400, 500, 500],
    );
    backoff.reset();
    assert.deepStrictEqual([backoff.next(), backoff.next()], [100, 200]);
  });

  it('waits at least the minimum that is given, and never less than without one', () => {
    const backoff = new Backoff(100, 5000);
    backoff.atLeast(400);
    assert.deepStrictEqual([backoff.next(), backoff.next()], [400, 800]);
    backoff.atLeast(400);
    assert.strictEqual(backoff.next(), 1600);
  });

  it('takes a part of the wait away by chance, and doubles the whole', () => {
    const chances = [0, 0.5, 0.75, 0];
    const backoff = new Backoff(100, 500, { jitter: 0.5, chance: () => chances.shift() ?? 0 });
    assert.deepStrictEqual(
      [backoff.next(), backoff.next(), backoff.next(), backoff.next()],
      [100, 150, 250, 500],
    );
    const random = new Backoff(100, 500, { jitter: 0.5 });
    for (let n = 0; n < 100; n++) {
      const wait = random.next();
      assert(wait > Math.min(50 * 2 ** n, 250) - 1 && wait <= 500);
    }
  });
});
