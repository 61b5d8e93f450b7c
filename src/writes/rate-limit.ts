/*
 * How many writes one VM may make: so many at once, and so many a second on the long run.
 *
 * A lane waits here before each batch, and the batch takes as much as there is. It always gets at least
 * one write, so that a share that is spent slows down and never stops.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TokenBucket, type TokenRate } from '../lib/token-bucket';

export type WriteShare = TokenRate;

export const DEFAULT_WRITE_SHARE: WriteShare = { perSecond: 20, burst: 100 };

/** What is left of a VM's share. */
export class WriteRateLimiter {
  private readonly share: WriteShare;
  private readonly bucket: TokenBucket;

  constructor(share: WriteShare) {
    this.share = share;
    this.bucket = new TokenBucket(share);
  }

  /** Resolves when there is a write left, rejects when aborted. @returns whether that took time */
  async wait(signal: AbortSignal): Promise<boolean> {
    const left = this.bucket.level();
    if (left >= 1) {
      return false;
    }
    await delay(((1 - left) / this.share.perSecond) * 1000, undefined, { signal });
    return true;
  }

  /** Takes from `wanted` as many as are left, and at least one. @returns how many */
  take(wanted: number): number {
    const taken = Math.min(wanted, Math.max(1, Math.floor(this.bucket.level())));
    this.bucket.take(taken);
    return taken;
  }
}
