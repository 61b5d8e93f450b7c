/*
 * JSON objects as text: each member with the very characters of its value. A reader of its own, on regular
 * expressions; the text must be JSON. Compared before and after an edit it shows what was touched.
 */

export type RawMembers = readonly (readonly [key: string, value: string])[];

const TOKEN = /[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}[\],:]|[^ \t\r\n{}[\],:"]+)/gy;

/** The members of the object that the text is, doubled ones too, in their order. */
export function rawMembers(text: string): RawMembers {
  const members: [string, string][] = [];
  let depth = 0;
  let key: string | null = null;
  let start = -1;
  let end = -1;
  for (const match of text.matchAll(TOKEN)) {
    const token = match[1] ?? '';
    const tokenEnd = match.index + match[0].length;
    if (depth === 1 && (token === ',' || token === '}')) {
      if (key !== null) {
        members.push([key, text.slice(start, end)]);
      }
      key = null;
      start = -1;
    } else if (depth === 1 && key === null) {
      const name: unknown = JSON.parse(token);
      key = String(name);
    } else if (depth > 0 && !(depth === 1 && token === ':')) {
      start = start < 0 ? tokenEnd - token.length : start;
      end = tokenEnd;
    }
    depth += token === '{' || token === '[' ? 1 : token === '}' || token === ']' ? -1 : 0;
  }
  return members;
}

/** The same members with the edits made: an overwritten one in its place, a new one behind all others. */
export function editMembers(
  members: RawMembers,
  edits: ReadonlyMap<string, string | undefined>,
): RawMembers {
  const last = new Map(members.map(([key], index) => [key, index]));
  const kept = members.flatMap(([key, value], index): [string, string][] => {
    if (!edits.has(key)) {
      return [[key, value]];
    }
    const edited = edits.get(key);
    return edited === undefined ? [] : [[key, last.get(key) === index ? edited : value]];
  });
  const added = [...edits].flatMap(([key, value]): [string, string][] => {
    return value === undefined || last.has(key) ? [] : [[key, value]];
  });
  return [...kept, ...added];
}
