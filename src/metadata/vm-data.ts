/*
 * The data of one VM: what a request can ask of it, and its VM object as vminfod sends it.
 *
 * A VM object is not to be trusted: a member can be missing, null (the platform's loader itself leaves
 * `"device": null`), of another type than documented, or named like something on Object.prototype. So members are read
 * through the functions here, which return `undefined` for what is not as it should be.
 */
import type { ChangeCourse } from '../protocol/reply';

export type JsonObject = Readonly<Record<string, unknown>>;

/** What a zone's life and link depend on, read once when the object comes in. */
export type VmFacts = Readonly<NonNullable<ReturnType<typeof factsOf>>>;

/** Brands whose guests have a serial port, and no socket. */
export const HVM_BRANDS: ReadonlySet<unknown> = new Set(['kvm', 'bhyve']);

/** One map of the metadata file, in the order of JSON.parse. A Map is one; that of vm/metadata-index reads when asked. */
export interface MetadataMap {
  readonly size: number;
  has(key: string): boolean;
  get(key: string): unknown;
  keys(): Iterable<string>;
  [Symbol.iterator](): Iterator<[string, unknown]>;
  /** How long a value is as text, without reading it: bytes of UTF-8, or as much as it can come to. */
  bytesOf?(key: string): number;
  /** Whether a name has a colon. */
  readonly hasColons?: boolean;
  /**
   * The names that KEYS lists as bytes, LF after each, of keys that are plain or of those that are not.
   * @param namespaces the VM's own
   */
  listed?(wantsPlain: boolean, namespaces: readonly string[]): readonly Buffer[];
}

export interface MetadataMaps {
  readonly customer: MetadataMap;
  readonly internal: MetadataMap;
  /** Present where values are read from the file one by one: the same object while the file is unchanged and cached. */
  readonly onDisk?: object;
}

/** What a request needs of the metadata: names only, or names and the value of one key. */
export interface MetadataNeed {
  /** Null: names only. */
  readonly key: string | null;
  /** False: whoever asked is gone, and what has not begun is not done. Always wanted when left out. */
  readonly isWanted?: (() => boolean) | undefined;
}

/** Nobody waits for the answer any more, and nothing was read for it. */
export class UnwantedError extends Error {
  constructor() {
    super('whoever asked is gone');
  }
}

/** What a guest has put into its metadata, and what it may put there; bytes of names and values as JSON. */
export interface MetadataUse {
  readonly bytes: number;
  readonly bytesMax: number;
  readonly keys: number;
  readonly keysMax: number;
}

/** Whether a value of a file is the same string. @param value a long string may be its UTF-8 */
export function isSameValue(value: unknown, other: NewValue): boolean {
  if (typeof value === 'string' && typeof other === 'string') {
    return value === other;
  }
  const bytes = bytesOf(value);
  return bytes !== null && bytesOf(other)?.equals(bytes) === true;
}

function bytesOf(value: unknown): Buffer | null {
  return typeof value === 'string' ? Buffer.from(value) : Buffer.isBuffer(value) ? value : null;
}

/** The condition of a change: the key's token, compared with its value under the write lock. */
export interface TokenCheck {
  /** The token of the key with this value, whatever the file holds; a long string may be its UTF-8. */
  tokenOf(value: unknown): string;
  /** The same of a long value, in steps. */
  longTokenOf(value: unknown): Promise<string>;
  /** The text for the guest where that token is not the expected one; null where it is. */
  refusal(token: string): string | null;
}

/** A string that is to be stored: a long one as its UTF-8, as a PUT has it. */
export type NewValue = string | Buffer;

/** A change of one key. */
export type Change = {
  readonly map: 'customer' | 'internal';
  readonly key: string;
  /** It is refused where the key has another token by then. */
  readonly unless?: TokenCheck;
} & ({ readonly kind: 'set'; readonly value: NewValue } | { readonly kind: 'remove' });

/** Result of a change: `stored`, or a fixed text for the guest. Never a path, never a value. */
export type ChangeResult = ChangeCourse &
  (
    | { readonly kind: 'stored' }
    | {
        readonly kind: 'failed';
        readonly text: string;
        /** Its condition (`unless`) did not hold: nothing is wrong. */
        readonly unmet?: true;
      }
  );

