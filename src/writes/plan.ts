/*
 * What a batch of changes makes of a VM's metadata: which of them are let in, and what is left to write.
 *
 * Both writers use it. Changes count in the order they were asked for, so that a value set and removed
 * in one batch leaves nothing, and a refusal of one does not touch the others. Pure.
 */
import type { Change, ChangeResult, MetadataMaps } from '../metadata/handler';

export interface MetadataLimits {
  /** metadata.json as a whole, bytes. */
  readonly metadataBytes: number;
  /** Keys of both maps together. */
  readonly metadataKeys: number;
}

export const DEFAULT_METADATA_LIMITS: MetadataLimits = {
  metadataBytes: 4 * 1024 * 1024,
  metadataKeys: 1024,
};

/** Final value of each key that differs from what was there; undefined: removed. */
export type Edits = ReadonlyMap<string, string | undefined>;

export interface Plan {
  /** One for each change, in their order. `stored` is true only once the edits are on disk. */
  readonly results: readonly ChangeResult[];
  readonly customer: Edits;
  readonly internal: Edits;
  readonly empty: boolean;
}

export const STORED: ChangeResult = { kind: 'stored' };
const FULL: ChangeResult = { kind: 'failed', text: 'Metadata is full.', limit: 'size' };
const TOO_MANY_KEYS: ChangeResult = {
  kind: 'failed',
  text: 'Too many metadata keys.',
  limit: 'keys',
};
/** Quotes are counted with the text; this is the colon, the comma and usual blanks of a member. */
const MEMBER_BYTES = 8;

/** @param fileBytes how long the file is now */
export function planChanges(
  changes: readonly Change[],
  current: MetadataMaps,
  fileBytes: number,
  limits: MetadataLimits,
): Plan {
  const next = { customer: new Map(current.customer), internal: new Map(current.internal) };
  const touched = { customer: new Set<string>(), internal: new Set<string>() };
  let bytes = fileBytes;
  const results = changes.map((change): ChangeResult => {
    const map = next[change.map];
    const before = map.has(change.key) ? sizeOf(change.key, map.get(change.key)) : 0;
    touched[change.map].add(change.key);
    if (change.kind === 'remove') {
      map.delete(change.key);
      bytes -= before;
      return STORED;
    }
    const growth = sizeOf(change.key, change.value) - before;
    // What makes the whole smaller is let in even above the limits: it is the way back.
    if (growth > 0 && bytes + growth > limits.metadataBytes) {
      return FULL;
    }
    if (before === 0 && next.customer.size + next.internal.size >= limits.metadataKeys) {
      return TOO_MANY_KEYS;
    }
    map.set(change.key, change.value);
    bytes += growth;
    return STORED;
  });
  const customer = difference(current.customer, next.customer, touched.customer);
  const internal = difference(current.internal, next.internal, touched.internal);
  return { results, customer, internal, empty: customer.size + internal.size === 0 };
}

function sizeOf(key: string, value: unknown): number {
  const texts = [key, value].map((part) => Buffer.byteLength(JSON.stringify(part)));
  return texts.reduce((sum, length) => sum + length, MEMBER_BYTES);
}

function difference(
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
  touched: ReadonlySet<string>,
): Edits {
  const edits = new Map<string, string | undefined>();
  for (const key of touched) {
    const value = after.get(key);
    if (typeof value === 'string' && value !== before.get(key)) {
      edits.set(key, value);
    } else if (before.has(key) && !after.has(key)) {
      edits.set(key, undefined);
    }
  }
  return edits;
}
