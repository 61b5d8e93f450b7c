/*
 * The door to the platform's C functions, through ffi-napi: control plane only, no request makes a call
 * here. (spec: illumos-abi)
 *
 * Zone lists, states, brands and paths, lofs mounts, the file lock, and who is at the other end of a
 * socket. Each call takes microseconds and is made on the main thread, as errno is lost otherwise.
 */
import { readFileSync } from 'node:fs';
import { errno } from 'ffi-napi';
import { SystemError, systemError } from '../lib/errors';
import {
  errnoName,
  FLOCK,
  MAX_MNTOPT_STR,
  MAXPATHLEN,
  MS_FORCE,
  MS_OPTIONSTR,
  wholeFile,
  Z_OK,
  ZONE_ATTR_BRAND,
  ZONE_ATTR_NAME,
  ZONE_ATTR_STATUS,
  ZONE_STATES,
  ZONE_STATUSES,
  zonecfgCode,
  ZONENAME_MAX,
} from './abi';
import { cString, lastError, libc, memory, onRoot, readString, type Memory } from './ffi-library';
import { Paths } from './paths';
import { zoneFacts, type ZoneFacts } from './zone-facts';

export { openEmulation, type Emulation } from './ffi-emulation';

/** libzonecfg's state of a zone. */
export type ZoneState = (typeof ZONE_STATES)[number];

/** The kernel's status of a zone that it knows. */
export type ZoneStatus = (typeof ZONE_STATUSES)[number];

export interface PeerCredential {
  /** -1 when the zone cannot be told. */
  readonly zoneid: number;
  readonly pid: number;
  readonly uid: number;
}

/** Every method throws a SystemError (call, subject, errno or Z_ name) when the platform refuses. */
export interface Platform {
  /** Names of all configured zones, the global one left out. */
  configuredZones(): string[];
  /** Ids of the zones that the kernel knows, 0 included. */
  zoneIds(): number[];
  zoneName(zoneid: number): string;
  zoneStatus(zoneid: number): ZoneStatus;
  zoneBrandById(zoneid: number): string;
  /** The id of a zone that the kernel knows, undefined for one that it does not. */
  zoneIdByName(zonename: string): number | undefined;
  /** Brand, path and state at the price of one call; undefined when no such zone is configured. */
  zoneFacts(zonename: string): ZoneFacts | undefined;
  zoneState(zonename: string): ZoneState;
  zoneBrand(zonename: string): string;
  /** Platform path (below the root), no trailing slash: `/zones/<name>`. */
  zonepath(zonename: string): string;
  zoneRootpath(zonename: string): string;
  /** lofs mount of host path `special` on host path `dir`. Follows symbolic links in `dir`: check first. */
  mountLofs(special: string, dir: string, options: string): void;
  umount(dir: string, force: boolean): void;
  /** Tries a write lock over the whole file: false when another process holds it. Never blocks. */
  tryLock(fd: number): boolean;
  peer(fd: number): PeerCredential;
}

/** @param root an absolute path; `/` on SmartOS, the root of a simulated node elsewhere */
export function openPlatform(root: string): Platform {
  onRoot(root);
  return {
    configuredZones: () => configuredZones(new Paths(root).host('/etc/zones/index')),
    zoneIds: () => zoneIds(root),
    zoneName: (zoneid) => textAttribute(root, zoneid, ZONE_ATTR_NAME, ZONENAME_MAX),
    zoneStatus: (zoneid) => zoneStatus(root, zoneid),
    zoneBrandById: (zoneid) => textAttribute(root, zoneid, ZONE_ATTR_BRAND, MAXPATHLEN),
    zoneIdByName: (zonename) => zoneIdByName(root, zonename),
    zoneFacts: (zonename) => {
      onRoot(root);
      return zoneFacts(cString(zonename));
    },
    zoneState: (zonename) => zoneState(root, zonename),
    zoneBrand: (zonename) => zoneText(root, 'zone_get_brand', zonename),
    zonepath: (zonename) => zoneText(root, 'zone_get_zonepath', zonename),
    zoneRootpath: (zonename) => zoneText(root, 'zone_get_rootpath', zonename),
    mountLofs: (special, dir, options) => mountLofs(root, special, dir, options),
    umount: (dir, force) => umount(root, dir, force),
    tryLock: trySetLock,
    peer: (fd) => peer(root, fd),
  };
}

/**
 * Reads `name:state:zonepath:uuid` lines. libzonecfg's own walk (getzoneent) does the same with a
 * malloc'd string for each name, and three more calls to copy and free it: 4,096 zones would hold the
 * loop up for a tenth of a second.
 */
function configuredZones(index: string): string[] {
  let text: string;
  try {
    text = readFileSync(index, 'utf8');
  } catch (err) {
    throw systemError('read', index, err);
  }
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#') && line.includes(':'))
    .map((line) => own(line.slice(0, line.indexOf(':'))))
    .filter((name) => name !== '' && name !== 'global');
}

/** A slice of a text keeps the whole text in memory; this is one of its own. */
function own(slice: string): string {
  return Buffer.from(slice).toString();
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

function mountLofs(root: string, special: string, dir: string, options: string): void {
  const buffer = memory(MAX_MNTOPT_STR);
  if (buffer.write(cString(options)) >= buffer.length) {
    throw new SystemError('mount', dir, 'EINVAL', 'the options are too long');
  }
  const { kernel } = onRoot(root);
  const [from, to] = [cString(special), cString(dir)];
  if (kernel.mount(from, to, MS_OPTIONSTR, 'lofs', 0, 0, buffer, buffer.length) !== 0) {
    throw lastError('mount', dir);
  }
}

function umount(root: string, dir: string, force: boolean): void {
  if (onRoot(root).kernel.umount2(cString(dir), force ? MS_FORCE : 0) !== 0) {
    throw lastError('umount2', dir);
  }
}

function setLock(fd: number, type: number): number {
  const flock = memory(FLOCK.bytes);
  wholeFile(type).copy(flock);
  return libc().fcntl(fd, FLOCK.F_SETLK, flock) === -1 ? errno() : 0;
}

/** `tryLock` of a Platform, which no root matters to. */
export function trySetLock(fd: number): boolean {
  const err = setLock(fd, FLOCK.F_WRLCK);
  if (err === 0) {
    return true;
  }
  const code = errnoName(err);
  // POSIX leaves it to the system which of the two says "held by another".
  if (code === 'EAGAIN' || code === 'EACCES') {
    return false;
  }
  throw new SystemError('fcntl', `descriptor ${fd}`, code);
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
