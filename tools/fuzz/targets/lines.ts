/*
 * Target `lines`: bytes cut into any chunks are the same lines.
 *
 * Input: one byte that picks the limit, one that picks how the rest is cut and when lines are pulled, and
 * the stream. Checked against a split of the whole at its LFs.
 */
import { LineReader } from '../../../src/protocol/line-reader';
import type { Line } from '../../../src/protocol/line-reader';
import { magnitude } from '../features';
import type { Features } from '../features';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomLine, WORDS } from './protocol-words';

const LIMITS: readonly number[] = [0, 1, 3, 16, 63, 64, 65, 200, 255, 256, 257, 1024];
const HEAD_BYTES = 64;
/** Streams up to here are cut at each pair of places in turn when the input asks for it. */
const EXHAUSTIVE_BYTES = 12;

export const lines: Target = {
  name: 'lines',
  words: WORDS,

  generate(random, draft) {
    draft.byte(random.below(256)).byte(random.below(256));
    const count = random.mostlySmall(8);
    for (let i = 0; i < count; i++) {
      draft.latin1(randomLine(random)).byte(0x0a);
    }
    draft.latin1(randomLine(random));
  },

  run(input, features) {
    if (input.length < 2) {
      return;
    }
    const limit = LIMITS[(input[0] ?? 0) % LIMITS.length] ?? 0;
    const style = input[1] ?? 0;
    const stream = input.subarray(2);
    const expected = modelLines(stream, limit);
    const wanted = expected.lines.join('\n');
    check(stream, limit, [stream.length], wanted, expected.rest);
    if (stream.length <= EXHAUSTIVE_BYTES && style % 16 === 0) {
      for (let first = 0; first <= stream.length; first++) {
        for (let second = first; second <= stream.length; second++) {
          check(stream, limit, [first, second, stream.length], wanted, expected.rest);
        }
      }
    } else {
      check(stream, limit, cuts(stream.length, style), wanted, expected.rest);
    }
    reach(features, expected.lines, limit, stream.length, expected.rest);
  },
};

/** The lines as text, the bytes of an unfinished one behind them. */
function modelLines(stream: Buffer, limit: number): { lines: string[]; rest: number } {
  const parts = stream.toString('latin1').split('\n');
  const rest = parts.pop()?.length ?? 0;
  return { lines: parts.map((part) => described(part, part.length > limit)), rest };
}

function described(text: string, oversize: boolean): string {
  return oversize ? `over ${text.slice(0, HEAD_BYTES)}` : `line ${text}`;
}

/** The ends of the chunks. The style says how long they are, and how unevenly. */
function cuts(length: number, style: number): number[] {
  const ends: number[] = [];
  const step = 1 + (style & 15);
  let wobble = style >> 4;
  for (let at = 0; at < length;) {
    at = Math.min(length, at + 1 + ((wobble * 7) % step));
    wobble = (wobble * 5 + 3) & 63;
    ends.push(at);
  }
  return ends;
}

function check(
  stream: Buffer,
  limit: number,
  ends: readonly number[],
  expected: string,
  rest: number,
): void {
  const lines = new LineReader(limit);
  const actual: string[] = [];
  let from = 0;
  let pulled = 0;
  for (const end of ends) {
    lines.push(stream.subarray(from, end));
    from = end;
    // Sometimes everything, sometimes one line, sometimes nothing: a caller pulls as it has room.
    for (let wanted = end % 3 === 0 ? Infinity : end % 3; wanted > 0; wanted--) {
      const line = lines.next();
      if (line === null) {
        break;
      }
      actual.push(textOf(line));
    }
    pulled++;
  }
  for (let line = lines.next(); line !== null; line = lines.next()) {
    actual.push(textOf(line));
  }
  same('the lines of a stream', actual.join('\n'), expected);
  if (lines.unfinished !== rest || lines.unread !== 0) {
    throw new Wrong('what is unfinished', { pulled, is: lines.unfinished, rest });
  }
}

function textOf(line: Line): string {
  const bytes = line.kind === 'line' ? line.bytes : line.head;
  const text = bytes.toString('latin1');
  return line.kind === 'line' ? `line ${text}` : `over ${text}`;
}

function reach(
  features: Features,
  actual: readonly string[],
  limit: number,
  length: number,
  rest: number,
): void {
  features.reach(1, limit, magnitude(length), magnitude(rest));
  for (const line of actual) {
    features.reach(2, limit, line.startsWith('over') ? 1 : 0, magnitude(line.length));
  }
  features.reach(3, magnitude(actual.length), rest > limit ? 1 : 0);
}
