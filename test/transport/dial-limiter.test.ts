import assert from 'node:assert';
import { setImmediate as turn } from 'node:timers/promises';
import { DialLimiter } from '../../src/transport/dial-limiter';

describe('a turnstile', () => {
  it('lets a few in at each turn of the event loop, in their order', async () => {
    let now = 0;
    const turnstile = new DialLimiter(() => now);
    const began: number[] = [];
    for (let i = 0; i < 10; i++) {
      turnstile.enter(() => {
        began.push(i);
        now += 0.4;
      });
    }
    assert.deepStrictEqual(began, []);
    const counts: number[] = [];
    while (began.length < 10) {
      const before = began.length;
      await turn();
      counts.push(began.length - before);
    }
    assert.deepStrictEqual(began, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.ok(Math.max(...counts) <= 3, counts.join(' '));
  });

  it('lets in whoever comes from inside, and nobody who left', async () => {
    const turnstile = new DialLimiter();
    const began: string[] = [];
    turnstile.enter(() => {
      began.push('a');
      leave();
      turnstile.enter(() => began.push('c'));
    });
    const leave = turnstile.enter(() => began.push('b'));
    for (let turns = 0; turns < 5; turns++) {
      await turn();
    }
    leave();
    assert.deepStrictEqual(began, ['a', 'c']);
  });
});
