/*
 * The probes of preflight that ask the kernel and libzonecfg about zones: real zones, and the same answer
 * from the index. Run by child.ts, one a process; they only read.
 */
import { openPlatform } from '../../src/platform/libzonecfg';
import { bindZoneEvents } from '../../src/platform/zone-events';
import { memory, onRoot, ZONE_ATTR_STATUS } from '../../src/platform/ffi';
import { Paths } from '../../src/platform/paths';
import { ZoneRoots } from '../../src/platform/zone-root';
import {
  zoneBrandById,
  zoneIdByName,
  zoneIds,
  zoneRootpath,
  zoneState,
  zoneStatus,
} from './zone-calls';
import { fail, listed, ok, readIndex, sampleOf, warn, type Finding, type Ground } from './check';

/** Zones that are asked one by one: each costs libzonecfg a walk of the index and a parse of its XML. */
const SAMPLE_ZONES = 8;
const EVENT_LIMIT_MS = 2000;
/** What the kernel calls every brand that has no module of its own: all of ours but lx (vplat.c, vplat_create). */
const NATIVE = 'native';

/** Anywhere else zone_list gives nothing but the caller's own zone (zone.c, zone_list). */
export function globalZone({ root }: Ground): Promise<Finding> {
  const platform = openPlatform(root);
  const isGlobal = zoneIds(root).includes(0) && platform.zoneName(0) === 'global';
  return Promise.resolve(
    isGlobal
      ? ok(`the global zone, kernel ${zoneStatus(root, 0)}`)
      : fail('this is not the global zone'),
  );
}

export async function kernelZones({ root }: Ground): Promise<Finding> {
  const platform = openPlatform(root);
  const index = new Map((await readIndex(new Paths(root))).zones.map((z) => [z.zonename, z]));
  const ids = zoneIds(root).filter((id) => id !== 0);
  if (ids.length === 0) {
    return warn('no zone runs: nothing to compare with', 'boot a zone, then: mdatactl preflight');
  }
  const faults = ids.slice(0, SAMPLE_ZONES).flatMap((id) => {
    const name = platform.zoneName(id);
    const brand = zoneBrandById(root, id);
    zoneStatus(root, id);
    const known = index.get(name);
    return [
      ...(known === undefined ? [`${name} is not in the index`] : []),
      ...(known !== undefined && known.brand !== '' && ![known.brand, NATIVE].includes(brand)
        ? [`${name} is ${brand}, ${known.brand} in the index`]
        : []),
      ...(zoneIdByName(root, name) === id ? [] : [`getzoneidbyname(${name}) is not ${id}`]),
    ];
  });
  return faults.length === 0
    ? ok(`${ids.length} known to the kernel: same id, same brand or native`)
    : fail(listed(faults));
}

/** The walk of the index and the parse of the XML are libzonecfg's; what they cost is shown. */
export async function libzonecfg({ root }: Ground): Promise<Finding> {
  const platform = openPlatform(root);
  const zones = sampleOf((await readIndex(new Paths(root))).zones, SAMPLE_ZONES);
  if (zones.length === 0) {
    return warn(
      'no zone is configured: nothing to compare',
      'create a zone, then: mdatactl preflight',
    );
  }
  const alive = ['installed', 'ready', 'running', 'shutting_down', 'down', 'mounted'];
  const roots = new ZoneRoots(root);
  const began = performance.now();
  const faults = zones.flatMap(({ zonename, state, zonepath, brand }) => {
    const wanted = (what: string, answer: string, fits: boolean): string[] => {
      return fits ? [] : [`${what} of ${zonename} is ${answer}`];
    };
    const path = platform.zonepath(zonename);
    const rootpath = zoneRootpath(root, zonename);
    const brandNow = platform.zoneBrand(zonename);
    const now = zoneState(root, zonename);
    return [
      ...wanted('zonepath', path, path === zonepath),
      ...wanted('rootpath', rootpath, rootpath === roots.of(zonepath).nameOf('')),
      ...wanted('brand', brandNow, brand === '' || brandNow === brand),
      ...wanted('state', now, state === 'installed' ? alive.includes(now) : now === state),
    ];
  });
  const each = ((performance.now() - began) / zones.length).toFixed(1);
  return faults.length === 0
    ? ok(`${zones.length} asked, as in the index, ${each} ms each`)
    : fail(listed(faults));
}

/** Memory that C fills is larger than it should need, and what lies behind must stay untouched. */
export async function structSizes({ root }: Ground): Promise<Finding> {
  const { kernel, zonecfg } = onRoot(root);
  const status = memory(16).fill(0xa5);
  const size = Number(kernel.zone_getattr(0, ZONE_ATTR_STATUS, status, status.length));
  if (size !== 4 || !status.subarray(4).every((byte) => byte === 0xa5)) {
    return fail(`zone_status_t has ${size} bytes`);
  }
  const [zone] = (await readIndex(new Paths(root))).zones;
  if (zone !== undefined) {
    const state = memory(16).fill(0xa5);
    zonecfg.zone_get_state(zone.zonename, state);
    if (!state.subarray(4).every((byte) => byte === 0xa5)) {
      return fail('zone_state_t has more than 4 bytes');
    }
  }
  return ok('zone_status_t, zone_state_t');
}

export async function zoneEvents({ root }: Ground): Promise<Finding> {
  const began = performance.now();
  const nothing = (): void => undefined;
  const subscription = bindZoneEvents(nothing, nothing, { root });
  try {
    await subscription.enterCritical();
    do {
      zoneIds(root);
    } while (await subscription.exitCritical());
  } finally {
    await subscription.close();
  }
  const ms = Math.round(performance.now() - began);
  return ms <= EVENT_LIMIT_MS ? ok(`subscribed, ping in ${ms} ms`) : warn(`ping took ${ms} ms`);
}
