/*
 * metadata.json for a change: its members found, what the changes need of it, and its replacement in one step.
 *
 * Called by the writers, under the VM's lock. The order of the steps of a replacement is what makes it safe to
 * be killed at any of them:
 *
 *   1 temp file, new and empty   2 its bytes, mode, owner   3 fsync it   4 rename it   5 fsync the directory
 *
 * Until 4 the old file is there, from 4 on the new one, and only after 5 does anyone hear of success. What is
 * put in its place is built and checked on the same thread (native/metadata_file.c): it is JSON, it holds every
 * member that was not to be changed, byte for byte, and as many others as were.
 */
import { dirname, join } from 'node:path';
import { SystemError } from '../lib/errors';
import { isSameValue, type Change, type NewValue } from '../metadata/vm-data';
import type { FileStat } from '../platform/files';
import { scanText, spliceText, type FileOwner, type FileText } from '../platform/metadata-text';
import { KEPT_BYTES, pathOf, type ConfigFiles, type WritableText } from '../vm/config-files';
import { MAP_NAMES, MetadataIndex } from '../vm/metadata-index';
import { editPieces } from './json-edit';
import type { CurrentMetadata, Plan } from './plan';

/** As the VM tool makes it. */
const NEW_OWNER: FileOwner = { mode: 0o644, uid: -1, gid: -1 };
const EMPTY_FILE = Buffer.from('{"customer_metadata":{},"internal_metadata":{}}');

/** Stands for a long value that was not read: equal to nothing. */
const UNREAD: unique symbol = Symbol('unread');

/** A file, or the empty one that stands for what holds nothing. */
export interface OpenMetadata {
  readonly index: MetadataIndex;
  /** Null where there is no file yet. */
  readonly stat: FileStat | null;
  readonly owner: FileOwner;
  readonly length: number;
  /** The text, where the file's own does not count. */
  readonly old: Buffer | null;
  readonly isBlank: boolean;
  /** The file itself; null where it holds nothing. */
  readonly text: WritableText | null;
}

/** Where the new text is written before it takes the place of the old: beside it, under one fixed name. */
export function tempPathOf(path: string): string {
  return join(dirname(path), '.metadata.json.mdatad');
}

/**
 * Opens the file for a change. A missing one is as an empty one, and so is one that is blank: it holds nothing
 * that could be lost. Anything that is not understood to the last byte is refused with `EBADMSG`, since to
 * rewrite it would lose what it holds. Undefined where it changed while it was read.
 */
export async function openMetadata(
  files: ConfigFiles,
  directory: string,
): Promise<OpenMetadata | undefined> {
  const path = pathOf(directory, 'metadata');
  const file = await files.openForWrite(directory);
  if (file.kind === 'text') {
    const { index, stat, owner, length } = file;
    for (const map of MAP_NAMES) {
      if (index.map(map).state === 'other') {
        throw new SystemError('parse', path, 'EBADMSG', `${map}_metadata is not an object`);
      }
    }
    return { index, stat, owner, length, old: null, isBlank: false, text: file };
  }
  if (file.kind === 'absent') {
    return { ...emptyFile(), stat: null, owner: NEW_OWNER, isBlank: false };
  }
  switch (file.reason) {
    case 'blank':
      return { ...emptyFile(), stat: file.stat, owner: file.owner, isBlank: true };
    case 'changed while it was read':
      return undefined;
    case 'too large':
      throw new SystemError('read', path, 'EFBIG', file.reason);
    default:
      throw new SystemError('parse', path, 'EBADMSG', file.reason);
  }
}

function emptyFile(): Pick<OpenMetadata, 'index' | 'length' | 'old' | 'text'> {
  const offsets = scanText(EMPTY_FILE);
  if (typeof offsets === 'string') {
    throw new Error(`an empty file is ${offsets}`);
  }
  const index = new MetadataIndex(offsets);
  return { index, length: EMPTY_FILE.length, old: EMPTY_FILE, text: null };
}

/** Longer values are read only where one can be what a change sets, bytes. */
const SHORT_VALUE_BYTES = 64 * 1024;

/**
 * What the plan of some changes has to know. Of long values only those are read that can be what a change sets:
 * of the same length. Undefined where the file was replaced meanwhile.
 */
export async function currentOf(
  files: ConfigFiles,
  directory: string,
  { index, length, text }: OpenMetadata,
  changes: readonly Change[],
): Promise<CurrentMetadata | undefined> {
  const values = new Map<number, unknown>();
  const tokens = new Map<number, string>();
  const longSets: Extract<Change, { readonly kind: 'set' }>[] = [];
  const newTokens = new Map<NewValue, string>();
  for (const change of changes) {
    const { map, key, unless } = change;
    for (const { value } of longSets.filter((set) => set.map === map && set.key === key)) {
      if (unless !== undefined && !newTokens.has(value)) {
        newTokens.set(value, await unless.longTokenOf(value));
      }
    }
    if (change.kind === 'set' && Buffer.isBuffer(change.value)) {
      longSets.push(change);
    }
    const number = index.find(map, key);
    if (text === null || number === undefined) {
      continue;
    }
    const { valueBytes, isString } = index.member(number);
    const canBeEqual =
      isString && change.kind === 'set' && valueBytes === Buffer.byteLength(change.value);
    if (!values.has(number) && (canBeEqual || valueBytes <= SHORT_VALUE_BYTES)) {
      const value = await files.valueForWrite(directory, text, number);
      if (value === undefined) {
        return undefined;
      }
      values.set(number, value);
    }
    if (unless !== undefined && !tokens.has(number)) {
      const value = values.get(number) ?? (await files.valueForWrite(directory, text, number));
      if (value === undefined) {
        return undefined;
      }
      tokens.set(number, await unless.longTokenOf(value));
    }
  }
  return {
    bytes: length,
    members: index.size,
    use: index.use,
    sizeOf: (map, key) => index.sizeOf(map, key),
    valueOf: (map, key) => {
      const number = index.find(map, key);
      return number === undefined || values.has(number) ? values.get(number ?? -1) : UNREAD;
    },
    tokenOf: (map, key, check) => {
      return tokens.get(index.find(map, key) ?? -1) ?? check.tokenOf(undefined);
    },
    tokenOfNew: (value) => newTokens.get(value),
    holds: (map, key, value) => isSameValue(values.get(index.find(map, key) ?? -1), value),
  };
}

/**
 * Puts the changed text in the place of the file, with the old one's mode and owner. Resolves when it is on
 * stable storage; to undefined, with nothing written, where the file was replaced meanwhile. On failure of
 * anything before the renaming the old file is untouched, and no temp file is left.
 */
export async function spliceMetadata(
  path: string,
  { index, stat, owner, length, old }: OpenMetadata,
  plan: Pick<Plan, 'customer' | 'internal'>,
): Promise<Extract<FileText, { readonly kind: 'ok' }> | undefined> {
  return spliceText({
    path,
    temp: tempPathOf(path),
    old,
    stat,
    pieces: editPieces(index, length, plan),
    owner,
    keepMax: KEPT_BYTES,
  });
}
