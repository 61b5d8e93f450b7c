/*
 * Changes single members of a metadata.json and leaves every other byte as it is.
 *
 * What the file holds besides the changed keys (members that we do not know, numbers beyond a double, the
 * operator's own layout, names like `__proto__`) must come out as it went in, which a parse and a print would
 * not do. The text itself is not needed here, only where its members are: the result says which pieces of the
 * old text and which new ones make the new text. Pure.
 */
import type { NewValue } from '../metadata/vm-data';
import { PIECE_LITERAL, PIECE_OLD, PIECE_STRING, type Pieces } from '../platform/metadata-text';
import {
  MAP_NAMES,
  type FirstMember,
  type MapName,
  type MetadataIndex,
} from '../vm/metadata-index';
import type { Edits } from './plan';

interface Range {
  readonly start: number;
  readonly end: number;
}

/** A range of the old text, new text, or the UTF-8 of a string that becomes JSON where the text is built. */
type Part = Range | string | Buffer;
/** A new member: its name, and what its value is made of. */
type NewMember = readonly [string, readonly Part[]];

/** Bytes [start, end) of the old text go, and the parts come in their place. */
interface Splice {
  readonly start: number;
  readonly end: number;
  readonly parts: readonly Part[];
}

/** Blanks that new members take over from the first one of their object. */
interface Layout {
  readonly between: readonly Part[];
  readonly colon: readonly Part[];
}

const NO_LAYOUT: Layout = { between: [','], colon: [':'] };
/** More blanks than these are no layout that anyone would want copied, bytes. */
const MOST_BLANKS = 256;

/**
 * The pieces of a text with the edits applied to its maps. A map that is missing or null is made. An overwritten
 * member keeps its place, a new one comes last.
 *
 * @param length of the old text, bytes
 */
export function editPieces(
  index: MetadataIndex,
  length: number,
  edits: Readonly<Record<MapName, Edits>>,
): Pieces {
  const splices: Splice[] = [];
  const made: NewMember[] = [];
  const written = { customer: 0, internal: 0 };
  const totals = { ...index.counts };
  for (const map of MAP_NAMES) {
    const { state, valueStart: start, valueEnd: end } = index.map(map);
    totals[map] += growthOf(index, map, edits[map]);
    if (state === 'object') {
      splices.push(...spliceMap(index, map, edits[map]));
    } else {
      const members = added(fresh(edits[map]), NO_LAYOUT, false);
      const parts = ['{', ...members, '}'];
      if (members.length > 0 && state === 'absent') {
        made.push([`${map}_metadata`, parts]);
      } else if (members.length > 0) {
        splices.push({ start, end, parts });
      }
    }
    written[map] = [...edits[map].values()].filter((value) => value !== undefined).length;
  }
  const { open, first, lastEnd } = index.root;
  if (made.length > 0) {
    const at = first === null ? open + 1 : lastEnd;
    splices.push({ start: at, end: at, parts: added(made, layoutOf(first), first !== null) });
  }
  const { customer, internal } = index.counts;
  return {
    ...pieced(splices, length),
    members: index.offsets.members,
    counts: Uint32Array.of(
      customer,
      internal,
      written.customer,
      written.internal,
      totals.customer,
      totals.internal,
    ),
  };
}

/** How many members more, or less, a map has after the edits. */
function growthOf(index: MetadataIndex, map: MapName, edits: Edits): number {
  let growth = 0;
  for (const [key, value] of edits) {
    const count = index.membersNamed(map, key).length;
    growth += value === undefined ? -count : count === 0 ? 1 : 0;
  }
  return growth;
}

/** The edits that set something. */
function fresh(edits: Edits): NewMember[] {
  return [...edits].flatMap(([key, value]) =>
    value === undefined ? [] : [[key, [jsonOf(value)]] as const],
  );
}

function jsonOf(value: NewValue): Part {
  return typeof value === 'string' ? JSON.stringify(value) : value;
}

function layoutOf(first: FirstMember | null): Layout {
  if (first === null) {
    return NO_LAYOUT;
  }
  const blanks = { start: first.blankStart, end: first.nameStart };
  const gap = { start: first.colon + 1, end: first.valueStart };
  const short = ({ start, end }: Range): Part[] =>
    end > start && end - start <= MOST_BLANKS ? [{ start, end }] : [];
  return { between: [',', ...short(blanks)], colon: [':', ...short(gap)] };
}

