/*
 * Writes metadata.json itself, under the platform's lock. (spec: platform section 4.1; pain 1)
 *
 *   lock -> read the file -> edit -> temp file, fsync -> rename -> fsync folder -> answer -> hold lock
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
import { codeOf, SystemError, systemError } from '../lib/errors';
import type { Change, ChangeResult } from '../metadata/handler';
import { syncDurably } from '../platform/durable-file';
import { openStat } from '../platform/file-stat';
import { takeLock } from '../platform/lock';
import { DEFAULT_METADATA_LIMITS, planChanges, type MetadataLimits, type Plan } from './plan';
import { pathOf } from '../vm/config-files';
import { LockLeases, type HeldLock } from './lock-lease';
import { readMetadataFile, replaceFile, tempPathOf, type MetadataFile } from './metadata-file';
import type { Backend, Batch, Target } from './backend';
import { BatchQueue } from './batch-queue';
import type { JsonObject } from '../metadata/vm-data';

const look = openStat();

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
/** Large files are rewritten no faster than this, so that one VM cannot keep the disk and us busy. */
const BYTES_PER_MS = 32 * 1024;
/** A VM whose file takes long to read and edit rests for so many times as long: others need us too. */
const REST_PER_WORK = 10;
/** Shorter work needs no rest, ms: the share of writes bounds how often it comes. */
const SHORT_WORK_MS = 2;
/** Time in which the whole process was stopped looks like work. */
const LONGEST_REST_MS = 2000;

export interface FileWriterOptions {
  /** Host path of the platform's lock of a VM, by its uuid. */
  readonly lockPath: (uuid: string) => string;
  readonly takeLock?: TakeLock;
  readonly limits?: MetadataLimits;
  /** Longest time that a lock is held for a confirmation, ms. */
  readonly confirmMs?: number;
  /** Longest time that a lock is held under writes that never stop, ms. */
  readonly longestHoldMs?: number;
}

interface Prepared {
  readonly file: MetadataFile;
  readonly plan: Plan;
  /** The file's new text; null where nothing changes. */
  readonly next: Buffer | null;
}

/** The backend of `writer: "file"`. One serves all VMs. */
export class FileWriter implements Backend {
  readonly limits: MetadataLimits;
  readonly holds: LockLeases;
  private readonly queue: BatchQueue;
  private readonly options: FileWriterOptions;
  /** By path, the file as our last write left it, known to be on stable storage. */
  private readonly durable = new Map<string, string>();
  /** By zone, when it may be written again; on a clock that is never set. */
  private readonly nextWriteAt = new Map<string, number>();

  constructor(options: FileWriterOptions) {
    this.options = options;
    this.limits = options.limits ?? DEFAULT_METADATA_LIMITS;
    this.holds = new LockLeases(options.confirmMs, options.longestHoldMs);
    this.queue = new BatchQueue(
      CONCURRENT_WRITES,
      (batch) => this.write(batch),
      (batch, err) => systemError('write', batch.target.folder, err),
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
      return await this.queue.write(batch);
    } finally {
      this.holds.pause(target.zonename);
    }
  }

  /** What vminfod told of a VM, metadata included. */
  observe(zonename: string, vm: JsonObject): void {
    this.holds.observe(zonename, vm);
  }

  /** Takes away what a killed predecessor left. Only while no write of the VM is under way. */
  clean(folder: string): void {
    const path = tempPathOf(pathOf(folder, 'metadata'));
    try {
      // Asked of each zone at the start: an error thrown for nothing there would cost more than ten looks.
      if (look(path) !== null) {
        unlinkSync(path);
      }
    } catch {
      // Nothing there is the rule; anything else is told by the next write, which meets it too.
    }
  }

  forget(target: Pick<Target, 'zonename' | 'folder'>): void {
    this.durable.delete(pathOf(target.folder, 'metadata'));
    this.nextWriteAt.delete(target.zonename);
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

  private async pace({ zonename }: Target, signal: AbortSignal): Promise<void> {
    const wait = (this.nextWriteAt.get(zonename) ?? 0) - performance.now();
    if (wait > 0) {
      await delay(wait, undefined, { signal });
    }
  }

  /** The VM is not written for so long. */
  private rest(zonename: string, ms: number): void {
    const until = performance.now() + Math.min(ms, LONGEST_REST_MS);
    this.nextWriteAt.set(zonename, Math.max(this.nextWriteAt.get(zonename) ?? 0, until));
  }

  /** What the changes make of the file as it is now. Nobody else is served meanwhile. */
  private prepare(zonename: string, path: string, changes: readonly Change[]): Prepared {
    const began = performance.now();
    try {
      const file = readMetadataFile(path);
      const plan = planChanges(changes, file.maps, file.bytes.length, this.limits);
      return { file, plan, next: plan.empty ? null : file.edited(plan) };
    } finally {
      const workMs = performance.now() - began;
      if (workMs > SHORT_WORK_MS) {
        this.rest(zonename, REST_PER_WORK * workMs);
      }
    }
  }

  private async write(batch: Batch): Promise<readonly ChangeResult[]> {
    const { target } = batch;
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage('writing');
    const path = pathOf(target.folder, 'metadata');
    const { file, plan, next } = this.prepare(target.zonename, path, changes);
    if (next === null) {
      // Answered as stored, so it must be on disk, whoever wrote it.
      if (file.identity !== null && this.durable.get(path) !== file.identity) {
        await syncDurably(path);
        this.durable.set(path, file.identity);
      }
      return plan.results;
    }
    const undo = this.holds.expect(target.zonename, plan);
    try {
      const identity = await replaceFile(path, next, file.stat);
      this.durable.set(path, identity);
    } catch (err) {
      undo();
      throw err instanceof SystemError ? err : new SystemError('write', path, codeOf(err), '', err);
    }
    this.rest(target.zonename, next.length / BYTES_PER_MS);
    return plan.results;
  }
}
