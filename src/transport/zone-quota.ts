/*
 * What the connections of a zone, and those of all zones together, may make us hold.
 *
 *   connection  --fits? waits--> zone quota --fits? waits--> memory quota, one for the process
 *               <--room made---             <--room made---
 *
 * Whatever is held for a zone is in its account: requests that were read, replies that are being made,
 * and replies that its peers have not read, those that the kernel holds included. What is large has its
 * room in both accounts before it is made. Small things always go on, so that one greedy program does not
 * take the metadata from its neighbours in the zone. What is bigger than SMALL_BYTES waits for its room:
 *
 *   replies    a large one is made when the zone's replies stay within its limit with it
 *   requests   one connection at a time may collect a large line, first come, first served
 *
 * Where the zones together are at the limit, a zone that holds much is not read, and who stands in the
 * way is closed: of the zone that holds most the connections whose peers have not moved for a while.
 * Within a zone that is up to each connection's own idle check, which asks `hasWaiters` and
 * `lineHasWaiters`.
 */

import type { DataRequest } from '../protocol/request';
import { SMALL_BYTES, type LinkLimits } from './limits';

/** How often those who wait are looked after, while there are any. */
const TICK_MS = 20;
/** A peer that has read nothing for so long is in the way when others need the memory. */
const STILL_MS = 250;
/** A zone that holds no more than this is served whatever the others hold. */
const MODEST_BYTES = 4 * SMALL_BYTES;

export interface QuotaMember {
  /** What it holds, bytes. */
  readonly held: number;
  /** How long nothing has moved that its peer could move, ms. */
  readonly stillMs: number;
  /** There is room for what it waited for, or may be. */
  roomMade(): void;
  /** Counts again what its peer has not read. */
  recount(): void;
  /** Closes it: others need what it holds. */
  evict(): void;
}

/** What all zones hold. One serves the process. */
export class MemoryQuota {
  private readonly limit: () => number;
  private readonly holders = new Set<ZoneQuota>();
  private readonly waiting = new Set<ZoneQuota>();
  private used = 0;
  private timer: NodeJS.Timeout | null = null;

  /** @param limit bytes; asked for each time, since the configuration can change */
  constructor(limit: () => number = () => Infinity) {
    this.limit = limit;
  }

  get usedBytes(): number {
    return this.used;
  }

  get full(): boolean {
    return this.used >= this.limit();
  }

  /** What is larger than all of it may still be alone. */
  fits(bytes: number): boolean {
    return this.used === 0 || this.used + bytes <= this.limit();
  }

  changed(zone: ZoneQuota, bytes: number): void {
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

  /** The zone is looked after until it says that it does not wait. */
  wait(zone: ZoneQuota): void {
    this.waiting.add(zone);
    this.startTimer();
  }

  /** Looks after those who wait. Exposed for tests; the timer calls it. */
  tick(): void {
    for (const zone of [...this.holders]) {
      zone.recount();
    }
    if (this.full || this.waiting.size > 0) {
      this.relieve();
    }
    // Who holds least is served first.
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

  /** Closes what is in the way, in the zones that hold more than those who wait. */
  private relieve(): void {
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
      excess -= zone.evict(STILL_MS, excess);
    }
  }

  private startTimer(): void {
    this.timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }
}

/** Large replies of a zone whose size is remembered: their values are 4 MiB together, of 16 KiB at least. */
const MAX_SIZES = 256;
/** A longer key cannot be put any more. */
const MAX_KEY_CHARS = 1024;

/**
 * How large the replies to KEYS and to single GETs were: one for which there is no room is not asked for again,
 * since a long value is read from its file each time. What changed meanwhile is found out when it is asked for.
 */
export class ReplySizes {
  private readonly bytes = new Map<string, number>();

  /** @returns bytes; 0 where the reply was small, or is not known */
  of(request: DataRequest): number {
    return this.bytes.size === 0 ? 0 : (this.bytes.get(labelOf(request)) ?? 0);
  }

