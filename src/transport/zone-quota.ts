/*
 * What connections may make us hold: the account of each, the quota of its zone, and that of the process.
 *
 * Everything held for a zone is in its account: requests that were read, replies that are being built, and replies that
 * its peers have not read, those in the kernel's buffers included. Small ones are always served, so that one greedy
 * program does not take the metadata from its neighbours in the zone. What is bigger than SMALL_BYTES waits, first come,
 * first served, until its room is reserved in both quotas:
 *
 *   replies    a large one is built when the zone's replies stay within its limit with it
 *   requests   one connection of a zone at a time reads a large line: it has the line slot
 *
 * Within a zone a connection that others wait for is closed by its own idle check. While the zones together are at the
 * limit, a zone that holds much is not read. Then, and while a zone waits, a timer makes room: it closes connections of
 * the zones that hold most, where their peers have not moved for a while, and serves the waiting zones.
 */
import type { Stream } from '../platform/stream';
import type { DataRequest } from '../protocol/request';
import { SMALL_BYTES, type LinkLimits } from './link';

/** A zone that holds no more than this is served whatever the others hold: to close its connections gains nothing. */
const MODEST_BYTES = 4 * SMALL_BYTES;
/** How often waiting zones are served, while there are any. */
const TICK_MS = 20;
/** A peer that has read nothing for so long is closed when others need the memory. */
const STALLED_MS = 250;

/** Large replies of a zone whose size is remembered: their values are 4 MiB together, of 16 KiB at least. */
const MAX_SIZES = 256;

/** A connection, as its account knows it. */
export interface AccountOwner {
  /** Bytes of requests that were read and not answered yet. */
  readonly requestBytes: number;
  /** True while its peer can only wait: for its turn, for the handler, or for a reply that is being built. */
  readonly running: boolean;
  /** There is room for what it waited for. */
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
  /** Room for a large line, besides the bytes of it that were read. */
  private lineBytes = 0;
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

  /** Room for a large reply; 0: no longer. The quota reserves it. */
  reserve(bytes: number): void {
    this.reservedBytes = bytes;
    this.update();
  }

