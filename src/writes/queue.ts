/*
 * The changes of one VM until the backend has them, and the bound for the batches of all VMs. Called by writer.ts.
 *
 *   change -> waiting -> [rate limit] -> a batch for the backend -> answer
 *       |  identical to the newest change of its key: joins it
 *
 * One batch at a time; changes in the order they came; an answer for each in bounded time. A change that was answered
 * with a time-out before a batch took it is not applied later; what a batch took goes on. However a batch ends, its
 * changes count for the rate: a guest whose writes all fail fails no faster than it could write.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../lib/errors';
import { repeatsOf, type RepeatCounter } from '../log';
import { afterPolling } from '../lib/scheduler';
import { TokenBucket, type TokenRate } from '../lib/token-bucket';
import { isSameValue, type Change, type ChangeResult } from '../metadata/vm-data';
import type {
  LimitRefusals,
  MetadataLimits,
  QueueStatus,
  Stage,
  WriteFailure,
  WriterStatus,
  WriteTarget,
} from '../vm/store';
import type { PlannedChange } from './plan';

/** Changes of one VM that are written together. */
export interface Batch {
  /** Aborted when everybody who waited has been answered with a time-out. */
  readonly signal: AbortSignal;
  /** Set by the backend, for status and for the text of a time-out. */
  stage: Stage;
  /** Hands over what waits, once, as late as possible. Can be empty. */
  take(): readonly PlannedChange[];
}

/** What writes them: file-writer.ts or vmadm-writer.ts. */
export interface Backend {
  readonly limits: MetadataLimits;
  /** One result for each change of the batch, in their order. Rejects with the fault that hit all changes. */
  commit(target: WriteTarget, batch: Batch): Promise<readonly ChangeResult[]>;
  /** Resolves when nothing of it is left: no lock, no timer. */
  stop(): Promise<void>;
}

/** All that a guest learns of a fault: no path, no value and no text of the platform's. */
const FAULT_TEXTS: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'Could not update metadata: no space left.'],
  ['EDQUOT', 'Could not update metadata: quota exceeded.'],
  ['EROFS', 'Could not update metadata: read-only file system.'],
  ['EBADMSG', 'Metadata file is damaged; ask the operator.'],
  ['EFBIG', 'Metadata is full.'],
  ['ETIMEDOUT', 'Could not update metadata: timed out.'],
]);
const TOO_MANY = 'Too many metadata updates.';
/** Of any other fault. */
export const NOT_MADE: ChangeResult = { kind: 'failed', text: 'Could not update metadata.' };
const QUEUE_FULL: ChangeResult = {
  kind: 'failed',
  text: TOO_MANY,
  uncharged: true,
  limit: 'waiting-writes',
};

/** More could not be written in time at the default rate. */
const MAX_WAITING = 512;
/** Pause between batches, ms: who was just answered and writes again joins the next, and shares its syncs. */
const GATHER_MS = 1;
/** Bytes of keys and values that may wait, as a multiple of what the metadata may come to. */
const MAX_WAITING_SIZE = 2;

/** For a request that has waited too long, by what its change's queue was doing then. */
const TIMED_OUT: ChangeResult = { kind: 'failed', text: 'Could not update metadata: timed out.' };
const TIMEOUTS: Partial<Record<Stage, ChangeResult>> = {
  slowed: { kind: 'failed', text: TOO_MANY, limit: 'writes' },
  locking: { kind: 'failed', text: 'Could not update metadata: configuration is locked.' },
};

interface Pending {
  readonly change: PlannedChange;
  /** Bytes of its key and value. */
  readonly bytes: number;
  /** On a monotonic clock, ms. */
  readonly askedAt: number;
  /** Answers whoever waits for it. */
  readonly answers: Set<(result: ChangeResult) => void>;
  /** It waited for the rate limit. */
  slowed: boolean;
  /** A request waits whose record will show how it ended. */
  owned: boolean;
}

/** What became of changes, of all queues together. */
export type WriteCounts = Record<Exclude<keyof WriterStatus, 'inProgress' | 'failing'>, number>;

/** The changes of one VM, and the batch of them that is committed. */
export class WriteQueue implements Batch {
  stage: Stage = 'idle';
  /** Null where the last change that ended was stored. */
  failure: WriteFailure | null = null;
  /** What its limits have refused. */
  readonly refusals = new Map<LimitRefusals['limit'], LimitRefusals>();
  private readonly bucket: TokenBucket;
  /** By code: a full disk fails every write of a guest that goes on trying. */
  private readonly repeats = new Map<string, RepeatCounter>();
  private waiting: Pending[] = [];
  private committing: Pending[] = [];
  /** The last batch had more than one change. */
  private lastWasShared = false;
  /** Of the batch in progress, once it waits for something that can be given up. */
  private abort: AbortController | null = null;
  private running: Promise<void> | null = null;