  note(request: DataRequest, bytes: number): void {
    // Of all metadata that it is small has to be known too: as long as it is not, it may be the most there can be.
    if (bytes <= SMALL_BYTES && request.kind !== 'getall') {
      if (this.bytes.size > 0) {
        this.bytes.delete(labelOf(request));
      }
      return;
    }
    const name = labelOf(request);
    if (name.length <= MAX_KEY_CHARS) {
      this.bytes.set(name, bytes);
    }
    const [oldest] = this.bytes.keys();
    if (this.bytes.size > MAX_SIZES && oldest !== undefined) {
      this.bytes.delete(oldest);
    }
  }
}

function labelOf(request: DataRequest): string {
  return 'key' in request ? `${request.kind} ${request.key}` : request.kind.toUpperCase();
}

/** What one zone's connections hold. They are its members until they leave. */
export class ZoneQuota {
  /** What the zone's large replies took when they were made last. */
  readonly sizes = new ReplySizes();
  private readonly limits: Pick<LinkLimits, 'unsentBytes' | 'lineBytes'>;
  private readonly memory: MemoryQuota;
  /** Members that hold something. */
  private readonly holders = new Set<QuotaMember>();
  /** Members that wait to make a large reply, and how large. */
  private readonly waiting = new Map<QuotaMember, number>();
  /** Room that was given to members which have not used it yet. */
  private readonly granted = new Map<QuotaMember, number>();
  /** Members that are not read until others hold less. */
  private readonly unread = new Set<QuotaMember>();
  /** The first one collects a large line, the others wait for it. */
  private readonly collectors = new Set<QuotaMember>();
  /** What was taken from the memory for the line that is collected. */
  private lineBytes = 0;
  private replies = 0;
  private total = 0;

  /** @param limits may change while it is used @param memory of the process; its own when left out */
  constructor(
    limits: Pick<LinkLimits, 'unsentBytes' | 'lineBytes'>,
    memory: MemoryQuota = new MemoryQuota(),
  ) {
    this.limits = limits;
    this.memory = memory;
  }

  /** Bytes of replies that are being made or that nobody has read yet, over all connections. */
  get replyBytes(): number {
    return this.replies;
  }

  get heldBytes(): number {
    return this.total;
  }

  /** What the first one that waits needs; 0 where nobody does. */
  get wantedBytes(): number {
    const [wanted] = this.waiting.values();
    return wanted ?? (this.lineWaits ? this.lineRoom : 0);
  }

  /** True: someone waits for others to read their replies. */
  get hasWaiters(): boolean {
    return this.waiting.size > 0;
  }

  /** True: someone waits to collect a large line. */
  get lineHasWaiters(): boolean {
    return this.collectors.size > 1;
  }

  /** A member holds more or less than before. */
  changed(member: QuotaMember, replies: number, requests: number): void {
    if (member.held > 0) {
      this.holders.add(member);
    } else {
      this.holders.delete(member);
    }
    this.add(replies, requests);
    if (replies < 0 && this.waiting.size > 0) {
      this.wake();
    }
  }

  /**
   * Whether a large reply of so many bytes may be made now; then it must be in the account when the
   * caller returns. Else the member is told when it may. `isNew`: it did not wait already.
   */
  reply(member: QuotaMember, bytes: number): { readonly fits: boolean; readonly isNew: boolean } {
    const room = this.takeBack(member);
    if (bytes <= room || (this.waiting.size === 0 && this.hasRoomAfterRecount(bytes))) {
      return { fits: true, isNew: false };
    }
    const isNew = !this.waiting.has(member);
    this.waiting.set(member, bytes);
    this.memory.wait(this);
    return { fits: false, isNew };
  }

  /** Room that `reply` found for a member stays its own while the reply is fetched, until it asks again. */
  keep(member: QuotaMember, bytes: number): void {
    this.granted.set(member, bytes);
    this.add(bytes, 0);
  }

  /** The reply needs no such room after all. */
  release(member: QuotaMember): void {
    if (this.takeBack(member) > 0) {
      this.wake();
    }
  }

