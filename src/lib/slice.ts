/*
 * Long work in slices: what goes over thousands of zones, or through megabytes, rests between its steps,
 * so that guests who ask meanwhile wait for one slice and not for all of it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Under this a guest notices nothing, ms. */
const SLICE_MS = 2;

/** One for each piece of work; its steps call it between them. */
export class CooperativeYield {
  private began = performance.now();

  /** To be awaited after each step; undefined while the slice lasts, which costs next to nothing. */
  rest(): Promise<void> | undefined {
    if (performance.now() - this.began < SLICE_MS) {
      return undefined;
    }
    return nextTurn().then(() => {
      this.began = performance.now();
    });
  }
}
