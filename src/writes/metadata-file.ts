/*
 * metadata.json for a change: its members found, and what the changes need of it. Called by the writers, under the
 * VM's lock.
 */
import { SystemError } from '../lib/errors';
import type { Change, NewValue } from '../metadata/vm-data';
import type { FileStat } from '../platform/files';
import { scanText, type FileOwner } from '../platform/metadata-text';
import { pathOf, type ConfigFiles, type WritableText } from '../vm/config-files';
import { MAP_NAMES, MetadataIndex } from '../vm/metadata-index';
import type { CurrentMetadata } from './plan';

/** As the VM tool makes it. */
const NEW_OWNER: FileOwner = { mode: 0o644, uid: -1, gid: -1 };
/** The text that stands for that of a missing file, and of a blank one. */
export const EMPTY_FILE = Buffer.from('{"customer_metadata":{},"internal_metadata":{}}');

/** Stands for a long value that was not read: equal to nothing. */
const UNREAD: unique symbol = Symbol('unread');

/** A file, or the empty one that stands for what holds nothing. */
export interface OpenMetadata {
  readonly index: MetadataIndex;
  /** Null where there is no file yet. */
  readonly stat: FileStat | null;
  readonly owner: FileOwner;
  readonly length: number;
  /** The file itself; null where it holds nothing, and EMPTY_FILE stands for it. */
  readonly text: WritableText | null;
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
    return { index, stat, owner, length, text: file };
  }
  if (file.kind === 'absent') {
    return emptyFile(null, NEW_OWNER);
  }
  switch (file.reason) {
    case 'blank':
      return emptyFile(file.stat, file.owner);
    case 'changed while it was read':
      return undefined;
    case 'too large':
      throw new SystemError('read', path, 'EFBIG', file.reason);
    default:
      throw new SystemError('parse', path, 'EBADMSG', file.reason);
  }
}

function emptyFile(stat: FileStat | null, owner: FileOwner): OpenMetadata {
  const offsets = scanText(EMPTY_FILE);
  if (typeof offsets === 'string') {
    throw new Error(`an empty file is ${offsets}`);
  }
  const index = new MetadataIndex(offsets);
  return { index, stat, owner, length: EMPTY_FILE.length, text: null };
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
    index,
    valueOf: (map, key) => {
      const number = index.find(map, key);
      return number === undefined || values.has(number) ? values.get(number ?? -1) : UNREAD;
    },
    tokenOf: (map, key, check) => {
      return tokens.get(index.find(map, key) ?? -1) ?? check.tokenOf(undefined);
    },
    tokenOfNew: (value) => newTokens.get(value),
  };
}
