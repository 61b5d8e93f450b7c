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

export interface Finding {
  readonly verdict: Verdict;
  readonly finding: string;
  /** What to do; empty where nothing is wrong. */
  readonly remedy: string;
}

export interface Step extends Finding {
  readonly step: string;
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
export interface DoctorTarget extends DoctorContext {
  readonly zone: Zone;
}

/** The steps of a zone, in their order. */
export type Checks = Readonly<Record<string, (target: DoctorTarget) => Finding | Promise<Finding>>>;

/** All is well. */
export function ok(finding: string): Finding {
  return { verdict: 'ok', finding, remedy: '' };
}

/** It works, and will not for long, or not as it should. @param remedy what to do */
export function warn(finding: string, remedy: string): Finding {
  return { verdict: 'warn', finding, remedy };
}

/** It does not work. @param remedy what to do */
export function fail(finding: string, remedy: string): Finding {
  return { verdict: 'fail', finding, remedy };
}

/** It could not be checked, or there is nothing to check. */
export function skip(finding: string): Finding {
  return { verdict: 'skip', finding, remedy: '' };
}
