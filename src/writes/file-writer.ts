/*
 * Writes metadata.json itself, under the platform's lock.
 *
 *   lock -> find the members -> plan -> pieces -> [thread: build, check, replace durably] -> answer
 *
 * What is done on the main thread grows with the change, not with the file. The thread (native/metadata_file.c) checks
 * what it has built: it is JSON, it holds every member that was not to be changed, byte for byte, and as many others as
 * were. It replaces the file in an order that makes it safe to be killed at any step:
 *
 *   1 temp file, new and empty   2 its bytes, mode, owner   3 fsync it   4 rename it   5 fsync the directory
 *
 * Until 4 the old file is there, from 4 on the new one, and only after 5 does anyone hear of success. At worst a temp
 * file is left, which is never read and goes with the next write.
 *
 * The platform's VM tool takes the same lock, but rebuilds the file from vminfod's copy of the VM. So the lock is kept
 * after the guest has its answer (lock-lease.ts), and nobody waits for vminfod.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ByteBudget } from '../lib/byte-budget';
import { SystemError, systemError } from '../lib/errors';
import type { ChangeResult, MetadataMaps } from '../metadata/vm-data';
import { isForeign, syncDurably, sizeOf, type FileStat } from '../platform/files';
import { takeFreeLock, takeLock } from '../platform/lock';
import { beforeLongWork, spliceText, type ScannedText } from '../platform/metadata-text';
import { KEPT_BYTES, pathOf, type ConfigFiles } from '../vm/config-files';
import type { LeaseStatus, MetadataLimits, WriteTarget } from '../vm/store';
import { editPieces } from './json-edit';
import { expectShown, hasWritten, LockLeases, type Lease } from './lock-lease';
import { currentOf, EMPTY_FILE, openMetadata, type OpenMetadata } from './metadata-file';
import { planChanges, type Plan, type PlannedChange } from './plan';
import { BatchLimit, sizeOfChange, type Backend, type Batch } from './queue';
import { idOf, isMade, UndoneWrites } from './undone-writes';

/** A batch's signal comes long before this: it bounds a wait that new changes would keep alive for ever. */
const LONGEST_LOCK_WAIT_MS = 10 * 60 * 1000;
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
  readonly limits: MetadataLimits;
  /** As LockLeases has them. */
  readonly confirmMs?: number;
  readonly longestLeaseMs?: number;
  /** The store's, so that what was written need not be read. */
  readonly files: ConfigFiles;
  /** Whether a write that a stale copy of vminfod's has undone is made again; by default it is. */
  readonly restoreUndone?: boolean;
}

/** The backend of `writer: "file"`, which keeps the platform's lock after a write. One serves all VMs. */
export class FileWriter implements Backend {
  readonly limits: MetadataLimits;
  private readonly leases: LockLeases;
  private readonly workers = new BatchLimit(CONCURRENT_WRITES);
  private readonly undone = new UndoneWrites();
  private restoredCount = 0;
  private readonly longWrites = new ByteBudget(LONG_WRITE_BYTES);
  private readonly files: ConfigFiles;
  /** By zone, when it may be written again; on a monotonic clock. */
  private readonly nextWriteAt = new Map<string, number>();

  constructor(private readonly options: FileWriterOptions) {
    this.files = options.files;
    this.limits = options.limits;
    this.leases = new LockLeases(options.confirmMs, options.longestLeaseMs, ({ zonename }) => {
      this.undone.released(zonename);
    });
  }

  async commit(target: WriteTarget, batch: Batch): Promise<readonly ChangeResult[]> {
    const { zonename, uuid, directory } = target;
    const pause = (this.nextWriteAt.get(zonename) ?? 0) - performance.now();
    if (pause > 0) {
      await delay(pause, undefined, { signal: batch.signal });
    }
    let lease = this.leases.resume(zonename);
    if (lease === undefined) {
      batch.stage = 'locking';
      const path = this.options.lockPath(uuid);
      const timeoutMs = LONGEST_LOCK_WAIT_MS;
      const free = takeFreeLock(path);
      const lock = free ?? (await takeLock(path, { timeoutMs, signal: batch.signal }));
      lease = this.leases.begin(target, lock);
    }
    const held = lease;
    try {
      const bytes = this.files.sizeOf(directory);
      const write = () => this.workers.run(batch, () => this.write(target, batch, held));
      // A long file waits for room among long ones before it takes one of the workers of all.
      return await (bytes > KEPT_BYTES ? this.longWrites.run(zonename, 2 * bytes, write) : write());
    } catch (err) {
      throw systemError('write', pathOf(directory, 'metadata'), err);
    } finally {
      if (this.leases.pause(held)) {
        this.notBefore(zonename, YIELD_MS);
      }
    }
  }

