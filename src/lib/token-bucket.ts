/*
 * A share of something that may be taken: so much at once, and so much a second on the long run. Shared by
 * the log and the writers, which each decide what happens when it is empty.
 */
import { performance } from 'node:perf_hooks';

export interface TokenRate {
  /** On the long run. */
  readonly perSecond: number;
  /** At once. */
  readonly burst: number;
}

/** Full at first. Who takes has looked at the level: what is not there can be taken, and is owed. */
export class TokenBucket {
  private readonly rate: TokenRate;
  private tokens: number;
  /** Not the time of day: set back, it would leave the bucket empty until it has caught up. */
  private filledAt = performance.now();

  constructor(rate: TokenRate) {
    this.rate = rate;
    this.tokens = rate.burst;
  }

  /** What may be taken now, at most the burst; a part of one may be there, and less than none. */
  level(): number {
    const now = performance.now();
    const gained = (Math.max(0, now - this.filledAt) / 1000) * this.rate.perSecond;
    this.tokens = Math.min(this.rate.burst, this.tokens + gained);
    this.filledAt = now;
    return this.tokens;
  }

  take(count: number): void {
    this.tokens -= count;
  }
}
