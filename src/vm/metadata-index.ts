/*
 * What a metadata.json holds, by the offsets of its members: names are in memory, values stay where they are
 * until one is read.
 *
 * Made of one scan of the text (platform/metadata-text.ts), for a file and for the metadata in a VM object of
 * vminfod's. Means what JSON.parse of the text would mean: own members only, of a doubled name the last one,
 * names that are numbers first. Pure but for the source of values that it is given.
 */
import type { MetadataMap, MetadataMaps } from '../metadata/vm-data';
import type { TextOffsets } from '../platform/metadata-text';

export type MapName = 'customer' | 'internal';
export const MAP_NAMES = ['customer', 'internal'] as const;

/** Words of a member and of the root, as native/metadata_scan.h has them. */
const MEMBER_WORDS = 7;
const ROOT_WORDS = 7;
const MAP_WORDS = 4;
const VALUE_ESCAPED = 2;
const VALUE_STRING = 4;
const VALUE_CONTAINER = 8;

/** The colon and the comma of a member. */
const MEMBER_BYTES = 2;
/** What a member costs in memory besides its offsets and its name, bytes. */
const ENTRY_BYTES = 100;
/** A guest never gets what is in an object or an array: a longer one is not even parsed. */
const CONTAINER_BYTES = 64 * 1024;
const PASSWORD_END = '_pw';

/** The place of one member; all are offsets into the text. */
export interface Member {
  readonly nameStart: number;
  readonly nameEnd: number;
  readonly colon: number;
  readonly valueStart: number;
  readonly valueEnd: number;
  /** Of a string: its length as UTF-8, or as much as it can come to. */
  readonly valueBytes: number;
  readonly isString: boolean;
  readonly isContainer: boolean;
}

export interface MapPlace {
  readonly state: 'absent' | 'null' | 'object' | 'other';
  readonly valueStart: number;
  readonly valueEnd: number;
}

/** The first member of an object, whose layout new ones follow. */
export interface FirstMember {
  /** Behind the opening brace. */
  readonly blankStart: number;
  readonly nameStart: number;
  readonly colon: number;
  readonly valueStart: number;
}

export interface RootPlace {
  readonly open: number;
  readonly close: number;
  readonly first: FirstMember | null;
  readonly lastEnd: number;
}

/** Where values come from; called with the number of a member. */
export type ValueSource = (member: number) => unknown;

/** What the guest has put there, as the limits count it. */
export interface GuestUse {
  readonly bytes: number;
  readonly keys: number;
}

const STATES = ['absent', 'null', 'object', 'other'] as const;

export class MetadataIndex {
  readonly offsets: TextOffsets;
  /** How many members each map has, doubled names included. */
  readonly counts: Readonly<Record<MapName, number>>;
  /** By name, the number of the member that a reader sees. */
  readonly names: Readonly<Record<MapName, ReadonlyMap<string, number>>>;
  readonly use: GuestUse;
  /** What it takes in memory, bytes, with one text of KEYS. */
  readonly weight: number;
  /** Names of all members in the order of the text, the customer's first. */
  private readonly allNames: readonly string[];

  constructor(offsets: TextOffsets) {
    this.offsets = offsets;
    this.counts = { customer: this.mapWord(0, 3), internal: this.mapWord(1, 3) };
    const parsed: unknown = JSON.parse(offsets.names.toString('utf8'));
    this.allNames = Array.isArray(parsed) ? parsed.map(String) : [];
    const { customer } = this.counts;
    this.names = {
      customer: numbered(this.allNames.slice(0, customer), 0),
      internal: numbered(this.allNames.slice(customer), customer),
    };
    this.use = this.guestUse();
    this.weight =
      offsets.members.byteLength + 4 * offsets.names.length + ENTRY_BYTES * this.allNames.length;
  }

  /** Members of both maps. */
  get size(): number {
    return this.allNames.length;
  }

  member(number: number): Member {
    const { members } = this.offsets;
    const at = number * MEMBER_WORDS;
    const flags = members[at + 6] ?? 0;
    return {
      nameStart: members[at] ?? 0,
      nameEnd: members[at + 1] ?? 0,
      colon: members[at + 2] ?? 0,
      valueStart: members[at + 3] ?? 0,
      valueEnd: members[at + 4] ?? 0,
      valueBytes: members[at + 5] ?? 0,
      isString: (flags & VALUE_STRING) !== 0,
      isContainer: (flags & VALUE_CONTAINER) !== 0,
    };
  }

  /** The number of a map's first member; the others follow it in the order of the text. */
  firstOf(map: MapName): number {
    return map === 'customer' ? 0 : this.counts.customer;
  }

  /** All members of that name, in the order of the text: more than one only where the name is doubled. */
  membersNamed(map: MapName, key: string): number[] {
    const last = this.names[map].get(key);
    if (last === undefined) {
      return [];
    }
    if (this.names[map].size === this.counts[map]) {
      return [last];
    }
    const numbers: number[] = [];
    for (let number = this.firstOf(map); number <= last; number++) {
      if (this.allNames[number] === key) {
        numbers.push(number);
      }
    }
    return numbers;
  }

  /** The members of that name whose values are read from the text, of both maps; none for null. */
  readable(key: string | null): number[] {
    return MAP_NAMES.flatMap((map) => {
      const number = key === null ? undefined : this.names[map].get(key);
      return number === undefined || this.isOpaque(number) ? [] : [number];
    });
  }

