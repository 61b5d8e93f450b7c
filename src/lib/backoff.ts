/* How long to wait before something that failed is tried again: twice as long each time, up to a bound. */

/** The waits of one thing that is retried. It has no timer and no clock. */
export class Backoff {
  private nextMs: number;

  /**
   * @param firstMs the first wait
   * @param lastMs the longest
   * @param jitter the part of a wait, 0 to 1, that chance can take away, so that not all retry at once
   */
  constructor(
    private readonly firstMs: number,
    private readonly lastMs: number,
    private readonly jitter = 0,
  ) {
    this.nextMs = firstMs;
  }

  /** The wait to take now, ms; the next one is longer. */
  next(): number {
    const wait = this.nextMs;
    this.nextMs = Math.min(this.lastMs, 2 * wait);
    return wait * (1 - this.jitter * Math.random());
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
