/*
 * What a key's name says: where its value is kept, who may write it, and whether KEYS lists it. Guests choose names:
 * they are looked up in Maps, never as properties of an object.
 */
import { own, type JsonObject, type MetadataMap, type MetadataMaps } from './vm-data';

export type KeyClass =
  /** A property of the VM itself, read-only. */
  | 'sdc'
  /** In a namespace that the operator keeps, read-only for the guest. */
  | 'namespaced'
  /** Ends in `_pw`: the guest's own, kept apart from what others may see. */
  | 'password'
  | 'plain';

export const SDC_PREFIX = 'sdc:';

/** @param namespaces the VM's own; without a colon in the key they do not matter */
export function classify(key: string, namespaces: readonly string[]): KeyClass {
  if (key.startsWith(SDC_PREFIX)) {
    return 'sdc';
  }
  const colon = key.indexOf(':');
  if (colon >= 0 && namespaces.includes(key.slice(0, colon))) {
    return 'namespaced';
  }
  return key.endsWith('_pw') ? 'password' : 'plain';
}

/** `internal_metadata_namespaces` of a VM object; absent or of another shape means none. */
export function namespacesOf(vm: JsonObject): readonly string[] {
  const names = own(vm, 'internal_metadata_namespaces');
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}

/** Whether a key's class depends on the namespaces, and so on the VM object. */
export function needsNamespaces(key: string): boolean {
  return key.includes(':');
}

/**
 * The reply to KEYS: the names of the customer's map that are read from it, then those of the internal map that are.
 * No sort: the order is the metadata file's. Mostly a view of the names as the file's index has them.
 */
export function nameList(maps: MetadataMaps, namespaces: readonly string[]) {
  const parts = [
    ...listedOf(maps.customer, true, namespaces),
    ...listedOf(maps.internal, false, namespaces),
  ].filter(({ length }) => length > 0);
  const [first = EMPTY] = parts;
  const lines = parts.length > 1 ? Buffer.concat(parts) : first;
  return { kind: 'success' as const, text: lines.subarray(0, Math.max(0, lines.length - 1)) };
}

/** The names of the reply to KEYS. */
export function listKeys(maps: MetadataMaps, namespaces: readonly string[]): string[] {
  const { text } = nameList(maps, namespaces);
  return text.length === 0 ? [] : text.toString('utf8').split('\n');
}

const EMPTY = Buffer.alloc(0);

/**
 * Names with an LF after each. GET cannot read a `sdc:` name from the maps nor an empty one at all, and one with a
 * control character would break the list's lines.
 */
function listedOf(
  map: MetadataMap,
  wantsPlain: boolean,
  namespaces: readonly string[],
): readonly Buffer[] {
  const isListed = (key: string): boolean => {
    const keyClass = classify(key, namespaces);
    const isName = key !== '' && keyClass !== 'sdc' && !/[\u0000-\u001f\u007f]/.test(key);
    return isName && (keyClass === 'plain') === wantsPlain;
  };
  return (
    map.listed?.(wantsPlain, namespaces) ??
    [...map.keys()].filter(isListed).map((key) => Buffer.from(`${key}\n`))
  );
}

/** Whether the class of any key depends on the namespaces. */
export function listNeedsNamespaces({ customer, internal }: MetadataMaps): boolean {
  return [customer, internal].some((map) => map.hasColons ?? [...map.keys()].some(needsNamespaces));
}

/**
 * Namespaces of keys in the internal map that the VM does not list any more, as after a migration. The guest then reads
 * and writes these keys in the customer's map: an operator must know.
 */
export function lostNamespaces(
  internal: Pick<MetadataMap, 'keys'>,
  namespaces: readonly string[],
): string[] {
  const lost = new Set<string>();
  for (const key of internal.keys()) {
    const colon = key.indexOf(':');
    if (colon > 0 && classify(key, namespaces) === 'plain') {
      lost.add(key.slice(0, colon));
    }
  }
  return [...lost];
}
