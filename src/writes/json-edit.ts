/*
 * Changes single members of a JSON object's text and leaves every other byte as it is.
 *
 * The file writer uses it on metadata.json: what the file holds besides the changed keys (members that we
 * do not know, numbers beyond a double, the operator's own layout, names like `__proto__`) must come out
 * as it went in, which a parse and a print would not do. Pure; the text must have been parsed as a JSON
 * object before, since this reads it without checking.
 */

/** New JSON text of a member, or undefined for its removal. */
export type MemberEdits = ReadonlyMap<string, string | undefined>;

/** The place of one member; all are offsets into the text. */
interface Member {
  readonly key: string;
  readonly keyStart: number;
  readonly valueStart: number;
  readonly valueEnd: number;
}

interface Scanned {
  /** Offsets of the braces. */
  readonly open: number;
  readonly close: number;
  readonly members: readonly Member[];
}

interface Splice {
  readonly start: number;
  readonly end: number;
  readonly insert: string;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
/** After so many octets of a string without an escape a search beats a loop. */
const LONG_RUN = 64;

/**
 * Applies edits to the object at the root, and, by name, to objects that are its members. A named member
 * that is missing or null is made. An overwritten member keeps its place, a new one comes last.
 */
export function editObject(text: Buffer, inner: ReadonlyMap<string, MemberEdits>): Buffer {
  const root = scanObject(text, skipSpace(text, 0));
  const rootEdits = new Map<string, string | undefined>();
  const splices: Splice[] = [];
  for (const [name, edits] of inner) {
    const member = root.members.findLast((candidate) => candidate.key === name);
    if (member !== undefined && text[member.valueStart] === OPEN_BRACE) {
      splices.push(...spliceObject(text, scanObject(text, member.valueStart), edits));
    } else {
      const fresh = [...edits].filter(([, value]) => value !== undefined);
      if (fresh.length > 0) {
        rootEdits.set(name, `{${fresh.map(([key, value]) => memberText(key, value)).join(',')}}`);
      }
    }
  }
  splices.push(...spliceObject(text, root, rootEdits));
  return apply(text, splices);
}

function memberText(key: string, value: string | undefined, gap = ''): string {
  return `${JSON.stringify(key)}:${gap}${value ?? 'null'}`;
}

function spliceObject(text: Buffer, object: Scanned, edits: MemberEdits): Splice[] {
  const { members } = object;
  const removed = new Set<Member>();
  const splices: Splice[] = [];
  const fresh = new Map(edits);
  const lastOf = new Map(members.map((member) => [member.key, member]));
  for (const member of members) {
    if (!edits.has(member.key)) {
      continue;
    }
    const value = edits.get(member.key);
    fresh.delete(member.key);
    if (value === undefined) {
      removed.add(member);
    } else if (lastOf.get(member.key) === member) {
      // Of a doubled name a reader sees the last one.
      splices.push({ start: member.valueStart, end: member.valueEnd, insert: value });
    }
  }
  const sample = members[0];
  const gap = sample === undefined ? '' : colonGap(text, sample);
  const added = [...fresh]
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => memberText(key, value, gap));
  const between = sample === undefined ? ',' : `,${spaceBefore(text, sample.keyStart)}`;
  const kept = members.filter((member) => !removed.has(member));
  const lastKept = kept.at(-1);
  const firstKept = kept[0];
  if (lastKept === undefined || firstKept === undefined) {
    const last = members.at(-1);
    if (added.length > 0) {
      const start = sample?.keyStart ?? object.open + 1;
      splices.push({ start, end: last?.valueEnd ?? start, insert: added.join(between) });
    } else if (last !== undefined) {
      splices.push({ start: object.open + 1, end: object.close, insert: '' });
    }
    return splices;
  }
  if (added.length > 0) {
    const at = lastKept.valueEnd;
    splices.push({ start: at, end: at, insert: between + added.join(between) });
  }
  splices.push(...removals(members, removed, firstKept));
  return splices;
}

/** Takes members out together with the comma that parts them from a neighbour that stays. */
function removals(
  members: readonly Member[],
  removed: ReadonlySet<Member>,
  firstKept: Member,
): Splice[] {
  const splices: Splice[] = [];
  const first = members[0];
  if (first !== undefined && first !== firstKept) {
    splices.push({ start: first.keyStart, end: firstKept.keyStart, insert: '' });
  }
  members.forEach((member, index) => {
    const previous = members[index - 1];
    if (removed.has(member) && previous !== undefined && member.keyStart > firstKept.keyStart) {
      splices.push({ start: previous.valueEnd, end: member.valueEnd, insert: '' });
    }
  });
  return splices;
}

function apply(text: Buffer, splices: readonly Splice[]): Buffer {
  // Stable: an insertion at the start of a removed range stays before it.
  const sorted = [...splices].sort((a, b) => a.start - b.start || a.end - b.end);
  const parts: Buffer[] = [];
  let from = 0;
  for (const { start, end, insert } of sorted) {
    parts.push(text.subarray(from, start), Buffer.from(insert));
    from = end;
  }
  parts.push(text.subarray(from));
  return Buffer.concat(parts);
}

function scanObject(text: Buffer, open: number): Scanned {
  const members: Member[] = [];
  let at = skipSpace(text, open + 1);
  while (text[at] === QUOTE) {
    const keyStart = at;
    const keyEnd = skipString(text, at);
    const key: unknown = JSON.parse(text.toString('utf8', keyStart, keyEnd));
    const valueStart = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const valueEnd = skipValue(text, valueStart);
    members.push({ key: String(key), keyStart, valueStart, valueEnd });
    at = skipSpace(text, valueEnd);
    if (text[at] === COMMA) {
      at = skipSpace(text, at + 1);
    }
  }
  return { open, close: at, members };
}

function skipSpace(text: Buffer, from: number): number {
  let at = from;
  while (isSpace(text[at])) {
    at++;
  }
  return at;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** The end of the string that starts at `from`: behind its closing quote. */
function skipString(text: Buffer, from: number): number {
  // By the octet while escapes are near: a guest can make every second one a quote, and a search for
  // each costs far more. What was found is kept, so that no octet is searched again and again.
  let quote = -1;
  let plain = 0;
  let at = from + 1;
  while (at < text.length) {
    const byte = text[at];
    if (byte === QUOTE) {
      return at + 1;
    }
    if (byte === BACKSLASH) {
      at += 2;
      plain = 0;
    } else if (++plain < LONG_RUN) {
      at++;
    } else {
      quote = quote < at ? text.indexOf(QUOTE, at) : quote;
      const end = quote < 0 ? text.length : quote;
      const escape = text.subarray(at, end).indexOf(BACKSLASH);
      at = escape < 0 ? end : at + escape;
      plain = 0;
    }
  }
  return text.length;
}

function skipValue(text: Buffer, from: number): number {
  const first = text[from];
  if (first === QUOTE) {
    return skipString(text, from);
  }
  let at = from;
  let depth = 0;
  while (at < text.length) {
    const byte = text[at];
    if (byte === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) {
        return at;
      }
      depth--;
      if (depth === 0) {
        return at + 1;
      }
    } else if (depth === 0 && (byte === COMMA || isSpace(byte))) {
      return at;
    }
    at++;
  }
  return at;
}

/** The blanks between a member's colon and its value. */
function colonGap(text: Buffer, member: Member): string {
  return spaceBefore(text, member.valueStart);
}

/** The blanks right before an offset. */
function spaceBefore(text: Buffer, offset: number): string {
  let start = offset;
  while (start > 0 && isSpace(text[start - 1])) {
    start--;
  }
  return text.toString('latin1', start, offset);
}
