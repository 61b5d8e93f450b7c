/*
 * A bound for the memory of concurrent work on large files. One job of an owner runs at a time, first come, first served.
 */

/** Longer than reading any file takes; a job that hangs must not block the others. */
const MAX_JOB_MS = 5000;

interface Job {
  readonly bytes: number;
  readonly start: () => Promise<void>;
}

export class ByteBudget {
  /** Bytes that are held now. */
  used = 0;
  /** By owner; the first to wait is the first to run. */
  private readonly waiting = new Map<string, Job[]>();
  private readonly running = new Set<string>();

  /**
   * @param maxBytes what running jobs may hold; a single larger job runs alone
   * @param maxJobMs a job that takes longer is no longer counted, so that others run
   */
  constructor(
    private readonly maxBytes: number,
    private readonly maxJobMs = MAX_JOB_MS,
  ) {}

  /** Settles as `work` does, which runs once there is room for it and the owner's earlier jobs are done. */
  run<T>(owner: string, bytes: number, work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const job = { bytes, start: () => work().then(resolve, reject) };
      this.waiting.set(owner, [...(this.waiting.get(owner) ?? []), job]);
      this.startWaiting();
    });
  }

  private startWaiting(): void {
    for (const [owner, [job, ...others]] of this.waiting) {
      if (job === undefined || this.running.has(owner)) {
        continue;
      }
      if (this.used > 0 && this.used + job.bytes > this.maxBytes) {
        // Later ones do not overtake it, or it would never run.
        return;
      }
      // The owner's others stand behind those of all who wait.
      this.waiting.delete(owner);
      if (others.length > 0) {
        this.waiting.set(owner, others);
      }
      this.start(owner, job);
    }
  }

  private start(owner: string, { bytes, start }: Job): void {
    this.running.add(owner);
    this.used += bytes;
    let counted = bytes;
    const uncount = (): void => {
      this.used -= counted;
      counted = 0;
      this.startWaiting();
    };
    const timer = setTimeout(uncount, this.maxJobMs).unref();
    void start().finally(() => {
      clearTimeout(timer);
      this.running.delete(owner);
      uncount();
    });
  }
}
