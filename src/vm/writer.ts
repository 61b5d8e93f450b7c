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
import { codeOf } from '../errors';
import type { ZoneLog } from '../log';
import type { Change, ChangeResult } from '../metadata/handler';

/** The VM that a change is for. */
export interface Target {
  readonly zonename: string;
  readonly uuid: string;
  /** Host path of `<zonepath>/config`. */
  readonly folder: string;
  readonly log: Pick<ZoneLog, 'debug' | 'info' | 'warn' | 'error'>;
}

export type Stage = 'idle' | 'slowed' | 'locking' | 'queued' | 'writing';

/** One turn of a VM at the backend. */
export interface Turn {
  readonly target: Target;
  /** Aborted when everybody who waited has been answered with a time-out. */
  readonly signal: AbortSignal;
  /** Hands over what waits, once, as late as possible. Can be empty. */
  take(): readonly Change[];
  /** Says where the turn is, for status and for the words of a time-out. */
  stage(stage: Stage): void;
}

export interface Backend {
  /** One result for each change taken, in their order. Rejects with the fault that hit them all. */
  commit(turn: Turn): Promise<readonly ChangeResult[]>;
  /** Resolves when nothing of it is left: no lock, no timer. */
  stop(): Promise<void>;
}

export interface WriteShare {
  readonly perSecond: number;
  readonly burst: number;
}

export const DEFAULT_WRITE_SHARE: WriteShare = { perSecond: 20, burst: 100 };

export interface WriterStatus {
  /** VMs whose changes are under way. */
  readonly inProgress: readonly {
    readonly zonename: string;
    readonly stage: Stage;
    readonly waiting: number;
    readonly committing: number;
    /** Age of the oldest, ms. */
    readonly oldestMs: number;
  }[];
  readonly stored: number;
  readonly failed: number;
  readonly joined: number;
  readonly timedOut: number;
}

/** Clients stop waiting after 45 s, and 30 s is what we promise; 1 s is for the way back. */
const ANSWER_MS = 29_000;
/** More could not be written in time at the default share. */
const MAX_WAITING = 512;
/** The daemon has 5 s to end. */
const STOP_GRACE_MS = 4000;

/** The fixed words that guests are told; what is not listed is told in general words. */
const WORDS: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'Could not update metadata: no space left.'],
  ['EDQUOT', 'Could not update metadata: quota exceeded.'],
  ['EROFS', 'Could not update metadata: read-only file system.'],
]);
const GENERAL_WORDS = 'Could not update metadata.';
const TIMED_OUT = 'Could not update metadata: timed out.';
const LOCKED = 'Could not update metadata: configuration is locked.';
const TOO_MANY = 'Too many metadata updates.';

export function failed(text: string): ChangeResult {
  return { kind: 'failed', text };
}

export class Writer {
  private readonly backend: Backend;
  private readonly share: WriteShare;
  private readonly answerMs: number;
  private readonly lanes = new Map<string, Lane>();
  private readonly counts = { stored: 0, failed: 0, joined: 0, timedOut: 0 };
  private stopping = false;

  /** @param answerMs longest wait for an answer */
  constructor(backend: Backend, share = DEFAULT_WRITE_SHARE, answerMs = ANSWER_MS) {
    this.backend = backend;
    this.share = share;
    this.answerMs = answerMs;
  }

