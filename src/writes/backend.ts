/*
 * What a writer of metadata is to the lanes that feed it: file-writer.ts or vmadm-writer.ts.
 */
import type { ZoneLog } from '../log';
import type { ChangeResult } from '../metadata/vm-data';
import type { MetadataLimits, PlannedChange } from './plan';

/** The VM that a change is for. */
export interface Target {
  readonly zonename: string;
  readonly uuid: string;
  /** Host path of `<zonepath>/config`. */
  readonly directory: string;
  readonly log: Pick<ZoneLog, 'debug' | 'info' | 'warn' | 'error'>;
}

export type Stage = 'idle' | 'slowed' | 'locking' | 'queued' | 'writing';

/** Changes of one VM that are written together. */
export interface Batch {
  readonly target: Target;
  /** Aborted when everybody who waited has been answered with a time-out. */
  readonly signal: AbortSignal;
  /** Hands over what waits, once, as late as possible. Can be empty. */
  take(): readonly PlannedChange[];
  /** Says where the batch is, for status and for the words of a time-out. */
  stage(stage: Stage): void;
}

export interface Backend {
  /** What a VM's metadata may come to. */
  readonly limits: MetadataLimits;
  /** One result for each change taken, in their order. Rejects with the fault that hit them all. */
  commit(batch: Batch): Promise<readonly ChangeResult[]>;
  /** Resolves when nothing of it is left: no lock, no timer. */
  stop(): Promise<void>;
}

/** A refusal or a failure in the words that the guest is told. */
export function failed(text: string): ChangeResult {
  return { kind: 'failed', text };
}
