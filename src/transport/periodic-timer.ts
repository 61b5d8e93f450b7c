/*
 * The links' timers: they call those who want to look after something, now and then.
 *
 * `often` is about once a second, for links that have something to watch over right now. `seldom` is
 * about once a minute, spread evenly over a dozen rounds: few enough that an idle node rests, and of
 * 4,096 zones each has some 350. A timer exists only while somebody wants it, and never keeps the
 * process alive.
 */

const OFTEN_MS = 1000;
const ROUNDS = 12;
/** Of `often`, from one round to the next. */
const ROUND_TICKS = 5;

/** Who is looked after seldom: itself a member, since a closure for each of thousands is not nothing. */
export interface PeriodicTask {
  look(): void;
}

/** One serves the process. */
export class PeriodicTimer {
  private readonly eager = new Set<() => void>();
  private readonly rounds: readonly Set<PeriodicTask>[];
  private readonly oftenMs: number;
  private oftenTimer: NodeJS.Timeout | null = null;
  private seldomTimer: NodeJS.Timeout | null = null;
  private round = 0;
  /** The round that the last one went into. */
  private next = 0;

  /** @param oftenMs how often `often` is; tests make it short */
  constructor(oftenMs = OFTEN_MS) {
    this.oftenMs = oftenMs;
    this.rounds = Array.from({ length: ROUNDS }, () => new Set<PeriodicTask>());
  }

  /** @returns ends it; idempotent */
  often(look: () => void): () => void {
    // Wrapped, so that the same function may be there twice.
    const member = (): void => look();
    this.eager.add(member);
    this.oftenTimer ??= setInterval(() => this.lookOften(), this.oftenMs).unref();
    return () => {
      if (this.eager.delete(member) && this.eager.size === 0) {
        clearInterval(this.oftenTimer ?? undefined);
        this.oftenTimer = null;
      }
    };
  }

  /** Until it leaves. Nobody is there twice. */
  seldom(member: PeriodicTask): void {
    this.next = (this.next + 1) % ROUNDS;
    this.rounds[this.next]?.add(member);
    const roundMs = ROUND_TICKS * this.oftenMs;
    this.seldomTimer ??= setInterval(() => this.lookSeldom(), roundMs).unref();
  }

  /** Idempotent. */
  leave(member: PeriodicTask): void {
    this.rounds.forEach((round) => round.delete(member));
    if (this.rounds.every(({ size }) => size === 0)) {
      clearInterval(this.seldomTimer ?? undefined);
      this.seldomTimer = null;
    }
  }

  private lookOften(): void {
    for (const look of [...this.eager]) {
      look();
    }
  }

  private lookSeldom(): void {
    this.round = (this.round + 1) % ROUNDS;
    for (const member of [...(this.rounds[this.round] ?? [])]) {
      member.look();
    }
  }
}
