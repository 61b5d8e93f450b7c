/*
 * The periodic checks of all zones, by two timers that exist only while somebody needs them and never keep the process
 * alive. Those of a minute are spread over a dozen passes: few enough that an idle node wakes rarely, and each has some
 * 350 of 4,096 zones.
 */

const PASSES = 12;
const PASS_SECONDS = 5;

/** What is checked every minute: itself the member, since a closure for each of thousands is not nothing. */
export interface PeriodicTask {
  check(): void;
}

/** One serves the process. */
export class PeriodicTimer {
  private readonly eager = new Set<() => void>();
  private readonly passes = Array.from({ length: PASSES }, () => new Set<PeriodicTask>());
  private secondTimer: NodeJS.Timeout | null = null;
  private minuteTimer: NodeJS.Timeout | null = null;
  private current = 0;
  /** The pass that the last task was added to. */
  private last = 0;

  /** @param secondMs how long a second is; tests make it short */
  constructor(private readonly secondMs = 1000) {}

  /** @param check a function of its own @returns ends it; idempotent */
  everySecond(check: () => void): () => void {
    this.eager.add(check);
    this.secondTimer ??= setInterval(() => {
      [...this.eager].forEach((one) => one());
    }, this.secondMs).unref();
    return () => {
      if (this.eager.delete(check) && this.eager.size === 0) {
        clearInterval(this.secondTimer ?? undefined);
        this.secondTimer = null;
      }
    };
  }

  /** Checks the task about once a minute until it is removed. No task is added twice. */
  everyMinute(task: PeriodicTask): void {
    this.last = (this.last + 1) % PASSES;
    this.passes[this.last]?.add(task);
    this.minuteTimer ??= setInterval(() => {
      this.current = (this.current + 1) % PASSES;
      [...(this.passes[this.current] ?? [])].forEach((one) => one.check());
    }, PASS_SECONDS * this.secondMs).unref();
  }

  /** Idempotent. */
  remove(task: PeriodicTask): void {
    this.passes.forEach((pass) => pass.delete(task));
    if (this.passes.every(({ size }) => size === 0)) {
      clearInterval(this.minuteTimer ?? undefined);
      this.minuteTimer = null;
    }
  }
}
