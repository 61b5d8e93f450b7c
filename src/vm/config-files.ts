/*
 * metadata.json, tags.json and routes.json of a VM, as they are now.
 *
 * Every request asks the file itself (one lstat) whether it is still the one that was read, so a change
 * is seen by the next GET whoever made it and whether or not vminfod noticed. Requests that were heard
 * together and are answered in one moment share the look (moment.ts). What was parsed is kept for the
 * zones that ask, within a bound for all of them together; all others hold nothing.
 *
 * A missing or unparsable file reads as empty; a fault of the machine (EIO, too many open files) does not:
 * then the last good reading is served, and without one it throws, since a guest takes "no such key" for
 * good. Nothing here blocks on what is no regular file, and nothing here writes. (spec: platform section 1)
 */
import * as fs from 'node:fs';
import { codeOf, systemError } from '../lib/errors';
import type { MetadataMaps } from '../metadata/handler';
import { statOf, openStat, sameStat, type FileStat } from '../platform/file-stat';
import { FileWarnings, type FileLog } from './file-warnings';
import { Lru } from '../lib/lru';
import { ownMap, parseJsonObject, type JsonObject } from '../metadata/vm-data';

export type ConfigName = 'metadata' | 'tags' | 'routes';

/** Larger is no configuration: metadata ends at 4 MiB. Bytes. */
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;
/** What all parsed files may weigh together, bytes: text in UTF-16 and maps count twice the file. */
const CACHE_BYTES = 24 * 1024 * 1024;
/** The maps and the entry of an empty file, bytes. */
const ENTRY_BYTES = 1024;
/**
 * A file changed this shortly before it was read may change again within one tick of the file system's
 * clock (4 ms and more) and look the same: it is read again next time.
 */
const UNSETTLED_MS = 20;
/** What a path can be instead of a readable file without the machine being at fault. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR']);
const UNUSABLE: ReadonlySet<string> = new Set(['ELOOP', 'EISDIR', 'ENXIO', 'ENODEV', 'EFTYPE']);
const NOTHING: ReadonlyMap<string, unknown> = new Map();
const NO_METADATA: MetadataMaps = { customer: NOTHING, internal: NOTHING };

type Parsed =
  | { readonly name: 'metadata'; readonly maps: MetadataMaps }
  | { readonly name: 'tags' | 'routes'; readonly map: ReadonlyMap<string, unknown> };

/** What the last look found, good for its moment. */
interface Look {
  readonly moment: number;
  readonly path: string;
  readonly parsed: Parsed | undefined;
}

interface Reading {
  readonly look: FileStat;
  /** False: may change without looking different. */
  readonly settled: boolean;
  readonly parsed: Parsed;
}

/** The files of all VMs. One serves the store; it holds no descriptor. */
export class ConfigFiles {
  private readonly readings: Lru<Reading>;
  private readonly warnings = new FileWarnings();
  private readonly moment: () => number;
  /** Of the folders that were asked for: to put a path together takes longer than to find it. */
  private readonly paths = new Map<string, Readonly<Record<ConfigName, string>>>();
  private readonly lookAt = openStat();
  private last: Look | null = null;

  /**
   * @param cacheBytes what the parsed files of all zones may weigh together
   * @param moment tells looks of one moment, which may be shared; by default each is its own
   */
  constructor(cacheBytes = CACHE_BYTES, moment = everyLook()) {
    this.readings = new Lru(cacheBytes);
    this.moment = moment;
  }

  metadata(folder: string, log: FileLog): MetadataMaps {
    const parsed = this.read(folder, 'metadata', log);
    return parsed?.name === 'metadata' ? parsed.maps : NO_METADATA;
  }

  tags(folder: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(folder, 'tags', log);
  }

  routes(folder: string, log: FileLog): ReadonlyMap<string, unknown> {
    return this.flat(folder, 'routes', log);
  }

  /** Forgets a zone's files. */
  forget(folder: string): void {
    for (const name of ['metadata', 'tags', 'routes'] as const) {
      const path = pathOf(folder, name);
      this.readings.delete(path);
      this.warnings.forget(path);
    }
    this.paths.delete(folder);
    this.last = null;
  }

  private pathsOf(folder: string): Readonly<Record<ConfigName, string>> {
    let paths = this.paths.get(folder);
    if (paths === undefined) {
      paths = {
        metadata: pathOf(folder, 'metadata'),
        tags: pathOf(folder, 'tags'),
        routes: pathOf(folder, 'routes'),
      };
      this.paths.set(folder, paths);
    }
    return paths;
  }

  private flat(
    folder: string,
    name: 'tags' | 'routes',
    log: FileLog,
  ): ReadonlyMap<string, unknown> {
    const parsed = this.read(folder, name, log);
    return parsed !== undefined && parsed.name !== 'metadata' ? parsed.map : NOTHING;
  }

