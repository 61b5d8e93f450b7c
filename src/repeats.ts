/*
 * When a thing that happens again and again may be said once more: at most once a minute, with how often
 * it was left unsaid. Says nothing itself; whoever has a log asks it first.
 */

const INTERVAL_MS = 60_000;

/** The repeats of one thing. */
export class Repeats {
  private readonly now: () => number;
  private saidAt = -Infinity;
  private unsaid = 0;

  /** @param now a clock in ms that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** It happened. How often it was left unsaid, where it is to be said now; else null. */
  next(): number | null {
    if (this.now() - this.saidAt < INTERVAL_MS) {
      this.unsaid++;
      return null;
    }
    const { unsaid } = this;
    this.saidAt = this.now();
    this.unsaid = 0;
    return unsaid;
  }
}

/** Repeats of many things, each by what it is: a Map, or a WeakMap where they go with an object. */
interface RepeatsByWhat<W> {
  get(what: W): Repeats | undefined;
  set(what: W, repeats: Repeats): unknown;
}

/** Those of one thing among many; made when it happens first. */
export function repeatsOf<W>(kept: RepeatsByWhat<W>, what: W, now?: () => number): Repeats {
  let repeats = kept.get(what);
  if (repeats === undefined) {
    repeats = new Repeats(now);
    kept.set(what, repeats);
  }
  return repeats;
}
