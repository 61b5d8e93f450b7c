import assert from 'node:assert';
import { Sweep } from '../../src/links/sweep';
import { eventually } from '../support/eventually';

describe('the sweep', () => {
  it('calls the eager ones at each tick and the others once in sixty, spread evenly', async () => {
    const sweep = new Sweep(2);
    let often = 0;
    const seldom = new Map<number, number>();
    const members = Array.from({ length: 120 }, (_, i) => ({
      look: () => void seldom.set(i, (seldom.get(i) ?? 0) + 1),
    }));
    members.forEach((member) => sweep.seldom(member));
    const total = (): number => [...seldom.values()].reduce((a, b) => a + b, 0);
    let most = 0;
    let sum = 0;
    await new Promise<void>((resolve) => {
      const end = sweep.often(() => {
        most = Math.max(most, total() - sum);
        sum = total();
        often++;
        if (often === 61) {
          end();
          resolve();
        }
      });
    });
    members.forEach((member) => sweep.leave(member));
    assert.strictEqual(seldom.size, 120);
    assert.strictEqual(most, 2);
    const before = often;
    // Ten ticks would have come.
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.strictEqual(often, before);
  });

  it('takes an end twice for one', async () => {
    const sweep = new Sweep(2);
    let calls = 0;
    const end = sweep.often(() => undefined);
    const endOther = sweep.often(() => calls++);
    end();
    end();
    await eventually(() => calls > 1);
    endOther();
  });
});