/** The data of one VM. Implemented by vm/store. */
export interface VmData {
  readonly zonename: string;
  /** From `metadata.json`, as `load` made it ready: not to be asked before. */
  metadata(): MetadataMaps;
  /**
   * This data with `metadata()` ready for the need, fresh by stat: at once, or by a promise where the file has to be
   * read. Values besides that of the need are read on the spot. A missing or unparsable file reads as empty; throws or
   * rejects with a SystemError where the machine fails to read it, for "no such key" would be a lie then.
   */
  load(need: MetadataNeed): VmData | Promise<VmData>;
  /** How long the metadata file is now, bytes; 0 where there is none. Throws as `load` does. */
  fileBytes(): number;
  /** What the guest has put there, and may. Of what `load` made ready. */
  use(): MetadataUse;
  /** From `tags.json` and `routes.json`, in the same way. */
  tags(): ReadonlyMap<string, unknown>;
  routes(): ReadonlyMap<string, unknown>;
  /** The newest VM object from vminfod, undefined while there is none. */
  vm(): JsonObject | undefined;
  /** Waits for the VM object: undefined when it did not come in time (5 s at most). */
  loaded(): Promise<JsonObject | undefined>;
  /** Durable when it resolves to `stored`. Never rejects; settles within 30 s. */
  change(change: Change): Promise<ChangeResult>;
}

/** Not for arrays or null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** libzonecfg's rule for zone names, to which uuids keep too: no `..` or `/` is in a path that is made of one. */
export function isZonename(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(value);
}

/** A member of the object's own, never one of its prototype. */
export function own(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** Undefined also where the member is not a string. */
export function ownString(object: JsonObject, name: string): string | undefined {
  const value = own(object, name);
  return typeof value === 'string' ? value : undefined;
}

/** The VM's name for people; null where it has none, or there is no VM. */
export function aliasOf(vm: JsonObject | undefined): string | null {
  return (vm === undefined ? undefined : ownString(vm, 'alias')) ?? null;
}

export function ownNumber(object: JsonObject, name: string): number | undefined {
  const value = own(object, name);
  return typeof value === 'number' ? value : undefined;
}

/** A map of the object (`tags`, `customer_metadata` ...): empty where it is missing or not an object. */
export function ownMap(object: JsonObject, name: string): ReadonlyMap<string, unknown> {
  const value = own(object, name);
  return new Map(isJsonObject(value) ? Object.entries(value) : []);
}

/** The facts of a VM object, undefined for one that names no zone. */
export function factsOf(vm: JsonObject) {
  const zonename = own(vm, 'zonename');
  if (!isZonename(zonename)) {
    return undefined;
  }
  const uuid = own(vm, 'uuid');
  const datasets = own(vm, 'datasets');
  const lastModified = Date.parse(ownString(vm, 'last_modified') ?? '');
  return {
    zonename,
    // Equal texts are two strings: where one does, one is kept.
    uuid: isZonename(uuid) && uuid !== zonename ? uuid : zonename,
    brand: ownString(vm, 'brand'),
    zonepath: ownString(vm, 'zonepath'),
    zoneState: ownString(vm, 'zone_state'),
    /** Of this boot; present only while the kernel knows the zone. */
    zoneid: ownNumber(vm, 'zoneid'),
    /** Present only while the zone runs. */
    initRestarts: ownNumber(vm, 'init_restarts'),
    com2: ownString(vm, 'com2'),
    /** The newest of its files' modification times, ms since 1970 (whole seconds on the platform). */
    lastModified: Number.isNaN(lastModified) ? undefined : lastModified,
    /** True: it has delegated datasets, or something in their place. */
    delegates: Array.isArray(datasets) && datasets.length > 0,
  };
}

/** Parses text to an object; undefined for anything else, text that is not JSON included. */
export function parseJsonObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : undefined;
  } catch {
    // Not JSON is, for the caller, just another value that is not an object.
    return undefined;
  }
}
