/*
 * The platform's C functions, called through ffi-napi: control plane only, no request makes a call here.
 *
 * Zone lists, states, brands and paths, unmounts, the file lock, and who is at the other end of a socket.
 * Each call takes microseconds and is made on the main thread, as errno is lost otherwise.
 */
import { codeOf, errnoName, SystemError } from '../lib/errors';
import {
  cString,
  FLOCK,
  lastError,
  libc,
  MAXPATHLEN,
  memory,
  MS_FORCE,
  onRoot,
  readString,
  wholeFile,
  Z_OK,
  ZONE_ATTR_BRAND,
  ZONE_ATTR_NAME,
  ZONE_ATTR_STATUS,
  ZONE_STATES,
  ZONE_STATUSES,
  zonecfgCode,
  ZONENAME_MAX,
  type Memory,
} from './ffi';
import { loadAddon } from './addon';
import { Paths } from './paths';
import {
  liveZones,
  readZoneIndex,
  stateOfStatus,
  type ZoneFacts,
  type ZoneIndex,
} from './zone-facts';

/** libzonecfg's state of a zone. */
export type ZoneState = (typeof ZONE_STATES)[number];

/** The kernel's status of a zone that it knows. */
export type ZoneStatus = (typeof ZONE_STATUSES)[number];

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
  /** The state of every zone that the kernel knows, by name: it counts more than the index's. */
  liveZones(): ReadonlyMap<string, ZoneState>;
  /** Ids of the zones that the kernel knows, 0 included. */
  zoneIds(): number[];
  zoneName(zoneid: number): string;
  zoneStatus(zoneid: number): ZoneStatus;
  zoneBrandById(zoneid: number): string;
  /** The id of a zone that the kernel knows, undefined for one that it does not. */
  zoneIdByName(zonename: string): number | undefined;
  /** Brand, path and state by one read of the index; undefined when no such zone is configured. */
  zoneFacts(zonename: string): ZoneFacts | undefined;
  zoneState(zonename: string): ZoneState;
  zoneBrand(zonename: string): string;
  /** Platform path (below the root), no trailing slash: `/zones/<name>`. */
  zonepath(zonename: string): string;
  zoneRootpath(zonename: string): string;
  umount(dir: string, force: boolean): void;
  peer(fd: number): PeerCredential;
}

/** @param root an absolute path; `/` on SmartOS, the root of a simulated node elsewhere */
export function openPlatform(root: string): Platform {
  onRoot(root);
  const { zoneIndex } = new Paths(root);
  return {
    zoneIndex: () => readZoneIndex(zoneIndex),
    liveZones: () => {
      onRoot(root);
      return liveZones();
    },
    zoneIds: () => zoneIds(root),
    zoneName: (zoneid) => textAttribute(root, zoneid, ZONE_ATTR_NAME, ZONENAME_MAX),
    zoneStatus: (zoneid) => zoneStatus(root, zoneid),
    zoneBrandById: (zoneid) => textAttribute(root, zoneid, ZONE_ATTR_BRAND, MAXPATHLEN),
    zoneIdByName: (zonename) => zoneIdByName(root, zonename),
    zoneFacts: (zonename) => zoneFacts(root, readZoneIndex(zoneIndex), zonename),
    zoneState: (zonename) => zoneState(root, zonename),
    zoneBrand: (zonename) => zoneText(root, 'zone_get_brand', zonename),
    zonepath: (zonename) => zoneText(root, 'zone_get_zonepath', zonename),
    zoneRootpath: (zonename) => zoneText(root, 'zone_get_rootpath', zonename),
    umount: (dir, force) => umount(root, dir, force),
    peer: (fd) => peer(root, fd),
  };
}

function zoneFacts(root: string, index: ZoneIndex, zonename: string): ZoneFacts | undefined {
  const entry = index.find(zonename);
  if (entry === undefined) {
    return undefined;
  }
  try {
    return {
      zonename,
      brand: entry.brand || zoneText(root, 'zone_get_brand', zonename),
      zonepath: entry.zonepath || zoneText(root, 'zone_get_zonepath', zonename),
      state: liveState(root, zonename) ?? entry.state,
    };
  } catch (err) {
    if (codeOf(err) === NO_ZONE) {
      return undefined;
    }
    throw err;
  }
}

/** Undefined for a zone that the kernel does not know. */
function liveState(root: string, zonename: string): ZoneState | undefined {
  const zoneid = zoneIdByName(root, zonename);
  if (zoneid === undefined) {
    return undefined;
  }
  try {
    return stateOfStatus(attribute(root, zoneid, ZONE_ATTR_STATUS, 4).readInt32LE(0));
  } catch (err) {
    // It went away between the two calls.
    if (codeOf(err) === 'EINVAL') {
      return undefined;
    }
    throw err;
  }
}