  /** Whether a member may be read. False: it is told when it may. */
  mayRead(member: QuotaMember): boolean {
    if (!this.memory.full || this.total <= MODEST_BYTES) {
      return true;
    }
    this.unread.add(member);
    this.memory.wait(this);
    return false;
  }

  /** True: `member` may collect a large line now. False: it is told when it may. */
  collect(member: QuotaMember): boolean {
    this.collectors.add(member);
    if (this.lineWaits && this.collectors.values().next().value === member) {
      this.takeLine();
    }
    return this.isCollector(member);
  }

  isCollector(member: QuotaMember): boolean {
    const [first] = this.collectors;
    return first === member && this.lineBytes > 0;
  }

  /** `member` holds nothing large any more. */
  collected(member: QuotaMember): void {
    if (this.collectors.size === 0) {
      return;
    }
    const [first] = this.collectors;
    this.collectors.delete(member);
    if (first === member) {
      this.add(0, -this.lineBytes);
      this.lineBytes = 0;
      this.offerLine();
    }
  }

  /** `member` is gone. */
  leave(member: QuotaMember): void {
    this.waiting.delete(member);
    this.unread.delete(member);
    this.collected(member);
    this.release(member);
  }

  /** Gives room to those who wait, as long as there is some. @returns whether somebody still waits */
  wake(): boolean {
    for (const [member, bytes] of [...this.waiting]) {
      if (!this.hasRoom(bytes)) {
        break;
      }
      this.waiting.delete(member);
      this.granted.set(member, bytes);
      this.add(bytes, 0);
      member.roomMade();
    }
    this.offerLine();
    if (this.unread.size > 0 && (!this.memory.full || this.total <= MODEST_BYTES)) {
      const readable = [...this.unread];
      this.unread.clear();
      readable.forEach((member) => member.roomMade());
    }
    return this.waiting.size > 0 || this.unread.size > 0 || this.lineWaits;
  }

  recount(): void {
    for (const member of [...this.holders]) {
      member.recount();
    }
  }

  /** Closes those that have not moved for `stillMs`. @returns what they held, about `bytes` or all */
  evict(stillMs: number, bytes: number): number {
    let freed = 0;
    for (const member of [...this.holders].sort((a, b) => b.held - a.held)) {
      if (freed >= bytes) {
        break;
      }
      if (member.stillMs >= stillMs) {
        freed += member.held;
        member.evict();
      }
    }
    return freed;
  }

  private get lineWaits(): boolean {
    return this.collectors.size > 0 && this.lineBytes === 0;
  }

  /** A line is in the account as it comes; its decoded parts are twice as much. */
  private get lineRoom(): number {
    return 2 * this.limits.lineBytes;
  }

  private takeLine(): void {
    if (this.memory.fits(this.lineRoom)) {
      this.lineBytes = this.lineRoom;
      this.add(0, this.lineBytes);
    } else {
      this.memory.wait(this);
    }
  }

  private offerLine(): void {
    if (this.lineWaits) {
      this.takeLine();
      const [first] = this.collectors;
      if (this.lineBytes > 0) {
        first?.roomMade();
      }
    }
  }

  private hasRoom(bytes: number): boolean {
    const fits = this.replies === 0 || this.replies + bytes <= this.limits.unsentBytes;
    return fits && this.memory.fits(bytes);
  }

  private hasRoomAfterRecount(bytes: number): boolean {
    if (this.hasRoom(bytes)) {
      return true;
    }
    this.recount();
    return this.hasRoom(bytes);
  }

  private takeBack(member: QuotaMember): number {
    const bytes = this.granted.get(member) ?? 0;
    if (bytes > 0) {
      this.granted.delete(member);
      this.add(-bytes, 0);
    }
    return bytes;
  }

  private add(replies: number, requests: number): void {
    this.replies += replies;
    this.total += replies + requests;
    this.memory.changed(this, replies + requests);
  }
}
