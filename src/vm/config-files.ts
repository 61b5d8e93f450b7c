/*
 * metadata.json, tags.json and routes.json of a VM, as they are now.
 *
 * Every request asks the file itself (one lstat) whether it is still the one that was read, so a change
 * is seen by the next GET whoever made it and whether or not vminfod noticed. Requests that came in together
 * and are answered in one tick share the stat (lib/tick.ts).
 *
 *   small metadata.json     read and scanned at once; its bytes are kept
 *   long metadata.json      read and scanned on a thread of the pool; only its members' offsets are kept, and
 *                           a value is read when it is asked for, also there. Zones take turns, and what they
 *                           read at a time is bounded: who has a long file waits for it, and nobody else does
 *   tags.json, routes.json  parsed
 *
 * What is kept is bounded for all zones together, and goes with the zones that do not ask.
 *
 * A missing or unparsable file reads as empty; a fault of the machine (EIO, too many open files) does not:
 * then the last good reading is served, and without one it throws, since a guest takes "no such key" for
 * good. Nothing here blocks on what is not a regular file, and nothing here writes.
 */
import * as fs from 'node:fs';
import { ByteBudget } from '../lib/byte-budget';
import { codeOf, SystemError, systemError } from '../lib/errors';
import { Lru } from '../lib/lru';
import type { MetadataMaps, MetadataNeed } from '../metadata/handler';
import { parseJsonObject } from '../metadata/vm-data';
import {
  changedMsOf,
  openStat,
  sameStat,
  sizeOf,
  statOf,
  textOfStat,
  type FileStat,
} from '../platform/file-stat';
import {
  readText,
  readValue,
  scanText,
  type FileOwner,
  type FileText,
  type TextFault,
} from '../platform/metadata-text';
import { FileWarnings, type FileLog } from './file-warnings';
import { MAP_NAMES, MetadataIndex, valueIn, type GuestUse } from './metadata-index';

export type ConfigName = 'metadata' | 'tags' | 'routes';

/**
 * Longest files, bytes. A metadata file of the operator's may be far longer than what a guest may put there;
 * tags and routes are parsed whole on the main thread, and are a few KiB.
 */
export const MAX_METADATA_BYTES = 64 * 1024 * 1024;
const MAX_MAP_BYTES = 1024 * 1024;
/** Up to this long a file is read and scanned at once, in about half a millisecond, and kept; bytes. */
export const KEPT_BYTES = 256 * 1024;
/** What all that is kept may weigh together, bytes. */
const CACHE_BYTES = 24 * 1024 * 1024;
/** The maps and the entry of an empty file, bytes. */
const ENTRY_BYTES = 1024;
/** What is read of long files at a time, bytes. */
const READ_BYTES = 16 * 1024 * 1024;
/** A file that changes again and again while it is read is read on the spot after so many times. */
const MOST_READS = 3;
/**
 * A file changed this shortly before it was read may change again within one tick of the file system's
 * clock (4 ms and more) and look the same: it is read again next time.
 */
const UNSETTLED_MS = 20;
/** What a path can be instead of a readable file without the machine being at fault. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR']);
const UNUSABLE: ReadonlySet<string> = new Set(['ELOOP', 'EISDIR', 'ENXIO', 'ENODEV', 'EFTYPE']);
const NO_MAP: ReadonlyMap<string, unknown> = new Map();
const NO_METADATA: MetadataMaps = { customer: NO_MAP, internal: NO_MAP };
const NO_USE: GuestUse = { bytes: 0, keys: 0 };
const NO_OWNER: FileOwner = { mode: 0, uid: -1, gid: -1 };
const NOTHING: NoReading = { name: 'nothing' };

/** A metadata file as it was read last. */
interface MetadataReading {
  readonly name: 'metadata';
  readonly index: MetadataIndex;
  readonly stat: FileStat;
  readonly owner: FileOwner;
  /** Null where they are not kept. */
  readonly bytes: Buffer | null;
  readonly maps: MetadataMaps;
}

/** A file that is read as empty. */
interface NoReading {
  readonly name: 'nothing';
}

type Parsed =
  | MetadataReading
  | NoReading
  | { readonly name: 'tags' | 'routes'; readonly map: ReadonlyMap<string, unknown> };