  private read(folder: string, name: ConfigName, log: FileLog): Parsed | undefined {
    const path = this.pathsOf(folder)[name];
    const moment = this.moment();
    if (this.last?.moment === moment && this.last.path === path) {
      return this.last.parsed;
    }
    const parsed = this.look(path, name, log);
    this.last = { moment, path, parsed };
    return parsed;
  }

  private look(path: string, name: ConfigName, log: FileLog): Parsed | undefined {
    const known = this.readings.get(path);
    try {
      const seen = this.lookAt(path);
      if (seen !== null && known?.settled === true && sameStat(known.look, seen)) {
        return known.parsed;
      }
      const stat = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined) {
        this.readings.delete(path);
        this.warnings.mended(path);
        return undefined;
      }
      // Opened only when it is a file: to open a device can already do something.
      const file: ConfigRead = stat.isFile()
        ? readConfigFile(path)
        : { kind: 'refused', stat, settled: true, reason: 'not a regular file' };
      return this.take(path, name, file, log);
    } catch (err) {
      if (ABSENT.has(codeOf(err))) {
        this.readings.delete(path);
        return undefined;
      }
      const code = codeOf(err);
      this.warnings.warn(path, code, code, { err: systemError('read', path, err) }, log);
      if (known === undefined) {
        throw systemError('read', path, err);
      }
      return known.parsed;
    }
  }

  private take(path: string, name: ConfigName, file: ConfigRead, log: FileLog): Parsed {
    let parsed = emptyOf(name);
    if (file.kind === 'refused') {
      const { reason, stat } = file;
      this.warnings.warn(path, reason, `${reason} ${identity(stat)}`, { path, reason }, log);
    } else {
      const object = parseJsonObject(file.bytes.toString('utf8'));
      if (object === undefined) {
        const reason = 'no JSON object';
        this.warnings.warn(path, reason, `${reason} ${identity(file.stat)}`, { path, reason }, log);
      } else {
        this.warnings.mended(path);
        parsed = parsedOf(name, object);
      }
    }
    if (file.stat !== undefined) {
      const weight = file.kind === 'read' ? file.bytes.length * 2 : 0;
      const { settled, stat } = file;
      this.readings.set(path, { look: statOf(stat), settled, parsed }, ENTRY_BYTES + weight);
    }
    return parsed;
  }
}

function everyLook(): () => number {
  let looks = 0;
  return () => ++looks;
}

/** The path of one of the files. @param folder the VM's `<zonepath>/config`, as a path of this machine */
export function pathOf(folder: string, name: ConfigName): string {
  return `${folder}/${name}.json`;
}

export type ConfigRead =
  | {
      readonly kind: 'read';
      readonly stat: fs.BigIntStats;
      readonly settled: boolean;
      readonly bytes: Buffer;
    }
  | {
      readonly kind: 'refused';
      readonly stat: fs.BigIntStats | undefined;
      readonly settled: boolean;
      readonly reason: string;
    };

/**
 * Reads a regular file of at most 16 MiB; anything else is refused without waiting for it. Throws the
 * error of the system call where that fails, ENOENT included.
 */
export function readConfigFile(path: string): ConfigRead {
  let fd: number;
  try {
    // A FIFO opens at once with O_NONBLOCK, and fstat then tells what it is.
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
    fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (err) {
    if (!UNUSABLE.has(codeOf(err))) {
      throw err;
    }
    return { kind: 'refused', stat: undefined, settled: false, reason: 'not a regular file' };
  }
  try {
    const stat = fs.fstatSync(fd, { bigint: true });
    const settled = Math.abs(Date.now() - Number(stat.ctimeMs)) > UNSETTLED_MS;
    if (!stat.isFile()) {
      return { kind: 'refused', stat, settled, reason: 'not a regular file' };
    }
    if (stat.size > MAX_CONFIG_BYTES) {
      return { kind: 'refused', stat, settled, reason: 'too large' };
    }
    return { kind: 'read', stat, settled, bytes: readAll(fd, Number(stat.size)) };
  } finally {
    fs.closeSync(fd);
  }
}

function readAll(fd: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let length = 0;
  while (length < size) {
    const got = fs.readSync(fd, bytes, length, size - length, null);
    if (got === 0) {
      break;
    }
    length += got;
  }
  return bytes.subarray(0, length);
}

function parsedOf(name: ConfigName, object: JsonObject): Parsed {
  return name === 'metadata'
    ? {
        name,
        maps: {
          customer: ownMap(object, 'customer_metadata'),
          internal: ownMap(object, 'internal_metadata'),
        },
      }
    : { name, map: new Map(Object.entries(object)) };
}

function emptyOf(name: ConfigName): Parsed {
  return name === 'metadata' ? { name, maps: NO_METADATA } : { name, map: NOTHING };
}

function identity(stat: fs.BigIntStats | undefined): string {
  return stat === undefined ? 'unknown' : `${stat.dev}/${stat.ino}/${stat.ctimeNs}/${stat.size}`;
}