  constructor(
    private target: WriteTarget,
    private readonly backend: Backend,
    private readonly rate: TokenRate,
    private readonly answerMs: number,
    private readonly counts: WriteCounts,
  ) {
    this.bucket = new TokenBucket(rate);
  }

  get busy(): boolean {
    return this.running !== null;
  }

  change(target: WriteTarget, change: PlannedChange): Promise<ChangeResult> {
    // A VM can come back under its name with another path.
    this.target = target;
    const same = this.latestOf(change);
    if (same !== undefined && isSame(same.change, change)) {
      this.counts.joined++;
      return this.answerOf(same);
    }
    const bytes = sizeOfChange(change);
    const waiting = this.waiting.reduce((sum, pending) => sum + pending.bytes, 0);
    const maxBytes = MAX_WAITING_SIZE * this.backend.limits.metadataBytes;
    // A change that comes alone is let in whatever its size: the plan has the right refusal for it.
    const isTooLarge = this.waiting.length > 0 && waiting + bytes > maxBytes;
    if (this.waiting.length >= MAX_WAITING || isTooLarge) {
      this.counts.failed++;
      this.countRefusal(QUEUE_FULL);
      return Promise.resolve(QUEUE_FULL);
    }
    const askedAt = performance.now();
    const pending: Pending = {
      change,
      bytes,
      askedAt,
      answers: new Set(),
      slowed: false,
      owned: false,
    };
    this.waiting.push(pending);
    const answer = this.answerOf(pending);
    this.running ??= this.run();
    return answer;
  }

  status(): QueueStatus {
    const oldest = this.committing[0] ?? this.waiting[0];
    return {
      zonename: this.target.zonename,
      stage: this.stage,
      waiting: this.waiting.length,
      committing: this.committing.length,
      oldestMs: oldest === undefined ? 0 : Math.round(performance.now() - oldest.askedAt),
    };
  }

  /** Fails what waits. What is being committed ends by itself. */
  cancel(): void {
    for (const pending of this.waiting.splice(0)) {
      answerAll(pending, NOT_MADE);
    }
    this.abort?.abort();
  }

  /** Resolves when nothing is in progress. */
  async idle(): Promise<void> {
    await this.running;
  }

  /** For the backend. Made when something abortable waits: one for each batch would cost more than the queue. */
  get signal(): AbortSignal {
    this.abort ??= new AbortController();
    return this.abort.signal;
  }

  /** For the backend. At least one, so that an empty bucket slows the writes down and never stops them. */
  take(): readonly PlannedChange[] {
    const allowed = Math.max(1, Math.floor(this.bucket.level()));
    this.committing = this.waiting.splice(0, allowed);
    this.bucket.take(this.committing.length);
    this.lastWasShared = this.committing.length > 1;
    return this.committing.map((pending) => pending.change);
  }

  /** A repeated change may only join the newest one of its key, or the order of writes would change. */
  private latestOf(change: Change): Pending | undefined {
    const ofKey = (pending: Pending): boolean => {
      return pending.change.key === change.key && pending.change.map === change.map;
    };
    return this.waiting.findLast(ofKey) ?? this.committing.findLast(ofKey);
  }

  /**
   * The answer of a change, or of a time-out. When its owner, who asked first, is timed out, the change is withdrawn
   * unless its commit has begun. Who joins it is not charged and withdraws nothing, but becomes the owner of one that
   * goes on without, so that some request's record shows its end.
   */
  private answerOf(pending: Pending): Promise<ChangeResult> {
    const owns = !pending.owned;
    pending.owned = true;
    return new Promise((resolve) => {
      const answer = (result: ChangeResult): void => {
        clearTimeout(timer);
        pending.answers.delete(answer);
        resolve(owns ? result : { ...result, uncharged: true });
      };
      const timer = setTimeout(() => {
        this.counts.timedOut++;
        const late = TIMEOUTS[this.stage] ?? TIMED_OUT;
        const repeated = repeatsOf(this.repeats, 'no answer in time').next();
        if (repeated !== null) {
          this.target.log.warn({ stage: this.stage, repeated }, 'metadata update took too long');
        }
        answer(late);
        if (owns) {
          pending.owned = false;
          this.withdraw(pending, late);
        }
      }, this.answerMs);
      pending.answers.add(answer);
    });
  }