/** What the last stat found, good for its tick. */
interface LastStat {
  readonly tick: number;
  readonly path: string;
  readonly parsed: Parsed;
}

interface Reading {
  readonly stat: FileStat;
  /** False: may change without looking different. */
  readonly settled: boolean;
  readonly parsed: Parsed;
}

/** Metadata that was made ready for a request. */
export interface LoadedMetadata {
  readonly maps: MetadataMaps;
  readonly use: GuestUse;
}

/** A metadata file as the writer needs it. */
export type WritableText = { readonly kind: 'text'; readonly length: number } & Omit<
  MetadataReading,
  'name' | 'maps'
>;
export type WritableFile =
  WritableText | { readonly kind: 'absent' } | Extract<FileText, { readonly kind: 'refused' }>;

/** The files of all VMs. One serves the store; it holds no descriptor. */
export class ConfigFiles {
  private readonly readings: Lru<Reading>;
  private readonly warnings = new FileWarnings();
  private readonly tick: () => number;
  private readonly reads = new ByteBudget(READ_BYTES);
  /** Of the directories that were asked for: to put a path together takes longer than to find it. */
  private readonly paths = new Map<string, Readonly<Record<ConfigName, string>>>();
  private readonly statAt = openStat();
  private last: LastStat | null = null;

  /**
   * @param cacheBytes what is kept of the files of all zones may weigh so much together
   * @param tick tells stats of one tick, which may be shared; by default each is its own
   */
  constructor(cacheBytes = CACHE_BYTES, tick = everyStat()) {
    this.readings = new Lru(cacheBytes);
    this.tick = tick;
  }

  /** The metadata, read on the spot where it is not known. Throws a SystemError. */
  metadata(directory: string, log: FileLog): MetadataMaps {
    const parsed = this.current(directory, 'metadata', log);
    return parsed.name === 'metadata' ? parsed.maps : NO_METADATA;
  }

  /** What the guest has put there; as `metadata`. */
  use(directory: string, log: FileLog): GuestUse {
    const parsed = this.current(directory, 'metadata', log);
    return parsed.name === 'metadata' ? parsed.index.use : NO_USE;
  }

  /** How long the metadata file is now, bytes; 0 where there is none. Throws a SystemError. */
  sizeOf(directory: string): number {
    return this.sizeAt(this.pathsOf(directory).metadata);
  }

  tags(directory: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(directory, 'tags', log);
  }

  routes(directory: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(directory, 'routes', log);
  }

  /** The metadata, ready for a need; null where `metadata` is ready as it is. Rejects with a SystemError. */
  load(directory: string, need: MetadataNeed, log: FileLog): Promise<LoadedMetadata> | null {
    const path = this.pathsOf(directory).metadata;
    const found = this.withoutReading(path);
    if (found === 'now') {
      return null;
    }
    const bytes = found === 'later' ? this.sizeAt(path) : valueBytes(found, need);
    return bytes === 0
      ? null
      : this.reads.run(path, bytes, () => this.loadInTurn(directory, need, log));
  }

  /** Reads a metadata file for a change; on a thread of the pool, unless it is known. Rejects with a SystemError. */
  async openForWrite(directory: string): Promise<WritableFile> {
    const path = this.pathsOf(directory).metadata;
    const known = this.readings.get(path);
    const seen = this.statAt(path);
    if (seen === null) {
      return { kind: 'absent' };
    }
    if (known?.settled === true && known.parsed.name === 'metadata' && sameStat(known.stat, seen)) {
      return { kind: 'text', length: sizeOf(known.stat), ...known.parsed };
    }
    const text = await readText(path, MAX_METADATA_BYTES, KEPT_BYTES);
    return text.kind === 'refused'
      ? text
      : {
          kind: 'text',
          length: sizeOf(text.stat),
          ...this.keepText(path, text, isSettled(text.stat)),
        };
  }

  /**
   * A value of a file that was opened for a change; undefined where that file is not there any more. Rejects
   * with a SystemError.
   */
  valueForWrite(directory: string, file: WritableText, number: number): Promise<unknown> {
    return file.bytes === null
      ? valueAt(this.pathsOf(directory).metadata, file, number)
      : Promise.resolve(valueIn(file.bytes, file.index, number));
  }

