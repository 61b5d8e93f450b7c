/*
 * What the connections of one zone share: the memory that they may make us hold.
 *
 * Small things always go on, so that one greedy program does not take the metadata from its neighbours
 * in the zone. What is bigger than SMALL_BYTES waits for its room:
 *
 *   replies    a big one is made when the zone's unsent octets are below the limit
 *   requests   one connection at a time may collect a big line, first come, first served
 *
 * Who waits is called when there is room. Who stands in the way without moving is closed by its own
 * connection's sweep, which asks `crowded` and `coveted`.
 */

import type { LinkLimits } from './limits';

export interface QuotaMember {
  /** There may be room now: look again. */
  roomMade(): void;
}

/** One for each zone; its connections are its sharers until they leave. */
export class ZoneQuota {
  private readonly limits: Pick<LinkLimits, 'unsentBytes'>;
  private readonly forRoom = new Set<QuotaMember>();
  /** The first one collects a big line, the others wait for it. */
  private readonly collectors = new Set<QuotaMember>();
  private unsent = 0;

  /** @param limits may change while it is used */
  constructor(limits: Pick<LinkLimits, 'unsentBytes'>) {
    this.limits = limits;
  }

  /** Octets of replies that no kernel has taken yet, over all connections. */
  get unsentBytes(): number {
    return this.unsent;
  }

  /** True: a big reply must wait. */
  get full(): boolean {
    return this.unsent >= this.limits.unsentBytes;
  }

  /** True: someone waits for others to read their replies. */
  get crowded(): boolean {
    return this.forRoom.size > 0;
  }

  /** True: someone waits to collect a big line. */
  get coveted(): boolean {
    return this.collectors.size > 1;
  }

  /** @param bytes by how much a connection's unsent octets changed; may be negative */
  unsentChanged(bytes: number): void {
    this.unsent += bytes;
    if (bytes < 0 && this.forRoom.size > 0 && !this.full) {
      const waiting = [...this.forRoom];
      this.forRoom.clear();
      for (const sharer of waiting) {
        sharer.roomMade();
      }
    }
  }

  /** Is called when the zone is below its limit again. @returns whether it did not wait already */
  waitForRoom(sharer: QuotaMember): boolean {
    const waits = this.forRoom.has(sharer);
    this.forRoom.add(sharer);
    return !waits;
  }

  /** True: `sharer` may collect a big line now. False: it is called when it may. */
  collect(sharer: QuotaMember): boolean {
    this.collectors.add(sharer);
    return this.isCollector(sharer);
  }

  isCollector(sharer: QuotaMember): boolean {
    const [first] = this.collectors;
    return first === sharer;
  }

  /** `sharer` holds nothing big any more. */
  collected(sharer: QuotaMember): void {
    if (this.collectors.size === 0) {
      return;
    }
    const was = this.isCollector(sharer);
    if (this.collectors.delete(sharer) && was) {
      const [next] = this.collectors;
      next?.roomMade();
    }
  }

  /** `sharer` is gone. */
  leave(sharer: QuotaMember): void {
    this.forRoom.delete(sharer);
    this.collected(sharer);
  }
}
