/*
 * The way of a guest's change to disk, up to the writer proper (file-writer.ts or vmadm-writer.ts).
 *
 *   change -> lane of its VM -> [share of writes] -> backend.commit -> answer
 *                 |  identical to the one before it: joins it
 *                 |  waiting ones go together
 *
 * What always holds: one commit of a VM at a time; changes of one VM in the order they came; an answer
 * for each within 29 s, whatever hangs; a VM that is stuck holds up no other. A change that was answered
 * with a time-out before its commit began is not applied later. Values are in memory here and nowhere
 * else: no text or record made here holds one.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ChangeResult } from '../metadata/vm-data';
import type { Backend, Target } from './backend';
import { NOT_MADE } from './failures';
import {
  WriteQueue,
  type LimitRefusals,
  type QueueStatus,
  type WriteCounts,
  type WriteFailure,
} from './queue';
import type { PlannedChange } from './plan';
import { DEFAULT_WRITE_SHARE, type WriteShare } from './rate-limit';

export interface WriterStatus extends Readonly<WriteCounts> {
  /** VMs whose changes are under way. */
  readonly inProgress: readonly QueueStatus[];
  /** VMs whose last change failed. */
  readonly failing: readonly WriteFailure[];
}

export type { WriteFailure };

/** Clients stop waiting after 45 s, and 30 s is what we promise; 1 s is for the way back. */
const ANSWER_MS = 29_000;
/** The daemon has 5 s to end. */
const STOP_GRACE_MS = 4000;

/** The lanes of all VMs above one backend. After `stop` each change is refused. */
export class Writer {
  private readonly backend: Backend;
  private readonly share: WriteShare;
  private readonly answerMs: number;
  private readonly lanes = new Map<string, WriteQueue>();
  private readonly counts: WriteCounts = { stored: 0, failed: 0, joined: 0, timedOut: 0 };
  private stopping = false;

  /** @param answerMs longest wait for an answer */
  constructor(backend: Backend, share = DEFAULT_WRITE_SHARE, answerMs = ANSWER_MS) {
    this.backend = backend;
    this.share = share;
    this.answerMs = answerMs;
  }

  /** Never rejects; settles within `answerMs`. */
  change(target: Target, change: PlannedChange): Promise<ChangeResult> {
    if (this.stopping) {
      return Promise.resolve(NOT_MADE);
    }
    let lane = this.lanes.get(target.zonename);
    if (lane === undefined) {
      lane = new WriteQueue(target, this.backend, this.share, this.answerMs, this.counts);
      this.lanes.set(target.zonename, lane);
    }
    return lane.change(target, change);
  }

  /** What limits have refused of this VM. */
  refusals(zonename: string): readonly LimitRefusals[] {
    return this.lanes.get(zonename)?.refusals() ?? [];
  }

  /** True while a commit of this VM is under way or waits. */
  busy(zonename: string): boolean {
    return this.lanes.get(zonename)?.busy === true;
  }

  /** The VM is gone: what waits is failed, what is being committed ends by itself. */
  forget(zonename: string): void {
    const lane = this.lanes.get(zonename);
    if (lane !== undefined) {
      lane.giveUp();
      // A VM that comes back under its name meanwhile must not get a second lane beside this one.
      void lane.idle().then(() => {
        if (!lane.busy && this.lanes.get(zonename) === lane) {
          this.lanes.delete(zonename);
        }
      });
    }
  }

  status(): WriterStatus {
    const inProgress = [...this.lanes.values()]
      .filter((lane) => lane.busy)
      .map((lane) => lane.status());
    const failing = [...this.lanes.values()].flatMap((lane) => lane.failure ?? []);
    return { inProgress, failing, ...this.counts };
  }

  /**
   * Takes no more changes. Those that wait are written, in at most `graceMs`; what hangs longer is left
   * to itself. Idempotent.
   */
  async stop(graceMs = STOP_GRACE_MS): Promise<void> {
    this.stopping = true;
    const grace = new AbortController();
    const quiet = Promise.all([...this.lanes.values()].map((lane) => lane.quiet()));
    // An aborted delay rejects; it then has done its duty.
    const bound = delay(graceMs, undefined, { signal: grace.signal }).catch(() => undefined);
    await Promise.race([quiet.then(() => this.backend.stop()), bound]);
    grace.abort();
  }
}
