/*
 * Reads an input as a row of decisions: whoever builds a structure asks it what comes next. When the input
 * is over every decision is the first one, so that any bytes make a whole structure, and small changes of
 * the bytes small changes of it.
 */

/** Decisions that the bytes of one input make, in their order. */
export class Choices {
  private at = 0;

  constructor(private readonly bytes: Buffer) {}

  get over(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    return this.bytes[this.at++] ?? 0;
  }

  below(bound: number): number {
    return this.byte() % bound;
  }

  pick<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }

  /** Up to 15 characters of ASCII. */
  text(): string {
    const length = this.below(16);
    let text = '';
    for (let i = 0; i < length; i++) {
      text += String.fromCharCode(this.byte() & 0x7f);
    }
    return text;
  }
}
