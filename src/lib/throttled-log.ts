/*
 * Repeated messages are logged at most once a minute, each time with the number of repeats left out since.
 *
 * The one throttle of the project: RepeatCounter decides, ThrottledLog is a logger in front of it. One
 * counter for each kind of fault; repeatsOf keeps many of them by what they are about.
 */

const INTERVAL_MS = 60_000;

/** Counts the repeats of one message. */
export class RepeatCounter {
  private readonly now: () => number;
  private loggedAt = -Infinity;
  private suppressed = 0;

  /** @param now a monotonic clock in ms */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** Call at each occurrence. @returns null: suppress it; else log it, with this many suppressed before */
  next(): number | null {
    if (this.now() - this.loggedAt < INTERVAL_MS) {
      this.suppressed++;
      return null;
    }
    const { suppressed } = this;
    this.loggedAt = this.now();
    this.suppressed = 0;
    return suppressed;
  }
}

/** A Map, or a WeakMap where counters go with an object. */
interface CounterMap<K> {
  get(key: K): RepeatCounter | undefined;
  set(key: K, counter: RepeatCounter): unknown;
}

/** The counter of one key, made on first use. */
export function repeatsOf<K>(counters: CounterMap<K>, key: K, now?: () => number): RepeatCounter {
  let counter = counters.get(key);
  if (counter === undefined) {
    counter = new RepeatCounter(now);
    counters.set(key, counter);
  }
  return counter;
}

type Fields = Readonly<Record<string, unknown>>;

/** Where throttled warnings go: a logger. */
export interface ThrottledLogSink {
  info(fields: Fields, msg: string): void;
  warn(fields: Fields, msg: string): void;
}

/** Warns of one kind of fault, throttled. */
export class ThrottledLog {
  private readonly sink: ThrottledLogSink;
  private readonly repeats: RepeatCounter;

  constructor(sink: ThrottledLogSink, now: () => number) {
    this.sink = sink;
    this.repeats = new RepeatCounter(now);
  }

  warn(fields: Fields, msg: string): void {
    const repeated = this.repeats.next();
    if (repeated !== null) {
      this.sink.warn({ ...fields, repeated }, msg);
    }
  }
}
