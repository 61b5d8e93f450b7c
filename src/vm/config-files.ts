/*
 * metadata.json, tags.json and routes.json of a VM, as they are now (file-cache.ts).
 *
 *   small metadata.json     read and scanned at once; its bytes are kept
 *   long metadata.json      read and scanned on a thread of the pool; only its members' offsets are kept, and a value
 *                           is read when it is asked for, also there
 *   tags.json, routes.json  a few KiB: read and parsed at once
 *
 * What is read on threads at the same time is bounded for all zones together, one read of a zone at a time: a zone
 * with a long file waits for it, and no other does. Nothing here blocks on what is not a regular file, follows a link,
 * or writes.
 */
import { isUtf8 } from 'node:buffer';
import * as fs from 'node:fs';
import { ByteBudget } from '../lib/byte-budget';
import { SystemError } from '../lib/errors';
import {
  parseJsonObject,
  UnwantedError,
  type MetadataMaps,
  type MetadataNeed,
} from '../metadata/vm-data';
import { sameStat, sizeOf, statOf, type DataVersion, type FileStat } from '../platform/files';
import {
  readText,
  readValue,
  scanText,
  type FileOwner,
  type RefusedText,
  type ScannedText,
  type TextFault,
} from '../platform/metadata-text';
import { FileCache, type FileLog } from './file-cache';
import { MetadataIndex, valueIn, type GuestUse } from './metadata-index';

export const CONFIG_NAMES = ['metadata', 'tags', 'routes'] as const;
export type ConfigName = (typeof CONFIG_NAMES)[number];

/**
 * Longest metadata file that is read, bytes. One of the operator's may be far longer than what a guest may put
 * there.
 */
export const MAX_METADATA_BYTES = 64 * 1024 * 1024;
/** Longest tags and routes, bytes: they are parsed whole on the main thread. */
const MAX_MAP_BYTES = 1024 * 1024;
/** A metadata file up to this long is read at once, in half a millisecond, and kept; bytes. */
export const KEPT_BYTES = 256 * 1024;
/**
 * What is kept of the metadata files of all zones, bytes: names of a megabyte in each of 32 zones, which would be
 * read again for each KEYS, and the common ones.
 */
const METADATA_CACHE_BYTES = 40 * 1024 * 1024;
const MAPS_CACHE_BYTES = 8 * 1024 * 1024;
/** What is read of metadata files at the same time, bytes. */
const READ_BYTES = 16 * 1024 * 1024;
/** Each read counts for so much: more than 64 at a time would only end in the same iteration of the event loop. */
const LEAST_READ_BYTES = READ_BYTES / 64;
/** A file may change again and again while it is read. */
const MAX_READS = 5;
/** The writer has longer strings as bytes, as they come from a PUT. */
const LONG_STRING_BYTES = 64 * 1024;
const NO_MAP: ReadonlyMap<string, unknown> = new Map();

/** The path of one of the files. @param directory `<zonepath>/config`, as a path of this machine */
export function pathOf(directory: string, name: ConfigName): string {
  return `${directory}/${name}.json`;
}

/** Whose files are read. */
export interface ConfigOwner {
  /** Host path of `<zonepath>/config`. */
  readonly directory: string;
  readonly log: FileLog;
}

/** Metadata that was made ready for a request. */
export interface LoadedMetadata {
  readonly maps: MetadataMaps;
  /** What the guest has put there. */
  readonly use: GuestUse;
}

type OpenText = Pick<ScannedText, 'stat' | 'owner' | 'bytes'> & { readonly index: MetadataIndex };

/** A metadata file as it was read last. */
interface MetadataReading extends LoadedMetadata {
  /** Null where the file is read as empty. */
  readonly text: OpenText | null;
}

const NOTHING: MetadataReading = {
  maps: { customer: NO_MAP, internal: NO_MAP },
  use: { bytes: 0, keys: 0 },
  text: null,
};

/** A metadata file as the writer needs it. */
export type WritableText = OpenText & { readonly kind: 'text'; readonly length: number };
export type WritableFile = WritableText | RefusedText | { readonly kind: 'absent' };

/** The files of all VMs. One serves the store. */
export class ConfigFiles {
  private readonly metadata: FileCache<MetadataReading>;
  private readonly maps: FileCache<ReadonlyMap<string, unknown>>;
  private readonly reads = new ByteBudget(READ_BYTES);
  /** By directory: to build a path takes longer than to look it up. */
  private readonly paths = new Map<string, Readonly<Record<ConfigName, string>>>();

  /** @param tick the same number for requests that may share a stat; by default none do */
  constructor(tick: () => number = () => NaN, cacheBytes = METADATA_CACHE_BYTES) {
    this.metadata = new FileCache(cacheBytes, NOTHING, tick);
    this.maps = new FileCache(MAPS_CACHE_BYTES, NO_MAP, tick);
  }

