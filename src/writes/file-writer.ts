/*
 * Writes metadata.json itself, under the platform's lock.
 *
 *   lock -> find the members -> plan -> pieces -> [thread: read, build, check, replace durably] -> answer
 *
 * What is done on the main thread grows with the change, not with the file: the file's text never comes here.
 *
 * The platform's VM tool takes the same lock, but rebuilds the file from vminfod's copy of the VM. So the
 * lock is held on after the guest has its answer, until vminfod shows the change or 2 s passed; further
 * changes of the VM go under the lock that is held, and nobody waits for vminfod.
 *
 * A process that is killed at any step leaves the old file or the new one, whole; at worst a temp file,
 * which has one fixed name, is never read, and goes with the next write or the next start.
 */
import { unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ByteBudget } from '../lib/byte-budget';
import { SystemError, systemError } from '../lib/errors';
import type { ChangeResult, MetadataMaps } from '../metadata/handler';
import { syncDurably, openStat, sizeOf, textOfStat } from '../platform/files';
import { takeLock } from '../platform/lock';
import { isForeign } from '../platform/metadata-text';
import { ConfigFiles, KEPT_BYTES, pathOf } from '../vm/config-files';
import type { Backend, Batch, Target } from './backend';
import { BatchQueue } from './batch-queue';
import { LockLeases, type HeldLock } from './lock-lease';
import { currentOf, openMetadata, spliceMetadata, tempPathOf } from './metadata-file';
import {
  DEFAULT_METADATA_LIMITS,
  planChanges,
  type MetadataLimits,
  type Plan,
  type PlannedChange,
} from './plan';
import { UndoneWrites, type RestoringChange } from './undone-writes';

const statAt = openStat();

/** Takes a lock, waiting for it until the signal is aborted. */
export type TakeLock = (path: string, signal: AbortSignal) => Promise<HeldLock>;

/** The signal comes long before this: it bounds a wait that new changes would keep alive for ever. */
const LONGEST_LOCK_WAIT_MS = 10 * 60 * 1000;
const platformLock: TakeLock = (path, signal) => {
  return takeLock(path, { timeoutMs: LONGEST_LOCK_WAIT_MS, signal });
};

/**
 * VMs written at once. Each can wait for a hung disk, so there are many; each takes one of the process's
 * threads, so there are fewer than those (config.ts): the others serve ports, the log and the platform.
 */
const CONCURRENT_WRITES = 16;
/** After a long hold others get this much time to come to the lock, ms. */
const YIELD_MS = 100;
/** Long files are rewritten no faster than this, so that one VM cannot keep the disk and us busy. */
const BYTES_PER_MS = 128 * 1024;
/** What long files that are being written take in memory at a time, old text and new, bytes. */
const LONG_WRITE_BYTES = 32 * 1024 * 1024;
/** A file that is replaced all the time by somebody without the lock is given up after so many tries. */
const MOST_TRIES = 5;
/** Longest rest after a write, ms. */
const LONGEST_REST_MS = 1000;

export interface FileWriterOptions {
  /** Host path of the platform's lock of a VM, by its uuid. */
  readonly lockPath: (uuid: string) => string;
  readonly takeLock?: TakeLock;
  readonly limits?: MetadataLimits;
  /** Longest time that a lock is held for a confirmation, ms. */
  readonly confirmMs?: number;
  /** Longest time that a lock is held under writes that never stop, ms. */
  readonly longestHoldMs?: number;
  /** What the files of all VMs are known from; the store's, so that what was written need not be read. */
  readonly files?: ConfigFiles;
  /** Whether a write that a stale copy of vminfod's has undone is made again; by default it is. */
  readonly restoreUndone?: boolean;
}

/** The backend of `writer: "file"`. One serves all VMs. */
export class FileWriter implements Backend {
  readonly limits: MetadataLimits;
  readonly holds: LockLeases;
  private readonly queue: BatchQueue;
  private readonly undone = new UndoneWrites();
  private restoredCount = 0;
  private readonly longWrites = new ByteBudget(LONG_WRITE_BYTES);
  private readonly files: ConfigFiles;
  private readonly options: FileWriterOptions;
  /** By path, the file as our last write left it, known to be on stable storage. */
  private readonly durable = new Map<string, string>();
  /** By zone, when it may be written again; on a clock that is never set. */
  private readonly nextWriteAt = new Map<string, number>();

  constructor(options: FileWriterOptions) {
    this.options = options;
    this.files = options.files ?? new ConfigFiles();
    this.limits = options.limits ?? DEFAULT_METADATA_LIMITS;
    this.holds = new LockLeases(options.confirmMs, options.longestHoldMs, (target) => {
      this.undone.released(target.zonename, identityAt(target.directory));
    });
    this.queue = new BatchQueue(
      CONCURRENT_WRITES,
      (batch) => this.write(batch),
      (batch, err) => systemError('write', batch.target.directory, err),
    );
  }

  async commit(batch: Batch): Promise<readonly ChangeResult[]> {
    const { target, signal } = batch;
    await this.pace(target, signal);
    if (!this.holds.resume(target.zonename)) {
      batch.stage('locking');
      if (this.holds.releasedEarly(target.zonename)) {
        await delay(YIELD_MS, undefined, { signal });
      }
      this.holds.begin(target, await this.lock(target.uuid, signal));
    }
    try {
      return await this.writeInTurn(batch);
    } finally {
      this.holds.pause(target.zonename);
    }
  }

  /** What vminfod told of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void {
    this.holds.observe(zonename, metadata);
    this.undone.shown(zonename, metadata);
  }

  /** Changes that were undone and made again. */
  get restored(): number {
    return this.restoredCount;
  }

