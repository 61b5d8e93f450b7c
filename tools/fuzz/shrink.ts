/*
 * Makes a failing input small: cuts pieces out, large ones first, and turns bytes into plain ones, as
 * long as it goes on failing. Deterministic, and bounded.
 */

const MOST_ATTEMPTS = 20_000;
const PLAIN: readonly number[] = [0x61, 0x30, 0x20, 0x00];

/** @param fails whether an input still shows the fault; the one given does */
export function shrink(input: Buffer, fails: (candidate: Buffer) => boolean): Buffer {
  let best: Buffer = Buffer.from(input);
  let attempts = 0;
  const accepts = (candidate: Buffer): boolean => {
    if (++attempts > MOST_ATTEMPTS || !fails(candidate)) {
      return false;
    }
    best = candidate;
    return true;
  };
  let shorter = true;
  while (shorter && attempts < MOST_ATTEMPTS) {
    shorter = false;
    for (let size = best.length >> 1; size >= 1; size >>= 1) {
      for (let at = 0; at + size <= best.length;) {
        const without = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
        if (accepts(without)) {
          shorter = true;
        } else {
          at += size;
        }
      }
    }
    for (let at = 0; at < best.length; at++) {
      for (const byte of PLAIN) {
        if (best[at] === byte) {
          break;
        }
        const simpler = Buffer.from(best);
        simpler[at] = byte;
        if (accepts(simpler)) {
          break;
        }
      }
    }
  }
  return best;
}
