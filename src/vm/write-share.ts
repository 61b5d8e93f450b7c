/*
 * How many writes one VM may make: so many at once, and so many a second on the long run.
 *
 * A lane waits here before its turn and takes as much as there is when the turn comes. One turn always
 * gets at least one write, so that a share that is spent slows down and never stops.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface WriteShare {
  readonly perSecond: number;
  readonly burst: number;
}

export const DEFAULT_WRITE_SHARE: WriteShare = { perSecond: 20, burst: 100 };

/** What is left of a VM's share. */
export class Allowance {
  private readonly share: WriteShare;
  private tokens: number;
  /** On a clock that is never set, ms. */
  private refilledAt = performance.now();

  constructor(share: WriteShare) {
    this.share = share;
    this.tokens = share.burst;
  }

  /** Resolves when there is a write left, rejects when aborted. @returns whether that took time */
  async wait(signal: AbortSignal): Promise<boolean> {
    this.refill();
    if (this.tokens >= 1) {
      return false;
    }
    const ms = ((1 - this.tokens) / this.share.perSecond) * 1000;
    await delay(ms, undefined, { signal });
    return true;
  }

  /** Takes from `wanted` as many as are left, and at least one. @returns how many */
  take(wanted: number): number {
    this.refill();
    const taken = Math.min(wanted, Math.max(1, Math.floor(this.tokens)));
    this.tokens -= taken;
    return taken;
  }

  private refill(): void {
    const now = performance.now();
    const gained = (Math.max(0, now - this.refilledAt) / 1000) * this.share.perSecond;
    this.tokens = Math.min(this.share.burst, this.tokens + gained);
    this.refilledAt = now;
  }
}
