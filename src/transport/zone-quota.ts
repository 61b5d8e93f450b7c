/*
 * What the connections of one zone may make us hold.
 *
 *   connection  --fits? waits--> zone quota --fits? waits--> memory quota, one for the process
 *               <--room made---             <--room made---
 *
 * Everything held for a zone is in its account: requests that were read, replies that are being built, and replies that
 * its peers have not read, those in the kernel's buffers included. A large request or reply gets its room in both quotas
 * before it is held. Small ones are always served, so that one greedy program does not take the metadata from its
 * neighbours in the zone. What is bigger than SMALL_BYTES waits for its room:
 *
 *   replies    a large one is built when the zone's replies stay within its limit with it
 *   requests   one connection at a time may read a large line, first come, first served: it has the line slot
 *
 * While the zones together are at the limit, a zone that holds much is not read. Within a zone a connection that others
 * wait for is closed by its own idle check, which asks `hasWaiters` and `lineHasWaiters`.
 */
import type { Stream } from '../platform/stream';
import { SMALL_BYTES, type LinkLimits } from './link';
import { MemoryQuota, type QuotaZone } from './memory-quota';
import { ReplySizes } from './reply-sizes';

/** A zone that holds no more than this is served whatever the others hold: to close its connections gains nothing. */
const MODEST_BYTES = 4 * SMALL_BYTES;

/** What the quota knows of a connection. */
export interface QuotaMember {
  /** Bytes. */
  readonly held: number;
  /** How long its peer has not done anything that it could do, ms. */
  readonly stillMs: number;
  /** There is room for what it waited for, or may be. */
  roomMade(): void;
  /** Counts again what its peer has not read. */
  recount(): void;
  /** Closes it: others need what it holds. */
  evict(): void;
}

/** A connection, as its account knows it. */
export interface AccountOwner {
  /** Bytes of requests that were read and not answered yet. */
  readonly requestBytes: number;
  /** True while its peer can only wait: for its turn, for the handler, or for a reply that is being built. */
  readonly running: boolean;
  roomMade(): void;
  evict(): void;
}

/** What one connection holds, and when its peer last moved. Closed with its connection. */
export class ConnectionAccount implements QuotaMember {
  /** Bytes of replies that are being built or that the peer has not read. */
  replyBytes = 0;
  private requestBytes = 0;
  /** The large reply that is being built. */
  private reservedBytes = 0;
  /** Of large replies: what the kernel took, and the peer had not read when it was counted last. */
  private kernelBytes = 0;
  private undelivered = 0;
  private movedAt: number;
  private closed = false;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly quota: ZoneQuota,
    private readonly stream: Pick<Stream, 'buffered' | 'undelivered'>,
    private readonly owner: AccountOwner,
    private readonly now: () => number,
  ) {
    this.movedAt = now();
  }

  get held(): number {
    return this.replyBytes + this.requestBytes;
  }

  get stillMs(): number {
    return this.owner.running ? 0 : this.now() - this.movedAt;
  }

  /** The peer has sent or read something. */
  moved(now: number): void {
    this.movedAt = now;
  }

  /** A large reply of so many bytes is being built; 0: no longer. */
  reserve(bytes: number): void {
    this.reservedBytes = bytes;
    this.update();
  }

  /** The large reply was written. */
  written(): void {
    this.reservedBytes = 0;
    this.undelivered = this.stream.undelivered;
    this.kernelBytes = Math.max(0, this.undelivered - this.stream.buffered);
    this.movedAt = this.now();
    this.update();
  }

  /** Counts what is held now, after any change. */
  update(): void {
    let replyBytes = 0;
    let requestBytes = 0;
    if (!this.closed) {
      replyBytes = this.reservedBytes + this.stream.buffered + this.kernelBytes;
      requestBytes = this.owner.requestBytes;
    }
    const moreReplies = replyBytes - this.replyBytes;
    const moreRequests = requestBytes - this.requestBytes;
    if (moreReplies !== 0 || moreRequests !== 0) {
      this.replyBytes = replyBytes;
      this.requestBytes = requestBytes;
      this.quota.changed(this, moreReplies, moreRequests);
    }
  }

  recount(): void {
    if (this.replyBytes > 0 && !this.closed) {
      const { undelivered, buffered } = this.stream;
      if (undelivered !== this.undelivered) {
        this.undelivered = undelivered;
        this.movedAt = this.now();
      }
      this.kernelBytes = Math.min(this.kernelBytes, Math.max(0, undelivered - buffered));
      this.update();
    }
  }

  roomMade(): void {
    this.owner.roomMade();
  }

  evict(): void {
    this.owner.evict();
  }

  /** Nothing is held any more. */
  close(): void {
    this.closed = true;
    this.update();
    this.quota.remove(this);
  }
}

