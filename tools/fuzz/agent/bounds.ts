/*
 * How long the agent may take before it counts as broken, and what is thrown then. Far more than a busy
 * machine needs: a false alarm costs more than a fault that is found a run later.
 */

/** What must always hold does not. */
export class Broken extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Broken';
  }
}

export interface Bounds {
  /** To an answer for a healthy zone, ms. */
  readonly answerMs: number;
  /** To all being right again after the last fault, ms. */
  readonly rightMs: number;
}

export const BOUNDS: Bounds = { answerMs: 20_000, rightMs: 60_000 };

/** While a fault's steps are made fewer: what takes so long is tried often. */
export const SHORT_BOUNDS: Bounds = { answerMs: 6000, rightMs: 15_000 };

/** From the start of a process to its being ready, ms. */
export const READY_MS = 60_000;
/** From the signal to the end of a process, ms: the agent promises 5 s. */
export const END_MS = 20_000;
/** For a step of the node: some boot a zone. */
export const STEP_MS = 60_000;

/** Rejects with `late()` when the promise takes longer than `ms`. */
export async function within<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}