  /** Room for a large line; 0: no longer. The quota reserves it. */
  reserveLine(bytes: number): void {
    this.lineBytes = bytes;
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
    const { closed, reservedBytes, stream, kernelBytes, lineBytes, owner } = this;
    const replyBytes = closed ? 0 : reservedBytes + stream.buffered + kernelBytes;
    const requestBytes = closed ? 0 : lineBytes + owner.requestBytes;
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

/** The connections of a zone that wait for room of one kind, in their order, and how much each needs, bytes. */
class WaitList {
  private readonly waiting = new Map<ConnectionAccount, number>();

  constructor(
    private readonly fits: (bytes: number) => boolean,
    private readonly reserve: (account: ConnectionAccount, bytes: number) => void,
  ) {}

  get size(): number {
    return this.waiting.size;
  }

  /** What the first needs; 0 where none waits. */
  get wantedBytes(): number {
    const [wanted = 0] = this.waiting.values();
    return wanted;
  }

  /** Reserves the room. False: it waits. */
  take(account: ConnectionAccount, bytes: number): boolean {
    if (this.waiting.size === 0 && this.fits(bytes)) {
      this.reserve(account, bytes);
      return true;
    }
    this.waiting.set(account, bytes);
    return false;
  }

  remove(account: ConnectionAccount): void {
    this.waiting.delete(account);
  }

  wake(): void {
    for (const account of [...this.waiting.keys()]) {
      const bytes = this.waiting.get(account);
      // Not there any more: one that was served before has served it.
      if (bytes !== undefined) {
        if (!this.fits(bytes)) {
          return;
        }
        this.waiting.delete(account);
        this.reserve(account, bytes);
        account.owner.proceed();
      }
    }
  }
}

/** What one zone's connections hold. */
export class ZoneQuota {
  /** Bytes of replies that are being built or that no peer has read yet, over all connections. */
  replyBytes = 0;
  /** Bytes in all. */
  heldBytes = 0;
  /** Accounts that hold something. */
  private readonly holders = new Set<ConnectionAccount>();
  private readonly replies = new WaitList(
    (bytes) => this.hasReplyRoom(bytes),
    (account, bytes) => account.reserve(bytes),
  );
  private readonly lines = new WaitList(
    (bytes) => this.lineHolder === null && this.memory.fits(bytes),
    (account, bytes) => {
      this.lineHolder = account;
      account.reserveLine(bytes);
    },
  );
  private lineHolder: ConnectionAccount | null = null;
  /** Those that are not read while memory is full. */
  private readonly unread = new Set<ConnectionAccount>();
  /** What large replies came to when they were built last, bytes, and what GETALL did, where it was small too. */
  private readonly sizes = new Map<string, number>();

  /** @param limits may change while it is used */
  constructor(
    private readonly limits: Pick<LinkLimits, 'replyBytes' | 'lineBytes'>,
    private readonly memory: MemoryQuota,
  ) {}

  /** What the next that waits for memory needs, bytes; 0 where none waits. */
  get wantedBytes(): number {
    return this.replies.wantedBytes || (this.lineHolder === null ? this.lines.wantedBytes : 0);
  }

  /** True: one waits for memory, or to be read. */
  get waits(): boolean {
    return this.wantedBytes > 0 || this.unread.size > 0;
  }

  /** True: one waits for others to read their replies. */
  get hasWaiters(): boolean {
    return this.replies.size > 0;
  }

  /** True: others wait for the line that this connection sends. */
  isWantedLine(account: ConnectionAccount): boolean {
    return this.lineHolder === account && this.lines.size > 0;
  }

  /** An account holds more or less than before. */
  changed(account: ConnectionAccount, replies: number, requests: number): void {
    if (account.held > 0) {
      this.holders.add(account);
    } else {
      this.holders.delete(account);
    }
    this.replyBytes += replies;
    this.heldBytes += replies + requests;
    this.memory.changed(this, replies + requests);
    if (replies < 0 && this.replies.size > 0) {
      this.wake();
    }
  }

  /** Reserves room for a large reply before it is fetched or built. False: `proceed` is called when it is reserved. */
  takeReplyRoom(account: ConnectionAccount, bytes: number): boolean {
    if (bytes <= account.reservedBytes) {
      return true;
    }
    this.cancel(account);
    if (this.replies.size === 0 && !this.hasReplyRoom(bytes)) {
      this.recount();
    }
    return this.tookOrWaits(this.replies.take(account, bytes));
  }

  /**
   * The room that a reply needs before it is fetched, bytes, since a long value is read from its file each time; 0 where
   * it was small, or is unknown. A size that changed meanwhile is found out when the reply is fetched.
   */
  expectedBytes(request: DataRequest): number {
    // Of all that there is: it is taken for as large as any may be until one was built.
    const unknown = request.kind === 'getall' ? this.limits.replyBytes : 0;
    return this.sizes.size === 0 ? unknown : (this.sizes.get(labelOf(request)) ?? unknown);
  }

  noteBytes(request: DataRequest, bytes: number): void {
    const isSmall = bytes <= SMALL_BYTES;
    if (isSmall && request.kind !== 'getall') {
      if (this.sizes.size > 0) {
        this.sizes.delete(labelOf(request));
      }
      return;
    }
    this.sizes.set(labelOf(request), isSmall ? 0 : bytes);
    const [oldest = ''] = this.sizes.keys();
    if (this.sizes.size > MAX_SIZES) {
      this.sizes.delete(oldest);
    }
  }

  /** No large reply is fetched, built or waited for any more. */
  cancel(account: ConnectionAccount): void {
    this.replies.remove(account);
    account.reserve(0);
  }

  /** Whether a connection may be read. False: `proceed` is called when it may. */
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
    // Its bytes are counted as they are read; decoded they are twice as much.
    const bytes = 2 * this.limits.lineBytes;
    return this.lineHolder === account || this.tookOrWaits(this.lines.take(account, bytes));
  }

  /** It no longer holds a large line. */
  releaseLineSlot(account: ConnectionAccount): void {
    this.lines.remove(account);
    if (this.lineHolder === account) {
      this.lineHolder = null;
      account.reserveLine(0);
      this.lines.wake();
      this.tookOrWaits(this.lines.size === 0);
    }
  }

  /** Its connection is closed. */
  remove(account: ConnectionAccount): void {
    this.replies.remove(account);
    this.unread.delete(account);
    this.releaseLineSlot(account);
    this.memory.changed(this, 0);
  }

  /** Gives room to those that wait, as long as there is some. */
  wake(): void {
    this.replies.wake();
    this.lines.wake();
    for (const account of this.hasReadRoom ? [...this.unread] : []) {
      this.unread.delete(account);
      account.owner.proceed();
    }
  }

  /** Counts again what peers have not read. */
  recount(): void {
    for (const account of [...this.holders]) {
      account.recount();
    }
  }

  /** Closes connections that have not moved for `stillMs`. @returns what they held, about `bytes` or all */
  evict(stillMs: number, bytes: number): number {
    let freed = 0;
    const isModest = this.heldBytes <= MODEST_BYTES;
    for (const account of isModest ? [] : [...this.holders].sort((a, b) => b.held - a.held)) {
      if (freed < bytes && account.stillMs >= stillMs) {
        freed += account.held;
        account.owner.evict();
      }
    }
    return freed;
  }

  private get hasReadRoom(): boolean {
    return this.heldBytes <= MODEST_BYTES || !this.memory.full;
  }

  private hasReplyRoom(bytes: number): boolean {
    const fits = this.replyBytes === 0 || this.replyBytes + bytes <= this.limits.replyBytes;
    return fits && this.memory.fits(bytes);
  }

  private tookOrWaits(took: boolean): boolean {
    if (!took) {
      this.memory.wait(this);
    }
    return took;
  }
}

/** What the connections of all zones hold. One serves the process. */
export class MemoryQuota {
  /** Those that hold something, or wait. */
  private readonly zones = new Set<ZoneQuota>();
  private used = 0;
  private timer: NodeJS.Timeout | null = null;

