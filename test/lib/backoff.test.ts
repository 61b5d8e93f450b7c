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
    const random = new Backoff(100, 500, 0.5);
    const waits = Array.from({ length: 100 }, () => random.next());
    waits.forEach((wait, n) => {
      const whole = Math.min(100 * 2 ** n, 500);
      assert(wait > whole / 2 && wait <= whole, `${wait} of ${whole}`);
    });
    assert(new Set(waits).size > 50, 'not all take the same part');
  });
});
