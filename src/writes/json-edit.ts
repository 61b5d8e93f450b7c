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
import { MAP_NAMES, type MapName, type MetadataIndex } from '../vm/metadata-index';
import type { Edits, MapEdits } from './plan';

/** New text, or the UTF-8 of a string that becomes JSON where the text is built. */
type Part = string | Buffer;

/** Bytes [start, end) of the old text go, and the parts come in their place. */
interface Splice {
  readonly start: number;
  readonly end: number;
  readonly parts: readonly Part[];
}

/**
 * The pieces of a text with the edits applied to its maps. A map that is missing or null is made. An overwritten
 * member keeps its place, a new one comes last.
 *
 * @param length of the old text, bytes
 */
export function editPieces(index: MetadataIndex, length: number, edits: MapEdits): Pieces {
  const splices: Splice[] = [];
  const made: Part[][] = [];
  const written: number[] = [];
  const totals: number[] = [];
  for (const map of MAP_NAMES) {
    const { state, valueStart: start, valueEnd: end } = index.map(map);
    const sets: Part[][] = [];
    for (const [key, value] of edits[map]) {
      if (value !== undefined) {
        sets.push(memberOf(key, value));
      }
    }
    written.push(sets.length);
    totals.push(state === 'object' ? spliceMap(index, map, edits[map], splices) : sets.length);
    if (state !== 'object' && sets.length > 0) {
      const parts = ['{', ...listed(sets, false), '}'];
      if (state === 'absent') {
        made.push([`"${map}_metadata":`, ...parts]);
      } else {
        splices.push({ start, end, parts });
      }
    }
  }
  if (made.length > 0) {
    const { open, members, lastEnd } = index.root;
    const at = members === 0 ? open + 1 : lastEnd;
    splices.push({ start: at, end: at, parts: listed(made, members > 0) });
  }
  const { customer, internal } = index.counts;
  const counts = Uint32Array.of(customer, internal, ...written, ...totals);
  const { words, literals } = pieced(splices, length);
  return { words, literals, members: index.offsets.members, counts };
}

function memberOf(key: string, value: NewValue): Part[] {
  return [`${JSON.stringify(key)}:`, jsonOf(value)];
}

function jsonOf(value: NewValue): Part {
  return typeof value === 'string' ? JSON.stringify(value) : value;
}

/** Members with commas between them. @param follows whether one stands before them */
function listed(members: readonly (readonly Part[])[], follows: boolean): Part[] {
  return members.flatMap((parts, at) => (follows || at > 0 ? [',', ...parts] : parts));
}

/** Adds the splices of a map that is an object. Returns how many members it has then. */
function spliceMap(index: MetadataIndex, map: MapName, edits: Edits, splices: Splice[]): number {
  const removed = new Set<number>();
  const additions: Part[][] = [];
  for (const [key, value] of edits) {
    if (value === undefined) {
      index.membersNamed(map, key).forEach((number) => removed.add(number));
      continue;
    }
    // Of a doubled name the one that a reader sees.
    const number = index.find(map, key);
    if (number === undefined) {
      additions.push(memberOf(key, value));
    } else {
      const { valueStart: start, valueEnd: end } = index.member(number);
      splices.push({ start, end, parts: [jsonOf(value)] });
    }
  }
  const count = index.counts[map];
  const first = index.firstOf(map);
  const behind = first + count;
  if (removed.size > 0) {
    let isFirstKept = false;
    for (let number = first; number < behind; number++) {
      if (!removed.has(number)) {
        isFirstKept = true;
        continue;
      }
      // With the comma that parts it from a neighbour that stays: the one before it, once there is one.
      const { nameStart, valueEnd } = index.member(number);
      const [start, end] = isFirstKept
        ? [index.member(number - 1).valueEnd, valueEnd]
        : [nameStart, number + 1 < behind ? index.member(number + 1).nameStart : valueEnd];
      splices.push({ start, end, parts: [] });
    }
  }
  if (additions.length > 0) {
    const at = count > 0 ? index.member(behind - 1).valueEnd : index.map(map).valueStart + 1;
    splices.push({ start: at, end: at, parts: listed(additions, removed.size < count) });
  }
  return count - removed.size + additions.length;
}

/** The splices as pieces, from the start of the old text to its end. */
function pieced(splices: readonly Splice[], length: number): Pick<Pieces, 'words' | 'literals'> {
  // None overlaps another, and no two begin at the same byte.
  const sorted = [...splices].sort((a, b) => a.start - b.start);
  const words: number[] = [];
  const literals: Buffer[] = [];
  let literalsLength = 0;
  let text = '';
  let from = 0;
  const putLiteral = (source: number, bytes: Buffer): void => {
    words.push(source, literalsLength, literalsLength + bytes.length);
    literals.push(bytes);
    literalsLength += bytes.length;
  };
  const flush = (): void => {
    if (text !== '') {
      putLiteral(PIECE_LITERAL, Buffer.from(text));
      text = '';
    }
  };
  const putOld = (end: number): void => {
    if (end > from) {
      flush();
      words.push(PIECE_OLD, from, end);
    }
  };
  for (const { start, end, parts } of sorted) {
    putOld(start);
    for (const part of parts) {
      if (typeof part === 'string') {
        text += part;
      } else {
        flush();
        putLiteral(PIECE_STRING, part);
      }
    }
    from = end;
  }
  putOld(length);
  flush();
  return { words: Uint32Array.from(words), literals: Buffer.concat(literals) };
}
