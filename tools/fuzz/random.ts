/*
 * The fuzzer's only source of chance: everything that it makes follows from one seed, on any machine.
 * (sfc32, which passes the usual test batteries and costs a few nanoseconds a number.)
 */

/** Numbers that follow from a seed. */
export class Random {
  private a: number;
  private b: number;
  private c = 0x9e3779b9;
  private counter = 1;

  /** @param seed any 32-bit number; @param stream parts the numbers of one user from another's */
  constructor(seed: number, stream = 0) {
    this.a = seed | 0;
    this.b = stream | 0;
    for (let i = 0; i < 16; i++) {
      this.next();
    }
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    const sum = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** 0 to `bound` - 1. */
  below(bound: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * bound);
  }

  /** Small numbers mostly, now and then one up to `bound` - 1. */
  mostlySmall(bound: number): number {
    return this.below(1 + this.below(1 + this.below(bound)));
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }
}
