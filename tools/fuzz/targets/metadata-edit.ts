/*
 * Target `metadata-edit`: metadata.json's text is read as JSON.parse reads it, and a change of it does what was
 * asked for and nothing else.
 *
 * Input: decisions that write a JSON file by hand (odd blanks, doubled and escaped names, numbers beyond a
 * double, members nobody knows) and then change it. All members but the changed ones must keep
 * their places and the very text that they had.
 */
import { planChanges } from '../../../src/writes/plan';
import type { CurrentMetadata, Edits, Plan } from '../../../src/writes/plan';
import { buildText, scanText } from '../../../src/platform/metadata-text';
import { MetadataIndex } from '../../../src/vm/metadata-index';
import { editPieces } from '../../../src/writes/json-edit';
import { ownMap, parseJsonObject, type Change } from '../../../src/metadata/vm-data';
import type { JsonObject } from '../../../src/metadata/vm-data';
import { magnitude } from '../features';
import { editMembers, rawMembers } from '../model/json-text';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { Choices } from './choices';

const MAPS = ['customer_metadata', 'internal_metadata'] as const;
const SPACES: readonly [string, ...string[]] = ['', '', '', ' ', '\n  ', '\t', '\r\n', '  '];
const KEYS: readonly [string, ...string[]] = [
  'a',
  'b',
  'c',
  '',
  '__proto__',
  '10',
  '2',
  'say "x"',
  'back\\slash',
  'caf\u00e9',
  '\u{1f980}',
  '}',
  '{"a":',
  ',',
];
const VALUES: readonly [string, ...string[]] = [
  '"x"',
  '""',
  '"\\""',
  '"\\\\"',
  '"}{,"',
  '1e400',
  '12345678901234567890.10',
  '-0',
  'null',
  'true',
  '[]',
  '[1, {"a":"]"} ]',
  '{ }',
  '{"a" : {"b":"\\u007d"}}',
  '"\\ud83e\\udd80"',
];
const LIMITS = { metadataBytes: 100_000, metadataKeys: 1000, fileBytes: 200_000 };
const MOST_MEMBERS = 6;

export const metadataEdit: Target = {
  name: 'metadata-edit',
  words: ['\0', '\x01', '\x02', '\x06\x06', '\xff'],

  generate(random, draft) {
    const length = random.mostlySmall(120);
    for (let i = 0; i < length; i++) {
      draft.byte(random.below(64));
    }
  },

  run(input, features) {
    const choices = new Choices(input);
    const text = writeFile(choices);
    const before = parseJsonObject(text);
    if (before === undefined) {
      throw new Wrong('the target writes JSON', { text });
    }
    const changes = someChanges(choices);
    const bytes = Buffer.from(text);
    const index = checkIndex(bytes, before);
    const maps = index.mapsIn(bytes);
    const current: CurrentMetadata = {
      bytes: bytes.length,
      index,
      valueOf: (map, key) => maps[map].get(key),
      tokenOf: (map, key, check) => check.tokenOf(maps[map].get(key)),
      tokenOfNew: () => undefined,
    };
    const plan = planChanges(changes, current, LIMITS);
    const edited = buildText(bytes, editPieces(index, bytes.length, plan)).toString('utf8');
    checkDamaged(bytes, choices);
    const after = parseJsonObject(edited);
    if (after === undefined) {
      throw new Wrong('what is written is JSON', { text, edited });
    }
    checkMaps(before, after, changes);
    checkUnchanged(text, edited, plan);
    if (plan.empty) {
      same('nothing to change changes nothing', edited, text);
    }
    features.reach(70, magnitude(text.length), changes.length, plan.customer.size);
    features.reach(71, plan.internal.size, plan.customer.size, magnitude(edited.length));
    features.reach(72, Object.keys(before).length, edited.length > text.length ? 1 : 0);
  },
};

/** What the index reads, names and values and their order, against what JSON.parse does. */
function checkIndex(bytes: Buffer, parsed: JsonObject): MetadataIndex {
  const offsets = scanText(bytes);
  if (typeof offsets === 'string') {
    throw new Wrong('the scanner takes what JSON.parse takes', { text: bytes.toString(), offsets });
  }
  const index = new MetadataIndex(offsets);
  const actual = index.mapsIn(bytes);
  const maps = mapsOf(parsed);
  for (const name of ['customer', 'internal'] as const) {
    // A lone half of a surrogate pair in a name is U+FFFD, so that two names can be one.
    const wanted = new Map(
      [...maps[name]].map(([key, value]) => [Buffer.from(key).toString(), value]),
    );
    same(`the ${name} map as it is read`, orderedText(actual[name]), orderedText(wanted));
    for (const [key, value] of wanted) {
      const length = typeof value === 'string' ? Buffer.byteLength(value) : 0;
      if (length > (actual[name].bytesOf?.(key) ?? 0)) {
        throw new Wrong('a value is not longer than it was said to be', { key, length });
      }
    }
  }
  return index;
}

