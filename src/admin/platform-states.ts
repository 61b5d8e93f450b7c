/*
 * What the platform says of its zones' states, for one evaluation of the health.
 *
 * The kernel is asked for all its zones, by one call of the addon; the index is parsed again only when its file is
 * another than before: for thousands of zones that takes as long as all the rest. Zones that the index alone knows
 * (configured, incomplete, installed) change when it does. Changes nothing and keeps no descriptor.
 */
import { CooperativeYield } from '../lib/scheduler';
import { openStat, sameStat, type FileStat } from '../platform/files';
import type { LiveZone, Platform, ZoneFacts } from '../platform/libzonecfg';
import type { Zone } from '../zones/zone';

type State = ZoneFacts['state'];

/** The states of one moment; both empty where the platform could not be asked. */
export interface PlatformStates {
  /** Zones that the kernel knows, by name: these count more. */
  readonly live: ReadonlyMap<string, LiveZone>;
  readonly index: ReadonlyMap<string, State>;
}

const NONE: PlatformStates = { live: new Map(), index: new Map() };

/** Reads the states of all zones. */
export class PlatformStateReader {
  private readonly stat = openStat();
  private parsed: { readonly stat: FileStat; readonly states: PlatformStates['index'] } | null =
    null;

  /** @param path of the zone index, on this machine */
  constructor(
    private readonly platform: Pick<Platform, 'liveZones' | 'zoneIndex'>,
    private readonly path: string,
  ) {}

  /** Never rejects. @param onError is told why there are none */
  async read(onError: (err: unknown) => void): Promise<PlatformStates> {
    try {
      return { live: this.platform.liveZones(), index: await this.indexStates() };
    } catch (err) {
      onError(err);
      return NONE;
    }
  }

  private async indexStates(): Promise<PlatformStates['index']> {
    // Before it is read: of a file that is replaced meanwhile the next evaluation reads the new one.
    const stat = this.stat(this.path)?.slice() ?? null;
    if (stat !== null && this.parsed !== null && sameStat(stat, this.parsed.stat)) {
      return this.parsed.states;
    }
    const states = new Map<string, State>();
    const pause = new CooperativeYield();
    for (const { zonename, state } of this.platform.zoneIndex().entries()) {
      await pause.pause();
      // As libzonecfg does, the first of two lines counts.
      if (!states.has(zonename)) {
        states.set(zonename, state);
      }
    }
    this.parsed = stat === null ? null : { stat, states };
    return states;
  }
}

/** The one word of all views for a zone's state. */
export function platformState(zone: Zone, { live, index }: PlatformStates): State {
  const { zonename } = zone;
  const followed = zone.state === 'ready' || zone.state === 'running' ? zone.state : 'installed';
  return live.get(zonename)?.state ?? index.get(zonename) ?? followed;
}

/**
 * How a VM object shows that vminfod missed a boot, as a clause; null where it does not. vminfod takes the id from
 * `zoneadm list` anew at each event of the zone, and has null for one that does not run (smartos-live,
 * vmload-zoneadm.js and vminfod/vminfod.js, handleZoneEvent).
 *
 * @param known the object's `zoneid`
 */
export function missedBoot(known: number | undefined, live: LiveZone | undefined): string | null {
  return known === undefined || live === undefined || known === live.zoneid
    ? null
    : `it missed a reboot (it says zone id ${known}, the platform says ${live.zoneid})`;
}
