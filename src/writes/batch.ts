/*
 * Changes of one VM that are written together, the backend that writes them (file-writer.ts or
 * vmadm-writer.ts), and the queue in which the batches of all VMs wait for one of its few workers, so that a
 * storm of writes takes a bounded part of the machine.
 */
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

/** One for each backend. */
export class BatchQueue {
  private readonly waiting: (() => void)[] = [];
  private running = 0;

  /**
   * @param concurrency batches that are written at a time
   * @param writeNow writes one of them
   * @param toError makes an error of what `writeNow` rejects with
   */
  constructor(
    private readonly concurrency: number,
    private readonly writeNow: (batch: Batch) => Promise<BatchResults>,
    private readonly toError: (batch: Batch, err: unknown) => SystemError,
  ) {}

  /** Resolves when it is written, in the order of the calls. Rejects with the fault that hit it. */
  async write(batch: Batch): Promise<BatchResults> {
    batch.stage('queued');
    if (this.running === this.concurrency) {
      // Whoever is done hands its place over.
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    } else {
      this.running++;
    }
    try {
      return await this.writeNow(batch);
    } catch (err) {
      throw this.toError(batch, err);
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) {
        this.running--;
      } else {
        next();
      }
    }
  }
}
