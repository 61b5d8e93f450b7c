/*
 * The tick: as long as JavaScript runs without giving the event loop back, no time passes for anyone
 * outside. All requests that it answers came in before, and nothing that it waits for has happened
 * meanwhile, so that a file's stat that was taken once need not be taken again.
 */

/** @returns a function that tells a number: the same one for as long as the tick lasts */
export function ticks(): () => number {
  let tick = 0;
  let lasts = false;
  const end = (): void => {
    lasts = false;
  };
  return () => {
    if (!lasts) {
      lasts = true;
      tick++;
      queueMicrotask(end);
    }
    return tick;
  };
}