/** A text that was cut or has another byte somewhere is accepted if and only if JSON.parse accepts it. */
function checkDamaged(bytes: Buffer, choices: Choices): void {
  const at = (choices.byte() * 256 + choices.byte()) % (bytes.length + 1);
  const cut = Buffer.from(bytes.subarray(0, at));
  const changed = Buffer.from(bytes);
  changed[at % bytes.length] = choices.byte();
  for (const damaged of [cut, changed]) {
    const parsed = parseJsonObject(damaged.toString('utf8'));
    const scanned = scanText(damaged);
    const accepted = typeof scanned !== 'string';
    same('whether a damaged text is accepted', String(accepted), String(parsed !== undefined));
    if (parsed !== undefined) {
      checkIndex(damaged, parsed);
    }
  }
}

function orderedText(map: Iterable<readonly [string, unknown]>): string {
  return JSON.stringify([...map]);
}

function writeFile(choices: Choices): string {
  const members: string[] = [];
  const count = choices.below(MOST_MEMBERS);
  for (let i = 0; i < count; i++) {
    const kind = choices.below(4);
    const name = kind < 3 ? (MAPS[kind & 1] ?? MAPS[0]) : choices.pick(KEYS);
    const isMap = kind < 3 && choices.below(8) !== 7;
    const value = isMap ? writeMap(choices) : kind < 3 ? 'null' : choices.pick(VALUES);
    members.push(writeMember(choices, name, value));
  }
  const space = choices.pick(SPACES);
  return `${space}{${members.join(',') || space}}${choices.pick(SPACES)}`;
}

function writeMap(choices: Choices): string {
  const members: string[] = [];
  const count = choices.below(MOST_MEMBERS);
  for (let i = 0; i < count; i++) {
    members.push(writeMember(choices, choices.pick(KEYS), choices.pick(VALUES)));
  }
  return `{${members.join(',') || choices.pick(SPACES)}}`;
}

function writeMember(choices: Choices, name: string, value: string): string {
  const spaces = [0, 1, 2, 3].map(() => choices.pick(SPACES));
  const key = choices.below(6) === 5 ? escaped(name) : JSON.stringify(name);
  return `${spaces[0] ?? ''}${key}${spaces[1] ?? ''}:${spaces[2] ?? ''}${value}${spaces[3] ?? ''}`;
}

/** The same name, each character as an escape. */
function escaped(name: string): string {
  const units = Array.from({ length: name.length }, (_, at) => name.charCodeAt(at));
  return `"${units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}"`;
}

function someChanges(choices: Choices): Change[] {
  const changes: Change[] = [];
  const count = 1 + choices.below(4);
  for (let i = 0; i < count; i++) {
    const map = choices.below(2) === 0 ? 'customer' : 'internal';
    const key = choices.pick(KEYS);
    changes.push(
      choices.below(3) === 0
        ? { kind: 'remove', map, key }
        : { kind: 'set', map, key, value: choices.pick(VALUES) },
    );
  }
  return changes;
}

function mapsOf(file: JsonObject): {
  customer: ReadonlyMap<string, unknown>;
  internal: ReadonlyMap<string, unknown>;
} {
  return { customer: ownMap(file, MAPS[0]), internal: ownMap(file, MAPS[1]) };
}

function asJson(edits: Edits): Map<string, string | undefined> {
  return new Map(
    [...edits].map(([key, value]) => [
      key,
      value === undefined ? value : JSON.stringify(value.toString()),
    ]),
  );
}

/** The maps hold what they held, with the changes made one after the other. */
function checkMaps(before: JsonObject, after: JsonObject, changes: readonly Change[]): void {
  const wanted = mapsOf(before);
  const actual = mapsOf(after);
  for (const name of ['customer', 'internal'] as const) {
    const map = new Map(wanted[name]);
    for (const change of changes) {
      if (change.map === name && change.kind === 'set') {
        map.set(change.key, change.value);
      } else if (change.map === name) {
        map.delete(change.key);
      }
    }
    same(`the ${name} map`, sortedText(actual[name]), sortedText(map));
  }
}

/** Every member besides the changed ones has the text that it had, in its place. */
function checkUnchanged(
  text: string,
  edited: string,
  plan: Pick<Plan, 'customer' | 'internal'>,
): void {
  let wanted = rawMembers(text);
  const actual = rawMembers(edited);
  for (const [name, edits] of [
    [MAPS[0], asJson(plan.customer)],
    [MAPS[1], asJson(plan.internal)],
  ] as const) {
    const at = wanted.findLastIndex(([key]) => key === name);
    const old = wanted[at]?.[1] ?? '';
    const isMap = old.startsWith('{');
    const members = editMembers(isMap ? rawMembers(old) : [], edits);
    const now = actual.findLast(([key]) => key === name)?.[1] ?? '{}';
    if (edits.size > 0 && (isMap || members.length > 0)) {
      same(`the text of ${name}`, JSON.stringify(rawMembers(now)), JSON.stringify(members));
      wanted = editMembers(wanted, new Map([[name, now]]));
    }
  }
  same('the text of all others', JSON.stringify(actual), JSON.stringify(wanted));
}

function sortedText(map: ReadonlyMap<string, unknown>): string {
  return JSON.stringify([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
}
