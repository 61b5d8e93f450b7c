/*
 * Writes metadata.json itself, under the platform's lock.
 *
 *   lock -> find the members -> plan -> pieces -> [thread: read, build, check, replace durably] -> answer
 *
 * What is done on the main thread grows with the change, not with the file: the file's text never comes here.
 *
 * The platform's VM tool takes the same lock, but rebuilds the file from vminfod's copy of the VM. So the
 * lock is kept after the guest has its answer, until vminfod shows the change or 2 s passed; further changes
 * of the VM are written under the same lock, and nobody waits for vminfod.
 *
 * A process that is killed at any step leaves the old file or the new one, whole; at worst a temp file,
 * which has one fixed name, is never read, and goes with the next write or the next start.
 */
import { unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ByteBudget } from '../lib/byte-budget';
import { SystemError, systemError } from '../lib/errors';
import type { Change, MetadataMaps } from '../metadata/vm-data';
import {
  isForeign,
  syncDurably,
  openStat,
  sizeOf,
  textOfStat,
  type FileStat,
} from '../platform/files';
import { takeLock, type HeldLock } from '../platform/lock';
import { beforeLongWork } from '../platform/metadata-text';
import { ConfigFiles, KEPT_BYTES, pathOf } from '../vm/config-files';
import type { LeaseStatus, MetadataLimits, WriteTarget } from '../vm/store';
import {
  BatchQueue,
  type Batch,
  type BatchResults,
  type LeasingBackend,
  type PlannedChange,
} from './batch';
import { LockLeases } from './lock-lease';
import { currentOf, openMetadata, spliceMetadata, tempPathOf } from './metadata-file';
import { DEFAULT_METADATA_LIMITS, planChanges, type Plan } from './plan';
import { idOf, UndoneWrites } from './undone-writes';

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
/** After a long lease others get this much time to take the lock, ms. */
const YIELD_MS = 100;
/** Long files are rewritten no faster than this, so that one VM cannot keep the disk and us busy. */
const BYTES_PER_MS = 128 * 1024;
/** What long files that are being written take in memory at a time, old text and new, bytes. */
const LONG_WRITE_BYTES = 32 * 1024 * 1024;
/** Attempts at a file that is replaced all the time by somebody without the lock. */
const MAX_ATTEMPTS = 5;
/** Longest pause after a write, ms. */
const LONGEST_PAUSE_MS = 1000;

export interface FileWriterOptions {
  /** Host path of the platform's lock of a VM, by its uuid. */
  readonly lockPath: (uuid: string) => string;
  readonly takeLock?: TakeLock;
  readonly limits?: MetadataLimits;
  /** Longest time that a lock is held for a confirmation, ms. */
  readonly confirmMs?: number;
  /** Longest time that a lock is held under writes that never stop, ms. */
  readonly longestLeaseMs?: number;
  /** The store's, so that what was written need not be read. */
  readonly files?: ConfigFiles;
  /** Whether a write that a stale copy of vminfod's has undone is made again; by default it is. */
  readonly restoreUndone?: boolean;
}

/** The backend of `writer: "file"`. One serves all VMs. */
export class FileWriter implements LeasingBackend {
  readonly limits: MetadataLimits;
  private readonly leases: LockLeases;
  private readonly queue: BatchQueue;
  private readonly undone = new UndoneWrites(identityAt);
  private restoredCount = 0;
  private readonly longWrites = new ByteBudget(LONG_WRITE_BYTES);
  private readonly files: ConfigFiles;
  /** By path, the file as our last write left it, known to be on stable storage. */
  private readonly durable = new Map<string, string>();
  /** By zone, when it may be written again; on a monotonic clock. */
  private readonly nextWriteAt = new Map<string, number>();

  constructor(private readonly options: FileWriterOptions) {
    this.files = options.files ?? new ConfigFiles();
    this.limits = options.limits ?? DEFAULT_METADATA_LIMITS;
    this.leases = new LockLeases(options.confirmMs, options.longestLeaseMs, (target) => {
      this.undone.released(target.zonename, identityAt(target.directory));
    });
    this.queue = new BatchQueue(
      CONCURRENT_WRITES,
      (batch) => this.write(batch),
      (batch, err) => systemError('write', batch.target.directory, err),
    );
  }

  async commit(batch: Batch): Promise<BatchResults> {
    const { target, signal } = batch;
    const pause = (this.nextWriteAt.get(target.zonename) ?? 0) - performance.now();
    if (pause > 0) {
      await delay(pause, undefined, { signal });
    }
    if (!this.leases.resume(target.zonename)) {
      batch.stage('locking');
      if (this.leases.releasedEarly(target.zonename)) {
        await delay(YIELD_MS, undefined, { signal });
      }
      const { lockPath, takeLock: take = platformLock } = this.options;
      this.leases.begin(target, await take(lockPath(target.uuid), signal));
    }
    try {
      return await this.writeWithinBudget(batch);
    } finally {
      this.leases.pause(target.zonename);
    }
  }