  /** What the writer has put in the place of the file, so that nobody has to read it again. */
  written(directory: string, text: Extract<FileText, { readonly kind: 'ok' }>): void {
    // Only somebody without the platform's lock can change it within the same tick of the clock.
    this.keepText(this.pathsOf(directory).metadata, text, true);
    this.last = null;
  }

  /** Removes all that is kept of a zone's files. */
  remove(directory: string): void {
    for (const name of ['metadata', 'tags', 'routes'] as const) {
      const path = pathOf(directory, name);
      this.readings.delete(path);
      this.warnings.forget(path);
    }
    this.paths.delete(directory);
    this.last = null;
  }

  private pathsOf(directory: string): Readonly<Record<ConfigName, string>> {
    let paths = this.paths.get(directory);
    if (paths === undefined) {
      paths = {
        metadata: pathOf(directory, 'metadata'),
        tags: pathOf(directory, 'tags'),
        routes: pathOf(directory, 'routes'),
      };
      this.paths.set(directory, paths);
    }
    return paths;
  }

  private flat(
    directory: string,
    name: 'tags' | 'routes',
    log: FileLog,
  ): ReadonlyMap<string, unknown> {
    const parsed = this.current(directory, name, log);
    return 'map' in parsed ? parsed.map : NO_MAP;
  }

  /** What a stat tells of a metadata file: its reading, or that it is read at once, or on a thread. */
  private withoutReading(path: string): MetadataReading | 'now' | 'later' {
    try {
      const known = this.readings.get(path);
      const seen = this.statAt(path);
      if (seen === null) {
        return 'now';
      }
      if (known?.settled === true && sameStat(known.stat, seen)) {
        const { parsed } = known;
        return parsed.name === 'metadata' && parsed.bytes === null ? parsed : 'now';
      }
      const size = sizeOf(seen);
      return size > KEPT_BYTES && size <= MAX_METADATA_BYTES ? 'later' : 'now';
    } catch {
      // The reading itself meets the fault too, and knows what to serve then.
      return 'now';
    }
  }

  private sizeAt(path: string): number {
    const seen = this.statAt(path);
    return seen === null ? 0 : sizeOf(seen);
  }

  /** In the zone's turn: the file, where it is not known, and the values. */
  private async loadInTurn(
    directory: string,
    need: MetadataNeed,
    log: FileLog,
  ): Promise<LoadedMetadata> {
    const path = this.pathsOf(directory).metadata;
    for (let reads = 0; reads < MOST_READS; reads++) {
      const found = this.withoutReading(path);
      const reading = found === 'later' ? await this.readLater(path, log) : found;
      if (reading === 'now') {
        break;
      }
      const loaded = await this.withValues(path, reading, need);
      if (loaded !== undefined) {
        return loaded;
      }
    }
    const parsed = this.current(directory, 'metadata', log);
    return parsed.name === 'metadata'
      ? { maps: parsed.maps, use: parsed.index.use }
      : { maps: NO_METADATA, use: NO_USE };
  }

  /** Reads a long file on a thread; `now` where that comes to nothing that can be served. */
  private async readLater(path: string, log: FileLog): Promise<MetadataReading | 'now'> {
    let text: FileText;
    try {
      text = await readText(path, MAX_METADATA_BYTES, KEPT_BYTES);
    } catch (err) {
      if (ABSENT.has(codeOf(err))) {
        return 'now';
      }
      throw err;
    }
    if (text.kind === 'ok') {
      this.warnings.mended(path);
      return this.keepText(path, text, isSettled(text.stat));
    }
    if (text.reason !== 'changed while it was read') {
      this.keepRefused(path, text.reason, text.stat, log);
    }
    return 'now';
  }

  /** The reading with the values of a need; undefined where the file is not there any more. */
  private async withValues(
    path: string,
    reading: MetadataReading,
    need: MetadataNeed,
  ): Promise<LoadedMetadata | undefined> {
    const { index, stat } = reading;
    const values = new Map<number, unknown>();
    for (const number of valuesOf(index, need)) {
      const value = await valueAt(path, { stat, index }, number);
      if (value === undefined) {
        return undefined;
      }
      values.set(number, value);
    }
    const maps =
      values.size === 0
        ? reading.maps
        : {
            ...index.maps((number) =>
              values.has(number) ? values.get(number) : valueNow(path, stat, index, number),
            ),
            onDisk: index,
          };
    return { maps, use: index.use };
  }