  /** What vminfod shows of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void {
    // Before the lock is released, and with it what is not needed any more.
    this.undone.shown(zonename, metadata);
    this.leases.observe(zonename, metadata);
  }

  get leaseStatus(): LeaseStatus {
    const { size: holds, unconfirmed } = this.leases;
    return { holds, unconfirmed, restored: this.restoredCount };
  }

  /**
   * What has to be written again, since the file is not the one that we left and vminfod never showed what we
   * wrote. Each change is returned once.
   */
  undoneChanges({ zonename }: WriteTarget): readonly PlannedChange[] {
    return this.leases.isHeld(zonename) ? [] : this.undone.take(zonename);
  }

  /** The VM is gone. */
  remove(zonename: string): void {
    this.nextWriteAt.delete(zonename);
    this.undone.remove(zonename);
  }

  stop(): Promise<void> {
    return this.leases.stop();
  }

  /** The zone is not written again for so long, ms. */
  private notBefore(zonename: string, ms: number): void {
    const at = Math.max(this.nextWriteAt.get(zonename) ?? 0, performance.now() + ms);
    this.nextWriteAt.set(zonename, at);
  }

  private async write(
    target: WriteTarget,
    batch: Batch,
    lease: Lease,
  ): Promise<readonly ChangeResult[]> {
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage = 'writing';
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const results = await this.tryToWrite(target, lease, changes);
      if (results !== undefined) {
        return results;
      }
    }
    const path = pathOf(target.directory, 'metadata');
    const detail = 'somebody without the lock changes it all the time';
    throw new SystemError('write', path, 'EAGAIN', detail);
  }

  /** Undefined where the file was replaced meanwhile, by somebody who does not take the lock. */
  private async tryToWrite(
    target: WriteTarget,
    lease: Lease,
    asked: readonly PlannedChange[],
  ): Promise<readonly ChangeResult[] | undefined> {
    const { zonename, directory, log } = target;
    const file = await openMetadata(this.files, directory);
    if (file === undefined) {
      return undefined;
    }
    // With this write the file is ours again: what was undone before we had the lock must not be missed.
    const undone = hasWritten(lease) ? [] : this.undone.take(zonename, file.stat);
    const changes = [...undone, ...asked];
    const current = await currentOf(this.files, directory, file, changes);
    if (current === undefined) {
      return undefined;
    }
    await beforeLongWork(changes.reduce((bytes, change) => bytes + sizeOfChange(change), 0));
    const plan = planChanges(changes, current, this.limits);
    let { stat } = file;
    if (!plan.empty) {
      const written = await this.replace(target, lease, file, plan);
      if (written === undefined) {
        return undefined;
      }
      stat = written;
    } else if (stat !== null) {
      // What is answered as stored must be on disk, whoever wrote it.
      await syncDurably(pathOf(directory, 'metadata'));
    }
    const taken = changes.filter(({ onlyIf }) => onlyIf !== undefined);
    if (stat === null || !isForeign(stat)) {
      if (!plan.empty && this.options.restoreUndone !== false) {
        this.undone.wrote(target, plan, stat, current.valueOf);
        if (lease.shown !== null) {
          this.undone.shown(zonename, lease.shown);
        }
      }
      this.undone.compared(zonename, taken, plan, stat, current.valueOf);
    }
    // One key can be among them twice.
    const restored = taken.filter((change) => isMade(plan, change));
    const count = new Set(restored.map(({ map, key }) => idOf(map, key))).size;
    if (count > 0) {
      this.restoredCount += count;
      log.warn(
        { changes: count },
        'metadata was undone from a stale copy of vminfod, and written again',
      );
    }
    return plan.results.slice(undone.length);
  }

  /**
   * The stat of the new file, which says where another has taken its place by now; undefined where another had taken
   * that of the old one.
   */
  private async replace(
    { zonename, directory, log }: WriteTarget,
    lease: Lease,
    file: OpenMetadata,
    plan: Plan,
  ): Promise<FileStat | undefined> {
    const path = pathOf(directory, 'metadata');
    const undo = expectShown(lease, plan);
    let text: ScannedText | undefined;
    try {
      text = await spliceText({
        path,
        // One fixed name: what a killed writer has left goes with the next write.
        temp: `${directory}/.metadata.json.mdatad`,
        old: file.text === null ? EMPTY_FILE : file.text.bytes,
        stat: file.stat,
        pieces: editPieces(file.index, file.length, plan),
        owner: file.owner,
        keepMax: KEPT_BYTES,
      });
    } finally {
      if (text === undefined) {
        undo();
      }
    }
    if (text === undefined) {
      return undefined;
    }
    const { stat } = text;
    if (file.text === null && file.stat !== null) {
      log.info({ path }, 'blank metadata file was rewritten');
    }
    this.notBefore(zonename, Math.min(sizeOf(stat) / BYTES_PER_MS, LONGEST_PAUSE_MS));
    if (!isForeign(stat)) {
      this.files.written(directory, text);
    }
    // Its own copy, for who notes it: this one shares the memory of all offsets.
    return stat.slice();
  }
}
