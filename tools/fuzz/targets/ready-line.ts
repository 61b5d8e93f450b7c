/*
 * Target `ready-line`: vminfod's first line is cut into the same VMs however it comes in, and they are the
 * VMs that are in it. Input: a byte that says how it is cut, then the line and what follows it.
 */
import { BrokenLine, SnapshotParser } from '../../../src/vm/snapshot-parser';
import { magnitude, nameNumber } from '../features';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { Choices } from './choices';

const VALUES: readonly [unknown, ...unknown[]] = [
  'x',
  'say "x"',
  'back\\',
  '}],[{',
  '\u0001\u007f',
  'caf\u00e9 \u{1f980}',
  '\u2028',
  null,
  1e21,
  [],
  {},
  [{ a: [{}] }],
  { '"': '\\"' },
];
/** Streams up to here are also given byte by byte. */
const SINGLE_OCTETS = 400;

export const readyLine: Target = {
  name: 'ready-line',
  words: ['"vms":"', '[{', '}]', '},{', '\\"', '\\\\', '\\u0022', '\\u00e9', '\\n', '"}\n', ','],

  generate(random, draft) {
    const choices = new Choices(
      Buffer.from(Array.from({ length: random.mostlySmall(60) }, () => random.below(256))),
    );
    const line = { type: 'ready', date: 'd', vms: JSON.stringify(someVms(choices)) };
    const text = random.oneIn(6)
      ? JSON.stringify({ vms: line.vms, type: random.oneIn(2) ? 'ready' : 'modify' })
      : JSON.stringify(line);
    const shown = random.oneIn(3)
      ? text.replace(/[^ -~]/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
      : text;
    draft.byte(random.below(256)).utf8(`${shown}\n`);
    if (random.oneIn(4)) {
      draft.latin1('{"type":"create"}\n');
    }
  },

  run(input, features) {
    const style = input[0] ?? 0;
    const stream = input.subarray(1);
    const whole = read(stream, stream.length + 1);
    same('read in pieces', read(stream, 1 + (style % 64)).text, whole.text);
    if (stream.length <= SINGLE_OCTETS && style % 4 === 0) {
      same('read byte by byte', read(stream, 1).text, whole.text);
    }
    const wanted = model(stream);
    if (wanted !== null) {
      same('the VMs of the line', whole.text, wanted);
    } else if (whole.text.startsWith('done') && typeOf(stream) !== 'ready') {
      throw new Wrong('a line that is no ready line is refused', { actual: whole.text });
    }
    features.reach(80, magnitude(stream.length), magnitude(whole.pieces), wanted === null ? 0 : 1);
    features.reach(81, nameNumber(whole.text.slice(0, 4)), magnitude(whole.pieces));
  },
};

interface ReadLine {
  readonly text: string;
  readonly pieces: number;
}

function read(stream: Buffer, size: number): ReadLine {
  const pieces: string[] = [];
  const line = new SnapshotParser((json) => pieces.push(json));
  const end = stream.indexOf(0x0a) + 1 || stream.length;
  let isWhole = false;
  try {
    for (let at = 0; at < end; at += size) {
      isWhole = line.push(stream.subarray(at, Math.min(at + size, end)));
    }
  } catch (err) {
    if (!(err instanceof BrokenLine)) {
      throw err;
    }
    // How early a line is known to be broken depends on how it came; that it is refused must not.
    return { text: 'refused', pieces: pieces.length };
  }
  const vms = pieces.map(parsed);
  const text = isWhole ? `done ${end} ${JSON.stringify(vms)}` : 'refused';
  return { text, pieces: pieces.length };
}

function parsed(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json);
    return value;
  } catch {
    return undefined;
  }
}

/** What a whole valid ready line must come to; null for anything else. */
function model(stream: Buffer): string | null {
  const end = stream.indexOf(0x0a);
  if (end < 0) {
    return null;
  }
  const text = stream.toString('utf8', 0, end);
  const line = parsed(text);
  if (typeof line !== 'object' || line === null || text.includes('\ufffd')) {
    return null;
  }
  const members = new Map<string, unknown>(Object.entries(line));
  const vms = members.get('vms');
  const list = typeof vms === 'string' ? parsed(vms) : undefined;
  const plain = Array.isArray(list) && list.every((vm) => isObject(vm));
  // The member is looked for by its text, as vminfod writes it.
  const once = text.split('"vms"').length === 2 && /"vms"[ \t\r]*:[ \t\r]*"/.test(text);
  return members.get('type') === 'ready' && plain && once && text.startsWith('{')
    ? `done ${end + 1} ${JSON.stringify(list)}`
    : null;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What kind of line it says it is. Of its list only brackets are checked before the VMs are parsed. */
function typeOf(stream: Buffer): unknown {
  const line = parsed(stream.toString('utf8', 0, stream.indexOf(0x0a)));
  return typeof line === 'object' && line !== null ? Reflect.get(line, 'type') : undefined;
}

function someVms(choices: Choices): object[] {
  const vms: object[] = [];
  const count = choices.below(5);
  for (let i = 0; i < count; i++) {
    const members = Array.from({ length: choices.below(5) }, () => {
      return [choices.pick(['uuid', 'alias', '"', '{']), choices.pick(VALUES)] as const;
    });
    vms.push(Object.fromEntries(members));
  }
  return vms;
}
