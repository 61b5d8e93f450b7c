/*
 * metadata.json, tags.json and routes.json of a VM, as they are now (file-cache.ts).
 *
 *   short metadata.json     read and scanned at once; its bytes are kept
 *   long metadata.json      read and scanned on a thread; of it only its members' offsets are kept, and a value is
 *                           read when it is asked for
 *   tags.json, routes.json  read and parsed at once
 *
 * What threads read is bounded for all zones together, one read of a zone at a time: a zone with a long file waits for
 * it, and no other does.
 */
import assert from 'node:assert';
import { isUtf8 } from 'node:buffer';
import { ByteBudget } from '../lib/byte-budget';
import { SystemError } from '../lib/errors';
import {
  parseJsonObject,
  UnwantedError,
  type MetadataMaps,
  type MetadataNeed,
} from '../metadata/vm-data';
import { sizeOf, type DataVersion } from '../platform/files';
import {
  readText,
  readValue,
  readValueNow,
  type RefusedText,
  type ScannedText,
  type ValueRange,
} from '../platform/metadata-text';
import { FileCache, type FileLog } from './file-cache';
import { MetadataIndex, valueIn } from './metadata-index';

export const CONFIG_NAMES = ['metadata', 'tags', 'routes'] as const;
export type ConfigName = (typeof CONFIG_NAMES)[number];

/** Longest metadata file that is read: an operator's may be far longer than what a guest may put there. */
export const MAX_METADATA_BYTES = 64 * 1024 * 1024;
/** Longest tags and routes, which are parsed on the main thread. */
const MAX_MAP_BYTES = 1024 * 1024;
/** A metadata file up to this long is read at once, in half a millisecond, and kept. */
export const KEPT_BYTES = 256 * 1024;
/** Names of a megabyte in each of 32 zones, which would be read again for each KEYS, and the common files. */
const METADATA_CACHE_BYTES = 40 * 1024 * 1024;
const MAPS_CACHE_BYTES = 8 * 1024 * 1024;
/** What threads read of metadata files at a time. */
const READ_BYTES = 16 * 1024 * 1024;
/** Each read counts for so much: more than 64 at a time would only end in the same iteration of the event loop. */
const LEAST_READ_BYTES = READ_BYTES / 64;
/** A file may be replaced again and again while a value of it is read. */
const MAX_READS = 5;
/** The writer has longer strings as bytes, as they come from a PUT. */
const LONG_STRING_BYTES = 64 * 1024;
const NO_MAP: ReadonlyMap<string, unknown> = new Map();

/** @param directory `<zonepath>/config`, as a path of this machine */
export function pathOf(directory: string, name: ConfigName): string {
  return `${directory}/${name}.json`;
}

/** Whose files are read. */
export interface ConfigOwner {
  /** Host path of `<zonepath>/config`. */
  readonly directory: string;
  readonly log: FileLog;
}

type OpenText = Omit<ScannedText, 'kind' | 'offsets'> & { readonly index: MetadataIndex };

/** A metadata file as it was read last, and for a request with a value in memory. */
export interface LoadedMetadata {
  readonly maps: MetadataMaps;
  readonly use: MetadataIndex['use'];
  /** Null where the file is read as empty. */
  readonly text: OpenText | null;
}

const NOTHING: LoadedMetadata = {
  maps: { customer: NO_MAP, internal: NO_MAP },
  use: { bytes: 0, keys: 0 },
  text: null,
};

/** A metadata file as the writer needs it. */
export type WritableText = OpenText & { readonly kind: 'text'; readonly length: number };

/** The files of all VMs. One serves the store. */
export class ConfigFiles {
  private readonly metadata: FileCache<LoadedMetadata>;
  private readonly maps: FileCache<ReadonlyMap<string, unknown>>;
  private readonly reads = new ByteBudget(READ_BYTES);
  /** By directory: to build a path takes longer than to look it up. */
  private readonly paths = new Map<string, Readonly<Record<ConfigName, string>>>();

  /** @param tick the same number for requests that may share a stat; by default none do */
  constructor(tick: () => number = () => NaN, cacheBytes = METADATA_CACHE_BYTES) {
    this.metadata = new FileCache(cacheBytes, NOTHING, readingOf, tick);
    this.maps = new FileCache(MAPS_CACHE_BYTES, NO_MAP, mapOf, tick);
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
    const known = this.metadata.current(path, log);
    if (known?.text?.bytes === null) {
      const bytes = known.text.index.valueBytesOf(need.key);
      return bytes === 0 ? known : this.readLater(path, log, need, bytes);
    }
    if (known !== null) {
      return known;
    }
    const bytes = this.sizeOf(directory);
    return bytes <= KEPT_BYTES
      ? this.metadata.readNow(path, log, MAX_METADATA_BYTES, KEPT_BYTES)
      : this.readLater(path, log, need, bytes);
  }

