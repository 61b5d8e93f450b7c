/*
 * How long to wait before something that failed is tried again: twice as long each time, up to a bound.
 */

/** The waits of one thing that is retried. It has no timer and no clock. */
export class Backoff {
  private readonly jitter: number;
  private readonly chance: () => number;
  private nextMs: number;

  /**
   * @param firstMs the first wait
   * @param lastMs the longest
   * @param options jitter: the part of a wait that chance can take away, so that not all retry at once; chance: from 0
   * to below 1
   */
  constructor(
    private readonly firstMs: number,
    private readonly lastMs: number,
    { jitter = 0, chance = Math.random }: { jitter?: number; chance?: () => number } = {},
  ) {
    this.jitter = jitter;
    this.chance = chance;
    this.nextMs = firstMs;
  }

  /** The wait to take now, ms; the next one is longer. */
  next(): number {
    const wait = this.nextMs;
    this.nextMs = Math.min(this.lastMs, 2 * wait);
    return this.jitter === 0 ? wait : wait * (1 - this.jitter * this.chance());
  }

  /** The next wait is at least so long, ms, before its jitter. */
  atLeast(ms: number): void {
    this.nextMs = Math.max(this.nextMs, ms);
  }

  /** It succeeded, or there is reason to believe that it soon will. */
  reset(): void {
    this.nextMs = this.firstMs;
  }
}