  /**
   * The metadata, with the value of a need in memory: at once, or by a promise where it has to be read. Throws or
   * rejects with a SystemError or an UnwantedError.
   */
  load(
    { directory, log }: ConfigOwner,
    need: MetadataNeed,
  ): LoadedMetadata | Promise<LoadedMetadata> {
    const path = this.pathsOf(directory).metadata;
    const found = this.metadata.current(path, log);
    if (found !== null && isInMemory(found)) {
      return found;
    }
    const bytes = found?.text?.index.valueBytesOf(need.key) ?? this.sizeOf(directory);
    if (found !== null && bytes === 0) {
      return found;
    }
    return found === null && bytes <= KEPT_BYTES
      ? this.readSmall(path, log)
      : this.reads.run(path, Math.max(bytes, LEAST_READ_BYTES), () => this.read(path, log, need));
  }

  /** How long the metadata file is now, bytes; 0 where there is none. Throws a SystemError. */
  sizeOf(directory: string): number {
    const seen = this.metadata.stat(this.pathsOf(directory).metadata);
    return seen === null ? 0 : sizeOf(seen);
  }

  /** What the files look like now. */
  version(directory: string): DataVersion {
    const { metadata, tags, routes } = this.pathsOf(directory);
    const versions = [
      this.metadata.version(metadata),
      this.maps.version(tags),
      this.maps.version(routes),
    ];
    return {
      text: versions.map(({ text }) => text).join(' '),
      settled: versions.every(({ settled }) => settled),
    };
  }

  /** Throws a SystemError, as all that read. */
  tags(owner: ConfigOwner): ReadonlyMap<string, unknown> {
    return this.mapOf(owner, 'tags');
  }

  routes(owner: ConfigOwner): ReadonlyMap<string, unknown> {
    return this.mapOf(owner, 'routes');
  }