  /** What is being committed goes on: a repetition of it joins it and gets its true result. */
  private withdraw(pending: Pending, result: ChangeResult): void {
    const at = this.waiting.indexOf(pending);
    if (at === -1) {
      return;
    }
    this.waiting.splice(at, 1);
    answerAll(pending, result);
    if (this.waiting.length === 0 && this.committing.length === 0) {
      this.abort?.abort();
    }
  }

  private async run(): Promise<void> {
    if (this.lastWasShared) {
      // They were answered together, and write again together: the first one would be a batch of its own.
      await afterPolling();
    }
    while (this.waiting.length > 0) {
      const results = await this.oneBatch();
      const settled = this.committing;
      this.committing = [];
      this.abort = null;
      const isLast = this.waiting.length === 0;
      if (isLast) {
        // Before the answers: who writes again because of one begins another run.
        this.end();
      }
      settled.forEach((pending, index) => this.settle(pending, results[index] ?? NOT_MADE));
      if (isLast) {
        return;
      }
      await delay(GATHER_MS);
    }
    this.end();
  }

  private end(): void {
    this.stage = 'idle';
    this.running = null;
  }

  /** The results of what it took. */
  private async oneBatch(): Promise<readonly ChangeResult[]> {
    this.stage = 'slowed';
    try {
      const missing = 1 - this.bucket.level();
      if (missing > 0) {
        const { signal } = this;
        await delay((missing / this.rate.perSecond) * 1000, undefined, { signal });
        this.waiting.forEach((pending) => (pending.slowed = true));
      }
      return await this.backend.commit(this.target, this);
    } catch (err) {
      const isAborted = this.abort?.signal.aborted === true && this.committing.length === 0;
      return isAborted ? [] : this.fail(err);
    }
  }

  /** Fails what the batch took, and, where it failed before that, what it would have taken. */
  private fail(err: unknown): readonly ChangeResult[] {
    if (this.committing.length === 0) {
      this.take();
    }
    const code = codeOf(err);
    const text = FAULT_TEXTS.get(code);
    this.failure = this.failureOf(code);
    const repeated = repeatsOf(this.repeats, code).next();
    if (repeated !== null) {
      const fields = { err, changes: this.committing.length, repeated };
      this.target.log.error(fields, 'could not update metadata');
    }
    return this.committing.map(() => (text === undefined ? NOT_MADE : { kind: 'failed', text }));
  }

  private settle(pending: Pending, result: ChangeResult): void {
    const isUnmet = result.kind === 'failed' && result.unmet === true;
    this.counts[isUnmet ? 'changed' : result.kind]++;
    if (result.kind === 'stored') {
      this.failure = null;
    } else if (result.limit === 'keys' || result.limit === 'size') {
      this.failure = this.failureOf(result.limit);
    }
    this.countRefusal(result);
    const wasSlowed = pending.slowed && result.limit === undefined;
    answerAll(pending, wasSlowed ? { ...result, limit: 'writes' } : result);
  }

  private failureOf(code: string): WriteFailure {
    return { zonename: this.target.zonename, code, at: Date.now() };
  }

  private countRefusal({ kind, limit }: ChangeResult): void {
    if (kind === 'failed' && limit !== undefined) {
      const count = (this.refusals.get(limit)?.count ?? 0) + 1;
      this.refusals.set(limit, { limit, count, at: Date.now() });
    }
  }
}

function answerAll({ answers }: Pending, result: ChangeResult): void {
  answers.forEach((answer) => answer(result));
}

/** What a change brings, bytes of its key and value. */
export function sizeOfChange(change: Change): number {
  const value = change.kind === 'set' ? Buffer.byteLength(change.value) : 0;
  return Buffer.byteLength(change.key) + value;
}

/** A conditional change is never joined. */
function isSame(a: PlannedChange, b: PlannedChange): boolean {
  if ([a.onlyIf, b.onlyIf, a.unless, b.unless].some((condition) => condition !== undefined)) {
    return false;
  }
  return a.kind === 'set' ? b.kind === 'set' && isSameValue(a.value, b.value) : b.kind === 'remove';
}

/** The batches of all VMs that a backend writes at a time: the others wait, first come, first served. */
export class BatchLimit {
  private readonly waiting: (() => void)[] = [];

  /** @param free how many */
  constructor(private free: number) {}

  async run<T>(batch: Batch, write: () => Promise<T>): Promise<T> {
    batch.stage = 'queued';
    // Below zero so many wait, and whoever is done hands its place over.
    if (--this.free < 0) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    try {
      return await write();
    } finally {
      this.free++;
      this.waiting.shift()?.();
    }
  }
}
