/*
 * The changes of one VM on their way to the backend.
 *
 *   change -> waiting -> [share of writes] -> a batch for the backend -> answer
 *       |  identical to the newest change of its key: joins it
 *
 * One batch at a time; changes in the order they came; an answer for each in bounded time. A change that
 * was answered with a time-out before a batch took it is not applied later. What a batch took goes on
 * whoever still waits, and a repetition of it gets its true result. Whatever ends a batch, what it hit
 * has used up its part of the share: a guest whose writes all fail fails no faster than it could write.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../lib/errors';
import type { Change, ChangeResult } from '../metadata/handler';
import { repeatsOf, type RepeatCounter } from '../lib/throttled-log';
import type { Backend, Stage, Target } from './backend';
import type { PlannedChange } from './plan';
import { failedBy, lateIn, NO_ROOM, NOT_MADE } from './failures';
import { WriteRateLimiter, type WriteShare } from './rate-limit';

/** The name of a limit that can refuse a change. */
type ChangeLimit = NonNullable<ChangeResult['limit']>;

/** Refusals by one limit of a VM. */
export interface LimitRefusals {
  readonly limit: ChangeLimit;
  readonly count: number;
  /** Of the last one, ms since 1970. */
  readonly at: number;
}

export interface QueueStatus {
  readonly zonename: string;
  readonly stage: Stage;
  readonly waiting: number;
  readonly committing: number;
  /** Age of the oldest, ms. */
  readonly oldestMs: number;
}

/** What became of the last change of a VM that ended, where it failed for no fault of its asker's waiting. */
export interface WriteFailure {
  readonly zonename: string;
  /** An errno, an exit code, or the limit that was met (`keys`, `size`). */
  readonly code: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** More could not be written in time at the default share. */
const MAX_WAITING = 512;
/**
 * Between batches, where more waits: those who were just answered and write on come along, so that all who write at
 * once share the syncs of the disk instead of parting into two groups; ms.
 */
const GATHER_MS = 1;
/** Bytes of keys and values that may wait, as a multiple of what the metadata may come to. */
const MAX_WAITING_SIZE = 2;

interface Pending {
  readonly change: PlannedChange;
  /** Bytes of its key and value. */
  readonly bytes: number;
  /** On a clock that is never set, ms. */
  readonly asked: number;
  readonly result: Promise<ChangeResult>;
  readonly settle: (result: ChangeResult) => void;
  /** It waited for the VM's share of writes. */
  slowed: boolean;
  /** Somebody waits for it whose answer tells what became of it. */
  owned: boolean;
}

/** What became of changes, of all lanes together. */
export interface WriteCounts {
  stored: number;
  failed: number;
  joined: number;
  timedOut: number;
}

/** The changes of one VM. */
export class WriteQueue {
  private target: Target;
  private readonly backend: Backend;
  private readonly allowance: WriteRateLimiter;
  private readonly answerMs: number;
  private readonly counts: WriteCounts;
  /** By the fault: a full disk fails every write of a guest that goes on trying. */
  private readonly told = new Map<string, RepeatCounter>();
  private readonly refusedBy = new Map<ChangeLimit, LimitRefusals>();
  private waiting: Pending[] = [];
  private committing: Pending[] = [];
  private stage: Stage = 'idle';
  /** Gives up the batch under way, where it has taken nothing yet. */
  private abort: AbortController | null = null;
  private running: Promise<void> | null = null;
  private failed: { readonly code: string; readonly at: number } | null = null;

  constructor(
    target: Target,
    backend: Backend,
    share: WriteShare,
    answerMs: number,
    counts: WriteCounts,
  ) {
    this.target = target;
    this.backend = backend;
    this.allowance = new WriteRateLimiter(share);
    this.answerMs = answerMs;
    this.counts = counts;
  }

  get busy(): boolean {
    return this.running !== null;
  }

  /** What its limits have refused. */
  refusals(): LimitRefusals[] {
    return [...this.refusedBy.values()];
  }

  change(target: Target, change: PlannedChange): Promise<ChangeResult> {
    // A VM can come back under its name with another path.
    this.target = target;
    const same = this.latestOf(change);
    if (same !== undefined && isSame(same.change, change)) {
      this.counts.joined++;
      return this.withDeadline(same, !same.owned);
    }
    const bytes = sizeOf(change);
    if (this.isFullFor(bytes)) {
      this.counts.failed++;
      this.countRefusal(NO_ROOM);
      return Promise.resolve(NO_ROOM);
    }
    const pending = newPending(change, bytes);
    this.waiting.push(pending);
    this.running ??= this.run();
    return this.withDeadline(pending, true);
  }

  status(): QueueStatus {
    const oldest = this.committing[0] ?? this.waiting[0];
    return {
      zonename: this.target.zonename,
      stage: this.stage,
      waiting: this.waiting.length,
      committing: this.committing.length,
      oldestMs: oldest === undefined ? 0 : Math.round(performance.now() - oldest.asked),
    };
  }

  /** Null where the last change that ended was stored. */
  get failure(): WriteFailure | null {
    return this.failed === null ? null : { zonename: this.target.zonename, ...this.failed };
  }

  giveUp(): void {
    for (const pending of this.waiting.splice(0)) {
      pending.settle(NOT_MADE);
    }
    this.abort?.abort();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.running;
  }

  /** Resolves when all that was asked for is answered. */
  async quiet(): Promise<void> {
    await Promise.all([...this.waiting, ...this.committing].map((pending) => pending.result));
  }

