/*
 * metadata.json, tags.json and routes.json of a VM, as they are now.
 *
 * Every request asks the file itself (one lstat) whether it is still the one that was read, so a change
 * is seen by the next GET whoever made it and whether or not vminfod noticed. Requests that came in together
 * and are answered in one tick share the stat (lib/scheduler.ts).
 *
 *   small metadata.json     read and scanned at once; its bytes are kept
 *   long metadata.json      read and scanned on a thread of the pool; only its members' offsets are kept, and
 *                           a value is read when it is asked for, also there. What all zones read at the same
 *                           time is bounded, one read of a zone at a time: a zone with a long file waits for it,
 *                           and no other does
 *   tags.json, routes.json  parsed
 *
 * What is kept is bounded for all zones together; what was not used for long is dropped.
 *
 * A missing or unparsable file reads as empty; a fault of the machine (EIO, too many open files) does not:
 * then the last good reading is served, and without one it throws, since a guest takes "no such key" for
 * good.
 */
import { lstatSync } from 'node:fs';
import { ByteBudget } from '../lib/byte-budget';
import { codeOf, systemError } from '../lib/errors';
import { Lru } from '../lib/lru';
import {
  parseJsonObject,
  UnwantedError,
  type MetadataMaps,
  type MetadataNeed,
} from '../metadata/vm-data';
import {
  changedMsOf,
  openStat,
  sameStat,
  sizeOf,
  statOf,
  textOfStat,
  type FileStat,
} from '../platform/files';
import {
  readText,
  scanText,
  type FileOwner,
  type FileText,
  type TextFault,
} from '../platform/metadata-text';
import {
  FileWarnings,
  MAX_METADATA_BYTES,
  NO_OWNER,
  pathOf,
  readConfigFile,
  loadValues,
  valueAt,
  valueNow,
  type ConfigName,
  type ConfigRead,
  type FileLog,
} from './config-read';
import { MetadataIndex, valueIn, type GuestUse } from './metadata-index';

/** Longest tags and routes, bytes: they are parsed whole on the main thread, and are a few KiB. */
const MAX_MAP_BYTES = 1024 * 1024;
/** Up to this long a file is read and scanned at once, in about half a millisecond, and kept; bytes. */
export const KEPT_BYTES = 256 * 1024;
/**
 * What is kept of the files of all zones, bytes: names of a megabyte in each of 32 zones, which would be read again for each
 * KEYS, and the common ones.
 */
const CACHE_BYTES = 48 * 1024 * 1024;
/** The maps and the entry of an empty file, bytes. */
const ENTRY_BYTES = 1024;
/** What is read of long files at the same time, bytes. */
const READ_BYTES = 16 * 1024 * 1024;
/** A file that changes again and again while it is read is read on the spot after so many attempts. */
const MAX_READS = 3;
/**
 * A file changed this shortly before it was read may change again within one tick of the file system's
 * clock (4 ms and more) and have the same stat: it is read again next time.
 */
const UNSETTLED_MS = 20;
/** The writer has longer strings as bytes, as they come from a PUT. */
const LONG_STRING_BYTES = 64 * 1024;
/** There is no file. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR']);
const NO_MAP: ReadonlyMap<string, unknown> = new Map();
const NOTHING: NoReading = {
  name: 'nothing',
  maps: { customer: NO_MAP, internal: NO_MAP },
  use: { bytes: 0, keys: 0 },
};

/** Metadata that was made ready for a request. */
export interface LoadedMetadata {
  readonly maps: MetadataMaps;
  readonly use: GuestUse;
}

/** A metadata file as it was read last. */
interface MetadataReading extends LoadedMetadata {
  readonly name: 'metadata';
  readonly index: MetadataIndex;
  readonly stat: FileStat;
  readonly owner: FileOwner;
  /** Null where they are not kept. */
  readonly bytes: Buffer | null;
}

/** A file that is read as empty. */
interface NoReading extends LoadedMetadata {
  readonly name: 'nothing';
}

type Parsed =
  | MetadataReading
  | NoReading
  | { readonly name: 'tags' | 'routes'; readonly map: ReadonlyMap<string, unknown> };

