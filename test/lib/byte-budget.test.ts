import assert from 'node:assert';
import { ByteBudget } from '../../src/lib/byte-budget';

/** Work that ends when the test calls `end`. */
function work(): { readonly run: () => Promise<void>; readonly end: () => void; started: boolean } {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const made = {
    started: false,
    end,
    run: () => {
      made.started = true;
      return ended;
    },
  };
  return made;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a byte budget', () => {
  it('runs the jobs that fit, one of an owner at a time', async () => {
    const budget = new ByteBudget(100);
    const [first, second, other, third] = [work(), work(), work(), work()];
    const all = [
      budget.run('a', 40, first.run),
      budget.run('a', 40, second.run),
      budget.run('b', 40, other.run),
      budget.run('c', 40, third.run),
    ];
    const started = (): boolean[] => [first, second, other, third].map((job) => job.started);
    assert.deepStrictEqual(started(), [true, false, true, false]);
    assert.strictEqual(budget.used, 80);
    other.end();
    await all[2];
    await turn();
    // c came before the second one of a.
    assert.deepStrictEqual(started(), [true, false, true, true]);
    first.end();
    await all[0];
    await turn();
    assert.deepStrictEqual(started(), [true, true, true, true]);
    second.end();
    third.end();
    await Promise.all(all);
    await turn();
    assert.strictEqual(budget.used, 0);
  });

  it('lets no job overtake a large one, and runs one alone that is larger than the budget', async () => {
    const budget = new ByteBudget(100);
    const [small, large, late] = [work(), work(), work()];
    const all = [
      budget.run('a', 40, small.run),
      budget.run('b', 500, large.run),
      budget.run('c', 10, late.run),
    ];
    assert.deepStrictEqual([large.started, late.started], [false, false]);
    small.end();
    await all[0];
    await turn();
    assert.deepStrictEqual([large.started, late.started], [true, false]);
    large.end();
    await all[1];
    await turn();
    assert.strictEqual(late.started, true);
    late.end();
    await all[2];
  });

  it('no longer counts a job that hangs, and passes errors on', async () => {
    const budget = new ByteBudget(100, 5);
    const hung = work();
    void budget.run('a', 100, hung.run);
    await budget.run('b', 100, () => Promise.resolve());
    await assert.rejects(
      budget.run('b', 100, () => Promise.reject(new Error('not there'))),
      /not there/,
    );
    hung.end();
  });
});
