/*
 * Work that holds memory, within a bound for all of it together: whoever asks for much waits for his own
 * turn, and nobody else waits for him.
 *
 * One piece of work of an owner at a time; owners take turns in the order in which they came. Used for files
 * that are too large to be read on the main thread.
 */
const LONGEST_MS = 5000;

interface Job {
  readonly bytes: number;
  readonly start: () => Promise<void>;
}

export class ByteBudget {
  private readonly maxBytes: number;
  private readonly longestMs: number;
  /** Owners in their turn; the first to wait is the first to run. */
  private readonly waiting = new Map<string, Job[]>();
  private readonly running = new Set<string>();
  private usedBytes = 0;

  /**
   * @param maxBytes what runs at a time may hold; a single larger piece of work runs alone
   * @param longestMs work that takes longer (it hangs) is not counted any more, so that others go on
   */
  constructor(maxBytes: number, longestMs = LONGEST_MS) {
    this.maxBytes = maxBytes;
    this.longestMs = longestMs;
  }

  /** Bytes that are held now. */
  get used(): number {
    return this.usedBytes;
  }

  /** Settles as `work` does, which runs when the owner's turn has come. */
  run<T>(owner: string, bytes: number, work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const job: Job = { bytes, start: () => work().then(resolve, reject) };
      const jobs = this.waiting.get(owner);
      if (jobs === undefined) {
        this.waiting.set(owner, [job]);
      } else {
        jobs.push(job);
      }
      this.startWaiting();
    });
  }

  private startWaiting(): void {
    for (const [owner, jobs] of this.waiting) {
      const job = jobs[0];
      if (job === undefined || this.running.has(owner)) {
        continue;
      }
      if (this.usedBytes > 0 && this.usedBytes + job.bytes > this.maxBytes) {
        // Those behind do not overtake it, or it would wait for ever.
        return;
      }
      jobs.shift();
      this.waiting.delete(owner);
      if (jobs.length > 0) {
        this.waiting.set(owner, jobs);
      }
      this.running.add(owner);
      this.usedBytes += job.bytes;
      this.start(owner, job);
    }
  }

  private start(owner: string, job: Job): void {
    let counted = true;
    const uncount = (): void => {
      if (counted) {
        counted = false;
        this.usedBytes -= job.bytes;
        this.startWaiting();
      }
    };
    const timer = setTimeout(uncount, this.longestMs);
    timer.unref();
    void job.start().finally(() => {
      clearTimeout(timer);
      this.running.delete(owner);
      uncount();
      this.startWaiting();
    });
  }
}
