/*
 * What the admin server sees of the agent, which hands itself in: admin/ never imports it. Everything is read only, but
 * for the level of the logger. And the platform's states of its zones.
 */
import type * as vasync from 'vasync';
import type { Config } from '../config';
import type { LiveAudit } from '../datasets/live-audit';
import { CooperativeYield } from '../lib/scheduler';
import type { NodeMetrics } from '../metrics';
import type { RequestLog } from '../request-log';
import type { Logger } from '../log';
import type { Platform, ZoneFacts } from '../platform/libzonecfg';
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
  readonly vminfodUrl: string;
  phase(): AgentPhase;
  config(): Config;
  readonly zones: Registry;
  requestLogOf(zone: Zone): RequestLog | undefined;
  /** The start as vasync shows it, null before it. */
  starting(): vasync.PipelineStatus | null;
  /** Log records that were lost since the start. */
  lostRecords(): number;
}

/** For work on thousands of items: guests are served between them. */
export async function* inSlices<T>(items: Iterable<T>): AsyncGenerator<T> {
  const slice = new CooperativeYield();
  for (const item of items) {
    await slice.pause();
    yield item;
  }
}

type State = ZoneFacts['state'];

/** Of zones by name, as of one moment. Only zones that the kernel knows have an id. */
export type PlatformStates = ReadonlyMap<
  string,
  { readonly state: State; readonly zoneid?: number }
>;

/**
 * The kernel's states, which count more, and the index's: some milliseconds for thousands of zones. Rejects with a
 * SystemError where the platform cannot be asked.
 */
export async function readStates(
  platform: Pick<Platform, 'liveZones' | 'zoneIndex'>,
): Promise<PlatformStates> {
  const states = new Map<string, { state: State; zoneid?: number }>(platform.liveZones());
  for await (const { zonename, state } of inSlices(platform.zoneIndex().entries())) {
    // As libzonecfg does, the first of two lines counts.
    if (!states.has(zonename)) {
      states.set(zonename, { state });
    }
  }
  return states;
}

/** The one word of all views for a zone's state. */
export function platformState(
  { zonename, state }: Pick<Zone, 'zonename' | 'state'>,
  states: PlatformStates,
): State {
  const followed = state === 'ready' || state === 'running' ? state : 'installed';
  return states.get(zonename)?.state ?? followed;
}
