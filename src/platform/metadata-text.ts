/*
 * The text of a metadata.json by its members' offsets: scanned, read, and replaced by pieces of itself and new text. The
 * scan takes a second for a gigabyte (native/metadata_scan.c). What the members mean vm/metadata-index.ts knows.
 */
import { dirname } from 'node:path';
import { SystemError, errnoName } from '../lib/errors';
import { TaskQueue } from '../lib/scheduler';
import { loadAddon, type NativeText } from './addon';
import { stepError, type FileStat } from './files';

/** By number, as native/metadata_file.h has them. */
const OK = 0;
const FAILED = 1;
const CHANGED = 4;
const UNSAFE = 9;
const REASONS = [
  'ok',
  'failed',
  'not a regular file',
  'too large',
  'changed while it was read',
  'blank',
  'no JSON object',
  'no JSON object',
  'too many members',
  'cannot be edited safely',
] as const;
const NO_NAMES = Buffer.alloc(0);

type TextFault = Exclude<(typeof REASONS)[number], 'ok' | 'failed'>;

/** Offsets, as native/metadata_offsets.h lays them out. */
export interface TextOffsets {
  readonly root: Uint32Array;
  readonly members: Uint32Array;
  /** Numbers of members: sorted by name, then those that a reader sees. */
  readonly order: Uint32Array;
  /** The members' names as UTF-8, an LF after each. */
  readonly names: Buffer;
}

export interface FileOwner {
  readonly mode: number;
  /** -1: as a new file of ours comes. */
  readonly uid: number;
  readonly gid: number;
}

export interface ScannedText {
  readonly kind: 'ok';
  readonly stat: FileStat;
  readonly owner: FileOwner;
  readonly offsets: TextOffsets;
  /** Of a small file; null for one that is not kept in memory. */
  readonly bytes: Buffer | null;
}

export interface RefusedText extends Pick<ScannedText, 'stat' | 'owner'> {
  readonly kind: 'refused';
  readonly reason: TextFault;
}

export type FileText = ScannedText | RefusedText;

/** Sources of pieces, as native/metadata_file.h has them. */
export const PIECE_OLD = 0;
export const PIECE_LITERAL = 1;
export const PIECE_STRING = 2;

/** A new text, in pieces of the old one, of the literals, and of literals that become strings of JSON. */
export interface Pieces {
  /** Triples of source, start and end. */
  readonly words: Uint32Array;
  readonly literals: Buffer;
  /** The members of both maps in the old text. */
  readonly members: Uint32Array;
  /** Of both maps the old members, then those that are written, then all of the new text: it must show them. */
  readonly counts: Uint32Array;
}

export interface Splice {
  readonly path: string;
  readonly temp: string;
  /** The file's text where it is known, or what stands for that of a missing or blank one; null: it is read. */
  readonly old: Buffer | null;
  /** The file's stat, which must not have changed; null where there is no file. */
  readonly stat: FileStat | null;
  readonly pieces: Pieces;
  readonly owner: FileOwner;
  /** The new text is handed back too, up to this many bytes. */
  readonly keepMax: number;
}

/** Of a text in memory; or why it has no offsets. */
export function scanText(bytes: Buffer): TextOffsets | TextFault {
  const result = loadAddon().scanMetadata(bytes);
  return result.code === OK ? offsetsOf(result) : faultOf(result, 'scan', 'text');
}

/** The text that the pieces make of `old`, checked as a file's is. @throws SystemError EBADMSG */
export function buildText(old: Buffer, { words, literals, members, counts }: Pieces): Buffer {
  const result = loadAddon().buildMetadata(old, words, literals, members, counts);
  if (result.code !== OK || result.bytes === undefined) {
    throw new SystemError('edit', 'text', 'EBADMSG', faultOf(result, 'edit', 'text'));
  }
  return result.bytes;
}

/** How long a string is as JSON, bytes. @param value a long one as its UTF-8 */
export function jsonBytesOf(value: string | Buffer): number {
  return typeof value === 'string'
    ? Buffer.byteLength(JSON.stringify(value))
    : loadAddon().jsonBytes(value);
}

/**
 * Cuts an event of vminfod on a thread of the pool: the JSON of its type and zone's name, and the text of the VM's object
 * with its offsets, each empty where there is none. Undefined for what has no offsets.
 */
export async function cutEvent(line: Buffer) {
  const result = await loadAddon().scanEvent(line);
  if (result.code !== OK) {
    return undefined;
  }
  const [typeAt, typeEnd, nameAt, nameEnd, vmAt, vmEnd] = result.ranges;
  return {
    type: line.toString('utf8', typeAt, typeEnd),
    zonename: line.toString('utf8', nameAt, nameEnd),
    vm: line.subarray(vmAt, vmEnd),
    offsets: offsetsOf(result),
  };
}

