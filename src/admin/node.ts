/*
 * What the admin server sees of the agent, which makes one and hands it in: admin/ never imports the agent.
 * Everything here is read only, but for the level of the logger.
 */
import type * as vasync from 'vasync';
import type { Config } from '../config';
import type { LiveAudit } from '../datasets/live-audit';
import { CooperativeYield } from '../lib/scheduler';
import type { NodeMetrics } from '../metrics';
import type { RequestLog } from '../request-log';
import type { Logger } from '../log';
import type { Platform } from '../platform/libzonecfg';
import type { Paths } from '../platform/paths';
import type { Store } from '../vm/store';
import type { Registry } from '../zones/registry';
import type { Zone } from '../zones/zone';
import type { Tail } from './tail';

/** What a brand's hook may say a zone came to; the agent asks the platform anyway. */
export const NOTIFY_STATES = [
  'created',
  'configured',
  'incomplete',
  'installed',
  'ready',
  'running',
  'shutting_down',
  'down',
  'halted',
  'changed',
  'deleted',
] as const;

export type AgentPhase = 'starting' | 'serving' | 'stopping';

export interface AdminNode {
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly paths: Paths;
  readonly platform: Platform;
  readonly store: Store;
  readonly metrics: NodeMetrics;
  readonly datasets: LiveAudit;
  readonly log: Logger;
  readonly tail: Tail;
  /** Where vminfod is asked. */
  readonly vminfodUrl: string;
  phase(): AgentPhase;
  config(): Config;
  /** Null until the start comes to the zones. */
  registry(): Registry | null;
  requestLogOf(zone: Zone): RequestLog | undefined;
  /** The start as vasync shows it, null before it. */
  starting(): vasync.PipelineStatus | null;
  /** Log records that were lost since the start. */
  lostRecords(): number;
}

/** All zones, for work on thousands of them: guests are served between them. */
export async function* zonesInSlices(node: AdminNode): AsyncGenerator<Zone> {
  const slice = new CooperativeYield();
  for (const zone of [...(node.registry()?.all() ?? [])]) {
    await slice.pause();
    yield zone;
  }
}
