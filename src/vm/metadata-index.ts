/*
 * What a metadata.json holds, by the offsets of its members: values stay where they are until one is read.
 *
 * Made of one scan of the text (platform/metadata-text.ts), of a file or of a VM object of vminfod's; to make one costs
 * next to nothing, however many members there are. Means what JSON.parse of the text would mean: own members only, of a
 * doubled name the last one, names that are numbers first. But a lone half of a surrogate pair in a name is U+FFFD, as
 * guests are sent it. Pure.
 */
import type { MetadataMap, MetadataMaps, MetadataUse } from '../metadata/vm-data';
import type { TextOffsets } from '../platform/metadata-text';

export type MapName = 'customer' | 'internal';
export const MAP_NAMES = ['customer', 'internal'] as const;

/** Words of the root and of a member, and flags of the latter, as native/metadata_offsets.h has them. */
const ROOT_WORDS = 4;
const MAP_WORDS = 5;
const GUEST_WORDS = ROOT_WORDS + 2 * MAP_WORDS;
const MEMBER_WORDS = 8;
const NAME_START = 0;
const NAME_END = 1;
const VALUE_START = 2;
const VALUE_END = 3;
const VALUE_BYTES = 4;
const FLAGS = 5;
const PLAIN_START = 6;
const PLAIN_END = 7;
const VALUE_ESCAPED = 2;
const VALUE_STRING = 4;
const VALUE_CONTAINER = 8;
const NAME_COLON = 16;
const NAME_PASSWORD = 32;
const NAME_LISTABLE = 64;

/** The colon and the comma of a member. */
const MEMBER_BYTES = 2;
/** Look-ups that are remembered of one map, and the longest key of one, characters. */
const MAX_FOUND = 64;
const MAX_FOUND_CHARS = 256;
/** What the object and what it remembers cost in memory besides the offsets and names, bytes. */
const INDEX_BYTES = 4096;
/** A guest never gets what is in an object or an array: a longer one is not even parsed. */
const CONTAINER_BYTES = 64 * 1024;
const PASSWORD_END = '_pw';

/** The value of a member, by its number. */
type ValueSource = (member: number) => unknown;

const STATES = ['absent', 'null', 'object', 'other'] as const;

export class MetadataIndex {
  /** How many members each map has, doubled names included. */
  readonly counts: Readonly<Record<MapName, number>>;
  /** What the guest has put there, as the limits count it. */
  readonly use: Pick<MetadataUse, 'bytes' | 'keys'>;
  /** What it takes in memory, bytes. */
  readonly weight: number;
  /** Keys that were found, with their members. */
  private readonly found = {
    customer: new Map<string, number>(),
    internal: new Map<string, number>(),
  };

  constructor(readonly offsets: TextOffsets) {
    const { root, members, order, names } = offsets;
    this.counts = { customer: this.mapWord('customer', 3), internal: this.mapWord('internal', 3) };
    this.use = { bytes: root[GUEST_WORDS] ?? 0, keys: root[GUEST_WORDS + 1] ?? 0 };
    this.weight = members.byteLength + order.byteLength + names.length + INDEX_BYTES;
  }

  /** Members of both maps. */
  get size(): number {
    return this.counts.customer + this.counts.internal;
  }

  /** The place of a member, as offsets into the text. */
  member(number: number) {
    const flags = this.word(number, FLAGS);
    const valueStart = this.word(number, VALUE_START);
    const valueEnd = this.word(number, VALUE_END);
    return {
      nameStart: this.word(number, NAME_START),
      nameEnd: this.word(number, NAME_END),
      valueStart,
      valueEnd,
      /** Of a string: its length as UTF-8, or as much as it can come to. */
      valueBytes: this.word(number, VALUE_BYTES),
      isString: (flags & VALUE_STRING) !== 0,
      /** Of a string: it has an escape. */
      isEscaped: (flags & VALUE_ESCAPED) !== 0,
      /** The value is not read, whatever it is: a guest gets nothing of it. */
      isOpaque: (flags & VALUE_CONTAINER) !== 0 && valueEnd - valueStart > CONTAINER_BYTES,
    };
  }

  /** The name of a member, as it is meant. */
  keyOf(number: number): string {
    const { names } = this.offsets;
    return names.toString('utf8', this.word(number, PLAIN_START), this.word(number, PLAIN_END));
  }

  /** The number of a map's first member; the others follow it in the order of the text. */
  firstOf(map: MapName): number {
    return map === 'customer' ? 0 : this.counts.customer;
  }

  /** The member that a reader of the key sees. */
  find(map: MapName, key: string): number | undefined {
    const found = this.found[map];
    const known = found.get(key);
    if (known !== undefined) {
      return known;
    }
    const number = this.membersNamed(map, key).at(-1);
    if (number !== undefined && key.length <= MAX_FOUND_CHARS) {
      if (found.size >= MAX_FOUND) {
        found.clear();
      }
      found.set(key, number);
    }
    return number;
  }

