/*
 * One look at every zone of the node through libzonecfg: the first picture, and each reconcile's.
 *
 * The listing is done in slices: thousands of zones never stall the requests of one. A zone that goes
 * away in the middle of it is left out.
 */
import { WorldError } from '../errors';
import { Slice } from '../slice';
import type { Platform } from '../sys/ffi';
import type { ZoneFacts } from '../sys/zone-facts';

export type { ZoneFacts } from '../sys/zone-facts';

export interface Picture {
  readonly zones: readonly ZoneFacts[];
  /** Zones that are configured but could not be looked at: a damaged XML. They are left as they are. */
  readonly unreadable: ReadonlyMap<string, WorldError>;
}

/** All configured zones but the global one. Throws a WorldError when the list itself cannot be had. */
export async function listZones(platform: Platform): Promise<Picture> {
  const zones: ZoneFacts[] = [];
  const unreadable = new Map<string, WorldError>();
  const slice = new Slice();
  for (const zonename of platform.configuredZones()) {
    await slice.rest();
    try {
      const zone = platform.zoneFacts(zonename);
      if (zone !== undefined) {
        zones.push(zone);
      }
    } catch (err) {
      if (!(err instanceof WorldError)) {
        throw err;
      }
      unreadable.set(zonename, err);
    }
  }
  return { zones, unreadable };
}
