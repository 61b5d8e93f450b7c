/*
 * How late the agent's event loop is, how much memory it uses, and whether log records get lost.
 *
 * A blocked loop answers nobody; memory over the ceiling is a leak or an attack. Both are logged, at most once a
 * minute each. It judges the last whole window, so an alarm ends within seconds of its cause, and acts on nothing.
 */
import type { Config } from '../config';
import { zoneBytes, ZONES_AT_LIMIT } from '../transport/link';
import { ThrottledLog, type ThrottledLogSink } from '../log';
import { LoopWatch, type LoopDelay } from '../platform/loop-delay';
import { inBytes } from './format';

const WINDOW_MS = 10_000;
/** A guest's client notices this. */
const LATE_MS = 250;
/** Half of a window in turns of the loop this long: the agent is as good as dead. */
const WEDGED_MS = 1000;

/** Lost log records are reported for so long after they were noticed. */
const LOST_RECORDS_MS = 60_000;

const MIB = 1024 * 1024;
/** The runtime, the code, parsed config files and VM objects (README, "Limits"). */
const BASE_BYTES = 256 * MIB;
/**
 * Long metadata files that are read and written at a time, and answers with all keys: 16, 32 and 48 MiB (vm,
 * writes, agent: ByteBudget), three times with their decoded texts, and nearly as much again that the collector, on a
 * busy machine, has not taken away yet.
 */
const LONG_FILES_BYTES = 448 * MIB;
/** An idle zone: its objects, its VM's JSON, its last records. */
const ZONE_BYTES = 15 * 1024;

/** How the agent does, as of the last whole window. */
export type SelfHealth = ReturnType<Watchdog['state']>;

interface Alarm {
  readonly reason: 'event-loop-wedged' | 'memory-over-ceiling' | 'log-records-lost';
  readonly text: string;
  /** On one line. */
  readonly remedy: string;
}

/** Most memory that the agent may use, bytes, by the number of its zones. */
export function memoryCeiling(zones: number, limits: Config['limits']): number {
  const { line_bytes: lineBytes, unsent_bytes: replyBytes, connections } = limits;
  // What its connections hold, and its writes that wait.
  const atLimit = zoneBytes({ lineBytes, replyBytes, connections }) + 2 * limits.metadata_bytes;
  const base = BASE_BYTES + LONG_FILES_BYTES;
  return base + zones * ZONE_BYTES + Math.min(zones, ZONES_AT_LIMIT) * atLimit;
}

/** Watches the process from `start` to `stop`. */
export class Watchdog {
  private readonly loopWatch = new LoopWatch();
  private readonly lateWarnings: ThrottledLog;
  private readonly memoryWarnings: ThrottledLog;
  private loop: LoopDelay = { p50Ms: 0, p99Ms: 0, maxMs: 0, maxCpuMs: 0 };
  private timer: NodeJS.Timeout | undefined;
  private rssBytes = 0;
  private lostBefore = 0;
  private lostAt = -Infinity;

  /**
   * @param ceiling bytes
   * @param lostRecords log records that were lost since the start
   */
  constructor(
    log: ThrottledLogSink,
    private readonly ceiling: () => number,
    private readonly lostRecords: () => number,
  ) {
    const now = (): number => performance.now();
    this.lateWarnings = new ThrottledLog(log, now);
    this.memoryWarnings = new ThrottledLog(log, now);
  }

  start(): void {
    this.timer = setInterval(() => this.sample(), WINDOW_MS).unref();
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.timer);
  }

  /** As of the last time where it cannot be read: it is in a file, for which no descriptor may be left. */
  private memoryBytes(): number {
    try {
      this.rssBytes = process.memoryUsage.rss();
    } catch {
      // Those who need a descriptor for a guest log that there is none.
    }
    return this.rssBytes;
  }

  state() {
    const { loop } = this;
    const rssBytes = this.memoryBytes();
    const ceilingBytes = this.ceiling();
    const lost = this.lostRecords();
    if (lost > this.lostBefore) {
      [this.lostBefore, this.lostAt] = [lost, performance.now()];
    }
    const alarms: Alarm[] = [];
    const remedy = 'svcadm restart mdatad';
    if (loop.p50Ms > WEDGED_MS) {
      const text = `the event loop is late by ${Math.round(loop.p50Ms)} ms most of the time`;
      alarms.push({ reason: 'event-loop-wedged', text, remedy });
    }
    if (rssBytes > ceilingBytes) {
      const text = `memory is ${inBytes(rssBytes)}, over the ceiling of ${inBytes(ceilingBytes)}: a leak, or more zones at their limits than foreseen`;
      alarms.push({ reason: 'memory-over-ceiling', text, remedy });
    }
    if (performance.now() - this.lostAt < LOST_RECORDS_MS) {
      const text = `log records are being lost, ${lost} since the start`;
      alarms.push({ reason: 'log-records-lost', text, remedy: 'df -h /var' });
    }
    return { loop, rssBytes, ceilingBytes, alarms };
  }

  /** Judges the window that ends now. Exposed for tests; the timer calls it. */
  sample(): void {
    this.loop = this.loopWatch.take();
    const { p99Ms: p99_ms, maxMs: max_ms, maxCpuMs: max_cpu_ms } = this.loop;
    if (max_ms > LATE_MS) {
      this.lateWarnings.warn({ p99_ms, max_ms, max_cpu_ms }, 'the event loop was blocked');
    }
    const { rssBytes: rss_bytes, ceilingBytes: ceiling_bytes } = this.state();
    if (rss_bytes > ceiling_bytes) {
      this.memoryWarnings.warn({ rss_bytes, ceiling_bytes }, 'memory is over its ceiling');
    }
  }
}