  /** A change that comes alone is let in whatever its size: the backend knows the words for that. */
  private isFullFor(bytes: number): boolean {
    const waiting = this.waiting.reduce((sum, pending) => sum + pending.bytes, 0);
    const most = MAX_WAITING_SIZE * this.backend.limits.metadataBytes;
    return (
      this.waiting.length >= MAX_WAITING || (this.waiting.length > 0 && waiting + bytes > most)
    );
  }

  /** A repeated change may only join the newest one of its key, or the order of writes would turn. */
  private latestOf(change: Change): Pending | undefined {
    const ofKey = (pending: Pending): boolean => {
      return pending.change.key === change.key && pending.change.map === change.map;
    };
    return this.waiting.findLast(ofKey) ?? this.committing.findLast(ofKey);
  }

  /**
   * The answer of a change, or of a time-out. The one who asked first (`owns`) takes the change away with
   * him while its commit has not begun; one who joined leaves it to the others, and has used nothing up.
   * Who joins a change that goes on without its owner is its next owner: some record tells its end.
   */
  private withDeadline(pending: Pending, owns: boolean): Promise<ChangeResult> {
    pending.owned = true;
    const ofAsker = (value: ChangeResult): ChangeResult => {
      return owns ? value : { ...value, free: true };
    };
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.counts.timedOut++;
        const late = lateIn(this.stage);
        const repeated = repeatsOf(this.told, 'no answer in time').next();
        if (repeated !== null) {
          this.target.log.warn({ stage: this.stage, repeated }, 'metadata update took too long');
        }
        resolve(ofAsker(late));
        if (owns) {
          pending.owned = false;
          this.withdraw(pending, late);
        }
      }, this.answerMs);
      void pending.result.then((value) => {
        clearTimeout(timer);
        resolve(ofAsker(value));
      });
    });
  }

  /** What is being committed goes on: a repetition of it joins it and gets its true result. */
  private withdraw(pending: Pending, result: ChangeResult): void {
    const at = this.waiting.indexOf(pending);
    if (at === -1) {
      return;
    }
    this.waiting.splice(at, 1);
    pending.settle(result);
    if (this.waiting.length === 0 && this.committing.length === 0) {
      this.abort?.abort();
    }
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      await this.oneBatch();
      if (this.waiting.length > 0) {
        await delay(GATHER_MS);
      }
    }
    this.stage = 'idle';
    this.running = null;
  }

  private async oneBatch(): Promise<void> {
    const abort = new AbortController();
    const { signal } = abort;
    this.abort = abort;
    this.stage = 'slowed';
    try {
      if (await this.allowance.wait(signal)) {
        this.waiting.forEach((pending) => (pending.slowed = true));
      }
      const results = await this.backend.commit({
        target: this.target,
        signal,
        take: () => this.take(),
        stage: (stage) => {
          this.stage = stage;
        },
      });
      this.committing.forEach((pending, index) => {
        this.settle(pending, results[index] ?? NOT_MADE);
      });
    } catch (err) {
      if (!signal.aborted || this.committing.length > 0) {
        this.fail(err);
      }
    } finally {
      this.committing = [];
      this.abort = null;
    }
  }

  /** The fault hits what was taken, and, where it came before that, what would have been. */
  private fail(err: unknown): void {
    if (this.committing.length === 0) {
      this.take();
    }
    const hit = this.committing;
    const result = failedBy(err);
    this.failed = { code: codeOf(err), at: Date.now() };
    const repeated = repeatsOf(this.told, codeOf(err)).next();
    if (repeated !== null) {
      const fields = { err, changes: hit.length, repeated };
      this.target.log.error(fields, 'could not update metadata');
    }
    for (const pending of hit) {
      this.settle(pending, result);
    }
  }

  private settle(pending: Pending, result: ChangeResult): void {
    this.counts[result.kind]++;
    if (result.kind === 'stored') {
      this.failed = null;
    } else if (result.limit === 'keys' || result.limit === 'size') {
      this.failed = { code: result.limit, at: Date.now() };
    }
    this.countRefusal(result);
    const wasSlowed = pending.slowed && result.limit === undefined;
    pending.settle(wasSlowed ? { ...result, limit: 'writes' } : result);
  }

  private countRefusal({ kind, limit }: ChangeResult): void {
    if (kind === 'failed' && limit !== undefined) {
      const count = (this.refusedBy.get(limit)?.count ?? 0) + 1;
      this.refusedBy.set(limit, { limit, count, at: Date.now() });
    }
  }

  private take(): readonly PlannedChange[] {
    this.committing = this.waiting.splice(0, this.allowance.take(this.waiting.length));
    return this.committing.map((pending) => pending.change);
  }
}

function newPending(change: PlannedChange, bytes: number): Pending {
  let settle: (result: ChangeResult) => void = () => undefined;
  const result = new Promise<ChangeResult>((resolve) => {
    settle = resolve;
  });
  const asked = performance.now();
  return { change, bytes, asked, result, settle, slowed: false, owned: false };
}

function sizeOf(change: Change): number {
  const value = change.kind === 'set' ? Buffer.byteLength(change.value) : 0;
  return Buffer.byteLength(change.key) + value;
}

/** One that is made on a condition is nobody else's. */
function isSame(a: PlannedChange, b: PlannedChange): boolean {
  if ([a.onlyIf, b.onlyIf, a.unless, b.unless].some((condition) => condition !== undefined)) {
    return false;
  }
  return a.kind === 'set' ? b.kind === 'set' && a.value === b.value : b.kind === 'remove';
}
