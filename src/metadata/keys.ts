/*
 * What a key's name says: where its value is kept, who may write it, and whether KEYS lists it.
 *
 * The guest chooses names: they are looked up in Maps, never as properties of an object.
 */
import type { NameList } from '../protocol/reply';
import type { JsonObject, MetadataMap, MetadataMaps } from './vm-data';

export type KeyClass =
  /** A property of the VM itself, read-only. `name` is the key without `sdc:`. */
  | { readonly kind: 'sdc'; readonly name: string }
  /** In a namespace that the operator keeps, read-only for the guest. */
  | { readonly kind: 'namespaced'; readonly namespace: string }
  /** Ends in `_pw`: the guest's own, kept apart from what others may see. */
  | { readonly kind: 'password' }
  | { readonly kind: 'plain' };

const SDC = 'sdc:';
const PASSWORD_END = '_pw';
const PASSWORD: KeyClass = { kind: 'password' };
const PLAIN: KeyClass = { kind: 'plain' };

/** @param namespaces the VM's own; without a colon in the key they do not matter */
export function classify(key: string, namespaces: readonly string[]): KeyClass {
  if (key.startsWith(SDC)) {
    return { kind: 'sdc', name: key.slice(SDC.length) };
  }
  const colon = key.indexOf(':');
  if (colon >= 0) {
    const namespace = key.slice(0, colon);
    if (namespaces.includes(namespace)) {
      return { kind: 'namespaced', namespace };
    }
  }
  return key.endsWith(PASSWORD_END) ? PASSWORD : PLAIN;
}

/** `internal_metadata_namespaces` of a VM object; absent or of another shape means none. */
export function namespacesOf(vm: JsonObject): readonly string[] {
  const names = Object.hasOwn(vm, 'internal_metadata_namespaces')
    ? vm.internal_metadata_namespaces
    : undefined;
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}

/** Whether a key's class depends on the namespaces, and so on the VM object. */
export function needsNamespaces(key: string): boolean {
  return key.includes(':');
}

/**
 * The names that KEYS lists: those of the customer's map that are read from it, then those of the
 * internal map that are. No sort: the order is the metadata file's.
 */
export function listKeys(maps: MetadataMaps, namespaces: readonly string[]): string[] {
  const names: string[] = [];
  for (const key of maps.customer.keys()) {
    if (isListable(key) && classify(key, namespaces).kind === 'plain') {
      names.push(key);
    }
  }
  for (const key of maps.internal.keys()) {
    if (isListable(key) && classify(key, namespaces).kind !== 'plain') {
      names.push(key);
    }
  }
  return names;
}

/** What KEYS needs of one parsed file. */
interface Listed {
  readonly needsNamespaces: boolean;
  list: NameList | null;
  /** Those that the list was made with. */
  namespaces: readonly string[];
}

/** Made once for each parsed file, and gone with it. */
const listed = new WeakMap<MetadataMaps, Listed>();

/** The reply to KEYS. It refers to the names in the maps, and is shared by all who ask. */
export function nameList(maps: MetadataMaps, namespaces: readonly string[]): NameList {
  const known = listedOf(maps);
  const isSame =
    known.namespaces.length === namespaces.length &&
    known.namespaces.every((name, at) => name === namespaces[at]);
  if (known.list === null || !isSame) {
    const names = listKeys(maps, namespaces);
    const separators = Math.max(0, names.length - 1);
    const bytes = names.reduce((sum, name) => sum + Buffer.byteLength(name), separators);
    known.list = { kind: 'list', names, bytes };
    known.namespaces = namespaces;
  }
  return known.list;
}

/** Whether the class of any key depends on the namespaces. */
export function listNeedsNamespaces(maps: MetadataMaps): boolean {
  return listedOf(maps).needsNamespaces;
}

function listedOf(maps: MetadataMaps): Listed {
  let known = listed.get(maps);
  if (known === undefined) {
    const keys = [...maps.customer.keys(), ...maps.internal.keys()];
    known = { needsNamespaces: keys.some(needsNamespaces), list: null, namespaces: [] };
    listed.set(maps, known);
  }
  return known;
}

/**
 * Namespaces of keys in the internal map that the VM does not list any more, as after a migration. The
 * guest then reads and writes these keys in the customer's map: an operator must know. A key that begins
 * with a colon has no namespace.
 */
export function lostNamespaces(
  internal: Pick<MetadataMap, 'keys'>,
  namespaces: readonly string[],
): string[] {
  const lost = new Set<string>();
  for (const key of internal.keys()) {
    const colon = key.indexOf(':');
    if (colon > 0 && classify(key, namespaces).kind === 'plain') {
      lost.add(key.slice(0, colon));
    }
  }
  return [...lost];
}

/**
 * GET cannot read a `sdc:` name from the maps nor an empty one at all, and one with a control character
 * would break the list's lines.
 */
function isListable(key: string): boolean {
  return key !== '' && !key.startsWith(SDC) && !/[\u0000-\u001f\u007f]/.test(key);
}
