import assert from 'node:assert';
import { CooperativeYield } from '../../src/lib/slice';

/** Holds the loop up, as a step of long work does. */
function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('a slice', () => {
  it('lets others have a turn when it is over, again and again', async () => {
    const slice = new CooperativeYield();
    for (let i = 0; i < 3; i++) {
      let heard = false;
      setImmediate(() => (heard = true));
      work(6);
      await slice.rest();
      assert.ok(heard);
    }
  });

  it('costs no turn while it lasts', () => {
    // On a machine that takes the processor away in between, one of many is still quick enough.
    const quick = Array.from({ length: 100 }, () => new CooperativeYield().rest() === undefined);
    assert.ok(quick.includes(true));
  });
});
