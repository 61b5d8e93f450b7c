/*
 * How late the agent's event loop is, how much memory it uses, and whether log records get lost.
 *
 * A blocked loop answers nobody; memory over the ceiling is a leak or an attack. Both are logged, at most once a
 * minute each, and shown by health, status and metrics. It judges the last whole window, so an alarm ends within
 * seconds of its cause. It acts on nothing.
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

type AlarmReason = 'event-loop-wedged' | 'memory-over-ceiling' | 'log-records-lost';

/** How the agent does, as of the last whole window. */
export type SelfHealth = ReturnType<Watchdog['state']>;

/** Most memory that the agent may use, by the number of its zones. */
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
  private timer: NodeJS.Timeout | null = null;
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
    this.timer = setInterval(() => this.sample(), WINDOW_MS);
    this.timer.unref();
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.timer ?? undefined);
  }

  state() {
    const rssBytes = process.memoryUsage.rss();
    const ceilingBytes = this.ceiling();
    const lost = this.lostRecords();
    if (lost > this.lostBefore) {
      [this.lostBefore, this.lostAt] = [lost, performance.now()];
    }
    /** What is wrong, and what to do, on one line. */
    const alarms: {
      readonly reason: AlarmReason;
      readonly text: string;
      readonly remedy: string;
    }[] = [];
    const remedy = 'svcadm restart mdatad';
    if (this.loop.p50Ms > WEDGED_MS) {
      const text = `the event loop is late by ${Math.round(this.loop.p50Ms)} ms most of the time`;
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
    return { loop: this.loop, rssBytes, ceilingBytes, alarms };
  }

  /** Judges the window that ends now. Exposed for tests; the timer calls it. */
  sample(): void {
    this.loop = this.loopWatch.take();
    const { p99Ms, maxMs, maxCpuMs } = this.loop;
    if (maxMs > LATE_MS) {
      const fields = { p99_ms: p99Ms, max_ms: maxMs, max_cpu_ms: maxCpuMs };
      this.lateWarnings.warn(fields, 'the event loop was blocked');
    }
    const { rssBytes, ceilingBytes } = this.state();
    if (rssBytes > ceilingBytes) {
      const fields = { rss_bytes: rssBytes, ceiling_bytes: ceilingBytes };
      this.memoryWarnings.warn(fields, 'memory is over its ceiling');
    }
  }
}