  /** What it takes to read these, bytes. */
  valueBytesOf(key: string | null): number {
    return this.readable(key).reduce((sum, number) => {
      const { valueStart, valueEnd } = this.member(number);
      return sum + valueEnd - valueStart;
    }, 0);
  }

  map(map: MapName): MapPlace {
    const which = map === 'customer' ? 0 : 1;
    return {
      state: STATES[this.mapWord(which, 0)] ?? 'other',
      valueStart: this.mapWord(which, 1),
      valueEnd: this.mapWord(which, 2),
    };
  }

  get root(): RootPlace {
    const [
      open = 0,
      close = 0,
      members = 0,
      nameStart = 0,
      colon = 0,
      valueStart = 0,
      lastEnd = 0,
    ] = this.offsets.root;
    const first = members === 0 ? null : { blankStart: open + 1, nameStart, colon, valueStart };
    return { open, close, first, lastEnd };
  }

  /** What a member counts for the limits: name and value as JSON, colon and comma, bytes; 0 where it is absent. */
  sizeOf(map: MapName, key: string): number {
    const number = this.names[map].get(key);
    return number === undefined ? 0 : this.memberSize(number);
  }

  /** The maps, with values from the source. */
  maps(valueOf: ValueSource): MetadataMaps {
    return {
      customer: new IndexedMap(this, 'customer', valueOf),
      internal: new IndexedMap(this, 'internal', valueOf),
    };
  }

  /** The maps of a text that is in memory. */
  mapsIn(text: Buffer): MetadataMaps {
    return this.maps((number) => valueIn(text, this, number));
  }

  /** True where the value is not read from the text, whatever it is: a guest gets nothing of it. */
  isOpaque(number: number): boolean {
    const { isContainer, valueStart, valueEnd } = this.member(number);
    return isContainer && valueEnd - valueStart > CONTAINER_BYTES;
  }

  isEscaped(number: number): boolean {
    return ((this.offsets.members[number * MEMBER_WORDS + 6] ?? 0) & VALUE_ESCAPED) !== 0;
  }

  private mapWord(which: 0 | 1, word: number): number {
    return this.offsets.root[ROOT_WORDS + which * MAP_WORDS + word] ?? 0;
  }

  private memberSize(number: number): number {
    const { members } = this.offsets;
    const at = number * MEMBER_WORDS;
    const name = (members[at + 1] ?? 0) - (members[at] ?? 0);
    return name + (members[at + 4] ?? 0) - (members[at + 3] ?? 0) + MEMBER_BYTES;
  }

  private guestUse(): GuestUse {
    let bytes = 0;
    let keys = 0;
    for (const map of MAP_NAMES) {
      for (const [key, number] of this.names[map]) {
        if (isOfGuest(map, key)) {
          bytes += this.memberSize(number);
          keys++;
        }
      }
    }
    return { bytes, keys };
  }
}

/** Whether a guest can write this key, so that it counts for its limits. */
export function isOfGuest(map: MapName, key: string): boolean {
  return map === 'customer' || key.endsWith(PASSWORD_END);
}

/** What a new member counts for the limits, bytes. @param json the value as JSON */
export function newMemberSize(key: string, json: string): number {
  return Buffer.byteLength(JSON.stringify(key)) + Buffer.byteLength(json) + MEMBER_BYTES;
}

/** A value in the text's bytes. */
export function valueIn(text: Buffer, index: MetadataIndex, number: number): unknown {
  const { valueStart, valueEnd, isString } = index.member(number);
  if (isString && !index.isEscaped(number)) {
    return text.toString('utf8', valueStart + 1, valueEnd - 1);
  }
  return index.isOpaque(number) ? {} : JSON.parse(text.toString('utf8', valueStart, valueEnd));
}

/** Names to the numbers of their last members, in the order that an object of JavaScript has them in. */
function numbered(names: readonly string[], first: number): Map<string, number> {
  const numbers = new Map<string, number>();
  names.forEach((name, at) => numbers.set(name, first + at));
  const indices = [...numbers.keys()].filter(isArrayIndex);
  if (indices.length === 0) {
    return numbers;
  }
  indices.sort((a, b) => Number(a) - Number(b));
  const ordered = new Map(indices.map((name) => [name, numbers.get(name) ?? 0]));
  for (const [name, number] of numbers) {
    ordered.set(name, number);
  }
  return ordered;
}

function isArrayIndex(name: string): boolean {
  const first = name.charCodeAt(0);
  const isDigit = first >= 0x30 && first <= 0x39;
  return isDigit && /^(?:0|[1-9][0-9]{0,9})$/.test(name) && Number(name) < 2 ** 32 - 1;
}

class IndexedMap implements MetadataMap {
  private readonly index: MetadataIndex;
  private readonly numbers: ReadonlyMap<string, number>;
  private readonly source: ValueSource;

  constructor(index: MetadataIndex, map: MapName, valueOf: ValueSource) {
    this.index = index;
    this.numbers = index.names[map];
    this.source = valueOf;
  }

  get size(): number {
    return this.numbers.size;
  }

  has(key: string): boolean {
    return this.numbers.has(key);
  }

  get(key: string): unknown {
    const number = this.numbers.get(key);
    return number === undefined ? undefined : this.source(number);
  }

  bytesOf(key: string): number {
    const number = this.numbers.get(key);
    return number === undefined ? 0 : this.index.member(number).valueBytes;
  }

  keys(): IterableIterator<string> {
    return this.numbers.keys();
  }

  *[Symbol.iterator](): IterableIterator<[string, unknown]> {
    for (const [key, number] of this.numbers) {
      yield [key, this.source(number)];
    }
  }
}
