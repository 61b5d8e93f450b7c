/* A member of a zone's quota that holds what a test says. */
import type { QuotaMember, ZoneQuota } from '../../src/transport/zone-quota';

export const KIB = 1024;
export const LIMITS = { replyBytes: 100 * KIB, lineBytes: 100 * KIB };

export class Member implements QuotaMember {
  held = 0;
  stillMs = 0;
  rooms = 0;
  evicted = false;
  private readonly zone: ZoneQuota;

  constructor(zone: ZoneQuota) {
    this.zone = zone;
  }

  add(bytes: number): void {
    this.held += bytes;
    this.zone.changed(this, bytes, 0);
  }

  roomMade(): void {
    this.rooms++;
  }

  recount(): void {
    // What it holds is exact.
  }

  evict(): void {
    this.evicted = true;
    this.add(-this.held);
    this.zone.remove(this);
  }
}
