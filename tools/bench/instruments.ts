/*
 * What every measurement is made with: a client, how much of it there is to be, and whom it tells.
 */
import type { Disk } from './disk';
import type { Client } from './load';
import type { Goal } from './report';

/** How much is measured. */
export interface Scale {
  /** Pairs of runs, and how long each side of a pair runs. */
  readonly pairs: number;
  readonly seconds: number;
  readonly manyZones: number;
  readonly idleZones: number;
  /** What the collector does after the start is over by then, and is no idling. */
  readonly settleSeconds: number;
  readonly idleSeconds: number;
  readonly burst: number;
  /** Whether the goals are meant for runs of this size. */
  readonly judged: boolean;
  readonly starts: number;
}

export interface Instruments {
  readonly scale: Scale;
  readonly client: Client;
  readonly disk: Disk;
  /**
   * Adds a row to the report.
   * @param values one of each run
   * @param note what a reader wants to know of the median run
   */
  addRow(name: string, unit: string, goal: Goal, values: readonly number[], note?: string): void;
}
