import assert from 'node:assert';
import { eventually } from '../support/eventually';
import { TokenBucket } from '../../src/lib/token-bucket';

describe('a token bucket', () => {
  it('is full at first, and never holds more than its burst', async () => {
    const bucket = new TokenBucket({ perSecond: 1000, burst: 3 });
    assert.strictEqual(bucket.level(), 3);
    bucket.take(1);
    await eventually(() => bucket.level() === 3, 'full again');
  });

  it('goes below zero when more is taken than there is, and fills at its rate', async () => {
    const began = performance.now();
    const bucket = new TokenBucket({ perSecond: 100, burst: 2 });
    bucket.take(7);
    assert.ok(bucket.level() < 0);
    await eventually(() => bucket.level() >= 0, 'above zero again');
    assert.ok(performance.now() - began >= 49, 'no sooner than its rate allows');
  });
});
