/*
 * The moment: as long as JavaScript runs without giving the event loop back, no time passes for anyone
 * outside. All requests that it answers were heard before, and nothing that it waits for has happened
 * meanwhile, so that what it looked at once, it need not look at again.
 */

/** @returns a function that tells a number: the same one for as long as the moment lasts */
export function ticks(): () => number {
  let moment = 0;
  let lasts = false;
  const end = (): void => {
    lasts = false;
  };
  return () => {
    if (!lasts) {
      lasts = true;
      moment++;
      queueMicrotask(end);
    }
    return moment;
  };
}