  /** How long the metadata file is now, bytes; 0: there is none. Throws a SystemError. */
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
  async openForWrite(
    directory: string,
  ): Promise<WritableText | RefusedText | { readonly kind: 'absent' }> {
    const path = this.pathsOf(directory).metadata;
    if (this.metadata.stat(path) === null) {
      return { kind: 'absent' };
    }
    let text = this.metadata.kept(path)?.text ?? null;
    if (text === null) {
      const file = await readText(path, MAX_METADATA_BYTES, KEPT_BYTES);
      if (file.kind === 'refused') {
        return file;
      }
      ({ text } = this.metadata.keep(path, file));
      assert(text !== null, 'a reading of a file has its text');
    }
    return { kind: 'text', length: sizeOf(text.stat), ...text };
  }

  /**
   * A value of a file that was opened for a change, a long string as its UTF-8; undefined where that file has been
   * replaced. Rejects with a SystemError.
   */
  valueForWrite(directory: string, file: WritableText, number: number): Promise<unknown> {
    return valueLater(this.pathsOf(directory).metadata, file, number, LONG_STRING_BYTES);
  }

  /** Keeps what the writer has put in the place of the file. */
  written(directory: string, text: ScannedText): void {
    // Only somebody without the platform's lock can change it within the same tick of the clock.
    this.metadata.keep(this.pathsOf(directory).metadata, text, true);
  }

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
    return (
      this.maps.current(path, log) ?? this.maps.readNow(path, log, MAX_MAP_BYTES, MAX_MAP_BYTES)
    );
  }

  /** @param bytes that have to be read */
  private readLater(
    path: string,
    log: FileLog,
    need: MetadataNeed,
    bytes: number,
  ): Promise<LoadedMetadata> {
    return this.reads.run(path, Math.max(bytes, LEAST_READ_BYTES), async () => {
      if (need.isWanted?.() === false) {
        throw new UnwantedError();
      }
      for (let reads = 0; reads < MAX_READS; reads++) {
        const file =
          this.metadata.current(path, log) ??
          (await this.metadata.read(path, log, MAX_METADATA_BYTES, KEPT_BYTES));
        const loaded = await withValue(path, file, need);
        if (loaded !== undefined) {
          return loaded;
        }
      }
      const detail = 'replaced each time while it was read';
      return this.metadata.failed(path, new SystemError('read', path, 'EAGAIN', detail), log);
    });
  }
}

/** What is kept of a metadata file, and how much that is, bytes. */
function readingOf(path: string, file: ScannedText): [LoadedMetadata, number] {
  const { offsets, stat, owner, bytes } = file;
  const index = new MetadataIndex(offsets);
  const text: OpenText = { index, stat, owner, bytes };
  const maps =
    bytes === null
      ? { ...index.maps((number) => valueNow(path, text, number)), onDisk: index }
      : index.mapsIn(bytes);
  return [{ maps, use: index.use, text }, index.weight + (bytes?.length ?? 0)];
}

function mapOf(_path: string, { bytes }: ScannedText): [ReadonlyMap<string, unknown>, number] {
  const text = bytes?.toString('utf8') ?? '';
  return [new Map(Object.entries(parseJsonObject(text) ?? {})), 2 * text.length];
}

/** The metadata with the value of a need in memory; undefined where the file has been replaced. */
async function withValue(
  path: string,
  reading: LoadedMetadata,
  { key }: MetadataNeed,
): Promise<LoadedMetadata | undefined> {
  const { text } = reading;
  if (text?.bytes !== null) {
    return reading;
  }
  const values = new Map<number, unknown>();
  for (const number of text.index.readable(key)) {
    const value = await valueLater(path, text, number);
    if (value === undefined) {
      return undefined;
    }
    values.set(number, value);
  }
  const maps = text.index.maps((number) =>
    values.has(number) ? values.get(number) : valueNow(path, text, number),
  );
  return { ...reading, maps: { ...maps, onDisk: text.index } };
}

/**
 * A value of a file, read on a thread of the pool where it is not in memory; undefined where the file has been replaced.
 * @param maxString a longer string, in bytes, comes as its UTF-8 from there
 */
async function valueLater(
  path: string,
  { stat, bytes, index }: OpenText,
  number: number,
  maxString = Infinity,
): Promise<unknown> {
  if (bytes !== null) {
    return valueIn(bytes, index, number);
  }
  const member = index.member(number);
  if (member.isOpaque) {
    return {};
  }
  const value = await readValue(path, stat, member);
  if (value === undefined || (member.isString && value.length > maxString && isUtf8(value))) {
    return value;
  }
  return decoded(path, value, member);
}

/**
 * The same at once, for callers that did not say before what they would read.
 * @throws SystemError ESTALE where the file has been replaced
 */
function valueNow(path: string, { stat, index }: OpenText, number: number): unknown {
  const member = index.member(number);
  if (member.isOpaque) {
    return {};
  }
  const value = readValueNow(path, stat, member);
  if (value === undefined) {
    throw new SystemError('read', path, 'ESTALE', 'replaced while it was read');
  }
  return decoded(path, value, member);
}

/** Bytes that were JSON when the file was scanned. What is wrong with others is not told: the error would quote them. */
function decoded(path: string, bytes: Buffer, { isString }: ValueRange): unknown {
  const text = bytes.toString('utf8');
  if (isString) {
    return text;
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new SystemError('read', path, 'ESTALE', 'changed while it was read');
  }
}