/** What one zone's connections hold. Each is a member until it is removed. */
export class ZoneQuota implements QuotaZone {
  /** How large the zone's large replies were when they were built last. */
  readonly sizes = new ReplySizes();
  /** Members that hold something. */
  private readonly holders = new Set<QuotaMember>();
  /** Members that wait to build a large reply, and how large. */
  private readonly waiting = new Map<QuotaMember, number>();
  /** Room that was given to members which have not used it yet. */
  private readonly granted = new Map<QuotaMember, number>();
  /** Members that are not read until others hold less. */
  private readonly unread = new Set<QuotaMember>();
  /** The first one has the line slot, the others wait for it. */
  private readonly lineSlots = new Set<QuotaMember>();
  /** What the line slot has reserved. */
  private lineBytes = 0;
  private replies = 0;
  private total = 0;

  /** @param limits may change while it is used @param memory of the process; its own when left out */
  constructor(
    private readonly limits: Pick<LinkLimits, 'replyBytes' | 'lineBytes'>,
    private readonly memory: MemoryQuota = new MemoryQuota(),
  ) {}

  /** Bytes of replies that are being built or that no peer has read yet, over all connections. */
  get replyBytes(): number {
    return this.replies;
  }

  get heldBytes(): number {
    return this.total;
  }

  get wantedBytes(): number {
    const [wanted] = this.waiting.values();
    return wanted ?? (this.lineWaits ? this.slotBytes : 0);
  }

  /** True: a member waits for others to read their replies. */
  get hasWaiters(): boolean {
    return this.waiting.size > 0;
  }

  /** True: a member waits for the line slot. */
  get lineHasWaiters(): boolean {
    return this.lineSlots.size > 1;
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
   * Whether a large reply of so many bytes may be built now; then it must be in the account when the caller
   * returns. Else the member's `roomMade` is called when it may. `isNew`: it did not wait already.
   */
  reply(member: QuotaMember, bytes: number): { readonly fits: boolean; readonly isNew: boolean } {
    const room = this.revoke(member);
    if (bytes <= room || (this.waiting.size === 0 && this.hasRoomAfterRecount(bytes))) {
      return { fits: true, isNew: false };
    }
    const isNew = !this.waiting.has(member);
    this.waiting.set(member, bytes);
    this.memory.wait(this);
    return { fits: false, isNew };
  }

  /** Reserves the room that `reply` found while the reply is fetched, until the member asks again. */
  keep(member: QuotaMember, bytes: number): void {
    this.granted.set(member, bytes);
    this.add(bytes, 0);
  }

  /** Gives back what `keep` reserved. */
  release(member: QuotaMember): void {
    if (this.revoke(member) > 0) {
      this.wake();
    }
  }

  /** Whether a member may be read. False: its `roomMade` is called when it may. */
  mayRead(member: QuotaMember): boolean {
    if (!this.memory.full || this.total <= MODEST_BYTES) {
      return true;
    }
    this.unread.add(member);
    this.memory.wait(this);
    return false;
  }

  /** Whether `member` may read a large line now. False: its `roomMade` is called when it may. */
  takeLineSlot(member: QuotaMember): boolean {
    this.lineSlots.add(member);
    if (this.lineWaits && this.lineSlots.values().next().value === member) {
      this.reserveLine();
    }
    return this.hasLineSlot(member);
  }

  hasLineSlot(member: QuotaMember): boolean {
    const [first] = this.lineSlots;
    return first === member && this.lineBytes > 0;
  }

  /** `member` no longer holds a large line. */
  releaseLineSlot(member: QuotaMember): void {
    if (this.lineSlots.size === 0) {
      return;
    }
    const [first] = this.lineSlots;
    this.lineSlots.delete(member);
    if (first === member) {
      this.add(0, -this.lineBytes);
      this.lineBytes = 0;
      this.offerLine();
    }
  }

  /** `member` is closed. */
  remove(member: QuotaMember): void {
    this.waiting.delete(member);
    this.unread.delete(member);
    this.releaseLineSlot(member);
    this.release(member);
  }

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

  evict(stillMs: number, bytes: number): number {
    let freed = 0;
    if (this.total <= MODEST_BYTES) {
      return freed;
    }
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
    return this.lineSlots.size > 0 && this.lineBytes === 0;
  }

  /** A line is in the account as it is read; its decoded parts are twice as much. */
  private get slotBytes(): number {
    return 2 * this.limits.lineBytes;
  }

  private reserveLine(): void {
    if (this.memory.fits(this.slotBytes)) {
      this.lineBytes = this.slotBytes;
      this.add(0, this.lineBytes);
    } else {
      this.memory.wait(this);
    }
  }

  private offerLine(): void {
    if (this.lineWaits) {
      this.reserveLine();
      const [first] = this.lineSlots;
      if (this.lineBytes > 0) {
        first?.roomMade();
      }
    }
  }

  private hasRoom(bytes: number): boolean {
    const fits = this.replies === 0 || this.replies + bytes <= this.limits.replyBytes;
    return fits && this.memory.fits(bytes);
  }

  private hasRoomAfterRecount(bytes: number): boolean {
    if (this.hasRoom(bytes)) {
      return true;
    }
    this.recount();
    return this.hasRoom(bytes);
  }

  private revoke(member: QuotaMember): number {
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
