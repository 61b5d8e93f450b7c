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
import type { Edits, MapEdits } from './plan';

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
export function editPieces(index: MetadataIndex, length: number, edits: MapEdits): Pieces {
  const splices: Splice[] = [];
  const made: NewMember[] = [];
  const written = { customer: 0, internal: 0 };
  const totals = { customer: 0, internal: 0 };
  for (const map of MAP_NAMES) {
    const { state, valueStart: start, valueEnd: end } = index.map(map);
    const sets: NewMember[] = [];
    for (const [key, value] of edits[map]) {
      if (value !== undefined) {
        sets.push([key, [jsonOf(value)]]);
      }
    }
    written[map] = sets.length;
    totals[map] = state === 'object' ? spliceMap(index, map, edits[map], splices) : sets.length;
    if (state !== 'object' && sets.length > 0) {
      const parts = ['{', ...added(sets, NO_LAYOUT, false), '}'];
      if (state === 'absent') {
        made.push([`${map}_metadata`, parts]);
      } else {
        splices.push({ start, end, parts });
      }
    }
  }
  if (made.length > 0) {
    const { open, first, lastEnd } = index.root;
    const at = first === null ? open + 1 : lastEnd;
    splices.push({ start: at, end: at, parts: added(made, layoutOf(first), first !== null) });
  }
  const counts = [index.counts, written, totals].flatMap(({ customer, internal }) => [
    customer,
    internal,
  ]);
  const { members } = index.offsets;
  return { ...pieced(splices, length), members, counts: Uint32Array.from(counts) };
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

/** Adds the splices of a map. Returns how many members it has then. */
function spliceMap(index: MetadataIndex, map: MapName, edits: Edits, splices: Splice[]): number {
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
  const count = index.counts[map];
  const first = index.firstOf(map);
  if (removed.size + additions.length === 0) {
    return count;
  }
  const { valueStart: open, valueEnd: behind } = index.map(map);
  const sample = count === 0 ? null : { ...index.member(first), blankStart: open + 1 };
  const layout = layoutOf(sample);
  if (removed.size < count) {
    let lastKept = first + count - 1;
    while (removed.has(lastKept)) {
      lastKept--;
    }
    const at = index.member(lastKept).valueEnd;
    splices.push({ start: at, end: at, parts: added(additions, layout, true) });
    removeMembers(index, first, removed, splices);
  } else if (additions.length > 0) {
    // In the place of all others, with the blanks around them.
    const start = sample?.nameStart ?? open + 1;
    const end = sample === null ? start : index.member(first + count - 1).valueEnd;
    splices.push({ start, end, parts: added(additions, layout, false) });
  } else {
    splices.push({ start: open + 1, end: behind - 1, parts: [] });
  }
  return count - removed.size + additions.length;
}

/**
 * Takes members out together with the comma that parts them from a neighbour that stays.
 *
 * @param first the number of the map's first member
 */
function removeMembers(
  index: MetadataIndex,
  first: number,
  removed: ReadonlySet<number>,
  splices: Splice[],
): void {
  let firstKept = first;
  while (removed.has(firstKept)) {
    firstKept++;
  }
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
