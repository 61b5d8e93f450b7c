/*
 * One look at every zone of the node through libzonecfg: the first picture, and each reconcile's.
 *
 * The listing is done in slices: thousands of zones never stall the requests of one. A zone that goes
 * away in the middle of it is left out.
 */
import { SystemError } from '../lib/errors';
import { CooperativeYield } from '../lib/slice';
import type { Platform } from '../platform/libzonecfg';
import type { ZoneFacts } from '../platform/zone-facts';

export type { ZoneFacts } from '../platform/zone-facts';

export interface ZoneSnapshot {
  readonly zones: readonly ZoneFacts[];
  /** Zones that are configured but could not be looked at: a damaged XML. They are left as they are. */
  readonly unreadable: ReadonlyMap<string, SystemError>;
}

/** All configured zones but the global one. Throws a SystemError when the list itself cannot be had. */
export async function listZones(platform: Platform): Promise<ZoneSnapshot> {
  const zones: ZoneFacts[] = [];
  const unreadable = new Map<string, SystemError>();
  const slice = new CooperativeYield();
  for (const zonename of platform.configuredZones()) {
    await slice.rest();
    try {
      const zone = platform.zoneFacts(zonename);
      if (zone !== undefined) {
        zones.push(zone);
      }
    } catch (err) {
      if (!(err instanceof SystemError)) {
        throw err;
      }
      unreadable.set(zonename, err);
    }
  }
  return { zones, unreadable };
}
