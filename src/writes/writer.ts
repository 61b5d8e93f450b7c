/*
 * The writer of the store: a queue for each VM that is written (queue.ts), above one backend (file-writer.ts or
 * vmadm-writer.ts). A VM that is stuck delays no other. Values are in memory here and nowhere else: no text or record
 * made here holds one.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { TokenRate } from '../lib/token-bucket';
import type { ChangeResult, MetadataMaps } from '../metadata/vm-data';
import type {
  LeaseStatus,
  LimitRefusals,
  MetadataLimits,
  MetadataWriter,
  WriterStatus,
  WriteTarget,
} from '../vm/store';
import { FileWriter } from './file-writer';
import type { PlannedChange } from './plan';
import { NOT_MADE, WriteQueue, type Backend } from './queue';

/** Clients stop waiting after 45 s, and 30 s is what we promise; 1 s is for the reply's transmission. */
const ANSWER_MS = 29_000;
/** The daemon has 5 s to end. */
const STOP_GRACE_MS = 4000;
/** Writes of one VM: so many at once, and so many a second in the long run. */
const DEFAULT_RATE: TokenRate = { perSecond: 20, burst: 100 };
const NO_LEASES: LeaseStatus = { holds: 0, unconfirmed: 0, restored: 0 };

/** The queues of all VMs above one backend. After `stop` each change is refused. */
export class Writer implements MetadataWriter {
  readonly limits: MetadataLimits;
  /** The backend, where it is one that keeps locks. */
  private readonly leasing: FileWriter | null;
  private readonly queues = new Map<string, WriteQueue>();
  private readonly counts = { stored: 0, failed: 0, changed: 0, joined: 0, timedOut: 0 };
  private stopping = false;

  /** @param answerMs longest wait for an answer */
  constructor(
    private readonly backend: Backend,
    private readonly rate = DEFAULT_RATE,
    private readonly answerMs = ANSWER_MS,
  ) {
    this.limits = backend.limits;
    this.leasing = backend instanceof FileWriter ? backend : null;
  }

  /** Never rejects; settles within `answerMs`. */
  change(target: WriteTarget, change: PlannedChange): Promise<ChangeResult> {
    if (this.stopping) {
      return Promise.resolve(NOT_MADE);
    }
    let queue = this.queues.get(target.zonename);
    if (queue === undefined) {
      queue = new WriteQueue(target, this.backend, this.rate, this.answerMs, this.counts);
      this.queues.set(target.zonename, queue);
    }
    return queue.change(target, change);
  }

  remove({ zonename }: WriteTarget): void {
    const queue = this.queues.get(zonename);
    if (queue !== undefined) {
      queue.cancel();
      // A VM that comes back under its name meanwhile must not get a second queue beside this one.
      void queue.idle().then(() => {
        if (!queue.busy && this.queues.get(zonename) === queue) {
          this.queues.delete(zonename);
        }
        // A write that was under way has left its notes since: they are not for the next VM of this name.
        this.leasing?.remove(zonename);
      });
    }
    this.leasing?.remove(zonename);
  }

  observe(zonename: string, metadata: MetadataMaps): void {
    this.leasing?.observe(zonename, metadata);
  }

  restoreUndone(target: WriteTarget): void {
    for (const change of this.leasing?.undoneChanges(target) ?? []) {
      void this.change(target, change);
    }
  }

  refusals(zonename: string): readonly LimitRefusals[] {
    return [...(this.queues.get(zonename)?.refusals.values() ?? [])];
  }

  status(): WriterStatus {
    const queues = [...this.queues.values()];
    const inProgress = queues.filter((queue) => queue.busy).map((queue) => queue.status());
    const failing = queues.flatMap((queue) => queue.failure ?? []);
    return { inProgress, failing, ...this.counts };
  }

  leases(): LeaseStatus {
    return this.leasing?.leaseStatus ?? NO_LEASES;
  }

  /**
   * Accepts no more changes. Those that wait are written, in at most `graceMs`; what hangs longer is left
   * to itself. Idempotent.
   */
  async stop(graceMs = STOP_GRACE_MS): Promise<void> {
    this.stopping = true;
    const grace = new AbortController();
    const idle = Promise.all([...this.queues.values()].map((queue) => queue.idle()));
    // Rejects when it is aborted below, which is expected.
    const bound = delay(graceMs, undefined, { signal: grace.signal }).catch(() => undefined);
    await Promise.race([idle.then(() => this.backend.stop()), bound]);
    grace.abort();
  }
}
