/*
 * Lets many begin something at the same moment, and only a few of them in each turn of the event loop.
 *
 * When all guests of a node reboot together, each link wants its port at once. A try is short; hundreds
 * of them in one turn would make the zones that ask meanwhile wait for all. One serves the whole process.
 */

/** How long a turn may let in: some tens of tries, which each cause work in later turns. */
const SLICE_MS = 1;

/** One serves the process, whatever its links are. */
export class DialLimiter {
  private readonly waiting = new Set<() => void>();
  private readonly now: () => number;
  private scheduled = false;

  /** @param now a clock in ms that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /**
   * Calls `work` once, soon, first come, first served.
   * @returns takes it back; harmless when it is too late
   */
  enter(work: () => void): () => void {
    // Its own entry, however often the same function comes.
    const entry = (): void => work();
    this.waiting.add(entry);
    this.schedule();
    return () => this.waiting.delete(entry);
  }

  private schedule(): void {
    if (!this.scheduled && this.waiting.size > 0) {
      this.scheduled = true;
      setImmediate(() => this.round());
    }
  }

  private round(): void {
    this.scheduled = false;
    const end = this.now() + SLICE_MS;
    for (const entry of this.waiting) {
      this.waiting.delete(entry);
      entry();
      if (this.now() >= end) {
        break;
      }
    }
    this.schedule();
  }
}