  private current(directory: string, name: ConfigName, log: FileLog): Parsed {
    const path = this.pathsOf(directory)[name];
    const tick = this.tick();
    if (this.last?.tick === tick && this.last.path === path) {
      return this.last.parsed;
    }
    const parsed = this.statAndRead(path, name, log);
    this.last = { tick, path, parsed };
    return parsed;
  }

  private statAndRead(path: string, name: ConfigName, log: FileLog): Parsed {
    const known = this.readings.get(path);
    try {
      const seen = this.statAt(path);
      if (seen !== null && known?.settled === true && sameStat(known.stat, seen)) {
        return known.parsed;
      }
      const stat = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined) {
        this.readings.delete(path);
        this.warnings.mended(path);
        return NOTHING;
      }
      // Opened only when it is a file: to open a device can already do something.
      const file: ConfigRead = stat.isFile()
        ? readConfigFile(path, name === 'metadata' ? MAX_METADATA_BYTES : MAX_MAP_BYTES)
        : { kind: 'refused', stat: statOf(stat), owner: NO_OWNER, reason: 'not a regular file' };
      return this.keep(path, name, file, log);
    } catch (err) {
      if (ABSENT.has(codeOf(err))) {
        this.readings.delete(path);
        return NOTHING;
      }
      const code = codeOf(err);
      this.warnings.warn(path, code, code, { err: systemError('read', path, err) }, log);
      if (known === undefined) {
        throw systemError('read', path, err);
      }
      return known.parsed;
    }
  }

  /** A file that was read on the spot. */
  private keep(path: string, name: ConfigName, file: ConfigRead, log: FileLog): Parsed {
    if (file.kind === 'refused') {
      return this.keepRefused(path, file.reason, file.stat, log);
    }
    const { bytes, stat, owner } = file;
    if (name === 'metadata') {
      const offsets = scanText(bytes);
      if (typeof offsets === 'string') {
        return this.keepRefused(path, offsets, stat, log);
      }
      this.warnings.mended(path);
      const kept = bytes.length > KEPT_BYTES ? null : bytes;
      const text = { kind: 'ok', offsets, stat, owner, bytes: kept } as const;
      const reading = this.keepText(path, text, isSettled(stat));
      // For whoever asked for it: in memory it is, this time.
      return kept === null ? { ...reading, maps: reading.index.mapsIn(bytes) } : reading;
    }
    const object = parseJsonObject(bytes.toString('utf8'));
    if (object === undefined) {
      return this.keepRefused(path, 'no JSON object', stat, log);
    }
    this.warnings.mended(path);
    const parsed: Parsed = { name, map: new Map(Object.entries(object)) };
    this.readings.set(
      path,
      { stat, settled: isSettled(stat), parsed },
      ENTRY_BYTES + 2 * bytes.length,
    );
    return parsed;
  }

  private keepRefused(
    path: string,
    reason: TextFault,
    stat: FileStat | undefined,
    log: FileLog,
  ): NoReading {
    const what = `${reason} ${stat === undefined ? 'unknown' : textOfStat(stat)}`;
    this.warnings.warn(path, reason, what, { path, reason }, log);
    if (stat !== undefined) {
      this.readings.set(path, { stat, settled: isSettled(stat), parsed: NOTHING }, ENTRY_BYTES);
    }
    return NOTHING;
  }

  private keepText(
    path: string,
    text: Extract<FileText, { readonly kind: 'ok' }>,
    settled: boolean,
  ): MetadataReading {
    const { stat, owner, bytes } = text;
    const index = new MetadataIndex(text.offsets);
    const maps =
      bytes === null
        ? { ...index.maps((number) => valueNow(path, stat, index, number)), onDisk: index }
        : index.mapsIn(bytes);
    const parsed: MetadataReading = { name: 'metadata', index, stat, owner, bytes, maps };
    const weight = ENTRY_BYTES + index.weight + (bytes?.length ?? 0);
    this.readings.set(path, { stat, settled, parsed }, weight);
    return parsed;
  }
}

function everyStat(): () => number {
  let stats = 0;
  return () => ++stats;
}

