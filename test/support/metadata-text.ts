/*
 * Texts of metadata files in memory: their index, and edits of them, by the code that does it to files.
 */
import { buildText, scanText } from '../../src/platform/metadata-text';
import { MetadataIndex } from '../../src/vm/metadata-index';
import { editPieces } from '../../src/writes/json-edit';
import type { CurrentMetadata, Edits } from '../../src/writes/plan';

const NONE: Edits = new Map();

/** Undefined for a text without offsets. */
export function indexOf(text: Buffer): MetadataIndex | undefined {
  const offsets = scanText(text);
  return typeof offsets === 'string' ? undefined : new MetadataIndex(offsets);
}

/** The text with the edits applied. Throws for one that is not a JSON object, or that cannot be edited. */
export function editText(text: Buffer, customer: Edits, internal: Edits = NONE): Buffer {
  const index = indexOf(text);
  if (index === undefined) {
    throw new Error('not a JSON object');
  }
  return buildText(text, editPieces(index, text.length, { customer, internal }));
}

/** What a plan sees of a text. */
export function currentOfText(text: Buffer): CurrentMetadata {
  const index = indexOf(text);
  if (index === undefined) {
    throw new Error('not a JSON object');
  }
  const maps = index.mapsIn(text);
  return {
    bytes: text.length,
    index,
    valueOf: (map, key) => maps[map].get(key),
    tokenOf: (map, key, check) => check.tokenOf(maps[map].get(key)),
    tokenOfNew: () => undefined,
  };
}
