/*
 * What a run of the doctor finds: steps, each with a verdict, what was found, and what to do about it. Shared by
 * doctor.ts and its checks.
 */
import type { MountEntry } from '../platform/mounts';
import type { Zone } from '../zones/zone';
import type { HealthMonitor, HealthSnapshot } from './health';
import type { AdminNode } from './node';

/** By severity. `skip`: there is nothing to check, as the mount of a halted zone. */
export const VERDICTS = ['skip', 'ok', 'warn', 'fail'] as const;
export type Verdict = (typeof VERDICTS)[number];

export interface Step {
  readonly step: string;
  readonly verdict: Verdict;
  readonly finding: string;
  /** What to do; empty where nothing is wrong. */
  readonly remedy: string;
}

/** What the steps of one run share, read once. */
export interface DoctorContext {
  readonly node: AdminNode;
  /** Null: the table of mounts could not be read. */
  readonly mounts: ReadonlyMap<string, MountEntry> | null;
  readonly health: HealthSnapshot;
  readonly monitor: HealthMonitor;
}

/** A zone, and the run that it is checked in. */
export interface DoctorTarget {
  readonly context: DoctorContext;
  readonly zone: Zone;
}

/** What to do about a zone whose file system below its root does not answer. */
export const NOT_ANSWERING_REMEDY =
  'see what the zone mounted below its root (an NFS server of its own?) and whether that answers; reboot the zone. No other zone is affected';

/** All is well. */
export function ok(step: string, finding: string): Step {
  return { step, verdict: 'ok', finding, remedy: '' };
}

/** It works, and will not for long, or not as it should. @param remedy what to do */
export function warn(step: string, finding: string, remedy: string): Step {
  return { step, verdict: 'warn', finding, remedy };
}

/** It does not work. @param remedy what to do */
export function fail(step: string, finding: string, remedy: string): Step {
  return { step, verdict: 'fail', finding, remedy };
}

/** It could not be checked, or there is nothing to check. */
export function skip(step: string, finding: string): Step {
  return { step, verdict: 'skip', finding, remedy: '' };
}
