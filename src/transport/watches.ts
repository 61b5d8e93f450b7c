/*
 * The WATCH requests that wait, of all zones: who is asked again, and when.
 *
 *   park -> waits -- the zone's data may be others: hint, or found by a check --> woken
 *             |  `-- its time is over ------------------------------------------> woken
 *             `--unpark
 *
 * Whoever is woken is handled again, and parks again where its token is the same: nothing here knows tokens. A
 * change that we make or that vminfod tells comes as a hint. All others are found by a stat of the files of the zones
 * that somebody waits in, never of others: each at least every MAX_CHECK_MS, and every CHECK_MS while they are few.
 */

import type { DataVersion } from '../platform/files';
import { oncePerIteration, TaskQueue } from '../lib/scheduler';

/** From one check of a zone to the next while few zones are waited for. */
const CHECK_MS = 100;
/** And at most: a change is to be told within a second. */
const MAX_CHECK_MS = 700;
/** Zones checked in a second, above which checks become fewer: one is three stats, about 10 microseconds. */
const CHECKS_PER_SECOND = 1500;
/** How often zones are looked for whose check is due. */
const TICK_MS = 50;
/** What is left after this is done in the next iteration of the event loop: guests are served in between. */
const WORK_MS = 2;

/** Memory of a WATCH that waits besides its keys, its entries here included, bytes. */
export const WAITING_BYTES = 768;

/** A WATCH that waits. */
export interface WaitingWatch {
  readonly zone: WatchedZone;
  /** What the zone's data looked like before its token was computed, or, once it is woken, is computed again. */
  seen: DataVersion;
  /** On the clock, ms: then it is answered as it is. */
  readonly until: number;
  readonly timer: NodeJS.Timeout;
  readonly onWoken: () => void;
  /** True: it is to be handled again. */
  woken: boolean;
}

interface WatchedZone {
  readonly zonename: string;
  readonly waiting: Set<WaitingWatch>;
  /** Null: whoever waits has to be woken at the next check. */
  version: string | null;
  checkedAt: number;
}

/** One serves the process. */
export class Watches {
  /** How many wait. */
  waiting = 0;
  /** In the order of their last checks. */
  private readonly zones = new Map<string, WatchedZone>();
  /** Waits whose time is over: none of them is kept waiting by checks. */
  private readonly ends: TaskQueue;
  private readonly goOn = oncePerIteration(() => this.tick());
  private timer: NodeJS.Timeout | null = null;

  /**
   * @param version stats a zone's data; to be asked before the token is made that is waited with
   * @param now a clock in ms that never goes back
   */
  constructor(
    readonly version: (zonename: string) => DataVersion,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.ends = new TaskQueue({ ms: WORK_MS }, now);
  }

  /**
   * Waits until the data may be another than that of `seen`, or until `until`.
   * @param until on the clock @param onWoken runs at most once, and never in `park`
   */
  park(zonename: string, seen: DataVersion, until: number, onWoken: () => void): WaitingWatch {
    let zone = this.zones.get(zonename);
    if (zone === undefined) {
      zone = { zonename, waiting: new Set(), version: seen.text, checkedAt: this.now() };
      this.zones.set(zonename, zone);
    }
    if (zone.version !== seen.text || !seen.settled) {
      zone.version = null;
    }
    const timer = setTimeout(() => {
      this.ends.add(() => this.wake(watch, watch.seen));
    }, until - this.now()).unref();
    const watch = { zone, seen, until, timer, onWoken, woken: false };
    zone.waiting.add(watch);
    this.waiting++;
    this.timer ??= setInterval(() => this.tick(), TICK_MS).unref();
    return watch;
  }

  /** Does not wait any more. @returns false where it did not */
  unpark(watch: WaitingWatch): boolean {
    const { zone, timer } = watch;
    if (!zone.waiting.delete(watch)) {
      return false;
    }
    clearTimeout(timer);
    if (zone.waiting.size === 0) {
      this.zones.delete(zone.zonename);
    }
    this.waiting--;
    if (this.waiting === 0) {
      clearInterval(this.timer ?? undefined);
      this.timer = null;
    }
    return true;
  }

  /** The data of a zone may have changed: it is checked now. */
  hint(zonename: string): void {
    const zone = this.zones.get(zonename);
    if (zone !== undefined) {
      this.check(zone);
    }
  }

  /** Checks the zones that are due. The timer calls it. */
  tick(): void {
    const now = this.now();
    const end = now + WORK_MS;
    const spreadMs = (1000 * this.zones.size) / CHECKS_PER_SECOND;
    const checkMs = Math.min(MAX_CHECK_MS, Math.max(CHECK_MS, spreadMs));
    for (const zone of this.zones.values()) {
      if (now - zone.checkedAt < checkMs - TICK_MS / 2) {
        break;
      }
      if (this.now() >= end) {
        this.goOn();
        break;
      }
      this.check(zone);
    }
  }

  private check(zone: WatchedZone): void {
    zone.checkedAt = this.now();
    // To the end of the order.
    this.zones.delete(zone.zonename);
    this.zones.set(zone.zonename, zone);
    const seen = this.version(zone.zonename);
    const isSame = seen.text === zone.version;
    zone.version = seen.settled ? seen.text : null;
    if (!isSame) {
      for (const watch of [...zone.waiting]) {
        // One stat is enough for all of them: each reads the data after it.
        this.wake(watch, seen);
      }
    }
  }

  private wake(watch: WaitingWatch, seen: DataVersion): void {
    if (this.unpark(watch)) {
      watch.woken = true;
      watch.seen = seen;
      watch.onWoken();
    }
  }
}
