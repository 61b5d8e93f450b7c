/*
 * What the admin server sees of the agent, which makes one and hands it in: admin/ never imports the agent. Everything
 * is read only, but for the level of the logger. And the platform's states of its zones.
 */
import type * as vasync from 'vasync';
import type { Config } from '../config';
import type { LiveAudit } from '../datasets/live-audit';
import { CooperativeYield } from '../lib/scheduler';
import type { NodeMetrics } from '../metrics';
import type { RequestLog } from '../request-log';
import type { Logger } from '../log';
import { openStat, sameStat, type FileStat } from '../platform/files';
import type { LiveZone, Platform, ZoneFacts } from '../platform/libzonecfg';
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
  readonly zones: Registry;
  requestLogOf(zone: Zone): RequestLog | undefined;
  /** The start as vasync shows it, null before it. */
  starting(): vasync.PipelineStatus | null;
  /** Log records that were lost since the start. */
  lostRecords(): number;
}

/** All zones, for work on thousands of them: guests are served between them. */
export async function* zonesInSlices(node: AdminNode): AsyncGenerator<Zone> {
  const slice = new CooperativeYield();
  for (const zone of [...node.zones.all()]) {
    await slice.pause();
    yield zone;
  }
}

type State = ZoneFacts['state'];

/** The states of one moment; both empty where the platform could not be asked. */
export interface PlatformStates {
  /** Zones that the kernel knows, by name: these count more. */
  readonly live: ReadonlyMap<string, LiveZone>;
  readonly index: ReadonlyMap<string, State>;
}

/**
 * Reads the states of all zones. The kernel is asked for all of them by one call of the addon; the index is parsed
 * again only where its file is another than before: for thousands of zones that takes as long as all the rest.
 */
export class PlatformStateReader {
  private readonly stat = openStat();
  private parsed: { stat: FileStat; states: PlatformStates['index'] } | null = null;

  /** @param path of the zone index, on this machine */
  constructor(
    private readonly platform: Pick<Platform, 'liveZones' | 'zoneIndex'>,
    private readonly path: string,
  ) {}

  /** Rejects with a SystemError where the platform cannot be asked. */
  async read(): Promise<PlatformStates> {
    const live = this.platform.liveZones();
    // Before it is read: of a file that is replaced meanwhile the next evaluation reads the new one.
    const stat = this.stat(this.path)?.slice();
    if (stat !== undefined && this.parsed !== null && sameStat(stat, this.parsed.stat)) {
      return { live, index: this.parsed.states };
    }
    const index = new Map<string, State>();
    const slice = new CooperativeYield();
    for (const { zonename, state } of this.platform.zoneIndex().entries()) {
      await slice.pause();
      // As libzonecfg does, the first of two lines counts.
      if (!index.has(zonename)) {
        index.set(zonename, state);
      }
    }
    this.parsed = stat === undefined ? null : { stat, states: index };
    return { live, index };
  }
}

/** The one word of all views for a zone's state. */
export function platformState(
  zone: Pick<Zone, 'zonename' | 'state'>,
  { live, index }: PlatformStates,
): State {
  const { zonename } = zone;
  const followed = zone.state === 'ready' || zone.state === 'running' ? zone.state : 'installed';
  return live.get(zonename)?.state ?? index.get(zonename) ?? followed;
}
