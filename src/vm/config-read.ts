/*
 * One of a VM's config files: its path, its text or a value of it read on the spot, and the warning that it cannot
 * be used. config-files.ts decides what is read when, and what is kept; the doctor and the health checks read here
 * too.
 *
 * Nothing here blocks on what is not a regular file, follows a link, or writes.
 */
import { isUtf8 } from 'node:buffer';
import * as fs from 'node:fs';
import { codeOf, SystemError } from '../lib/errors';
import { repeatsOf, type RepeatCounter, type ZoneLog } from '../log';
import type { MetadataMaps, MetadataNeed } from '../metadata/vm-data';
import { sameStat, statOf, type FileStat } from '../platform/files';
import { readValue, type FileOwner, type TextFault } from '../platform/metadata-text';
import type { MetadataIndex } from './metadata-index';

export const CONFIG_NAMES = ['metadata', 'tags', 'routes'] as const;
export type ConfigName = (typeof CONFIG_NAMES)[number];

/**
 * Longest metadata file that is read, bytes. One of the operator's may be far longer than what a guest may put
 * there.
 */
export const MAX_METADATA_BYTES = 64 * 1024 * 1024;
/** What a path can be instead of a readable file without the machine being at fault. */
const UNUSABLE: ReadonlySet<string> = new Set(['ELOOP', 'EISDIR', 'ENXIO', 'ENODEV', 'EFTYPE']);
export const NO_OWNER: FileOwner = { mode: 0, uid: -1, gid: -1 };

/** The path of one of the files. @param directory `<zonepath>/config`, as a path of this machine */
export function pathOf(directory: string, name: ConfigName): string {
  return `${directory}/${name}.json`;
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
    const { mode, uid, gid } = seen;
    const owner = { mode: Number(mode) & 0o7777, uid: Number(uid), gid: Number(gid) };
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

/**
 * A value of a file, read on a thread of the pool; undefined where its stat is not the given one any more.
 * @param maxString a longer string, in bytes, comes as its UTF-8
 */
export async function valueAt(
  path: string,
  { stat, index }: { readonly stat: FileStat; readonly index: MetadataIndex },
  number: number,
  maxString = Infinity,
): Promise<unknown> {
  if (index.isOpaque(number)) {
    return {};
  }
  const { valueStart: start, valueEnd: end, isString } = index.member(number);
  const bytes = await readValue(path, stat, { start, end, isString });
  if (bytes === undefined) {
    return undefined;
  }
  if (isString && bytes.length > maxString && isUtf8(bytes)) {
    return bytes;
  }
  const text = bytes.toString('utf8');
  return isString ? text : JSON.parse(text);
}

/** The maps of a long file with the values of a need in memory; undefined where the file has been replaced. */
export async function loadValues(
  path: string,
  file: { readonly stat: FileStat; readonly index: MetadataIndex; readonly maps: MetadataMaps },
  { key }: MetadataNeed,
): Promise<MetadataMaps | undefined> {
  const { index, stat } = file;
  const values = new Map<number, unknown>();
  for (const number of index.readable(key)) {
    const value = await valueAt(path, file, number);
    if (value === undefined) {
      return undefined;
    }
    values.set(number, value);
  }
  if (values.size === 0) {
    return file.maps;
  }
  const maps = index.maps((number) =>
    values.has(number) ? values.get(number) : valueNow(path, stat, index, number),
  );
  return { ...maps, onDisk: index };
}

/**
 * A value of a long file, read on the spot: for callers that did not say before what they would read.
 *
 * @throws SystemError ESTALE where the file has been replaced
 */
export function valueNow(
  path: string,
  stat: FileStat,
  index: MetadataIndex,
  number: number,
): unknown {
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

/** A FIFO opens at once, and fstat then shows what it is. */
function openConfig(path: string): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  return fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
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

/** Where the warnings of a zone's files go. */
export type FileLog = Pick<ZoneLog, 'warn'>;

interface Warned {
  /** The fault that was warned of last; null while nothing is wrong. */
  fault: string | null;
  readonly repeats: Map<string, RepeatCounter>;
}

/**
 * The warnings of the files of all VMs: one for each change of what is wrong with a file, and at most one a minute for
 * the same reason, since a file can be written wrongly again and again.
 */
export class FileWarnings {
  private readonly warned = new Map<string, Warned>();

  /** @param now a monotonic clock, ms */
  constructor(private readonly now?: () => number) {}

  /** @param fault differs for each state of a broken file: a new one is warned of */
  warn(
    path: string,
    reason: string,
    fault: string,
    fields: Readonly<Record<string, unknown>>,
    log: FileLog,
  ): void {
    const warned = this.warned.get(path) ?? {
      fault: null,
      repeats: new Map<string, RepeatCounter>(),
    };
    this.warned.set(path, warned);
    if (warned.fault === fault) {
      return;
    }
    warned.fault = fault;
    const repeated = repeatsOf(warned.repeats, reason, this.now).next();
    if (repeated !== null) {
      log.warn({ ...fields, repeated }, 'config file cannot be used');
    }
  }

  /** The file can be used again. */
  recovered(path: string): void {
    const warned = this.warned.get(path);
    if (warned !== undefined) {
      warned.fault = null;
    }
  }

  remove(path: string): void {
    this.warned.delete(path);
  }
}
