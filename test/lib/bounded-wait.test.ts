import assert from 'node:assert';
import { settlesWithin } from '../../src/lib/bounded-wait';

const LONG_MS = 60_000;

describe('a bounded wait', () => {
  it('ends with the promise, however that settles', async () => {
    assert.strictEqual(await settlesWithin(Promise.resolve('x'), LONG_MS), true);
    await assert.rejects(settlesWithin(Promise.reject(new Error('no')), LONG_MS), /^Error: no$/);
  });

  it('ends without it, and what comes later harms nobody', async () => {
    let fail: (err: Error) => void = () => undefined;
    const never = new Promise((_, reject) => (fail = reject));
    assert.strictEqual(await settlesWithin(never, 1), false);
    fail(new Error('late'));
    await assert.rejects(never, /^Error: late$/);
  });
});