  /** Never rejects; settles within `answerMs`. */
  change(target: Target, change: Change): Promise<ChangeResult> {
    if (this.stopping) {
      return Promise.resolve(failed(GENERAL_WORDS));
    }
    let lane = this.lanes.get(target.zonename);
    if (lane === undefined) {
      lane = new Lane(target, this.backend, this.share, this.answerMs, this.counts);
      this.lanes.set(target.zonename, lane);
    }
    return lane.change(target, change);
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
      this.lanes.delete(zonename);
    }
  }

  status(): WriterStatus {
    const inProgress = [...this.lanes.values()]
      .filter((lane) => lane.busy)
      .map((lane) => lane.status());
    return { inProgress, ...this.counts };
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

interface Pending {
  readonly change: Change;
  readonly asked: number;
  readonly result: Promise<ChangeResult>;
  readonly settle: (result: ChangeResult) => void;
}

interface Counts {
  stored: number;
  failed: number;
  joined: number;
  timedOut: number;
}

/** The changes of one VM. */
class Lane {
  private target: Target;
  private readonly backend: Backend;
  private readonly share: WriteShare;
  private readonly answerMs: number;
  private readonly counts: Counts;
  private waiting: Pending[] = [];
  private committing: Pending[] = [];
  private stage: Stage = 'idle';
  private turn: AbortController | null = null;
  private running: Promise<void> | null = null;
  private tokens: number;
  private refilledAt = Date.now();

  constructor(
    target: Target,
    backend: Backend,
    share: WriteShare,
    answerMs: number,
    counts: Counts,
  ) {
    this.target = target;
    this.backend = backend;
    this.share = share;
    this.answerMs = answerMs;
    this.counts = counts;
    this.tokens = share.burst;
  }

  get busy(): boolean {
    return this.running !== null;
  }

  change(target: Target, change: Change): Promise<ChangeResult> {
    // A VM can come back under its name with another path.
    this.target = target;
    const same = this.latestOf(change);
    if (same !== undefined && isSame(same.change, change)) {
      this.counts.joined++;
      return this.withDeadline(same.result, null);
    }
    if (this.waiting.length >= MAX_WAITING) {
      this.counts.failed++;
      return Promise.resolve(failed(TOO_MANY));
    }
    const pending = newPending(change);
    this.waiting.push(pending);
    this.running ??= this.run();
    return this.withDeadline(pending.result, pending);
  }

  status(): WriterStatus['inProgress'][number] {
    const oldest = this.committing[0] ?? this.waiting[0];
    return {
      zonename: this.target.zonename,
      stage: this.stage,
      waiting: this.waiting.length,
      committing: this.committing.length,
      oldestMs: oldest === undefined ? 0 : Date.now() - oldest.asked,
    };
  }

  giveUp(): void {
    for (const pending of this.waiting.splice(0)) {
      pending.settle(failed(GENERAL_WORDS));
    }
    this.turn?.abort();
  }

  /** Resolves when all that was asked for is answered. */
  async quiet(): Promise<void> {
    await Promise.all([...this.waiting, ...this.committing].map((pending) => pending.result));
  }

  /** A repeated change may only join the newest one of its key, or the order of writes would turn. */
  private latestOf(change: Change): Pending | undefined {
    const ofKey = (pending: Pending): boolean => {
      return pending.change.key === change.key && pending.change.map === change.map;
    };
    return this.waiting.findLast(ofKey) ?? this.committing.findLast(ofKey);
  }

  /**
   * The answer of a change, or of a time-out. The one who asked first (`owner`) takes the change away with
   * him while its commit has not begun; one who joined leaves it to the others.
   */
  private withDeadline(
    result: Promise<ChangeResult>,
    owner: Pending | null,
  ): Promise<ChangeResult> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.counts.timedOut++;
        const text = this.stage === 'locking' ? LOCKED : TIMED_OUT;
        this.target.log.warn({ stage: this.stage }, 'metadata update took too long');
        resolve(failed(text));
        if (owner !== null) {
          this.withdraw(owner, failed(text));
        }
      }, this.answerMs);
      void result.then((value) => {
        clearTimeout(timer);
        resolve(value);
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
      this.turn?.abort();
    }
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      await this.oneTurn();
    }
    this.stage = 'idle';
    this.running = null;
  }

  private async oneTurn(): Promise<void> {
    const turn = new AbortController();
    this.turn = turn;
    this.stage = 'slowed';
    try {
      await this.waitForShare(turn.signal);
      const results = await this.backend.commit({
        target: this.target,
        signal: turn.signal,
        take: () => this.take(),
        stage: (stage) => {
          this.stage = stage;
        },
      });
      this.committing.forEach((pending, index) => {
        const result = results[index] ?? failed(GENERAL_WORDS);
        this.counts[result.kind]++;
        pending.settle(result);
      });
    } catch (err) {
      if (!turn.signal.aborted || this.committing.length > 0) {
        this.fail(err);
      }
    } finally {
      this.committing = [];
      this.turn = null;
    }
  }

  /** The fault hits what was taken, and, where it came before that, all that waits. */
  private fail(err: unknown): void {
    const hit = this.committing.length > 0 ? this.committing : this.waiting.splice(0);
    const result = failed(WORDS.get(codeOf(err)) ?? GENERAL_WORDS);
    this.target.log.error({ err, changes: hit.length }, 'could not update metadata');
    for (const pending of hit) {
      this.counts.failed++;
      pending.settle(result);
    }
  }

  private take(): readonly Change[] {
    this.refill();
    const count = Math.max(1, Math.floor(this.tokens));
    this.committing = this.waiting.splice(0, count);
    this.tokens -= this.committing.length;
    return this.committing.map((pending) => pending.change);
  }

  private async waitForShare(signal: AbortSignal): Promise<void> {
    this.refill();
    if (this.tokens < 1) {
      const ms = ((1 - this.tokens) / this.share.perSecond) * 1000;
      await delay(ms, undefined, { signal });
    }
  }

  private refill(): void {
    const now = Date.now();
    const gained = (Math.max(0, now - this.refilledAt) / 1000) * this.share.perSecond;
    this.tokens = Math.min(this.share.burst, this.tokens + gained);
    this.refilledAt = now;
  }
}

function newPending(change: Change): Pending {
  let settle: (result: ChangeResult) => void = () => undefined;
  const result = new Promise<ChangeResult>((resolve) => {
    settle = resolve;
  });
  return { change, asked: Date.now(), result, settle };
}

function isSame(a: Change, b: Change): boolean {
  return a.kind === 'set' ? b.kind === 'set' && a.value === b.value : b.kind === 'remove';
}
