/*
 * What preflight asks the kernel and libzonecfg about zones, and the agent does not: ids, statuses and brands as the
 * kernel has them, and a zone's state and root by libzonecfg. The agent takes the same facts from the index and the addon; here they are
 * asked one by one, so that the two can be compared. Each call throws a SystemError.
 */
import { SystemError } from '../../src/lib/errors';
import {
  cString,
  lastError,
  MAXPATHLEN,
  memory,
  onRoot,
  readString,
  Z_OK,
  ZONE_ATTR_BRAND,
  ZONE_ATTR_STATUS,
  ZONE_STATES,
  ZONE_STATUSES,
  zonecfgCode,
  type Memory,
} from '../../src/platform/ffi';

/** Ids of the zones that the kernel knows, 0 included. */
export function zoneIds(root: string): number[] {
  const { kernel } = onRoot(root);
  const count = memory(4);
  // Zones that come meanwhile make the list grow; the kernel says how much room it needs.
  for (let room = 64; ; room = count.readUInt32LE(0) + 16) {
    const ids = memory(room * 4);
    count.writeUInt32LE(room, 0);
    if (kernel.zone_list(ids, count) !== 0) {
      throw lastError('zone_list', '');
    }
    const found = count.readUInt32LE(0);
    if (found <= room) {
      return Array.from({ length: found }, (_, i) => ids.readInt32LE(i * 4));
    }
  }
}

/** The kernel's status of a zone that it knows. */
export function zoneStatus(root: string, zoneid: number): (typeof ZONE_STATUSES)[number] {
  const status = attribute(root, zoneid, ZONE_ATTR_STATUS, 4).readInt32LE(0);
  const name = ZONE_STATUSES[status];
  if (name === undefined) {
    throw new SystemError('zone_getattr', String(zoneid), 'EINVAL', `zone status ${status}`);
  }
  return name;
}

/** `native` for a brand that has no module in the kernel: vplat.c, vplat_create. */
export function zoneBrandById(root: string, zoneid: number): string {
  return readString(attribute(root, zoneid, ZONE_ATTR_BRAND, MAXPATHLEN));
}

/** Undefined for a zone that the kernel does not know. */
export function zoneIdByName(root: string, zonename: string): number | undefined {
  const zoneid = onRoot(root).kernel.getzoneidbyname(cString(zonename));
  return zoneid < 0 ? undefined : zoneid;
}

/** The state of a configured zone, by libzonecfg's name. */
export function zoneState(root: string, zonename: string): (typeof ZONE_STATES)[number] {
  const call = 'zone_get_state';
  const state = memory(4);
  const code = onRoot(root).zonecfg[call](cString(zonename), state);
  if (code !== Z_OK) {
    throw new SystemError(call, zonename, zonecfgCode(code));
  }
  const number = state.readUInt32LE(0);
  const name = ZONE_STATES[number];
  if (name === undefined) {
    throw new SystemError(call, zonename, 'Z_BAD_ZONE_STATE', `zone state ${number}`);
  }
  return name;
}

/** Platform path (below the root) of a configured zone's root. */
export function zoneRootpath(root: string, zonename: string): string {
  const text = memory(MAXPATHLEN);
  const code = onRoot(root).zonecfg.zone_get_rootpath(cString(zonename), text, text.length);
  if (code !== Z_OK) {
    throw new SystemError('zone_get_rootpath', zonename, zonecfgCode(code));
  }
  return readString(text);
}

function attribute(root: string, zoneid: number, attr: number, bytes: number): Memory {
  const value = memory(bytes);
  if (Number(onRoot(root).kernel.zone_getattr(zoneid, attr, value, bytes)) < 0) {
    throw lastError('zone_getattr', String(zoneid));
  }
  return value;
}
