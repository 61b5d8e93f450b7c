/*
 * What inputs have reached so far: a set of small numbers that targets make of what they saw (which
 * outcome, how long in powers of two, which verb, which answer). An input that reaches a new one is worth
 * keeping: more that is new may lie near it.
 */

const SLOTS = 1 << 18;

/** What the inputs of a run have reached so far. */
export class Features {
  private readonly seen = new Uint8Array(SLOTS);
  private count = 0;
  private fresh = false;

  /** Distinct features so far; two that fall on the same slot count as one. */
  get reached(): number {
    return this.count;
  }

  /** A feature is what its four numbers say together. */
  reach(kind: number, a = 0, b = 0, c = 0): void {
    let hash = Math.imul(kind + 1, 0x9e3779b1) ^ Math.imul(a + 1, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15) ^ Math.imul(b + 1, 0xc2b2ae35), 0x27d4eb2f);
    hash = Math.imul(hash ^ (hash >>> 13) ^ Math.imul(c + 1, 0x165667b1), 0x9e3779b1);
    const slot = (hash ^ (hash >>> 16)) & (SLOTS - 1);
    if (this.seen[slot] === 0) {
      this.seen[slot] = 1;
      this.count++;
      this.fresh = true;
    }
  }

  /** Whether something new was reached since the last question. */
  takeFresh(): boolean {
    const was = this.fresh;
    this.fresh = false;
    return was;
  }
}

/** A length as a feature: its power of two. */
export function magnitude(length: number): number {
  return 32 - Math.clz32(length);
}

/** A text as a feature: a short name that the code under test chose. */
export function nameNumber(name: string): number {
  let hash = 0;
  for (let at = 0; at < name.length && at < 24; at++) {
    hash = (Math.imul(hash, 31) + name.charCodeAt(at)) | 0;
  }
  return hash;
}