/** New members, one after the other. @param follows whether one stands before them */
function added(members: readonly NewMember[], layout: Layout, follows: boolean): Part[] {
  return members.flatMap(([key, value], at) => [
    ...(follows || at > 0 ? layout.between : []),
    JSON.stringify(key),
    ...layout.colon,
    ...value,
  ]);
}

function spliceMap(index: MetadataIndex, map: MapName, edits: Edits): Splice[] {
  const splices: Splice[] = [];
  const removed = new Set<number>();
  const additions: NewMember[] = [];
  for (const [key, value] of edits) {
    const numbers = index.membersNamed(map, key);
    // Of a doubled name a reader sees the last one.
    const last = numbers.at(-1);
    if (value === undefined) {
      numbers.forEach((number) => removed.add(number));
    } else if (last === undefined) {
      additions.push([key, [jsonOf(value)]]);
    } else {
      const { valueStart: start, valueEnd: end } = index.member(last);
      splices.push({ start, end, parts: [jsonOf(value)] });
    }
  }
  const { valueStart: open, valueEnd: behind } = index.map(map);
  const first = index.firstOf(map);
  const count = index.counts[map];
  const sample = count === 0 ? null : { ...index.member(first), blankStart: open + 1 };
  if (removed.size === count) {
    const start = sample?.nameStart ?? open + 1;
    if (additions.length > 0) {
      const end = sample === null ? start : index.member(first + count - 1).valueEnd;
      splices.push({ start, end, parts: added(additions, layoutOf(sample), false) });
    } else if (sample !== null) {
      splices.push({ start: open + 1, end: behind - 1, parts: [] });
    }
    return splices;
  }
  let lastKept = first + count - 1;
  while (removed.has(lastKept)) {
    lastKept--;
  }
  if (additions.length > 0) {
    const at = index.member(lastKept).valueEnd;
    splices.push({ start: at, end: at, parts: added(additions, layoutOf(sample), true) });
  }
  return [...splices, ...removals(index, first, removed)];
}

/**
 * Takes members out together with the comma that parts them from a neighbour that stays.
 *
 * @param first the number of the map's first member
 */
function removals(index: MetadataIndex, first: number, removed: ReadonlySet<number>): Splice[] {
  let firstKept = first;
  while (removed.has(firstKept)) {
    firstKept++;
  }
  const splices: Splice[] = [];
  if (firstKept > first) {
    const start = index.member(first).nameStart;
    splices.push({ start, end: index.member(firstKept).nameStart, parts: [] });
  }
  for (const number of removed) {
    if (number > firstKept) {
      const start = index.member(number - 1).valueEnd;
      splices.push({ start, end: index.member(number).valueEnd, parts: [] });
    }
  }
  return splices;
}

/** The splices as pieces, from the start of the old text to its end. */
function pieced(
  splices: readonly Splice[],
  length: number,
): { readonly words: Uint32Array; readonly literals: Buffer } {
  // Stable: an insertion at the start of a removed range stays before it.
  const sorted = [...splices].sort((a, b) => a.start - b.start || a.end - b.end);
  const words: number[] = [];
  const literals: Buffer[] = [];
  let literalsLength = 0;
  let from = 0;
  const put = (part: Part): void => {
    if (typeof part === 'string' || Buffer.isBuffer(part)) {
      const bytes = typeof part === 'string' ? Buffer.from(part) : part;
      const source = bytes === part ? PIECE_STRING : PIECE_LITERAL;
      words.push(source, literalsLength, literalsLength + bytes.length);
      literals.push(bytes);
      literalsLength += bytes.length;
    } else if (part.end > part.start) {
      words.push(PIECE_OLD, part.start, part.end);
    }
  };
  for (const { start, end, parts } of sorted) {
    put({ start: from, end: start });
    parts.forEach(put);
    from = end;
  }
  put({ start: from, end: length });
  return { words: Uint32Array.from(words), literals: Buffer.concat(literals) };
}
