/*
 * What a key's name says: where its value is kept, who may write it, and whether KEYS lists it.
 *
 * The guest chooses names: they are looked up in Maps, never as properties of an object.
 */
import type { JsonObject } from './vm-data';
import type { MetadataMap, MetadataMaps } from './handler';

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

/** @param namespaces the VM's own at this moment; without a colon in the key they do not matter */
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

/** A text whose length is known before it is put together. */
export interface SizedText {
  /** As UTF-8. */
  readonly bytes: number;
  /** The same string each time. */
  readonly text: () => string;
}

/** By the maps that they list, which are the same for as long as the file is: the last text of each. */
const keysTexts = new WeakMap<
  MetadataMaps,
  { readonly namespaces: string; readonly keys: SizedText }
>();

/**
 * What KEYS answers: the names of `listKeys`, one a line. One text for all who ask while the file and the
 * namespaces stay as they are.
 */
export function keysText(maps: MetadataMaps, namespaces: readonly string[]): SizedText {
  const listed = JSON.stringify(namespaces);
  const known = keysTexts.get(maps);
  if (known?.namespaces === listed) {
    return known.keys;
  }
  const names = listKeys(maps, namespaces);
  const bytes = names.reduce((sum, name) => sum + Buffer.byteLength(name) + 1, 0);
  let text: string | null = null;
  const keys: SizedText = {
    bytes: Math.max(0, bytes - 1),
    text: () => (text ??= names.join('\n')),
  };
  keysTexts.set(maps, { namespaces: listed, keys });
  return keys;
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
