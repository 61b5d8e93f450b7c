/*
 * An input in the making, and small changes to one that is known to be interesting: flipped bits, words of the
 * target's language, pieces doubled, moved, cut out or copied from another input. Its bytes are in one buffer that
 * serves a whole run, so that making millions of inputs leaves no garbage behind. What does not fit is left out.
 */
import type { Random } from './random';

/** Beyond every bound that the targets have in the small. */
export const MAX_INPUT_BYTES = 4096;

/** An input in the making. */
export class Draft {
  readonly bytes = Buffer.alloc(MAX_INPUT_BYTES);
  length = 0;

  clear(): this {
    this.length = 0;
    return this;
  }

  byte(value: number): this {
    if (this.length < MAX_INPUT_BYTES) {
      this.bytes[this.length++] = value;
    }
    return this;
  }

  /** Each character is one byte. */
  latin1(text: string): this {
    const room = MAX_INPUT_BYTES - this.length;
    this.length += this.bytes.write(text, this.length, Math.min(room, text.length), 'latin1');
    return this;
  }

  utf8(text: string): this {
    return this.append(Buffer.from(text, 'utf8'));
  }

  append(more: Buffer): this {
    this.length += more.copy(this.bytes, this.length);
    return this;
  }

  /** A view; it is the next input's too. */
  view(): Buffer {
    return this.bytes.subarray(0, this.length);
  }
}

/** Bytes at which parsers turn: NUL, blanks, LF, quotes, dots, the ends of ASCII and of UTF-8's ranges. */
const EDGES: readonly [number, ...number[]] = [
  0x00, 0x01, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1f, 0x20, 0x22, 0x2c, 0x2e, 0x2f, 0x30, 0x3a, 0x3d,
  0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7e, 0x7f, 0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff,
];
const MOST_CHANGES = 4;

/** Changes what is in the draft. @param other an input to take pieces from */
export function mutate(
  random: Random,
  draft: Draft,
  other: Buffer,
  words: readonly [string, ...string[]],
): void {
  const changes = 1 + random.below(MOST_CHANGES);
  for (let i = 0; i < changes; i++) {
    change(random, draft, other, words);
  }
}

function change(
  random: Random,
  draft: Draft,
  other: Buffer,
  words: readonly [string, ...string[]],
): void {
  const { bytes, length } = draft;
  const at = random.below(length + 1);
  const last = Math.min(at, MAX_INPUT_BYTES - 1);
  switch (random.below(9)) {
    case 0:
      bytes.writeUInt8((bytes[last] ?? 0) ^ (1 << random.below(8)), last);
      return;
    case 1:
      bytes[last] = random.pick(EDGES);
      return;
    case 2:
      insert(draft, at, 1);
      bytes[last] = random.oneIn(2) ? random.pick(EDGES) : random.below(256);
      return;
    case 3:
      remove(draft, at, 1 + random.mostlySmall(32));
      return;
    case 4: {
      const word = random.pick(words);
      insert(draft, at, word.length);
      bytes.write(word, at, Math.min(word.length, draft.length - at), 'latin1');
      return;
    }
    case 5: {
      const word = random.pick(words);
      bytes.write(word, at, Math.min(word.length, length - at), 'latin1');
      return;
    }
    case 6: {
      const size = Math.min(1 + random.mostlySmall(64), length - at);
      const to = random.below(length + 1);
      if (size > 0) {
        const piece = Buffer.from(bytes.subarray(at, at + size));
        insert(draft, to, size);
        piece.copy(bytes, to);
      }
      return;
    }
    case 7: {
      const from = random.below(other.length + 1);
      const size = Math.min(1 + random.mostlySmall(128), other.length - from);
      insert(draft, at, size);
      other.copy(bytes, at, from, from + Math.min(size, draft.length - at));
      return;
    }
    default:
      draft.length = random.oneIn(4) ? at : length;
  }
}

function insert(draft: Draft, at: number, size: number): void {
  const room = Math.min(size, MAX_INPUT_BYTES - draft.length);
  draft.bytes.copyWithin(at + room, at, draft.length);
  draft.length += room;
}

function remove(draft: Draft, at: number, size: number): void {
  const gone = Math.min(size, draft.length - at);
  draft.bytes.copyWithin(at, at + gone, draft.length);
  draft.length -= gone;
}
