/*
 * What the platform says of zones, and who is at the other end of a socket. No request makes a call here.
 *
 * libzonecfg walks the index for each zonepath and state, and parses XML for each brand: up to a minute for four
 * thousand zones (getzoneent.c, zone_get_zonepath, zone_get_brand). The index itself has all of it (putzoneent), so it
 * is read here, and libzonecfg is asked through ffi-napi for what the index leaves out. What every connection or
 * thousands of zones ask goes through the addon: in a short connection ffi took a fifth of the time.
 */
import { readFileSync } from 'node:fs';
import { codeOf, errnoName, SystemError, systemError } from '../lib/errors';
import { loadAddon } from './addon';
import {
  cString,
  lastError,
  MAXPATHLEN,
  memory,
  onRoot,
  readString,
  Z_OK,
  ZONE_ATTR_STATUS,
  ZONE_STATES,
  ZONE_STATUSES,
  zonecfgCode,
  ZONENAME_MAX,
} from './ffi';
import { Paths } from './paths';

/** libzonecfg's state of a zone. */
export type ZoneState = (typeof ZONE_STATES)[number];

/** What the platform says of a configured zone. */
export interface ZoneFacts {
  readonly zonename: string;
  readonly brand: string;
  /** Platform path (below the root), no trailing slash: `/zones/<name>`. */
  readonly zonepath: string;
  readonly state: ZoneState;
}

/**
 * The configured zones as of one read, the global one left out. The state is that of a zone which the kernel does not
 * know; zonepath and brand are empty where the index does not say them, as on platforms before 2015.
 */
export type ZoneIndex = ReturnType<typeof readZoneIndex>;

/** A zone that the kernel knows. */
export interface LiveZone {
  readonly state: ZoneState;
  /** Of this boot: at each zone_create (uts/common/os/zone.c) takes the next free one (id_alloc, id_space.c). */
  readonly zoneid: number;
}

export interface PeerCredential {
  /** -1 where it is not known. */
  readonly zoneid: number;
  readonly pid: number;
  readonly uid: number;
}

const credential = new Int32Array(3);

/** What `openPlatform` gives. */
export type Platform = ReturnType<typeof openPlatform>;

/**
 * Every method throws a SystemError (call, subject, errno or Z_ name) when the platform refuses.
 * @param root an absolute path; `/` on SmartOS, the root of a simulated node elsewhere
 */
export function openPlatform(root: string) {
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
  const libzonecfg = {
    zoneBrand: (zonename: string): string => zoneText('zone_get_brand', zonename),
    zonepath: (zonename: string): string => zoneText('zone_get_zonepath', zonename),
  };
  return {
    ...libzonecfg,
    /** The configured zones, by one read of the index. */
    zoneIndex: () => readZoneIndex(zoneIndex),
    /**
     * Each zone that the kernel knows, by name: its state counts more than the index's. A zone that is being made is
     * not among them.
     */
    liveZones: (): ReadonlyMap<string, LiveZone> => {
      onRoot(root);
      const listed = loadAddon().liveZones();
      if (typeof listed === 'number') {
        throw new SystemError('zone_list', '', errnoName(-listed));
      }
      const zones = new Map<string, LiveZone>();
      for (let at = 0; at < listed.length; at += 3) {
        const [name, status, zoneid] = listed.slice(at, at + 3);
        const state = stateOf(ZONE_STATUSES[Number(status)]);
        if (typeof name === 'string' && typeof zoneid === 'number' && state !== undefined) {
          zones.set(name, { state, zoneid });
        }
      }
      return zones;
    },
    /** The name of a zone that the kernel knows. */
    zoneName: (zoneid: number): string => {
      onRoot(root);
      const name = loadAddon().zonename(zoneid);
      if (typeof name === 'number') {
        throw new SystemError('getzonenamebyid', String(zoneid), errnoName(-name));
      }
      return name;
    },
    /** Brand, path and state by one read of the index; undefined when no such zone is configured. */
    zoneFacts: (zonename: string): ZoneFacts | undefined => {
      const entry = readZoneIndex(zoneIndex).find(zonename);
      return entry && factsOf(entry, libzonecfg, liveState(root, zonename));
    },
    /** Who connected. @param fd a connected socket; ENOTCONN when the peer is gone */
    peer: (fd: number): PeerCredential => {
      onRoot(root);
      const err = loadAddon().peer(fd, credential);
      if (err !== 0) {
        throw new SystemError('getpeerucred', `descriptor ${fd}`, errnoName(-err));
      }
      const [zoneid = -1, pid = -1, uid = -1] = credential;
      return { zoneid, pid, uid: uid >>> 0 };
    },
  };
}

