import assert from 'node:assert';
import { RepeatCounter, repeatsOf } from '../../src/lib/throttled-log';

describe('repeats', () => {
  let now = 0;
  const clock = (): number => now;

  beforeEach(() => {
    now = 0;
  });

  it('are said at once, then once a minute with how often they were left unsaid', () => {
    const repeats = new RepeatCounter(clock);
    assert.strictEqual(repeats.next(), 0);
    now = 59_999;
    assert.deepStrictEqual([repeats.next(), repeats.next()], [null, null]);
    now = 60_000;
    assert.strictEqual(repeats.next(), 2);
    assert.strictEqual(repeats.next(), null);
    now = 120_000;
    assert.strictEqual(repeats.next(), 1);
    now = 240_000;
    assert.strictEqual(repeats.next(), 0);
  });

  it('of many things are counted for each by itself', () => {
    const kept = new Map<string, RepeatCounter>();
    const next = (what: string): number | null => repeatsOf(kept, what, clock).next();
    assert.deepStrictEqual([next('ENOSPC'), next('EIO')], [0, 0]);
    assert.deepStrictEqual([next('ENOSPC'), next('ENOSPC'), next('EIO')], [null, null, null]);
    now = 60_000;
    assert.deepStrictEqual([next('ENOSPC'), next('EIO')], [2, 1]);
  });

  it('go with the object that they are kept by', () => {
    const kept = new WeakMap<object, RepeatCounter>();
    const [one, other] = [{}, {}];
    assert.strictEqual(repeatsOf(kept, one), repeatsOf(kept, one));
    assert.notStrictEqual(repeatsOf(kept, one), repeatsOf(kept, other));
  });
});