function isSettled(stat: FileStat): boolean {
  return Math.abs(Date.now() - changedMsOf(stat)) > UNSETTLED_MS;
}

/** The path of one of the files. @param directory the VM's `<zonepath>/config`, as a path of this machine */
export function pathOf(directory: string, name: ConfigName): string {
  return `${directory}/${name}.json`;
}

/** The members whose values have to be read for a need. */
function valuesOf(index: MetadataIndex, { key }: MetadataNeed): number[] {
  if (key === null) {
    return [];
  }
  return MAP_NAMES.flatMap((map) => {
    const number = index.names[map].get(key);
    return number === undefined || index.isOpaque(number) ? [] : [number];
  });
}

function valueBytes({ index }: MetadataReading, need: MetadataNeed): number {
  return valuesOf(index, need).reduce((sum, number) => {
    const { valueStart, valueEnd } = index.member(number);
    return sum + valueEnd - valueStart;
  }, 0);
}

/** A value of a file that must look as it did, read on a thread; undefined where it does not. */
async function valueAt(
  path: string,
  { stat, index }: { readonly stat: FileStat; readonly index: MetadataIndex },
  number: number,
): Promise<unknown> {
  if (index.isOpaque(number)) {
    return {};
  }
  const { valueStart: start, valueEnd: end, isString } = index.member(number);
  const bytes = await readValue(path, stat, { start, end, isString });
  if (bytes === undefined) {
    return undefined;
  }
  const text = bytes.toString('utf8');
  return isString ? text : JSON.parse(text);
}

/**
 * A value of a long file, read on the spot: for whoever did not say before what he would read.
 *
 * @throws SystemError ESTALE where the file is another one now
 */
function valueNow(path: string, stat: FileStat, index: MetadataIndex, number: number): unknown {
  if (index.isOpaque(number)) {
    return {};
  }
  const { valueStart, valueEnd } = index.member(number);
  const fd = openConfig(path);
  try {
    if (!sameStat(statOf(fs.fstatSync(fd, { bigint: true })), stat)) {
      throw new SystemError('read', path, 'ESTALE', 'replaced while it was read');
    }
    return JSON.parse(readAll(fd, valueEnd - valueStart, valueStart).toString('utf8'));
  } finally {
    fs.closeSync(fd);
  }
}

/** A FIFO opens at once, and fstat then tells what it is. */
function openConfig(path: string): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  return fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

export type ConfigRead =
  | {
      readonly kind: 'read';
      readonly stat: FileStat;
      readonly owner: FileOwner;
      readonly bytes: Buffer;
    }
  | {
      readonly kind: 'refused';
      readonly stat: FileStat | undefined;
      readonly owner: FileOwner;
      readonly reason: TextFault;
    };

/**
 * Reads a regular file of at most `bytesMax`; anything else is refused without waiting for it. Throws the
 * error of the system call where that fails, ENOENT included.
 */
export function readConfigFile(path: string, bytesMax = MAX_METADATA_BYTES): ConfigRead {
  let fd: number;
  try {
    fd = openConfig(path);
  } catch (err) {
    if (!UNUSABLE.has(codeOf(err))) {
      throw err;
    }
    return { kind: 'refused', stat: undefined, owner: NO_OWNER, reason: 'not a regular file' };
  }
  try {
    const seen = fs.fstatSync(fd, { bigint: true });
    const stat = statOf(seen);
    const owner = ownerOf(seen);
    if (!seen.isFile()) {
      return { kind: 'refused', stat, owner, reason: 'not a regular file' };
    }
    if (seen.size > bytesMax) {
      return { kind: 'refused', stat, owner, reason: 'too large' };
    }
    return { kind: 'read', stat, owner, bytes: readAll(fd, Number(seen.size), 0) };
  } finally {
    fs.closeSync(fd);
  }
}

function ownerOf({ mode, uid, gid }: fs.BigIntStats): FileOwner {
  return { mode: Number(mode) & 0o7777, uid: Number(uid), gid: Number(gid) };
}

function readAll(fd: number, size: number, from: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let length = 0;
  while (length < size) {
    const got = fs.readSync(fd, bytes, length, size - length, from + length);
    if (got === 0) {
      break;
    }
    length += got;
  }
  return bytes.subarray(0, length);
}
