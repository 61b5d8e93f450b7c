/*
 * An input in the making: bytes in one buffer that serves a whole run, so that making millions of inputs
 * leaves no garbage behind. What does not fit is left out.
 */

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
