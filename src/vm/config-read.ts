/*
 * One of a VM's config files: its path, and its text or a value of it. config-files.ts decides what is read when, and
 * what is kept; the doctor and the health checks read here too.
 *
 * Nothing here blocks on what is not a regular file, follows a link, or writes.
 */
import { isUtf8 } from 'node:buffer';
import * as fs from 'node:fs';
import { SystemError } from '../lib/errors';
import { sameStat, statOf, type FileStat } from '../platform/files';
import { readValue, type TextFault } from '../platform/metadata-text';
import type { MetadataIndex } from './metadata-index';

export const CONFIG_NAMES = ['metadata', 'tags', 'routes'] as const;
export type ConfigName = (typeof CONFIG_NAMES)[number];

/**
 * Longest metadata file that is read, bytes. One of the operator's may be far longer than what a guest may put
 * there.
 */
export const MAX_METADATA_BYTES = 64 * 1024 * 1024;

/** The path of one of the files. @param directory `<zonepath>/config`, as a path of this machine */
export function pathOf(directory: string, name: ConfigName): string {
  return `${directory}/${name}.json`;
}

export type ConfigRead = { readonly stat: FileStat } & (
  | { readonly kind: 'read'; readonly bytes: Buffer }
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
    return seen.size > bytesMax
      ? { kind: 'refused', stat, reason: 'too large' }
      : { kind: 'read', stat, bytes: fs.readFileSync(fd) };
  } finally {
    fs.closeSync(fd);
  }
}

interface IndexedFile {
  readonly stat: FileStat;
  readonly index: MetadataIndex;
}

/**
 * A value of a file, read on a thread of the pool; undefined where its stat is not the given one any more.
 * @param maxString a longer string, in bytes, comes as its UTF-8
 */
export async function valueAt(
  path: string,
  { stat, index }: IndexedFile,
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
  const text = bytes.toString('utf8');
  return isString ? text : JSON.parse(text);
}

/**
 * A value of a long file, read on the spot: for callers that did not say before what they would read.
 *
 * @throws SystemError ESTALE where the file has been replaced
 */
export function valueNow(path: string, { stat, index }: IndexedFile, number: number): unknown {
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
    fs.readSync(fd, bytes, 0, bytes.length, valueStart);
    return JSON.parse(bytes.toString('utf8'));
  } finally {
    fs.closeSync(fd);
  }
}

/** A FIFO that comes in the file's place meanwhile opens at once. */
function openConfig(path: string): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  return fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}
