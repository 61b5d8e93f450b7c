/*
 * What a batch of changes makes of a VM's metadata: which of them are let in, and what is left to write.
 *
 * Both writers use it. Changes count in the order they were asked for, so that a value set and removed
 * in one batch leaves nothing, and a refusal of one does not touch the others. A guest's limits count only
 * what a guest can write; what the operator put there has a ceiling of its own, that of the whole file. Pure.
 */
import {
  isSameValue,
  type Change,
  type ChangeResult,
  type NewValue,
  type TokenCheck,
} from '../metadata/vm-data';
import { jsonBytesOf } from '../platform/metadata-text';
import { isOfGuest, newMemberSize, type MapName, type MetadataIndex } from '../vm/metadata-index';
import type { MetadataLimits } from '../vm/store';

/** Members of a file, whoever wrote them: the bound of native/metadata_scan.h. */
const MOST_MEMBERS = 32768;

/** A change, and what the key's value must be for it to be made: it is counted as stored where it is not. */
export type PlannedChange = Change & { readonly onlyIf?: (value: unknown) => boolean };

/** The metadata as it is before the changes. */
export interface CurrentMetadata {
  /** The whole file, bytes. */
  readonly bytes: number;
  readonly index: MetadataIndex;
  /**
   * The value of a key that is changed, a long string as its UTF-8; undefined where there is none, a symbol where it was
   * too long to be read.
   */
  readonly valueOf: (map: MapName, key: string) => unknown;
  /** The token of a key that is changed on a condition, by its value in the file. */
  readonly tokenOf: (map: MapName, key: string, check: TokenCheck) => string;
  /** The token of a key with a long value that another change of the batch sets, where it is asked for. */
  readonly tokenOfNew: (value: Buffer) => string | undefined;
}

/** Final value of each key that differs from what was there; undefined: removed. */
export type Edits = ReadonlyMap<string, NewValue | undefined>;

export type MapEdits = Readonly<Record<MapName, Edits>>;

export interface Plan extends MapEdits {
  /** One for each change, in their order. `stored` is true only once the edits are on disk. */
  readonly results: readonly ChangeResult[];
  readonly empty: boolean;
}

const STORED: ChangeResult = { kind: 'stored' };
const FULL: ChangeResult = { kind: 'failed', text: 'Metadata is full.', limit: 'size' };
const TOO_MANY_KEYS: ChangeResult = {
  kind: 'failed',
  text: 'Too many metadata keys.',
  limit: 'keys',
};

/** A key as the changes so far leave it. */
interface Next {
  readonly value: NewValue | undefined;
  readonly size: number;
}

export function planChanges(
  changes: readonly PlannedChange[],
  current: CurrentMetadata,
  limits: MetadataLimits,
): Plan {
  const { index } = current;
  const next = { customer: new Map<string, Next>(), internal: new Map<string, Next>() };
  const { bytes: guestBytes, keys: guestKeys } = index.use;
  // What the changes so far come to.
  let sum = { fileBytes: current.bytes, members: index.size, guestBytes, guestKeys };
  const results = changes.map((change): ChangeResult => {
    const { map, key } = change;
    const earlier = next[map].get(key);
    if (change.onlyIf?.(earlier?.value ?? current.valueOf(map, key)) === false) {
      return STORED;
    }
    const refused = refusalOfCheck(change, earlier, current);
    if (refused !== null) {
      return { kind: 'failed', text: refused, unmet: true };
    }
    const before = earlier?.size ?? index.sizeOf(map, key);
    const value = change.kind === 'set' ? change.value : undefined;
    const size = value === undefined ? 0 : newMemberSize(key, jsonBytesOf(value));
    const growth = size - before;
    const keys = (size > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
    const ofGuest = isOfGuest(map, key);
    const after = {
      fileBytes: sum.fileBytes + growth,
      members: sum.members + keys,
      guestBytes: sum.guestBytes + (ofGuest ? growth : 0),
      guestKeys: sum.guestKeys + (ofGuest ? keys : 0),
    };
    // What makes the whole smaller is let in even above the limits, or nobody could get below them again.
    const isTooLong =
      after.fileBytes > limits.fileBytes || (ofGuest && after.guestBytes > limits.metadataBytes);
    if (growth > 0 && isTooLong) {
      return FULL;
    }
    const areTooMany =
      after.members > MOST_MEMBERS || (ofGuest && after.guestKeys > limits.metadataKeys);
    if (keys > 0 && areTooMany) {
      return TOO_MANY_KEYS;
    }
    sum = after;
    next[map].set(key, { value, size });
    return STORED;
  });
  const customer = editsOf('customer', next.customer, current);
  const internal = editsOf('internal', next.internal, current);
  return { results, customer, internal, empty: customer.size + internal.size === 0 };
}

/** The words for a change whose key has another token than its asker's; null where it is made. */
function refusalOfCheck(
  { map, key, unless }: PlannedChange,
  changed: Next | undefined,
  current: CurrentMetadata,
): string | null {
  if (unless === undefined) {
    return null;
  }
  if (changed === undefined) {
    return unless.refusal(current.tokenOf(map, key, unless));
  }
  const { value } = changed;
  const known = Buffer.isBuffer(value) ? current.tokenOfNew(value) : undefined;
  return unless.refusal(known ?? unless.tokenOf(value));
}

function editsOf(map: MapName, next: ReadonlyMap<string, Next>, current: CurrentMetadata): Edits {
  const edits = new Map<string, NewValue | undefined>();
  for (const [key, { value }] of next) {
    const differs =
      value === undefined
        ? current.index.sizeOf(map, key) > 0
        : !isSameValue(current.valueOf(map, key), value);
    if (differs) {
      edits.set(key, value);
    }
  }
  return edits;
}
