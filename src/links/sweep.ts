/*
 * The links' one timer: it calls those who want to look after something, now and then.
 *
 * `often` is about once a second, for links that have something to watch over right now. `seldom` is
 * about once a minute, spread evenly, so that 4,096 zones cost some 70 calls a second and no burst. The
 * timer exists only while somebody wants it, and never keeps the process alive.
 */

const TICK_MS = 1000;
const SELDOM_TICKS = 60;

export class Sweep {
  private readonly eager = new Set<() => void>();
  private readonly buckets: readonly Set<() => void>[];
  private readonly tickMs: number;
  private timer: NodeJS.Timeout | null = null;
  private tick = 0;
  /** The bucket that the last one went into. */
  private next = 0;
  private members = 0;

  /** @param tickMs how often `often` is; tests make it short */
  constructor(tickMs = TICK_MS) {
    this.tickMs = tickMs;
    this.buckets = Array.from({ length: SELDOM_TICKS }, () => new Set<() => void>());
  }

  /** @returns ends it; idempotent */
  often(look: () => void): () => void {
    return this.join(this.eager, look);
  }

  /** @returns ends it; idempotent */
  seldom(look: () => void): () => void {
    this.next = (this.next + 1) % SELDOM_TICKS;
    return this.join(this.buckets[this.next] ?? this.eager, look);
  }

  private join(set: Set<() => void>, look: () => void): () => void {
    // Wrapped, so that the same function may be there twice.
    const member = (): void => look();
    set.add(member);
    this.members++;
    this.timer ??= setInterval(() => this.run(), this.tickMs).unref();
    return () => {
      if (!set.delete(member)) {
        return;
      }
      this.members--;
      if (this.members === 0 && this.timer !== null) {
        clearInterval(this.timer);
        this.timer = null;
      }
    };
  }

  private run(): void {
    this.tick = (this.tick + 1) % SELDOM_TICKS;
    for (const look of [...this.eager, ...(this.buckets[this.tick] ?? [])]) {
      look();
    }
  }
}