  /** @param limit bytes; asked for each time, since the configuration can change */
  constructor(private readonly limit: () => number) {}

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
      this.zones.add(zone);
    } else if (!zone.waits) {
      this.zones.delete(zone);
    }
    if (this.full) {
      this.startTimer();
    }
  }

  /** The zone is woken until it no longer waits. */
  wait(zone: ZoneQuota): void {
    this.zones.add(zone);
    this.startTimer();
  }

  /** Makes room and serves waiting zones, the one that holds least first. The timer calls it. */
  tick(): void {
    for (const zone of [...this.zones]) {
      zone.recount();
    }
    const byHeld = [...this.zones].sort((a, b) => a.heldBytes - b.heldBytes);
    const waiting = byHeld.filter(({ waits }) => waits);
    const neediest = waiting.find(({ wantedBytes }) => wantedBytes > 0);
    this.makeRoom(byHeld.reverse(), neediest);
    waiting.forEach((zone) => zone.wake());
    if (!this.full && ![...this.zones].some(({ waits }) => waits)) {
      clearInterval(this.timer ?? undefined);
      this.timer = null;
    }
  }

  /** Closes stalled connections, in zones that hold more than the one that waits. */
  private makeRoom(zones: readonly ZoneQuota[], waiting: ZoneQuota | undefined): void {
    let excess = this.used + (waiting?.wantedBytes ?? 0) - this.limit();
    for (const zone of zones) {
      if (excess <= 0 || (!this.full && zone.heldBytes <= (waiting?.heldBytes ?? Infinity))) {
        return;
      }
      excess -= zone.evict(STALLED_MS, excess);
    }
  }

  private startTimer(): void {
    this.timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }
}

function labelOf(request: DataRequest): string {
  return 'key' in request ? `${request.kind} ${request.key}` : request.kind;
}