/** Zones that come while we ask make the list grow; the kernel says how much room it needs. */
function zoneIds(root: string): number[] {
  const { kernel } = onRoot(root);
  const count = memory(4);
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

function attribute(root: string, zoneid: number, attr: number, bytes: number): Memory {
  const value = memory(bytes);
  if (Number(onRoot(root).kernel.zone_getattr(zoneid, attr, value, bytes)) < 0) {
    throw lastError('zone_getattr', String(zoneid));
  }
  return value;
}

function textAttribute(root: string, zoneid: number, attr: number, bytes: number): string {
  return readString(attribute(root, zoneid, attr, bytes));
}

function zoneStatus(root: string, zoneid: number): ZoneStatus {
  const status = attribute(root, zoneid, ZONE_ATTR_STATUS, 4).readInt32LE(0);
  const name = ZONE_STATUSES[status];
  if (name === undefined) {
    throw new SystemError('zone_getattr', String(zoneid), 'EINVAL', `zone status ${status}`);
  }
  return name;
}

function zoneIdByName(root: string, zonename: string): number | undefined {
  const zoneid = onRoot(root).kernel.getzoneidbyname(cString(zonename));
  return zoneid < 0 ? undefined : zoneid;
}

function zoneState(root: string, zonename: string): ZoneState {
  const state = memory(4);
  const code = onRoot(root).zonecfg.zone_get_state(cString(zonename), state);
  if (code !== Z_OK) {
    throw new SystemError('zone_get_state', zonename, zonecfgCode(code));
  }
  const name = ZONE_STATES[state.readUInt32LE(0)];
  if (name === undefined) {
    throw new SystemError(
      'zone_get_state',
      zonename,
      'Z_BAD_ZONE_STATE',
      `zone state ${state.readUInt32LE(0)}`,
    );
  }
  return name;
}

function zoneText(
  root: string,
  call: 'zone_get_brand' | 'zone_get_zonepath' | 'zone_get_rootpath',
  zonename: string,
): string {
  const text = memory(MAXPATHLEN);
  const code = onRoot(root).zonecfg[call](cString(zonename), text, text.length);
  if (code !== Z_OK) {
    throw new SystemError(call, zonename, zonecfgCode(code));
  }
  return readString(text);
}

function umount(root: string, dir: string, force: boolean): void {
  if (onRoot(root).kernel.umount2(cString(dir), force ? MS_FORCE : 0) !== 0) {
    throw lastError('umount2', dir);
  }
}

/** Tries a write lock over the whole file: false when another process holds it. Never blocks. */
export function trySetLock(fd: number): boolean {
  const flock = memory(FLOCK.bytes);
  wholeFile(FLOCK.F_WRLCK).copy(flock);
  if (libc().fcntl(fd, FLOCK.F_SETLK, flock) !== -1) {
    return true;
  }
  const err = lastError('fcntl', `descriptor ${fd}`);
  // POSIX leaves it to the system which of the two says "held by another".
  if (err.code === 'EAGAIN' || err.code === 'EACCES') {
    return false;
  }
  throw err;
}

function peer(root: string, fd: number): PeerCredential {
  const { kernel } = onRoot(root);
  const pointer = memory(8);
  if (kernel.getpeerucred(fd, pointer) !== 0) {
    throw lastError('getpeerucred', `descriptor ${fd}`);
  }
  // Digits, as the platform's addresses are past 2^53.
  const ucred = pointer.readBigUInt64LE(0).toString();
  try {
    return {
      zoneid: kernel.ucred_getzoneid(ucred),
      pid: kernel.ucred_getpid(ucred),
      uid: kernel.ucred_geteuid(ucred),
    };
  } finally {
    kernel.ucred_free(ucred);
  }
}

/** Who connects: the same as `Platform` has it, but at a price that every connection can pay. */
export interface Peers {
  /** @param fd a connected socket @throws SystemError, ENOTCONN when the peer is gone */
  peer(fd: number): PeerCredential;
  /** @throws SystemError for a zone that the kernel does not know */
  zoneName(zoneid: number): string;
}

/** @param root the node, as for `openPlatform` */
export function openPeers(root: string): Peers {
  const native = loadAddon();
  const into = new Int32Array(3);
  return {
    peer: (fd) => {
      onRoot(root);
      const err = native.peer(fd, into);
      if (err !== 0) {
        throw new SystemError('getpeerucred', `descriptor ${fd}`, errnoName(-err));
      }
      const [zoneid = -1, pid = -1, uid = -1] = into;
      return { zoneid, pid, uid: uid >>> 0 };
    },
    zoneName: (zoneid) => {
      onRoot(root);
      const name = native.zonename(zoneid);
      if (typeof name === 'number') {
        throw new SystemError('getzonenamebyid', String(zoneid), errnoName(-name));
      }
      return name;
    },
  };
}
