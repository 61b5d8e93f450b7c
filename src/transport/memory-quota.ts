/*
 * What the connections of all zones together may make us hold. One MemoryQuota serves the process.
 *
 * Zones' quotas (zone-quota.ts) report what they hold and ask here before they hold more. While the zones together are
 * at the limit, or a zone waits for room, a timer makes room: it closes connections of the zones that hold most, where
 * their peers have not moved for a while, and then serves the waiting zones, the one that holds least first.
 */

/** How often waiting zones are served, while there are any. */
const TICK_MS = 20;
/** A peer that has read nothing for so long is closed when others need the memory. */
const STALLED_MS = 250;

/** What a zone shows of its quota. */
export interface QuotaZone {
  readonly heldBytes: number;
  /** What the first waiting connection needs; 0 where none waits. */
  readonly wantedBytes: number;
  /** Counts again what peers have not read. */
  recount(): void;
  /** Gives room to waiting connections, as long as there is some. @returns whether one still waits */
  wake(): boolean;
  /** Closes connections that have not moved for `stillMs`. @returns what they held, about `bytes` or all */
  evict(stillMs: number, bytes: number): number;
}

export class MemoryQuota {
  private readonly holders = new Set<QuotaZone>();
  private readonly waiting = new Set<QuotaZone>();
  private used = 0;
  private timer: NodeJS.Timeout | null = null;

  /** @param limit bytes; asked for each time, since the configuration can change */
  constructor(private readonly limit: () => number = () => Infinity) {}

  get usedBytes(): number {
    return this.used;
  }

  get full(): boolean {
    return this.used >= this.limit();
  }

  /** What is larger than the whole limit fits while nothing else is held. */
  fits(bytes: number): boolean {
    return this.used === 0 || this.used + bytes <= this.limit();
  }

  /** The zone holds so many bytes more, or less. */
  changed(zone: QuotaZone, bytes: number): void {
    this.used += bytes;
    if (zone.heldBytes > 0) {
      this.holders.add(zone);
    } else {
      this.holders.delete(zone);
    }
    if (this.full) {
      this.startTimer();
    }
  }

  /** The zone is woken until it no longer waits. */
  wait(zone: QuotaZone): void {
    this.waiting.add(zone);
    this.startTimer();
  }

  /** Makes room and serves waiting zones. Exposed for tests; the timer calls it. */
  tick(): void {
    for (const zone of [...this.holders]) {
      zone.recount();
    }
    if (this.full || this.waiting.size > 0) {
      this.makeRoom();
    }
    for (const zone of [...this.waiting].sort((a, b) => a.heldBytes - b.heldBytes)) {
      if (!zone.wake()) {
        this.waiting.delete(zone);
      }
    }
    if (this.waiting.size === 0 && !this.full) {
      clearInterval(this.timer ?? undefined);
      this.timer = null;
    }
  }

  /** Closes stalled connections, in zones that hold more than those that wait. */
  private makeRoom(): void {
    let least = Infinity;
    let wanted = 0;
    for (const zone of this.waiting) {
      if (zone.wantedBytes > 0 && zone.heldBytes < least) {
        least = zone.heldBytes;
        wanted = zone.wantedBytes;
      }
    }
    let excess = this.used + wanted - this.limit();
    for (const zone of [...this.holders].sort((a, b) => b.heldBytes - a.heldBytes)) {
      if (excess <= 0 || (!this.full && zone.heldBytes <= least)) {
        return;
      }
      excess -= zone.evict(STALLED_MS, excess);
    }
  }

  private startTimer(): void {
    this.timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }
}
