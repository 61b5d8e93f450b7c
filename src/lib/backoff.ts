/*
 * How long a serial link waits before it dials the port again.
 *
 * A booting hypervisor makes its port within seconds, and its guest wants it at once: ten dials a second
 * for ten seconds. Later they slow down to one in five seconds; whoever sees the file change makes it
 * quick again. A port that another holds is asked at most once a second, from the start. No clock of its
 * own: times come in.
 */

const QUICK_FOR_MS = 10_000;
const FIRST_SLOW_MS = 1000;
const SLOWEST_MS = 5000;

/** The waits of one port's dials. Times are ms, on a clock that never goes back. */
export class Backoff {
  /** The shortest wait between two dials. */
  static readonly QUICK_MS = 100;
  private quickUntil = -Infinity;
  private slow = FIRST_SLOW_MS;

  /** There is new reason to believe that the port comes soon. */
  quicken(now: number): void {
    this.quickUntil = now + QUICK_FOR_MS;
    this.slow = FIRST_SLOW_MS;
  }

  /** The wait after a dial that met nobody. */
  next(now: number): number {
    return now < this.quickUntil ? Backoff.QUICK_MS : this.nextSlow();
  }

  /** The wait after a dial that somebody turned down. */
  nextSlow(): number {
    const wait = this.slow;
    this.slow = Math.min(SLOWEST_MS, 2 * wait);
    return wait;
  }

  /** The wait before a dial, when the last one was made at `last`: never more than ten a second. */
  static rest(last: number, now: number): number {
    return Math.max(0, last + Backoff.QUICK_MS - now);
  }
}
