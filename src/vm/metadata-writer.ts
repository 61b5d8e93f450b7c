/*
 * What the store needs of whoever writes changes of metadata to disk, and what operators see of that.
 * writes/writer.ts is the one that there is; it imports this directory, and this directory does not import it.
 */
import type { ZoneLog } from '../log';
import type { Change, ChangeResult, MetadataMaps } from '../metadata/vm-data';

/** The VM that a change is for. */
export interface WriteTarget {
  readonly zonename: string;
  readonly uuid: string;
  /** Host path of `<zonepath>/config`. */
  readonly directory: string;
  readonly log: Pick<ZoneLog, 'debug' | 'info' | 'warn' | 'error'>;
}

/** What a VM's metadata may come to. */
export interface MetadataLimits {
  /** What a guest can write (customer_metadata, and `_pw` keys): names and values as JSON, bytes. */
  readonly metadataBytes: number;
  /** Keys that a guest can write. */
  readonly metadataKeys: number;
  /** metadata.json as a whole, the operator's data included, bytes. */
  readonly fileBytes: number;
}

export interface MetadataWriter {
  readonly limits: MetadataLimits;
  /** Never rejects; settles within 30 s. */
  change(target: WriteTarget, change: Change): Promise<ChangeResult>;
  /** A zone exists. */
  add(target: WriteTarget): void;
  /** It is gone: what waits is failed, what is being committed ends by itself. */
  remove(target: WriteTarget): void;
  /** What vminfod shows of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void;
  /** Writes again what a stale copy of vminfod's has undone. Cheap: called at every request. */
  restoreUndone(target: WriteTarget): void;
  /** What limits have refused of this VM. */
  refusals(zonename: string): readonly LimitRefusals[];
  status(): WriterStatus;
  leases(): LeaseStatus;
  /** Changes in progress are finished, within `graceMs`: 4 s when it is left out. Idempotent. */
  stop(graceMs?: number): Promise<void>;
}

/** Refusals by one limit of a VM. */
export interface LimitRefusals {
  readonly limit: NonNullable<ChangeResult['limit']>;
  readonly count: number;
  /** Of the last one, ms since 1970. */
  readonly at: number;
}

/** What a VM's queue is doing. */
export type Stage = 'idle' | 'slowed' | 'locking' | 'queued' | 'writing';

export interface QueueStatus {
  readonly zonename: string;
  readonly stage: Stage;
  readonly waiting: number;
  readonly committing: number;
  /** Age of the oldest, ms. */
  readonly oldestMs: number;
}

/** How the last change of a VM that ended failed, where waiting too long was not the reason. */
export interface WriteFailure {
  readonly zonename: string;
  /** An errno, an exit code, or the limit that was met (`keys`, `size`). */
  readonly code: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export interface WriterStatus {
  readonly stored: number;
  readonly failed: number;
  /** PUTIF and DELETEIF of a key that had changed. */
  readonly changed: number;
  readonly joined: number;
  readonly timedOut: number;
  /** VMs whose changes are in progress. */
  readonly inProgress: readonly QueueStatus[];
  /** VMs whose last change failed. */
  readonly failing: readonly WriteFailure[];
}

/** Locks that are kept after a write until vminfod shows it. */
export interface LeaseStatus {
  /** Kept now. */
  readonly holds: number;
  /** How many ended before vminfod showed the change. */
  readonly unconfirmed: number;
  /** Changes that a stale copy of vminfod's had undone, made again. */
  readonly restored: number;
}