  /**
   * What has to be written again, since the file is not the one that we left and vminfod never showed what we
   * wrote. To be asked when the file is looked at anyway; told once.
   */
  undoneChanges({
    zonename,
    directory,
  }: Pick<Target, 'zonename' | 'directory'>): readonly RestoringChange[] {
    if (!this.undone.has(zonename) || this.holds.isHeld(zonename)) {
      return [];
    }
    return this.undone.take(zonename, identityAt(directory));
  }

  /** Takes away what a killed predecessor left. Only while no write of the VM is under way. */
  clean(directory: string): void {
    const path = tempPathOf(pathOf(directory, 'metadata'));
    try {
      // Asked of each zone at the start: an error thrown for nothing there would cost more than ten looks.
      if (statAt(path) !== null) {
        unlinkSync(path);
      }
    } catch {
      // Nothing there is the rule; anything else is told by the next write, which meets it too.
    }
  }

  forget(target: Pick<Target, 'zonename' | 'directory'>): void {
    this.durable.delete(pathOf(target.directory, 'metadata'));
    this.nextWriteAt.delete(target.zonename);
    this.undone.remove(target.zonename);
    this.holds.releasedEarly(target.zonename);
  }

  async stop(): Promise<void> {
    await this.holds.stop();
    this.queue.close();
  }

  private lock(uuid: string, signal: AbortSignal): Promise<HeldLock> {
    const { lockPath, takeLock: take = platformLock } = this.options;
    return take(lockPath(uuid), signal);
  }

  /** A long file waits for its turn among long ones before it takes one of the places of all. */
  private writeInTurn(batch: Batch): Promise<readonly ChangeResult[]> {
    const { zonename, directory } = batch.target;
    const stat = statAt(pathOf(directory, 'metadata'));
    const bytes = stat === null ? 0 : sizeOf(stat);
    return bytes > KEPT_BYTES
      ? this.longWrites.run(zonename, 2 * bytes, () => this.queue.write(batch))
      : this.queue.write(batch);
  }

  private async pace({ zonename }: Target, signal: AbortSignal): Promise<void> {
    const wait = (this.nextWriteAt.get(zonename) ?? 0) - performance.now();
    if (wait > 0) {
      await delay(wait, undefined, { signal });
    }
  }

  /** The VM is not written for so long. */
  private backOff(zonename: string, ms: number): void {
    const until = performance.now() + Math.min(ms, LONGEST_REST_MS);
    this.nextWriteAt.set(zonename, Math.max(this.nextWriteAt.get(zonename) ?? 0, until));
  }

  private async write(batch: Batch): Promise<readonly ChangeResult[]> {
    const { target } = batch;
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage('writing');
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const results = await this.tryToWrite(target, changes);
      if (results !== undefined) {
        return results;
      }
    }
    const path = pathOf(target.directory, 'metadata');
    throw new SystemError(
      'write',
      path,
      'EAGAIN',
      'somebody without the lock changes it all the time',
    );
  }

  /** Undefined where the file was replaced meanwhile, by somebody who does not take the lock. */
  private async tryToWrite(
    target: Target,
    changes: readonly PlannedChange[],
  ): Promise<readonly ChangeResult[] | undefined> {
    const file = await openMetadata(this.files, target.directory);
    const current = file && (await currentOf(this.files, target.directory, file, changes));
    if (file === undefined || current === undefined) {
      return undefined;
    }
    const plan = planChanges(changes, current, this.limits);
    const path = pathOf(target.directory, 'metadata');
    if (plan.empty) {
      // Answered as stored, so it must be on disk, whoever wrote it.
      const identity = file.stat === null ? null : textOfStat(file.stat);
      if (identity !== null && this.durable.get(path) !== identity) {
        await syncDurably(path);
        this.durable.set(path, identity);
      }
      return plan.results;
    }
    const undo = this.holds.expect(target.zonename, plan);
    const text = await spliceMetadata(path, file, plan).catch((err: unknown) => {
      undo();
      throw systemError('write', path, err);
    });
    if (text === undefined) {
      undo();
      return undefined;
    }
    if (file.isBlank) {
      target.log.info({ path }, 'blank metadata file was rewritten');
    }
    if (isForeign(text.stat)) {
      this.durable.delete(path);
    } else {
      const identity = textOfStat(text.stat);
      this.durable.set(path, identity);
      this.files.written(target.directory, text);
      if (this.options.restoreUndone !== false) {
        this.undone.wrote(target.zonename, plan, identity, (map, key) => current.valueOf(map, key));
      }
    }
    this.countRestored(target, changes, plan);
    this.backOff(target.zonename, sizeOf(text.stat) / BYTES_PER_MS);
    return plan.results;
  }

  private countRestored(target: Target, changes: readonly PlannedChange[], plan: Plan): void {
    const restored = changes.filter(({ map, key, onlyIf }) => onlyIf && plan[map].has(key));
    if (restored.length > 0) {
      this.restoredCount += restored.length;
      // Once: what undoes it again means it.
      this.undone.remove(target.zonename);
      target.log.warn(
        { changes: restored.length },
        'metadata was undone from a stale copy of vminfod, and written again',
      );
    }
  }
}

/** Of the metadata file; empty where there is none, or where it cannot be told. */
function identityAt(directory: string): string {
  try {
    const stat = statAt(pathOf(directory, 'metadata'));
    return stat === null ? '' : textOfStat(stat);
  } catch {
    // Whoever reads the file meets the fault too, and tells it.
    return '';
  }
}
