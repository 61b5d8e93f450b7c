/*
 * The WATCH requests that wait, of all zones: who is asked again, and when.
 *
 *   park -> [its zone's waiters] --the zone's data may be others: hint, or found by a check--> wake
 *              |  [its deadline]  --------------------------------------------------------> wake
 *              `--unpark
 *
 * Whoever is woken is handled again, and parks again where its token is the same: nothing here knows tokens. A
 * change that we make or that vminfod tells comes as a hint. All others are found by a stat of the files of the zones
 * that somebody waits in, never of others: each at least every MAX_CHECK_MS, and every CHECK_MS while they are few. One
 * timer serves all waiters, and exists only while there are some.
 */

import type { DataVersion } from '../platform/files';
import { oncePerIteration } from '../lib/scheduler';

/** From one check of a zone to the next while few zones are waited for. */
const CHECK_MS = 100;
/** And at most: a change is to be told within a second. */
const MAX_CHECK_MS = 700;
/** Zones checked in a second, above which checks become fewer: one is three stats, about 10 microseconds. */
const CHECKS_PER_SECOND = 1500;
/** Of the timer. */
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
  /** By the number of the tick in which their time is over. */
  private readonly slots = new Map<number, Set<WaitingWatch>>();
  private timer: NodeJS.Timeout | null = null;
  /** Whose watches are woken, and those of all before. */
  private lastSlot = 0;
  private readonly goOn = oncePerIteration(() => this.tick());

  /**
   * @param version stats a zone's data; to be asked before the token is made that is waited with
   * @param now a clock in ms that never goes back, of whole waits
   */
  constructor(
    readonly version: (zonename: string) => DataVersion,
    private readonly now: () => number = () => performance.now(),
  ) {}

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
    const watch = { zone, seen, until, onWoken, woken: false };
    zone.waiting.add(watch);
    const due = this.slots.get(slotOf(watch));
    if (due === undefined) {
      this.slots.set(slotOf(watch), new Set([watch]));
    } else {
      due.add(watch);
    }
    this.waiting++;
    if (this.timer === null) {
      this.lastSlot = Math.floor(this.now() / TICK_MS) - 1;
      this.timer = setInterval(() => this.tick(), TICK_MS).unref();
    }
    return watch;
  }

  /** Does not wait any more. Idempotent. */
  unpark(watch: WaitingWatch): void {
    const { zone } = watch;
    if (!zone.waiting.delete(watch)) {
      return;
    }
    if (zone.waiting.size === 0) {
      this.zones.delete(zone.zonename);
    }
    const due = this.slots.get(slotOf(watch));
    due?.delete(watch);
    if (due?.size === 0) {
      this.slots.delete(slotOf(watch));
    }
    this.waiting--;
    if (this.waiting === 0) {
      clearInterval(this.timer ?? undefined);
      this.timer = null;
    }
  }

  /** The data of a zone may have changed: it is checked now. */
  hint(zonename: string): void {
    const zone = this.zones.get(zonename);
    if (zone !== undefined) {
      this.check(zone);
    }
  }

  /** Wakes those whose time is over, and checks the zones that are due. The timer calls it. */
  tick(): void {
    const now = this.now();
    const end = now + WORK_MS;
    for (const slot = Math.floor(now / TICK_MS); this.lastSlot < slot; this.lastSlot++) {
      for (const watch of [...(this.slots.get(this.lastSlot + 1) ?? [])]) {
        if (this.now() > end) {
          this.goOn();
          return;
        }
        this.wake(watch, watch.seen);
      }
    }
    const spreadMs = (1000 * this.zones.size) / CHECKS_PER_SECOND;
    const checkMs = Math.min(MAX_CHECK_MS, Math.max(CHECK_MS, spreadMs));
    for (const zone of this.zones.values()) {
      if (now - zone.checkedAt < checkMs - TICK_MS / 2) {
        break;
      }
      if (this.now() > end) {
        this.goOn();
        return;
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
    this.unpark(watch);
    watch.woken = true;
    watch.seen = seen;
    watch.onWoken();
  }
}

/** The tick in which its time is over. */
function slotOf({ until }: WaitingWatch): number {
  return Math.ceil(until / TICK_MS);
}
