/*
 * The WATCH requests that wait, of all zones: who is asked again, and when.
 *
 *   park -> [its zone's waiters] --the zone's data may be others: hint, or found by a check--> wake
 *              |  [its deadline]  --------------------------------------------------------> wake
 *              `--unpark
 *
 * Whoever is woken asks for the token again, and parks again where it is the same: nothing here knows tokens. A
 * change that we make or that vminfod tells comes as a hint. All others are found by a stat of the files of the zones
 * that somebody waits in, never of others: each at least every MAX_CHECK_MS, and every CHECK_MS while they are few. One
 * timer serves all waiters, and exists only while there are some.
 */

import type { DataVersion } from '../lib/data-version';

/** From one check of a zone to the next while few zones are waited for. */
const CHECK_MS = 100;
/** And at most: a change is to be told within a second. */
const MAX_CHECK_MS = 700;
/** Zones checked in a second, above which checks become fewer: one is three stats, about 10 microseconds. */
const CHECKS_PER_SECOND = 1500;
/** Of the timer. */
const TICK_MS = 50;

export interface Waiter {
  /** The data may have changed, or the time is over. */
  wake(): void;
}

/** One that waits. */
export interface ParkedWatch {
  readonly waiter: Waiter;
  readonly zone: WatchedZone;
  readonly slot: number;
}

interface WatchedZone {
  readonly zonename: string;
  readonly waiters: Set<ParkedWatch>;
  /** Null: whoever waits has to be woken at the next check. */
  version: string | null;
  checkedAt: number;
}

/** One serves the process. */
export class Watches {
  private readonly versionAt: (zonename: string) => DataVersion;
  private readonly now: () => number;
  /** In the order of their last checks. */
  private readonly zones = new Map<string, WatchedZone>();
  /** By the number of the tick in which their time is over. */
  private readonly slots = new Map<number, Set<ParkedWatch>>();
  private count = 0;
  private timer: NodeJS.Timeout | null = null;
  private lastSlot = 0;

  /**
   * @param versionAt stats a zone's data @param now a clock in ms that never goes back, of whole waits
   */
  constructor(
    versionAt: (zonename: string) => DataVersion,
    now: () => number = () => performance.now(),
  ) {
    this.versionAt = versionAt;
    this.now = now;
  }

  /** How many wait. */
  get waiting(): number {
    return this.count;
  }

  /** How many wait of one zone. */
  waitingOf(zonename: string): number {
    return this.zones.get(zonename)?.waiters.size ?? 0;
  }

  /** The version of a zone's data, to be asked before the token is made that is waited with. */
  version(zonename: string): DataVersion {
    return this.versionAt(zonename);
  }

  /**
   * Waits until the data may be another than that of `seen`, or until `until`. The waiter is woken once.
   * @param until on the clock
   */
  park(zonename: string, waiter: Waiter, seen: DataVersion, until: number): ParkedWatch {
    let zone = this.zones.get(zonename);
    if (zone === undefined) {
      zone = { zonename, waiters: new Set(), version: seen.text, checkedAt: this.now() };
      this.zones.set(zonename, zone);
    }
    if (zone.version !== seen.text || !seen.settled) {
      zone.version = null;
    }
    const slot = Math.ceil(until / TICK_MS);
    const parked = { waiter, zone, slot };
    zone.waiters.add(parked);
    const due = this.slots.get(slot);
    if (due === undefined) {
      this.slots.set(slot, new Set([parked]));
    } else {
      due.add(parked);
    }
    this.count++;
    this.start();
    return parked;
  }

  /** Does not wait any more. Idempotent. */
  unpark(parked: ParkedWatch): void {
    const { zone, slot } = parked;
    if (!zone.waiters.delete(parked)) {
      return;
    }
    if (zone.waiters.size === 0) {
      this.zones.delete(zone.zonename);
    }
    const due = this.slots.get(slot);
    due?.delete(parked);
    if (due?.size === 0) {
      this.slots.delete(slot);
    }
    this.count--;
    if (this.count === 0) {
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
    const slot = Math.floor(now / TICK_MS);
    // A process that was stopped for long has many slots to make up for, and few of them are used.
    if (slot - this.lastSlot > this.slots.size) {
      for (const due of [...this.slots.keys()].filter((at) => at <= slot)) {
        this.expire(due);
      }
    } else {
      for (let at = this.lastSlot + 1; at <= slot; at++) {
        this.expire(at);
      }
    }
    this.lastSlot = slot;
    const checkMs = Math.min(
      MAX_CHECK_MS,
      Math.max(CHECK_MS, (1000 * this.zones.size) / CHECKS_PER_SECOND),
    );
    for (const zone of this.zones.values()) {
      if (now - zone.checkedAt < checkMs - TICK_MS / 2) {
        break;
      }
      this.check(zone);
    }
  }

  private expire(slot: number): void {
    for (const parked of [...(this.slots.get(slot) ?? [])]) {
      this.unpark(parked);
      parked.waiter.wake();
    }
  }

  private check(zone: WatchedZone): void {
    zone.checkedAt = this.now();
    // To the end of the order.
    this.zones.delete(zone.zonename);
    this.zones.set(zone.zonename, zone);
    const { text, settled } = this.versionAt(zone.zonename);
    const isSame = text === zone.version;
    zone.version = settled ? text : null;
    if (!isSame) {
      for (const parked of [...zone.waiters]) {
        this.unpark(parked);
        parked.waiter.wake();
      }
    }
  }

  private start(): void {
    if (this.timer === null) {
      this.lastSlot = Math.floor(this.now() / TICK_MS) - 1;
      this.timer = setInterval(() => this.tick(), TICK_MS).unref();
    }
  }
}