interface Reading {
  readonly stat: FileStat;
  /** False: may change without a change of its stat. */
  readonly settled: boolean;
  readonly parsed: Parsed;
}

/** A metadata file as the writer needs it. */
export type WritableText = { readonly kind: 'text'; readonly length: number } & Omit<
  MetadataReading,
  'name' | 'maps' | 'use'
>;
export type WritableFile =
  WritableText | { readonly kind: 'absent' } | Extract<FileText, { readonly kind: 'refused' }>;

/** The files of all VMs. One serves the store; it holds no descriptor. */
export class ConfigFiles {
  private readonly readings: Lru<Reading>;
  private readonly warnings = new FileWarnings();
  private readonly reads = new ByteBudget(READ_BYTES);
  /** By directory: to build a path takes longer than to look it up. */
  private readonly paths = new Map<string, Readonly<Record<ConfigName, string>>>();
  private readonly statAt = openStat();
  /** What the last stat found, good for its tick. */
  private last: Readonly<{ tick: number; path: string; parsed: Parsed }> | null = null;

  /**
   * @param cacheBytes what is kept of the files of all zones may weigh so much together
   * @param tick the same number for requests that may share a stat; by default none do
   */
  constructor(
    cacheBytes = CACHE_BYTES,
    private readonly tick: () => number = () => NaN,
  ) {
    this.readings = new Lru(cacheBytes);
  }

  /** The metadata, read on the spot where it is not known. Throws a SystemError. */
  metadata(directory: string, log: FileLog): MetadataMaps {
    return this.loadNow(directory, log).maps;
  }

  /** What the guest has put there; as `metadata`. */
  use(directory: string, log: FileLog): GuestUse {
    return this.loadNow(directory, log).use;
  }

  /** How long the metadata file is now, bytes; 0 where there is none. Throws a SystemError. */
  sizeOf(directory: string): number {
    const seen = this.statAt(this.pathsOf(directory).metadata);
    return seen === null ? 0 : sizeOf(seen);
  }

  tags(directory: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(directory, 'tags', log);
  }

  routes(directory: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(directory, 'routes', log);
  }

