/*
 * A token bucket, used by the log, the writers and the ports, which each decide what happens when it is empty.
 */

export interface TokenRate {
  /** In the long run. */
  readonly perSecond: number;
  /** At once. */
  readonly burst: number;
}

/** Full at first. The level can go below zero: callers check it before `take`, or wait after it. */
export class TokenBucket {
  private tokens: number;
  private filledAt: number;

  /** @param now a clock in ms that never goes back: one set back would leave the bucket empty for as long */
  constructor(
    private readonly rate: TokenRate,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.tokens = rate.burst;
    this.filledAt = now();
  }

  /** Tokens that are there now, at most the burst; fractions and negative numbers included. */
  level(): number {
    const now = this.now();
    const gained = (Math.max(0, now - this.filledAt) / 1000) * this.rate.perSecond;
    this.tokens = Math.min(this.rate.burst, this.tokens + gained);
    this.filledAt = now;
    return this.tokens;
  }

  take(count: number): void {
    this.tokens -= count;
  }
}