  /** What vminfod shows of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void {
    this.leases.observe(zonename, metadata);
    this.undone.shown(zonename, metadata);
  }

  get leaseStatus(): LeaseStatus {
    const { size: holds, unconfirmed } = this.leases;
    return { holds, unconfirmed, restored: this.restoredCount };
  }

  /**
   * What has to be written again, since the file is not the one that we left and vminfod never showed what we
   * wrote. Each change is returned once.
   */
  undoneChanges({ zonename, directory }: WriteTarget): readonly PlannedChange[] {
    if (!this.undone.has(zonename) || this.leases.isHeld(zonename)) {
      return [];
    }
    return this.undone.take(zonename, identityAt(directory), 'not ours');
  }

  /** Removes what a killed predecessor left. Only while no write of the VM is in progress. */
  clean(directory: string): void {
    const path = tempPathOf(pathOf(directory, 'metadata'));
    try {
      // Called for each zone at the start: an error that is thrown for nothing costs more than ten stats.
      if (statAt(path) !== null) {
        unlinkSync(path);
      }
    } catch {
      // Any fault here is met and logged by the next write.
    }
  }

  remove(target: WriteTarget): void {
    this.durable.delete(pathOf(target.directory, 'metadata'));
    this.nextWriteAt.delete(target.zonename);
    this.undone.remove(target.zonename);
    this.leases.releasedEarly(target.zonename);
  }

  stop(): Promise<void> {
    return this.leases.stop();
  }

  /** A long file waits for room among long ones before it takes one of the workers of all. */
  private writeWithinBudget(batch: Batch): Promise<BatchResults> {
    const { zonename, directory } = batch.target;
    const stat = statAt(pathOf(directory, 'metadata'));
    const bytes = stat === null ? 0 : sizeOf(stat);
    return bytes > KEPT_BYTES
      ? this.longWrites.run(zonename, 2 * bytes, () => this.queue.write(batch))
      : this.queue.write(batch);
  }

  private async write(batch: Batch): Promise<BatchResults> {
    const { target } = batch;
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage('writing');
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
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
    target: WriteTarget,
    asked: readonly PlannedChange[],
  ): Promise<BatchResults | undefined> {
    const file = await openMetadata(this.files, target.directory);
    if (file === undefined) {
      return undefined;
    }
    // With this write the file is ours again: what was undone before we had the lock must not be missed.
    const undone = this.leases.hasWritten(target.zonename)
      ? []
      : this.undone.take(target.zonename, identityOf(file.stat), 'ours');
    const changes = [...undone, ...asked];
    const current = await currentOf(this.files, target.directory, file, changes);
    if (current === undefined) {
      return undefined;
    }
    await beforeLongWork(changes.reduce((bytes, change) => bytes + bytesOf(change), 0));
    const plan = planChanges(changes, current, this.limits);
    const path = pathOf(target.directory, 'metadata');
    const compared = (identity: string): void => {
      const taken = changes.filter(({ onlyIf }) => onlyIf !== undefined);
      this.undone.compared(target.zonename, taken, plan, identity, (map, key) => {
        return current.valueOf(map, key);
      });
    };
    if (plan.empty) {
      // Answered as stored, so it must be on disk, whoever wrote it.
      const identity = identityOf(file.stat);
      if (file.stat !== null && this.durable.get(path) !== identity) {
        await syncDurably(path);
        this.durable.set(path, identity);
      }
      compared(identity);
      return plan.results.slice(undone.length);
    }
    const undo = this.leases.expect(target.zonename, plan);
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
        this.undone.wrote(target, plan, identity, (map, key) => current.valueOf(map, key));
      }
      compared(identity);
    }
    const restored = restoredBy(plan, changes);
    if (restored > 0) {
      this.restoredCount += restored;
      target.log.warn(
        { changes: restored },
        'metadata was undone from a stale copy of vminfod, and written again',
      );
    }
    const pause = Math.min(sizeOf(text.stat) / BYTES_PER_MS, LONGEST_PAUSE_MS);
    this.nextWriteAt.set(target.zonename, performance.now() + pause);
    return plan.results.slice(undone.length);
  }
}

/** Of the metadata file; empty where there is none, or where its stat fails. */
function identityAt(directory: string): string {
  try {
    return identityOf(statAt(pathOf(directory, 'metadata')));
  } catch {
    // Whoever reads the file meets the fault too, and logs it.
    return '';
  }
}

function identityOf(stat: FileStat | null): string {
  return stat === null ? '' : textOfStat(stat);
}

/** How many keys are written again. One can be among the changes twice. */
function restoredBy(plan: Plan, changes: readonly PlannedChange[]): number {
  const restored = changes.filter(({ map, key, onlyIf }) => onlyIf && plan[map].has(key));
  return new Set(restored.map(({ map, key }) => idOf(map, key))).size;
}

/** What a change brings, about. */
function bytesOf(change: Change): number {
  return change.key.length + (change.kind === 'set' ? change.value.length : 0);
}