  /** The metadata, ready for a need; null where `metadata` is ready as it is. Rejects with a SystemError or UnwantedError. */
  load(directory: string, need: MetadataNeed, log: FileLog): Promise<LoadedMetadata> | null {
    const path = this.pathsOf(directory).metadata;
    const found = this.isLast(path) ? 'now' : this.cachedOrWhen(path);
    if (found === 'now') {
      return null;
    }
    const bytes = found === 'later' ? this.sizeOf(directory) : found.index.valueBytesOf(need.key);
    return bytes === 0
      ? null
      : this.reads.run(path, bytes, () => this.loadWithinBudget(directory, need, log));
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
   * A value of a file that was opened for a change, a long string as its UTF-8; undefined where that file has been
   * replaced. Rejects with a SystemError.
   */
  valueForWrite(directory: string, file: WritableText, number: number): Promise<unknown> {
    return file.bytes === null
      ? valueAt(this.pathsOf(directory).metadata, file, number, LONG_STRING_BYTES)
      : Promise.resolve(valueIn(file.bytes, file.index, number));
  }

  /** Keeps what the writer has put in the place of the file, so that nobody has to read it again. */
  written(directory: string, text: Extract<FileText, { readonly kind: 'ok' }>): void {
    // Only somebody without the platform's lock can change it within the same tick of the clock.
    this.keepText(this.pathsOf(directory).metadata, text, true);
    this.last = null;
  }

  /** Removes all that is kept of a zone's files. */
  remove(directory: string): void {
    for (const path of Object.values(this.pathsOf(directory))) {
      this.readings.delete(path);
      this.warnings.remove(path);
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

  /** The reading that is kept of a metadata file, or when it has to be read: on the spot, or later, on a thread. */
  private cachedOrWhen(path: string): MetadataReading | 'now' | 'later' {
    try {
      const known = this.readings.get(path);
      const seen = this.statAt(path);
      if (seen === null) {
        return 'now';
      }
      if (known?.settled === true && sameStat(known.stat, seen)) {
        const { parsed } = known;
        this.last = { tick: this.tick(), path, parsed };
        return parsed.name === 'metadata' && parsed.bytes === null ? parsed : 'now';
      }
      const size = sizeOf(seen);
      return size > KEPT_BYTES && size <= MAX_METADATA_BYTES ? 'later' : 'now';
    } catch {
      // The reading meets the fault too, and knows what to serve then.
      return 'now';
    }
  }

  /** The file, where it is not known, and the values of a need. */
  private async loadWithinBudget(
    directory: string,
    need: MetadataNeed,
    log: FileLog,
  ): Promise<LoadedMetadata> {
    if (need.isWanted?.() === false) {
      throw new UnwantedError();
    }
    const path = this.pathsOf(directory).metadata;
    for (let reads = 0; reads < MAX_READS; reads++) {
      const found = this.cachedOrWhen(path);
      const reading = found === 'later' ? await this.readLater(path, log) : found;
      if (reading === 'now') {
        break;
      }
      const maps = await loadValues(path, reading, need);
      if (maps !== undefined) {
        return { maps, use: reading.use };
      }
    }
    return this.loadNow(directory, log);
  }

  /** Reads a long file on a thread; `now` where it cannot be served. */
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
      this.warnings.recovered(path);
      return this.keepText(path, text, isSettled(text.stat));
    }
    if (text.reason !== 'changed while it was read') {
      this.keepRefused(path, text.reason, text.stat, log);
    }
    return 'now';
  }

  private loadNow(directory: string, log: FileLog): LoadedMetadata {
    const parsed = this.current(directory, 'metadata', log);
    return 'maps' in parsed ? parsed : NOTHING;
  }

  private current(directory: string, name: ConfigName, log: FileLog): Parsed {
    const path = this.pathsOf(directory)[name];
    if (this.last?.path === path && this.last.tick === this.tick()) {
      return this.last.parsed;
    }
    const parsed = this.statAndRead(path, name, log);
    this.last = { tick: this.tick(), path, parsed };
    return parsed;
  }

  /** Whether this tick's last stat was of this file, whose text is in memory. */
  private isLast(path: string): boolean {
    const { last } = this;
    const isKept = last?.parsed.name !== 'metadata' || last.parsed.bytes !== null;
    return last?.path === path && isKept && last.tick === this.tick();
  }

  private statAndRead(path: string, name: ConfigName, log: FileLog): Parsed {
    const known = this.readings.get(path);
    try {
      const seen = this.statAt(path);
      if (seen !== null && known?.settled === true && sameStat(known.stat, seen)) {
        return known.parsed;
      }
      const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined) {
        this.readings.delete(path);
        this.warnings.recovered(path);
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
      this.warnings.recovered(path);
      const kept = bytes.length > KEPT_BYTES ? null : bytes;
      const text = { kind: 'ok', offsets, stat, owner, bytes: kept } as const;
      const reading = this.keepText(path, text, isSettled(stat));
      // The bytes are in memory now, and serve this caller.
      return kept === null ? { ...reading, maps: reading.index.mapsIn(bytes) } : reading;
    }
    const object = parseJsonObject(bytes.toString('utf8'));
    if (object === undefined) {
      return this.keepRefused(path, 'no JSON object', stat, log);
    }
    this.warnings.recovered(path);
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
    const fault = `${reason} ${stat === undefined ? 'unknown' : textOfStat(stat)}`;
    this.warnings.warn(path, reason, fault, { path, reason }, log);
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
    const { use } = index;
    const parsed: MetadataReading = { name: 'metadata', index, stat, owner, bytes, maps, use };
    const weight = ENTRY_BYTES + index.weight + (bytes?.length ?? 0);
    this.readings.set(path, { stat, settled, parsed }, weight);
    return parsed;
  }
}

function isSettled(stat: FileStat): boolean {
  return Math.abs(Date.now() - changedMsOf(stat)) > UNSETTLED_MS;
}
