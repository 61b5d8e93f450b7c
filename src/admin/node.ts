/*
 * What the operators' side sees of the agent. The agent makes one and hands it in: admin/ never
 * imports the agent. Everything here is for looking, but for the level of the logger.
 */
import type * as vasync from 'vasync';
import type { Config } from '../config';
import type { LiveAudit } from '../datasets/live';
import type { Figures } from '../figures';
import type { Journal } from '../journal';
import type { Logger } from '../log';
import type { Platform } from '../sys/ffi';
import type { Paths } from '../sys/paths';
import type { Store } from '../vm/store';
import type { Registry } from '../zones/registry';
import type { Zone } from '../zones/zone';
import type { Tail } from './tail';

export type AgentPhase = 'starting' | 'serving' | 'stopping';

export interface AdminNode {
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly paths: Paths;
  readonly platform: Platform;
  readonly store: Store;
  readonly figures: Figures;
  readonly datasets: LiveAudit;
  readonly log: Logger;
  readonly tail: Tail;
  /** Where vminfod is asked. */
  readonly vminfodUrl: string;
  phase(): AgentPhase;
  config(): Config;
  /** Null until the zones' turn in the start has come. */
  registry(): Registry | null;
  journalOf(zone: Zone): Journal | undefined;
  /** The start as vasync shows it, null before it. */
  starting(): vasync.PipelineStatus | null;
  /** Log records that were lost since the start. */
  lostRecords(): number;
}
