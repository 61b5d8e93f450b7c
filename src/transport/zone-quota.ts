/*
 * What connections may make us hold: the account of each, the quota of its zone, and that of the process.
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
 * Within a zone a connection that others wait for is closed by its own idle check, which asks `hasWaiters` and
 * `lineHasWaiters`. While the zones together are at the limit, a zone that holds much is not read. Then, and while a zone
 * waits, a timer makes room: it closes connections of the zones that hold most, where their peers have not moved for a
 * while, and serves the waiting zones, the one that holds least first.
 */
import type { Stream } from '../platform/stream';
import { SMALL_BYTES, type LinkLimits } from './link';
import { ReplySizes } from './reply-sizes';

/** A zone that holds no more than this is served whatever the others hold: to close its connections gains nothing. */
const MODEST_BYTES = 4 * SMALL_BYTES;
/** How often waiting zones are served, while there are any. */
const TICK_MS = 20;
/** A peer that has read nothing for so long is closed when others need the memory. */
const STALLED_MS = 250;

/** A connection, as its account knows it. */
export interface AccountOwner {
  /** Bytes of requests that were read and not answered yet. */
  readonly requestBytes: number;
  /** True while its peer can only wait: for its turn, for the handler, or for a reply that is being built. */
  readonly running: boolean;
  /** There is room for what it waited for, or may be. */
  proceed(): void;
  /** Closes it: others need what it holds. */
  evict(): void;
}

/** What one connection holds, and when its peer last moved. Closed with its connection. */
export class ConnectionAccount {
  /** Bytes of replies that are being built or that the peer has not read. */
  replyBytes = 0;
  /** Of them: room for a large reply that is fetched or built. */
  reservedBytes = 0;
  private requestBytes = 0;
  /** Of large replies: what the kernel took, and the peer had not read when it was counted last. */
  private kernelBytes = 0;
  private undelivered = 0;
  private movedAt: number;
  private closed = false;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly quota: ZoneQuota,
    private readonly stream: Pick<Stream, 'buffered' | 'undelivered'>,
    readonly owner: AccountOwner,
    private readonly now: () => number,
  ) {
    this.movedAt = now();
  }

  get held(): number {
    return this.replyBytes + this.requestBytes;
  }

  /** How long its peer has not done anything that it could do, ms. */
  get stillMs(): number {
    return this.owner.running ? 0 : this.now() - this.movedAt;
  }

  /** The peer has sent or read something. */
  moved(now: number): void {
    this.movedAt = now;
  }

  /** Room for a large reply, before it is fetched or built; 0: no longer. */
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
    const { closed, reservedBytes, stream, kernelBytes, owner } = this;
    const replyBytes = closed ? 0 : reservedBytes + stream.buffered + kernelBytes;
    const requestBytes = closed ? 0 : owner.requestBytes;
    const moreReplies = replyBytes - this.replyBytes;
    const moreRequests = requestBytes - this.requestBytes;
    if (moreReplies !== 0 || moreRequests !== 0) {
      this.replyBytes = replyBytes;
      this.requestBytes = requestBytes;
      this.quota.changed(this, moreReplies, moreRequests);
    }
  }

  /** Counts again what its peer has not read. */
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

  /** Nothing is held any more. */
  close(): void {
    this.closed = true;
    this.quota.remove(this);
    this.update();
  }
}

/** What one zone's connections hold. */
export class ZoneQuota {
  /** How large the zone's large replies were when they were built last. */
  readonly sizes = new ReplySizes();
  /** Bytes of replies that are being built or that no peer has read yet, over all connections. */
  replyBytes = 0;
  /** Bytes in all. */
  heldBytes = 0;
  /** Accounts that hold something. */
  private readonly holders = new Set<ConnectionAccount>();
  /** Those that wait to build a large reply, and how large. */
  private readonly waiting = new Map<ConnectionAccount, number>();
  /** Those that are not read until others hold less. */
  private readonly unread = new Set<ConnectionAccount>();
  /** The first one has the line slot, the others wait for it. */
  private readonly lineSlots = new Set<ConnectionAccount>();
  /** What the line slot has reserved. */
  private lineBytes = 0;

  /** @param limits may change while it is used @param memory of the process; its own when left out */
  constructor(
    private readonly limits: Pick<LinkLimits, 'replyBytes' | 'lineBytes'>,
    private readonly memory: MemoryQuota = new MemoryQuota(),
  ) {}

  /** What the first that waits needs, bytes; 0 where none waits. */
  get wantedBytes(): number {
    const [wanted] = this.waiting.values();
    return wanted ?? (this.lineWaits ? this.slotBytes : 0);
  }

  /** True: one waits for others to read their replies. */
  get hasWaiters(): boolean {
    return this.waiting.size > 0;
  }

  /** True: one waits for the line slot. */
  get lineHasWaiters(): boolean {
    return this.lineSlots.size > 1;
  }

  /** An account holds more or less than before. */
  changed(account: ConnectionAccount, replies: number, requests: number): void {
    if (account.held > 0) {
      this.holders.add(account);
    } else {
      this.holders.delete(account);
    }
    this.add(replies, requests);
    if (replies < 0 && this.waiting.size > 0) {
      this.wake();
    }
  }

