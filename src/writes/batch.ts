/*
 * Changes of one VM that are written together, the backend that writes them (file-writer.ts or vmadm-writer.ts), and
 * the limit of batches of all VMs that are written at a time, so that a storm of writes takes a bounded part of the
 * machine.
 */
import type { Change, ChangeResult } from '../metadata/vm-data';
import type { MetadataLimits, Stage, WriteTarget } from '../vm/store';

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

export interface Backend {
  readonly limits: MetadataLimits;
  /** One result for each change of the batch, in their order. Rejects with the fault that hit all changes. */
  commit(batch: Batch): Promise<readonly ChangeResult[]>;
  /** Resolves when nothing of it is left: no lock, no timer. */
  stop(): Promise<void>;
}

/** The batches that a backend writes at a time; the others wait, first come, first served. */
export class BatchLimit {
  private readonly waiting: (() => void)[] = [];

  /** @param free how many */
  constructor(private free: number) {}

  async run<T>(batch: Batch, write: () => Promise<T>): Promise<T> {
    batch.stage('queued');
    if (this.free === 0) {
      // Whoever is done hands its place over.
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    } else {
      this.free--;
    }
    try {
      return await write();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) {
        this.free++;
      } else {
        next();
      }
    }
  }
}
