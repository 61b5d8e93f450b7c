/*
 * What the platform says of zones, and who is at the other end of a socket. No request makes a call here.
 *
 * States, brands, paths and unmounts are C functions called through ffi-napi, on the main thread,
 * as errno is lost otherwise. What every connection or thousands of zones ask goes through the addon, which takes
 * microseconds less: in a short connection ffi took a fifth of the time for the peer's credential.
 */
import { codeOf, errnoName, SystemError } from '../lib/errors';
import {
  cString,
  lastError,
  MAXPATHLEN,
  memory,
  MS_FORCE,
  onRoot,
  readString,
  Z_OK,
  ZONE_ATTR_STATUS,
  ZONE_STATES,
  zonecfgCode,
} from './ffi';
import { loadAddon } from './addon';
import { Paths } from './paths';
import {
  factsOf,
  liveZones,
  readZoneIndex,
  stateOfStatus,
  type LiveZone,
  type ZoneFacts,
  type ZoneIndex,
  type ZoneState,
} from './zone-facts';

export interface PeerCredential {
  /** -1 where it is not known. */
  readonly zoneid: number;
  readonly pid: number;
  readonly uid: number;
}

const NO_ZONE = 'Z_NO_ZONE';

/** Every method throws a SystemError (call, subject, errno or Z_ name) when the platform refuses. */
export interface Platform {
  /** The configured zones, by one read of the index. */
  zoneIndex(): ZoneIndex;
  /** Every zone that the kernel knows, by name: its state counts more than the index's. */
  liveZones(): ReadonlyMap<string, LiveZone>;
  /** The name of a zone that the kernel knows. */
  zoneName(zoneid: number): string;
  /** Brand, path and state by one read of the index; undefined when no such zone is configured. */
  zoneFacts(zonename: string): ZoneFacts | undefined;
  zoneState(zonename: string): ZoneState;
  zoneBrand(zonename: string): string;
  /** Platform path (below the root), no trailing slash: `/zones/<name>`. */
  zonepath(zonename: string): string;
  umount(dir: string, force: boolean): void;
  /** Who connected. @param fd a connected socket; ENOTCONN when the peer is gone */
  peer(fd: number): PeerCredential;
}

const credential = new Int32Array(3);

/** @param root an absolute path; `/` on SmartOS, the root of a simulated node elsewhere */
export function openPlatform(root: string): Platform {
  onRoot(root);
  const { zoneIndex } = new Paths(root);
  const zoneText = (call: 'zone_get_brand' | 'zone_get_zonepath', zonename: string): string => {
    const text = memory(MAXPATHLEN);
    const code = onRoot(root).zonecfg[call](cString(zonename), text, text.length);
    if (code !== Z_OK) {
      throw new SystemError(call, zonename, zonecfgCode(code));
    }
    return readString(text);
  };
  const platform: Platform = {
    zoneIndex: () => readZoneIndex(zoneIndex),
    liveZones: () => {
      onRoot(root);
      return liveZones();
    },
    zoneName: (zoneid) => {
      onRoot(root);
      const name = loadAddon().zonename(zoneid);
      if (typeof name === 'number') {
        throw new SystemError('getzonenamebyid', String(zoneid), errnoName(-name));
      }
      return name;
    },
    zoneFacts: (zonename) => {
      const entry = platform.zoneIndex().find(zonename);
      try {
        return entry && factsOf(entry, platform, liveState(root, zonename));
      } catch (err) {
        if (codeOf(err) === NO_ZONE) {
          return undefined;
        }
        throw err;
      }
    },
    zoneState: (zonename) => {
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
    },
    zoneBrand: (zonename) => zoneText('zone_get_brand', zonename),
    zonepath: (zonename) => zoneText('zone_get_zonepath', zonename),
    umount: (dir, force) => {
      if (onRoot(root).kernel.umount2(cString(dir), force ? MS_FORCE : 0) !== 0) {
        throw lastError('umount2', dir);
      }
    },
    peer: (fd) => {
      onRoot(root);
      const err = loadAddon().peer(fd, credential);
      if (err !== 0) {
        throw new SystemError('getpeerucred', `descriptor ${fd}`, errnoName(-err));
      }
      const [zoneid = -1, pid = -1, uid = -1] = credential;
      return { zoneid, pid, uid: uid >>> 0 };
    },
  };
  return platform;
}

/** Undefined for a zone that the kernel does not know. */
function liveState(root: string, zonename: string): ZoneState | undefined {
  const { kernel } = onRoot(root);
  const zoneid = kernel.getzoneidbyname(cString(zonename));
  if (zoneid < 0) {
    return undefined;
  }
  const status = memory(4);
  if (Number(kernel.zone_getattr(zoneid, ZONE_ATTR_STATUS, status, status.length)) >= 0) {
    return stateOfStatus(status.readInt32LE(0));
  }
  const err = lastError('zone_getattr', String(zoneid));
  // It went away between the two calls.
  if (err.code === 'EINVAL') {
    return undefined;
  }
  throw err;
}