  /** All members of that name, in the order of the text: more than one only where the name is doubled. */
  membersNamed(map: MapName, key: string): Uint32Array {
    const { order, names } = this.offsets;
    const wanted = Buffer.from(key);
    const compared = (at: number): number => {
      const number = order[at] ?? 0;
      const [start, end] = [this.word(number, PLAIN_START), this.word(number, PLAIN_END)];
      return names.compare(wanted, 0, wanted.length, start, end);
    };
    const mapEnd = this.firstOf(map) + this.counts[map];
    // The first of those that are sorted and not less.
    let low = this.firstOf(map);
    let high = mapEnd;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compared(middle) < 0) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    while (high < mapEnd && compared(high) === 0) {
      high++;
    }
    return order.subarray(low, high);
  }

  /** The members of a map that a reader sees, in JSON.parse's order. */
  visible(map: MapName): Uint32Array {
    const start = this.size + (map === 'customer' ? 0 : this.mapWord('customer', 4));
    return this.offsets.order.subarray(start, start + this.mapWord(map, 4));
  }

  /** The members of that name whose values are read from the text, of both maps; none for null. */
  readable(key: string | null): number[] {
    return MAP_NAMES.flatMap((map) => {
      const number = key === null ? undefined : this.find(map, key);
      return number === undefined || this.member(number).isOpaque ? [] : [number];
    });
  }

  /** What it takes to read these, bytes. */
  valueBytesOf(key: string | null): number {
    return this.readable(key).reduce((sum, number) => {
      const { valueStart, valueEnd } = this.member(number);
      return sum + valueEnd - valueStart;
    }, 0);
  }

  /** Where a map stands in the text. */
  map(map: MapName) {
    return {
      state: STATES[this.mapWord(map, 0)] ?? ('other' as const),
      valueStart: this.mapWord(map, 1),
      valueEnd: this.mapWord(map, 2),
    };
  }

  /** The opening brace of the text's object, how many members it has, and the end of the last one. */
  get root() {
    const [open = 0, , members = 0, lastEnd = 0] = this.offsets.root;
    return { open, members, lastEnd };
  }

  /** What a member counts for the limits: name and value as JSON, colon and comma, bytes; 0 where it is absent. */
  sizeOf(map: MapName, key: string): number {
    const number = this.find(map, key);
    if (number === undefined) {
      return 0;
    }
    const { nameStart, nameEnd, valueStart, valueEnd } = this.member(number);
    return nameEnd - nameStart + valueEnd - valueStart + MEMBER_BYTES;
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

  /** A word of a member. */
  word(number: number, word: number): number {
    return this.offsets.members[number * MEMBER_WORDS + word] ?? 0;
  }

  private mapWord(map: MapName, word: number): number {
    return this.offsets.root[ROOT_WORDS + (map === 'customer' ? 0 : MAP_WORDS) + word] ?? 0;
  }
}

/** Whether a guest can write this key, so that it counts for its limits. */
export function isOfGuest(map: MapName, key: string): boolean {
  return map === 'customer' || key.endsWith(PASSWORD_END);
}

/** What a new member counts for the limits, bytes. @param jsonBytes of the value */
export function newMemberSize(key: string, jsonBytes: number): number {
  return Buffer.byteLength(JSON.stringify(key)) + jsonBytes + MEMBER_BYTES;
}

/** A value in the text's bytes. */
export function valueIn(text: Buffer, index: MetadataIndex, number: number): unknown {
  const { valueStart, valueEnd, isString, isEscaped, isOpaque } = index.member(number);
  if (isString && !isEscaped) {
    return text.toString('utf8', valueStart + 1, valueEnd - 1);
  }
  return isOpaque ? {} : JSON.parse(text.toString('utf8', valueStart, valueEnd));
}

class IndexedMap implements MetadataMap {
  constructor(
    private readonly index: MetadataIndex,
    private readonly map: MapName,
    private readonly source: ValueSource,
  ) {}

  get size(): number {
    return this.index.visible(this.map).length;
  }

  get hasColons(): boolean {
    const visible = this.index.visible(this.map);
    return visible.some((number) => (this.index.word(number, FLAGS) & NAME_COLON) !== 0);
  }

  has(key: string): boolean {
    return this.index.find(this.map, key) !== undefined;
  }

  get(key: string): unknown {
    const number = this.index.find(this.map, key);
    return number === undefined ? undefined : this.source(number);
  }

  bytesOf(key: string): number {
    const number = this.index.find(this.map, key);
    return number === undefined ? 0 : this.index.member(number).valueBytes;
  }

  /** Mostly a view of the names, without a copy. */
  listed(wantsPlain: boolean, namespaces: readonly string[]): readonly Buffer[] {
    const { index } = this;
    const { names } = index.offsets;
    const prefixes = namespaces.map((namespace) => Buffer.from(`${namespace}:`));
    // No name is decoded: a guest's can be a megabyte together, and it may ask for them all the time.
    const isNamespaced = (start: number): boolean =>
      prefixes.some((prefix) => {
        const end = start + prefix.length;
        return end <= names.length && names.compare(prefix, 0, prefix.length, start, end) === 0;
      });
    const ranges: Buffer[] = [];
    let [from, to] = [0, 0];
    for (const number of index.visible(this.map)) {
      const flags = index.word(number, FLAGS);
      const start = index.word(number, PLAIN_START);
      const plain =
        (flags & NAME_PASSWORD) === 0 && ((flags & NAME_COLON) === 0 || !isNamespaced(start));
      if ((flags & NAME_LISTABLE) === 0 || plain !== wantsPlain) {
        continue;
      }
      if (start !== to) {
        ranges.push(names.subarray(from, to));
        from = start;
      }
      to = index.word(number, PLAIN_END) + 1;
    }
    ranges.push(names.subarray(from, to));
    return ranges;
  }

  *keys(): IterableIterator<string> {
    for (const number of this.index.visible(this.map)) {
      yield this.index.keyOf(number);
    }
  }

  *[Symbol.iterator](): IterableIterator<[string, unknown]> {
    for (const number of this.index.visible(this.map)) {
      yield [this.index.keyOf(number), this.source(number)];
    }
  }
}