/** Work on less takes a fraction of a millisecond. */
const LONG_BYTES = 64 * 1024;
/** One piece of long work in an iteration of the event loop: threads end together, and each may bring megabytes. */
export const longWork = new TaskQueue({ tasks: 1 });

/** To be awaited before work on so many bytes. */
export async function beforeLongWork(bytes: number): Promise<void> {
  if (bytes > LONG_BYTES) {
    await longWork.next();
  }
}

/**
 * Reads and scans a file on a thread of the pool. What is not a regular file is refused without opening it, which can
 * already do something to a device; links are not followed.
 *
 * @param keepMax bytes up to which the text is handed out too
 * @throws SystemError, ENOENT included
 */
export async function readText(path: string, bytesMax: number, keepMax: number): Promise<FileText> {
  const file = fileText(await loadAddon().readMetadata(path, bytesMax, keepMax), path);
  return file.kind === 'ok' ? whenRoom(file) : file;
}

/** The same at once, which takes less than a trip to a thread where the file is short. */
export function readTextNow(path: string, bytesMax: number, keepMax: number): FileText {
  return fileText(loadAddon().readMetadataNow(path, bytesMax, keepMax), path);
}

/** Where a value stands in a file, and whether it is a string. */
export interface ValueRange {
  readonly valueStart: number;
  readonly valueEnd: number;
  readonly isString: boolean;
}

/**
 * Reads one value of a file whose stat must still be `stat`, on a thread of the pool; undefined where it is not. A string
 * comes as the UTF-8 that it means, anything else as its JSON.
 *
 * @throws SystemError
 */
export async function readValue(
  path: string,
  stat: FileStat,
  { valueStart, valueEnd, isString }: ValueRange,
): Promise<Buffer | undefined> {
  const result = await loadAddon().readValue(path, stat, valueStart, valueEnd, isString);
  await beforeLongWork(result.bytes?.length ?? 0);
  return valueOf(result, path);
}

/** The same at once. */
export function readValueNow(
  path: string,
  stat: FileStat,
  { valueStart, valueEnd, isString }: ValueRange,
): Buffer | undefined {
  return valueOf(loadAddon().readValueNow(path, stat, valueStart, valueEnd, isString), path);
}

/**
 * Replaces a file by pieces of itself and new text, durably, on a thread of the pool. Resolves to the new
 * text, or to undefined where the file is not the expected one any more: then nothing was written.
 *
 * @throws SystemError naming the call; EBADMSG where the new text would not be what was promised
 */
export async function spliceText(splice: Splice): Promise<ScannedText | undefined> {
  const { path, temp, pieces, owner } = splice;
  const result = await loadAddon().spliceMetadata(
    path,
    temp,
    dirname(path),
    splice.old,
    splice.stat,
    pieces.words,
    pieces.literals,
    pieces.members,
    pieces.counts,
    Int32Array.of(owner.mode, owner.uid, owner.gid),
    splice.keepMax,
  );
  switch (result.code) {
    case OK:
      return whenRoom(scannedText(result, owner));
    case CHANGED:
      return undefined;
    case UNSAFE:
      throw new SystemError('edit', path, 'EBADMSG', 'the text cannot be edited safely');
    default:
      throw stepError(result.step, result.err, path);
  }
}

function offsetsOf({ root, members, order, names = NO_NAMES }: NativeText): TextOffsets {
  return { root, members, order, names };
}

function fileText(result: NativeText, path: string): FileText {
  const [mode = 0, uid = 0, gid = 0] = result.owner;
  const owner = { mode, uid, gid };
  if (result.code === OK) {
    return scannedText(result, owner);
  }
  // In memory of its own: that of a scan holds the offsets of all members too, and a refusal is kept.
  const stat = result.stat.slice();
  return { kind: 'refused', reason: faultOf(result, 'read', path), stat, owner };
}

function scannedText(result: NativeText, owner: FileOwner): ScannedText {
  const { stat, bytes = null } = result;
  return { kind: 'ok', offsets: offsetsOf(result), stat, owner, bytes };
}

/** Handed out when the event loop has room for whoever makes an index of it. */
async function whenRoom(text: ScannedText): Promise<ScannedText> {
  await beforeLongWork(text.offsets.members.byteLength + text.offsets.names.length);
  return text;
}

function valueOf(result: NativeText, path: string): Buffer | undefined {
  if (result.code === FAILED) {
    throw new SystemError('read', path, errnoName(result.err));
  }
  return result.code === CHANGED ? undefined : result.bytes;
}

function faultOf(result: NativeText, call: string, subject: string): TextFault {
  const reason = REASONS[result.code];
  if (result.code === FAILED || reason === undefined || reason === 'ok' || reason === 'failed') {
    throw new SystemError(call, subject, errnoName(result.err));
  }
  return reason;
}
