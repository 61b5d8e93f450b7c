/*
 * How long the turns of this thread's event loop take. The addon counts as they end, so a loop that rests is not woken
 * for it: perf_hooks.monitorEventLoopDelay, at a resolution of 10 ms, wakes an idle loop 96 times a second (0.7 % of a
 * CPU, this 0.1 %) and reports a median of 10 ms for it, this 0.
 */
import { loadAddon } from './addon';

/** As native/loop_delay.h has them; the two longest turns are before them. */
const LENGTHS = 128;
const FIRST_LENGTH = 2;
const PARTS = 4;

/** How long a request that comes at any time of a window waits for the turn that is under way, at most. */
export interface LoopDelay {
  /** Half of the window's time was in turns longer than this, ms; up to a quarter more than is so. */
  readonly p50Ms: number;
  /** A hundredth of it was. */
  readonly p99Ms: number;
  /** The longest turn that ended. */
  readonly maxMs: number;
  /** The most CPU time of one turn, whoever else wanted the processor; up to 1 ms more than is so, 0 below 1 ms. */
  readonly maxCpuMs: number;
}

/** Counts from its making on, for as long as the thread runs. */
export class LoopWatch {
  private readonly numbers = new Float64Array(FIRST_LENGTH + LENGTHS);
  private since = performance.now();

  constructor() {
    loadAddon().watchLoop(this.numbers);
  }

  /** What was since the last call. The turn that is under way is in the next one. */
  take(): LoopDelay {
    const now = performance.now();
    const windowMs = now - this.since;
    const [maxNs = 0, maxCpuNs = 0] = this.numbers;
    const maxMs = maxNs / 1e6;
    const above = (part: number): number => Math.min(maxMs, this.longerThanMs(part * windowMs));
    const delay = { p50Ms: above(0.5), p99Ms: above(0.01), maxMs, maxCpuMs: maxCpuNs / 1e6 };
    this.numbers.fill(0);
    this.since = now;
    return delay;
  }

  /** The length at which longer turns took so much time together; 0 when all of them took less. */
  private longerThanMs(timeMs: number): number {
    let leftNs = timeMs * 1e6;
    for (let length = LENGTHS - 1; length >= 0; length--) {
      leftNs -= this.numbers[FIRST_LENGTH + length] ?? 0;
      if (leftNs <= 0) {
        return endOfLength(length) / 1000;
      }
    }
    return 0;
  }
}

/** Where the next length begins, us. */
function endOfLength(length: number): number {
  if (length < PARTS) {
    return length + 1;
  }
  return (PARTS + (length % PARTS) + 1) * 2 ** (Math.floor(length / PARTS) - 1);
}
