/*
 * How long to wait before something that failed is tried again: twice as long each time, up to a bound.
 */

/** The waits of one thing that is retried. It has no timer and no clock. */
export class Backoff {
  private nextMs: number;

  /**
   * @param firstMs the first wait
   * @param lastMs the longest
   * @param options jitter: the part of a wait that chance (0 to below 1) can take away, so that not all retry at once
   */
  constructor(
    private readonly firstMs: number,
    private readonly lastMs: number,
    private readonly options: { readonly jitter?: number; readonly chance?: () => number } = {},
  ) {
    this.nextMs = firstMs;
  }

  /** The wait to take now, ms; the next one is longer. */
  next(): number {
    const wait = this.nextMs;
    this.nextMs = Math.min(this.lastMs, 2 * wait);
    const { jitter = 0, chance = Math.random } = this.options;
    return wait * (1 - jitter * chance());
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
