/*
 * One listing of every zone of the node: for the first snapshot, and for each reconcile.
 *
 * It is one read of the index and one look at the kernel (platform/zone-facts.ts), done in slices: thousands
 * of zones never stall the requests of one. A zone that goes away in the middle of it is left out.
 */
import { codeOf, SystemError } from '../lib/errors';
import { CooperativeYield } from '../lib/scheduler';
import type { Platform } from '../platform/libzonecfg';
import type { IndexEntry, ZoneFacts } from '../platform/zone-facts';

export type { ZoneFacts } from '../platform/zone-facts';

/** libzonecfg's code for a zone that has no XML. */
const NO_ZONE = 'Z_NO_ZONE';

export interface ZoneSnapshot {
  readonly zones: readonly ZoneFacts[];
  /**
   * Zones that the index names without a brand and whose XML libzonecfg cannot read. They are left as
   * they are.
   */
  readonly unreadable: ReadonlyMap<string, SystemError>;
}

/** All configured zones but the global one. Throws a SystemError when the list itself cannot be had. */
export async function listZones(platform: Platform): Promise<ZoneSnapshot> {
  const zones = new Map<string, ZoneFacts>();
  const unreadable = new Map<string, SystemError>();
  const yielding = new CooperativeYield();
  const index = platform.zoneIndex();
  const live = platform.liveZones();
  await yielding.pause();
  for (const entry of index.entries()) {
    await yielding.pause();
    const { zonename } = entry;
    // As libzonecfg does, the first of two lines counts.
    if (zones.has(zonename) || unreadable.has(zonename)) {
      continue;
    }
    try {
      zones.set(zonename, complete(platform, entry, live.get(zonename)));
    } catch (err) {
      if (!(err instanceof SystemError)) {
        throw err;
      }
      if (codeOf(err) !== NO_ZONE) {
        unreadable.set(zonename, err);
      }
    }
  }
  return { zones: [...zones.values()], unreadable };
}

function complete(
  platform: Platform,
  { zonename, brand, zonepath, state }: IndexEntry,
  live: ZoneFacts['state'] | undefined,
): ZoneFacts {
  return {
    zonename,
    brand: brand || platform.zoneBrand(zonename),
    zonepath: zonepath || platform.zonepath(zonename),
    state: live ?? state,
  };
}