/**
 * @param libzonecfg is asked for what the index leaves out
 * @param live the kernel's state, if it knows the zone
 * @returns undefined where libzonecfg knows no such zone (any more)
 */
export function factsOf(
  { zonename, brand, zonepath, state }: ZoneFacts,
  libzonecfg: { zoneBrand(zonename: string): string; zonepath(zonename: string): string },
  live: ZoneState | undefined,
): ZoneFacts | undefined {
  try {
    return {
      zonename,
      brand: brand || libzonecfg.zoneBrand(zonename),
      zonepath: zonepath || libzonecfg.zonepath(zonename),
      state: live ?? state,
    };
  } catch (err) {
    if (codeOf(err) === 'Z_NO_ZONE') {
      return undefined;
    }
    throw err;
  }
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
    return stateOf(ZONE_STATUSES[status.readInt32LE(0)]);
  }
  const err = lastError('zone_getattr', String(zoneid));
  // It went away between the two calls.
  if (err.code === 'EINVAL') {
    return undefined;
  }
  throw err;
}

/**
 * libzonecfg's word for a status of the kernel (libzonecfg.c, kernel_state_to_user_state): a booting zone is running, as
 * its init may run already. The others have none, as the kernel gives the zone's id to nobody who asks by name: below
 * `ready` (zone.c, zone_lookup).
 */
const STATES: ReadonlyMap<string | undefined, ZoneState> = new Map([
  ['ready', 'ready'],
  ['booting', 'running'],
  ['running', 'running'],
  ['shutting_down', 'shutting_down'],
  ['empty', 'shutting_down'],
  ['down', 'down'],
  ['dying', 'down'],
  ['dead', 'down'],
]);

/** Undefined for a status in which a zone has no state. */
export function stateOf(status: string | undefined): ZoneState | undefined {
  return STATES.get(status);
}

/** @param path of the index, on this machine @throws SystemError, the errno of the read */
export function readZoneIndex(path: string) {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (err) {
    throw systemError('read', path, err);
  }
  return {
    /** Parsed as it is walked. */
    *entries(): IterableIterator<ZoneFacts> {
      for (const line of bytes.toString().split('\n')) {
        const entry = parseLine(line);
        if (entry !== undefined) {
          yield entry;
        }
      }
    },
    /** The first of that name, as libzonecfg takes it. Of thousands of lines no other is made a string. */
    find(zonename: string): ZoneFacts | undefined {
      const start = `${zonename}:`;
      for (let at = bytes.indexOf(start); at !== -1; at = bytes.indexOf(start, at + 1)) {
        if (at === 0 || bytes[at - 1] === NEWLINE) {
          const end = bytes.indexOf(NEWLINE, at);
          const entry = parseLine(bytes.toString('utf8', at, end === -1 ? undefined : end));
          if (entry?.zonename === zonename) {
            return entry;
          }
        }
      }
      return undefined;
    },
  };
}

const NEWLINE = 0x0a;

/** States that putzoneent writes; a line with another is no zone for libzonecfg either. */
const INDEX_STATES = ZONE_STATES.slice(0, 3);

/** As getzoneent_private takes a line: undefined for one that is no zone, and for the global zone. */
function parseLine(line: string): ZoneFacts | undefined {
  const [zonename = '', state = '', zonepath = '', , brand = ''] = fieldsOf(line);
  const known = INDEX_STATES.find((name) => name === state);
  if (
    known === undefined ||
    zonename === '' ||
    zonename === 'global' ||
    zonename.startsWith('#') ||
    zonename.length >= ZONENAME_MAX ||
    zonepath.length >= MAXPATHLEN
  ) {
    return undefined;
  }
  return { zonename: own(zonename), state: known, zonepath: own(zonepath), brand: own(brand) };
}

/** A zonepath with a colon in it stands in quotes. */
function fieldsOf(line: string): string[] {
  const text = line.endsWith('\r') ? line.slice(0, -1) : line;
  return text.includes('"')
    ? [...text.matchAll(/(?:^|:)(?:"([^"]*)"?[^:]*|([^:]*))/g)].map(
        ([, quoted, plain]) => quoted ?? plain ?? '',
      )
    : text.split(':');
}

/** A slice of a text keeps the whole text in memory; this is one of its own. */
function own(slice: string): string {
  return Buffer.from(slice).toString();
}
