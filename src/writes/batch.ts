/*
 * Changes of one VM that are written together, the backend that writes them (file-writer.ts or
 * vmadm-writer.ts), and the queue in which the batches of all VMs wait for one of its few workers, so that a
 * storm of writes takes a bounded part of the machine.
 */
import * as vasync from 'vasync';
import type { SystemError } from '../lib/errors';
import type { Change, ChangeResult, MetadataMaps } from '../metadata/vm-data';
import type { LeaseStatus, MetadataLimits, Stage, WriteTarget } from '../vm/store';

/** A change, and what the key's value must be for it to be made: it is counted as stored where it is not. */
export type PlannedChange = Change & { readonly onlyIf?: (value: unknown) => boolean };

export interface Batch {
  readonly target: WriteTarget;
  /** Aborted when everybody who waited has been answered with a time-out. */
  readonly signal: AbortSignal;
  /** Hands over what waits, once, as late as possible. Can be empty. */
  take(): readonly PlannedChange[];
  /** Sets the stage of the batch, for status and for the text of a time-out. */
  stage(stage: Stage): void;
}

/** One result for each change of a batch, in their order. */
export type BatchResults = readonly ChangeResult[];

export interface Backend {
  readonly limits: MetadataLimits;
  /** Rejects with the fault that hit all changes. */
  commit(batch: Batch): Promise<BatchResults>;
  /** Resolves when nothing of it is left: no lock, no timer. */
  stop(): Promise<void>;
}

/** A backend that keeps the platform's lock after a write, until vminfod shows the change. */
export interface LeasingBackend extends Backend {
  readonly leaseStatus: LeaseStatus;
  /** What vminfod shows of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void;
  /** What a stale copy of vminfod's has undone and has to be written again; each handed out once. */
  undoneChanges(target: WriteTarget): readonly PlannedChange[];
  /** Removes what a killed predecessor left. Only while no write of the VM is in progress. */
  clean(directory: string): void;
  /** The VM is gone. */
  remove(target: WriteTarget): void;
}

interface Job {
  readonly batch: Batch;
  readonly resolve: (results: BatchResults) => void;
  readonly reject: (err: SystemError) => void;
}

/** Made with its backend, closed with it. */
export class BatchQueue {
  private readonly queue: vasync.Queue<Job>;

  /**
   * @param concurrency batches that are written at a time
   * @param write writes one of them
   * @param toError makes an error of what `write` rejects with
   */
  constructor(
    concurrency: number,
    write: (batch: Batch) => Promise<BatchResults>,
    toError: (batch: Batch, err: unknown) => SystemError,
  ) {
    this.queue = vasync.queue<Job>(({ batch, resolve, reject }, done) => {
      void write(batch)
        .then(resolve, (err: unknown) => reject(toError(batch, err)))
        .finally(done);
    }, concurrency);
  }

  /** Resolves when it is written, in the order of the calls. Rejects with the fault that hit it. */
  write(batch: Batch): Promise<BatchResults> {
    batch.stage('queued');
    return new Promise((resolve, reject) => {
      this.queue.push({ batch, resolve, reject });
    });
  }

  /** Accepts nothing new. */
  close(): void {
    this.queue.close();
  }
}