  /**
   * Whether a large reply of so many bytes may be fetched or built now; then it must be in the account when the caller
   * returns. Else `proceed` is called when it may, and the room is reserved. `isNew`: it did not wait already.
   */
  reply(
    account: ConnectionAccount,
    bytes: number,
  ): { readonly fits: boolean; readonly isNew: boolean } {
    if (bytes <= account.reservedBytes) {
      return { fits: true, isNew: false };
    }
    const isNew = !this.waiting.has(account);
    this.cancel(account);
    if (this.waiting.size === 0 && !this.hasRoom(bytes)) {
      this.recount();
    }
    if (this.waiting.size === 0 && this.hasRoom(bytes)) {
      return { fits: true, isNew: false };
    }
    this.waiting.set(account, bytes);
    this.memory.wait(this);
    return { fits: false, isNew };
  }

  /** No large reply is fetched, built or waited for any more. */
  cancel(account: ConnectionAccount): void {
    this.waiting.delete(account);
    account.reserve(0);
  }

  /** Whether a connection may be read. False: its `proceed` is called when it may. */
  mayRead(account: ConnectionAccount): boolean {
    if (this.hasReadRoom) {
      return true;
    }
    this.unread.add(account);
    this.memory.wait(this);
    return false;
  }

  /** Whether a large line may be read now. False: `proceed` is called when it may. */
  takeLineSlot(account: ConnectionAccount): boolean {
    this.lineSlots.add(account);
    const [first] = this.lineSlots;
    return first === account && this.reserveLine();
  }

  hasLineSlot(account: ConnectionAccount): boolean {
    const [first] = this.lineSlots;
    return first === account && this.lineBytes > 0;
  }

  /** It no longer holds a large line. */
  releaseLineSlot(account: ConnectionAccount): void {
    if (this.lineSlots.size === 0) {
      return;
    }
    const [first] = this.lineSlots;
    this.lineSlots.delete(account);
    if (first === account) {
      this.add(0, -this.lineBytes);
      this.lineBytes = 0;
      this.offerLine();
    }
  }

  /** Its connection is closed. */
  remove(account: ConnectionAccount): void {
    this.waiting.delete(account);
    this.unread.delete(account);
    this.releaseLineSlot(account);
  }

  /** Gives room to those that wait, as long as there is some. @returns whether one still waits */
  wake(): boolean {
    for (const account of [...this.waiting.keys()]) {
      // One that was served before may have served others.
      const bytes = this.waiting.get(account);
      if (bytes === undefined) {
        continue;
      }
      if (!this.hasRoom(bytes)) {
        break;
      }
      this.waiting.delete(account);
      account.reserve(bytes);
      account.owner.proceed();
    }
    this.offerLine();
    if (this.unread.size > 0 && this.hasReadRoom) {
      const readable = [...this.unread];
      this.unread.clear();
      readable.forEach(({ owner }) => owner.proceed());
    }
    return this.waiting.size > 0 || this.unread.size > 0 || this.lineWaits;
  }

  /** Counts again what peers have not read. */
  recount(): void {
    for (const account of [...this.holders]) {
      account.recount();
    }
  }

  /** Closes connections that have not moved for `stillMs`. @returns what they held, about `bytes` or all */
  evict(stillMs: number, bytes: number): number {
    const isModest = this.heldBytes <= MODEST_BYTES;
    let freed = 0;
    for (const account of isModest ? [] : [...this.holders].sort((a, b) => b.held - a.held)) {
      if (freed < bytes && account.stillMs >= stillMs) {
        freed += account.held;
        account.owner.evict();
      }
    }
    return freed;
  }

  private get hasReadRoom(): boolean {
    return !this.memory.full || this.heldBytes <= MODEST_BYTES;
  }

  private get lineWaits(): boolean {
    return this.lineSlots.size > 0 && this.lineBytes === 0;
  }

  /** A line is in the account as it is read; its decoded parts are twice as much. */
  private get slotBytes(): number {
    return 2 * this.limits.lineBytes;
  }

  /** @returns whether the line slot has its room */
  private reserveLine(): boolean {
    if (this.lineBytes === 0 && this.memory.fits(this.slotBytes)) {
      this.lineBytes = this.slotBytes;
      this.add(0, this.lineBytes);
    } else if (this.lineBytes === 0) {
      this.memory.wait(this);
    }
    return this.lineBytes > 0;
  }

  private offerLine(): void {
    const [first] = this.lineSlots;
    if (this.lineWaits && this.reserveLine()) {
      first?.owner.proceed();
    }
  }

  private hasRoom(bytes: number): boolean {
    const fits = this.replyBytes === 0 || this.replyBytes + bytes <= this.limits.replyBytes;
    return fits && this.memory.fits(bytes);
  }

  private add(replies: number, requests: number): void {
    this.replyBytes += replies;
    this.heldBytes += replies + requests;
    this.memory.changed(this, replies + requests);
  }
}

/** What the connections of all zones hold. One serves the process. */
export class MemoryQuota {
  private readonly holders = new Set<ZoneQuota>();
  private readonly waiting = new Set<ZoneQuota>();
  private used = 0;
  private timer: NodeJS.Timeout | null = null;

  /** @param limit bytes; asked for each time, since the configuration can change */
  constructor(private readonly limit: () => number = () => Infinity) {}

  get full(): boolean {
    return this.used >= this.limit();
  }

  /** What is larger than the whole limit fits while nothing else is held. */
  fits(bytes: number): boolean {
    return this.used === 0 || this.used + bytes <= this.limit();
  }

  /** The zone holds so many bytes more, or less. */
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

  /** The zone is woken until it no longer waits. */
  wait(zone: ZoneQuota): void {
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