  /** Reads a metadata file for a change. Rejects with a SystemError. */
  async openForWrite(directory: string): Promise<WritableFile> {
    const path = this.pathsOf(directory).metadata;
    if (this.metadata.stat(path) === null) {
      return { kind: 'absent' };
    }
    const known = this.metadata.kept(path)?.text ?? null;
    if (known !== null) {
      return { kind: 'text', length: sizeOf(known.stat), ...known };
    }
    const file = await readText(path, MAX_METADATA_BYTES, KEPT_BYTES);
    return file.kind === 'refused'
      ? file
      : { kind: 'text', length: sizeOf(file.stat), ...this.keep(path, file).text };
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
  written(directory: string, text: ScannedText): void {
    // Only somebody without the platform's lock can change it within the same tick of the clock.
    this.keep(this.pathsOf(directory).metadata, text, true);
  }

  /** Removes all that is kept of a zone's files. */
  remove(directory: string): void {
    const { metadata, tags, routes } = this.pathsOf(directory);
    this.metadata.remove(metadata);
    this.maps.remove(tags);
    this.maps.remove(routes);
    this.paths.delete(directory);
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

  private mapOf({ directory, log }: ConfigOwner, name: ConfigName): ReadonlyMap<string, unknown> {
    const path = this.pathsOf(directory)[name];
    const known = this.maps.current(path, log);
    if (known !== null) {
      return known;
    }
    try {
      const file = readConfigFile(path, MAX_MAP_BYTES);
      if (file.kind === 'refused') {
        return this.maps.refused(path, file.stat, file.reason, log);
      }
      const { stat, bytes } = file;
      const object = parseJsonObject(bytes.toString('utf8'));
      return object === undefined
        ? this.maps.refused(path, stat, 'no JSON object', log)
        : this.maps.keep(path, stat, new Map(Object.entries(object)), 2 * bytes.length);
    } catch (err) {
      return this.maps.failed(path, err, log);
    }
  }

  /** At once, which takes less than a trip to a thread of the pool. */
  private readSmall(path: string, log: FileLog): LoadedMetadata {
    try {
      const file = readConfigFile(path);
      if (file.kind === 'refused') {
        return this.metadata.refused(path, file.stat, file.reason, log);
      }
      const offsets = scanText(file.bytes);
      return typeof offsets === 'string'
        ? this.metadata.refused(path, file.stat, offsets, log)
        : this.keep(path, { ...file, offsets });
    } catch (err) {
      return this.metadata.failed(path, err, log);
    }
  }

  /** The file, where it is not known, and the value of a need. */
  private async read(path: string, log: FileLog, need: MetadataNeed): Promise<LoadedMetadata> {
    if (need.isWanted?.() === false) {
      throw new UnwantedError();
    }
    for (let reads = 0; reads < MAX_READS; reads++) {
      const file = this.metadata.current(path, log) ?? (await this.readFile(path, log));
      const loaded = file === undefined ? undefined : await withValue(path, file, need);
      if (loaded !== undefined) {
        return loaded;
      }
    }
    const err = new SystemError('read', path, 'EAGAIN', 'changed each time while it was read');
    return this.metadata.failed(path, err, log);
  }

  /** Undefined where it changed meanwhile. */
  private async readFile(path: string, log: FileLog): Promise<MetadataReading | undefined> {
    try {
      const file = await readText(path, MAX_METADATA_BYTES, KEPT_BYTES);
      if (file.kind === 'ok') {
        return this.keep(path, file);
      }
      const { reason, stat } = file;
      return reason === 'changed while it was read'
        ? undefined
        : this.metadata.refused(path, stat, reason, log);
    } catch (err) {
      return this.metadata.failed(path, err, log);
    }
  }

  private keep(
    path: string,
    file: Omit<ScannedText, 'kind'>,
    settled?: boolean,
  ): MetadataReading & { readonly text: OpenText } {
    const { stat, owner, bytes } = file;
    const index = new MetadataIndex(file.offsets);
    const text = { index, stat, owner, bytes };
    const maps =
      bytes === null
        ? { ...index.maps((number) => valueNow(path, text, number)), onDisk: index }
        : index.mapsIn(bytes);
    const reading = { maps, use: index.use, text };
    this.metadata.keep(path, stat, reading, index.weight + (bytes?.length ?? 0), settled);
    return reading;
  }
}

function isInMemory({ text }: MetadataReading): boolean {
  return text?.bytes !== null;
}

/** The metadata with the value of a need in memory; undefined where the file has been replaced. */
async function withValue(
  path: string,
  reading: MetadataReading,
  { key }: MetadataNeed,
): Promise<LoadedMetadata | undefined> {
  const { text, use } = reading;
  if (text === null || isInMemory(reading)) {
    return reading;
  }
  const { index } = text;
  const values = new Map<number, unknown>();
  for (const number of index.readable(key)) {
    const value = await valueAt(path, text, number);
    if (value === undefined) {
      return undefined;
    }
    values.set(number, value);
  }
  if (values.size === 0) {
    return reading;
  }
  const maps = index.maps((number) =>
    values.has(number) ? values.get(number) : valueNow(path, text, number),
  );
  return { maps: { ...maps, onDisk: index }, use };
}

/**
 * A value of a file, read on a thread of the pool; undefined where its stat is not the given one any more.
 * @param maxString a longer string, in bytes, comes as its UTF-8
 */
async function valueAt(
  path: string,
  { stat, index }: OpenText,
  number: number,
  maxString = Infinity,
): Promise<unknown> {
  const { valueStart: start, valueEnd: end, isString, isOpaque } = index.member(number);
  if (isOpaque) {
    return {};
  }
  const bytes = await readValue(path, stat, { start, end, isString });
  if (bytes === undefined) {
    return undefined;
  }
  if (isString && bytes.length > maxString && isUtf8(bytes)) {
    return bytes;
  }
  return isString ? bytes.toString('utf8') : parseValue(path, bytes);
}

/** Bytes that were JSON when the file was scanned. What is wrong with others is not told: the error would quote them. */
function parseValue(path: string, bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new SystemError('read', path, 'ESTALE', 'changed while it was read');
  }
}

/**
 * A value of a long file, read on the spot: for callers that did not say before what they would read.
 *
 * @throws SystemError ESTALE where the file has been replaced
 */
function valueNow(path: string, { stat, index }: OpenText, number: number): unknown {
  const { valueStart, valueEnd, isOpaque } = index.member(number);
  if (isOpaque) {
    return {};
  }
  const fd = openConfig(path);
  try {
    if (!sameStat(statOf(fs.fstatSync(fd, { bigint: true })), stat)) {
      throw new SystemError('read', path, 'ESTALE', 'replaced while it was read');
    }
    const bytes = Buffer.allocUnsafe(valueEnd - valueStart);
    const read = fs.readSync(fd, bytes, 0, bytes.length, valueStart);
    if (read < bytes.length) {
      throw new SystemError('read', path, 'ESTALE', 'cut while it was read');
    }
    return parseValue(path, bytes);
  } finally {
    fs.closeSync(fd);
  }
}

export type ConfigRead = { readonly stat: FileStat } & (
  | { readonly kind: 'read'; readonly owner: FileOwner; readonly bytes: Buffer }
  | { readonly kind: 'refused'; readonly reason: TextFault }
);

/**
 * Reads a regular file of at most `bytesMax`; anything else is refused without opening it, which can already do
 * something to a device. Throws the error of the system call where that fails, ENOENT included.
 */
export function readConfigFile(path: string, bytesMax = MAX_METADATA_BYTES): ConfigRead {
  const found = fs.lstatSync(path, { bigint: true });
  if (!found.isFile()) {
    return { kind: 'refused', stat: statOf(found), reason: 'not a regular file' };
  }
  const fd = openConfig(path);
  try {
    const seen = fs.fstatSync(fd, { bigint: true });
    const stat = statOf(seen);
    const { mode, uid, gid } = seen;
    const owner = { mode: Number(mode) & 0o7777, uid: Number(uid), gid: Number(gid) };
    if (!seen.isFile()) {
      return { kind: 'refused', stat, reason: 'not a regular file' };
    }
    return seen.size > bytesMax
      ? { kind: 'refused', stat, reason: 'too large' }
      : { kind: 'read', stat, owner, bytes: fs.readFileSync(fd) };
  } finally {
    fs.closeSync(fd);
  }
}

/** A FIFO that comes in the file's place meanwhile opens at once. */
function openConfig(path: string): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  return fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}
