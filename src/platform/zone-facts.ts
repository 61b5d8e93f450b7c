/*
 * Name, zonepath, brand and state of zones, at the price of one read of a file and one call of the addon.
 *
 * libzonecfg asked zone by zone walks the index for each zonepath and state, and parses XML for each brand:
 * seconds for a thousand zones, up to a minute for four thousand (getzoneent.c, zone_get_zonepath,
 * zone_get_brand). But the index itself has all of it (putzoneent writes name, state, zonepath, uuid, brand,
 * IP type and debug ID), and the kernel gives the state of every zone that it knows. What the index leaves
 * out, as older platforms do, libzonecfg is asked for. Called by libzonecfg.ts, which knows the root.
 */
import { readFileSync } from 'node:fs';
import { errnoName, SystemError, systemError } from '../lib/errors';
import { MAXPATHLEN, ZONE_STATES, ZONE_STATUSES, ZONENAME_MAX } from './ffi';
import { loadAddon } from './addon';

/** libzonecfg's state of a zone. */
export type ZoneState = (typeof ZONE_STATES)[number];

/** What the platform says of a configured zone. */
export interface ZoneFacts {
  readonly zonename: string;
  readonly brand: string;
  /** Platform path, no trailing slash. */
  readonly zonepath: string;
  readonly state: ZoneState;
}

/**
 * A line of the index: the state is that of a zone which the kernel does not know. Zonepath and brand are empty where
 * the index does not say them, as on platforms before 2015.
 */
export type IndexEntry = ZoneFacts;

/** A zone that the kernel knows. */
export interface LiveZone {
  readonly state: ZoneState;
  /** Of this boot: at each zone_create (uts/common/os/zone.c) takes the next free one (id_alloc, id_space.c). */
  readonly zoneid: number;
}

/** @param libzonecfg is asked for what the index leaves out @param live the kernel's state, if it knows the zone */
export function factsOf(
  { zonename, brand, zonepath, state }: IndexEntry,
  libzonecfg: { zoneBrand(zonename: string): string; zonepath(zonename: string): string },
  live: ZoneState | undefined,
): ZoneFacts {
  return {
    zonename,
    brand: brand || libzonecfg.zoneBrand(zonename),
    zonepath: zonepath || libzonecfg.zonepath(zonename),
    state: live ?? state,
  };
}

/** The configured zones as of one read, the global one left out. Parsed as it is walked. */
export interface ZoneIndex {
  entries(): IterableIterator<IndexEntry>;
  /** The first line of that name, as libzonecfg takes it. */
  find(zonename: string): IndexEntry | undefined;
}

const GLOBAL_ZONE = 'global';
const NEWLINE = 0x0a;
const COMMENT = 0x23;
/** States that putzoneent writes; a line with another is no zone for libzonecfg either. */
const INDEX_STATES = ZONE_STATES.slice(0, 3);
/** Below this the kernel gives a zone's id to nobody who asks by name (zone.c, zone_lookup). */
const FIRST_KNOWN_STATUS = ZONE_STATUSES.indexOf('ready');

/** Brands are few and zones many: one string for all that are the same. */
const brands = new Map<string, string>();

/** @param path of the index, on this machine @throws SystemError, the errno of the read */
export function readZoneIndex(path: string): ZoneIndex {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (err) {
    throw systemError('read', path, err);
  }
  return {
    entries: () => entriesOf(bytes),
    find: (zonename) => findEntry(bytes, zonename),
  };
}

function* entriesOf(bytes: Buffer): IterableIterator<IndexEntry> {
  for (let start = 0; start < bytes.length;) {
    const end = lineEnd(bytes, start);
    const entry =
      bytes[start] === COMMENT ? undefined : parseLine(bytes.toString('utf8', start, end));
    if (entry !== undefined) {
      yield entry;
    }
    start = end + 1;
  }
}

function findEntry(bytes: Buffer, zonename: string): IndexEntry | undefined {
  const wanted = Buffer.from(`${zonename}:`);
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) {
    if (at === 0 || bytes[at - 1] === NEWLINE) {
      const entry = parseLine(bytes.toString('utf8', at, lineEnd(bytes, at)));
      if (entry?.zonename === zonename) {
        return entry;
      }
    }
  }
  return undefined;
}

function lineEnd(bytes: Buffer, start: number): number {
  const end = bytes.indexOf(NEWLINE, start);
  return end === -1 ? bytes.length : end;
}

/** As getzoneent_private takes a line: undefined for one that is no zone, and for the global zone. */
function parseLine(line: string): IndexEntry | undefined {
  const [zonename = '', state = '', zonepath = '', , brand = ''] = fieldsOf(line);
  const known = INDEX_STATES.find((name) => name === state);
  if (
    known === undefined ||
    zonename === '' ||
    zonename === GLOBAL_ZONE ||
    zonename.length >= ZONENAME_MAX ||
    zonepath.length >= MAXPATHLEN
  ) {
    return undefined;
  }
  const sameBrand = brands.get(brand) ?? own(brand);
  brands.set(sameBrand, sameBrand);
  return { zonename: own(zonename), state: known, zonepath: own(zonepath), brand: sameBrand };
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

/**
 * Each zone that the kernel knows, its state in libzonecfg's words. A zone that is being made is not
 * among them: its state is still the index's.
 */
export function liveZones(): Map<string, LiveZone> {
  const listed = loadAddon().liveZones();
  if (typeof listed === 'number') {
    throw new SystemError('zone_list', '', errnoName(-listed));
  }
  const zones = new Map<string, LiveZone>();
  for (let at = 0; at + 2 < listed.length; at += 3) {
    const [name, status, zoneid] = listed.slice(at, at + 3);
    const state = typeof status === 'number' ? stateOfStatus(status) : undefined;
    if (typeof name === 'string' && typeof zoneid === 'number' && state !== undefined) {
      zones.set(name, { state, zoneid });
    }
  }
  return zones;
}

/**
 * libzonecfg's word for a status of the kernel (libzonecfg.c, kernel_state_to_user_state): a booting zone
 * is running, as its init may run already. Undefined below `ready`.
 */
export function stateOfStatus(status: number): ZoneState | undefined {
  if (status < FIRST_KNOWN_STATUS) {
    return undefined;
  }
  switch (ZONE_STATUSES[status]) {
    case 'ready':
      return 'ready';
    case 'booting':
    case 'running':
      return 'running';
    case 'shutting_down':
    case 'empty':
      return 'shutting_down';
    default:
      return 'down';
  }
}
