/*
 * Makes a list of steps that shows a fault shorter: leaves pieces out, large ones first.
 *
 * Not fast-check's model commands: they would replace these 25 lines alone, want a class with a model for each of
 * the 13 kinds of steps, and have no bound in time for replays that take seconds each.
 */

/**
 * @param fails whether steps show the fault; those given do
 * @param untilMs when it is enough, on the clock of performance.now()
 */
export async function shorten<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => Promise<boolean>,
  untilMs: number,
): Promise<readonly T[]> {
  let best = steps;
  for (let size = Math.ceil(best.length / 2); size >= 1; size = size === 1 ? 0 : (size + 1) >> 1) {
    for (let at = 0; at < best.length && performance.now() < untilMs;) {
      const without = [...best.slice(0, at), ...best.slice(at + size)];
      if (await fails(without)) {
        best = without;
      } else {
        at += size;
      }
    }
  }
  return best;
}
