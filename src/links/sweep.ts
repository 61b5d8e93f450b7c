/*
 * The links' one timer: it calls those who want to look after something, now and then.
 *
 * `often` is about once a second, for links that have something to watch over right now. `seldom` is
 * about once a minute, spread evenly, so that 4,096 zones cost some 70 calls a second and no burst. The
 * timer exists only while somebody wants it, and never keeps the process alive.
 */

const TICK_MS = 1000;
const SELDOM_TICKS = 60;

/** Who is looked after seldom: itself a member, since a closure for each of thousands is not nothing. */
export interface Swept {
  look(): void;
}

/** One serves the process. Its timer runs while anybody is in it. */
export class Sweep {
  private readonly eager = new Set<() => void>();
  private readonly buckets: readonly Set<Swept>[];
  private readonly tickMs: number;
  private timer: NodeJS.Timeout | null = null;
  private tick = 0;
  /** The bucket that the last one went into. */
  private next = 0;
  private members = 0;

  /** @param tickMs how often `often` is; tests make it short */
  constructor(tickMs = TICK_MS) {
    this.tickMs = tickMs;
    this.buckets = Array.from({ length: SELDOM_TICKS }, () => new Set<Swept>());
  }

  /** @returns ends it; idempotent */
  often(look: () => void): () => void {
    // Wrapped, so that the same function may be there twice.
    const member = (): void => look();
    this.eager.add(member);
    this.came();
    return () => {
      if (this.eager.delete(member)) {
        this.left();
      }
    };
  }

  /** Until it leaves. Nobody is there twice. */
  seldom(member: Swept): void {
    this.next = (this.next + 1) % SELDOM_TICKS;
    this.buckets[this.next]?.add(member);
    this.came();
  }

  /** Idempotent. */
  leave(member: Swept): void {
    if (this.buckets.some((bucket) => bucket.delete(member))) {
      this.left();
    }
  }

  private came(): void {
    this.members++;
    this.timer ??= setInterval(() => this.run(), this.tickMs).unref();
  }

  private left(): void {
    this.members--;
    if (this.members === 0 && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
  }

  private run(): void {
    this.tick = (this.tick + 1) % SELDOM_TICKS;
    for (const look of [...this.eager]) {
      look();
    }
    for (const member of [...(this.buckets[this.tick] ?? [])]) {
      member.look();
    }
  }
}
