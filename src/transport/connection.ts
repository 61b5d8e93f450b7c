/*
 * One stream that speaks the protocol: a program's connection to a zone socket, or a guest's port.
 *
 *   stream --data--> request reader --a turn--> reply queue --one write each--> stream
 *      ^                                           |
 *      +----------- pause, resume <----------------+   zone sockets only
 *
 * What always holds:
 * - Every reply is handed over in one write. Replies of one turn may leave together, never torn.
 * - What it holds is in its zone's account (zone-quota.ts): requests when they were read, large replies
 *   before they are made.
 * - A zone socket is read only while there is room for what it says. A port is always read, since its
 *   hypervisor throws away what nobody reads; what is too much there is dropped here, line by line. A
 *   client that waits for its replies never loses one.
 * - A peer that ends its side gets all that it asked for, then the end.
 * - It has no timer of its own: `checkIdle` is called about once a second while a zone has connections.
 *
 * Made by the links, which count and close them. What a request means it does not know.
 */
import type { Channel } from '../protocol/request';
import type { Stream, StreamOwner } from '../platform/stream';
import { ReplyQueue, type ReplySink } from './reply-queue';
import { RequestReader } from './request-reader';
import { SerialInput } from './serial-input';
import { SMALL_BYTES } from './limits';
import type { LinkLimits } from './limits';
import type { Watches } from './watches';
import type { Handle, LinkObserver, Origin } from './link';
import type { QuotaMember, ReplySizes, ZoneQuota } from './zone-quota';
import { costOf, type RunQueue, type Scheduler, type Worker } from '../lib/scheduler';

/** A reader may stop so long when others of its zone wait for the room that its replies take. */
const UNREAD_GRACE_MS = 2000;
/** A sender may stop so long in a large line when others of its zone wait to send theirs. */
const STALLED_LINE_MS = 10_000;

/** What all connections of one link have in common. */
export interface ConnectionContext {
  readonly channel: Channel;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  readonly scheduler: Scheduler;
  readonly queue: RunQueue;
  readonly quota: ZoneQuota;
  readonly watches: Watches;
  /** A clock in ms that never goes back. */
  readonly now: () => number;
}

/** One connection, from an open stream to its end. Whoever makes it is told when it has closed, once. */
export class Connection implements StreamOwner, Worker, ReplySink, QuotaMember {
  /** Bytes read so far. */
  received = 0;
  private readonly stream: Stream;
  private readonly context: ConnectionContext;
  private readonly replies: ReplyQueue;
  private readonly reader: RequestReader;
  private readonly onClosed: () => void;
  private phase: 'open' | 'ending' | 'closed' = 'open';
  /** The peer has ended its side. */
  private hungUp = false;
  /** It is not read because its queue is full. */
  private queueFull = false;
  /** Bytes of replies in all. */
  private wrote = 0;
  /** What a large reply that is being built takes. */
  private reservedBytes = 0;
  /** Of large replies: what the kernel took, and the peer had not read when it was counted last. */
  private kernelBytes = 0;
  /** As the account has it. */
  private replyBytes = 0;
  private requestBytes = 0;
  private undelivered = 0;
  private movedAt: number;

  /** @param onClosed runs once, when the descriptor is closed */
  constructor(stream: Stream, origin: Origin, context: ConnectionContext, onClosed: () => void) {
    const { channel, handle, observer, limits, watches, now } = context;
    this.stream = stream;
    this.context = context;
    this.onClosed = onClosed;
    this.replies = new ReplyQueue({
      origin,
      handle,
      observer,
      limits,
      watches,
      now,
      sink: this,
      moved: () => this.goOn(),
    });
    const Reader = channel === 'serial' ? SerialInput : RequestReader;
    this.reader = new Reader({ channel, limits, observer, answers: this.replies, now });
    this.movedAt = now();
    stream.start(this);
  }

  /** Bytes of a port that were no request: noise, cut lines, and more than anyone waits for. */
  get dropped(): number {
    return this.reader.dropped;
  }

  /** Answers what was read, reads no more, then closes. */
  finish(): void {
    if (this.phase === 'open') {
      this.phase = 'ending';
      this.stream.pause();
      this.replies.endWatch();
      this.context.scheduler.offer(this.context.queue, this);
      this.settle();
    }
  }

  /** Closes at once. Writes under way are executed, without a reply. */
  destroy(): void {
    this.stream.destroy();
  }

  /** Closes a zone socket's connection that is silent, or in the way of others. */
  checkIdle(): void {
    const { quota, limits } = this.context;
    this.recount();
    if (this.replies.waiting && this.replyBytes === 0 && this.reader.heldBytes === 0) {
      // Its peer has nothing to do but to wait too; its time begins when the WATCH ends.
      this.movedAt = this.context.now();
    }
    const { stillMs } = this;
    const { pending, waiting } = this.replies;
    const stalled = quota.lineHasWaiters && quota.isCollector(this) && (!pending || waiting);
    if (this.replyBytes > 0 && quota.hasWaiters && stillMs >= UNREAD_GRACE_MS) {
      this.refuse('unread');
    } else if (stalled && stillMs >= STALLED_LINE_MS) {
      this.refuse('idle');
    } else if (stillMs >= limits.idleMs) {
      this.refuse(this.replyBytes > 0 ? 'unread' : 'idle');
    }
  }

  // For the scheduler.

  get ready(): boolean {
    const { replies, reader } = this;
    return this.phase !== 'closed' && (replies.ready || (reader.unread > 0 && this.mayTake));
  }

  work(cost: number): number {
    const { replies, reader, wrote } = this;
    let spent = 0;
    this.stream.cork();
    while (spent < cost && (replies.ready || this.mayTake)) {
      const before = this.wrote;
      const bytes = replies.ready ? replies.next() : reader.next();
      if (bytes === null) {
        break;
      }
      spent += costOf(bytes + this.wrote - before);
      if (this.wrote > wrote && replies.pending && !this.clear) {
        // A port's replies leave one by one: its next request waits for that here, where there is room.
        break;
      }
    }
    this.stream.uncork();
    this.account();
    this.settle();
    return spent;
  }

  // For the reply queue.

  /** A port gets one reply at a time: one that is not in the kernel yet can still be taken back. */
  get clear(): boolean {
    return this.context.channel === 'serial' ? this.stream.unsent === 0 : !this.stream.clogged;
  }

  /** Of one that is not read the end was not told. */
  get open(): boolean {
    const { stream } = this;
    return stream.writable && !((stream.paused || this.hungUp) && stream.gone);
  }

  get sizes(): ReplySizes {
    return this.context.quota.sizes;
  }

  fits(bytes: number): boolean {
    const { quota, limits, observer } = this.context;
    if (this.phase === 'closed') {
      return true;
    }
    const { fits, isNew } = quota.reply(this, bytes);
    if (isNew) {
      observer.refused('unsent', { limit: limits.unsentBytes });
    }
    return fits;
  }

  keep(bytes: number): void {
    if (this.phase !== 'closed') {
      this.context.quota.keep(this, bytes);
    }
  }

  release(): void {
    this.context.quota.release(this);
  }

  write(bytes: Buffer): void {
    if (!this.stream.writable) {
      return;
    }
    // Only resets come past `clear`: a guest that sends them without end and reads nothing.
    if (this.stream.unsent > this.context.limits.unsentBytes && !this.clear) {
      this.context.observer.refused('unread', { unsent: this.replyBytes });
      return;
    }
    this.stream.write(bytes);
    this.sent(bytes.length);
  }

  reserve(bytes: number, whileBuilt: number): void {
    if (this.stream.reserve(bytes)) {
      this.reservedBytes = bytes + whileBuilt;
      this.account();
    } else {
      this.stream.destroy();
    }
  }

  fill(at: number, bytes: Buffer): void {
    this.stream.fill(at, bytes);
  }

  commit(bytes: number): void {
    this.reservedBytes = 0;
    this.stream.commit(bytes);
    if (bytes === 0) {
      this.account();
      return;
    }
    this.undelivered = this.stream.undelivered;
    this.kernelBytes = Math.max(0, this.undelivered - this.stream.unsent);
    this.movedAt = this.context.now();
    this.sent(bytes);
  }

  // For the quota.

  get held(): number {
    return this.replyBytes + this.requestBytes;
  }

  get stillMs(): number {
    return this.replies.running ? 0 : this.context.now() - this.movedAt;
  }

  roomMade(): void {
    this.replies.retry();
    this.goOn();
  }

  recount(): void {
    if (this.replyBytes > 0 && this.phase !== 'closed') {
      const { undelivered } = this.stream;
      if (undelivered !== this.undelivered) {
        this.undelivered = undelivered;
        this.movedAt = this.context.now();
      }
      const inKernel = Math.max(0, undelivered - this.stream.unsent);
      this.kernelBytes = Math.min(this.kernelBytes, inKernel);
      this.account();
    }
  }

  evict(): void {
    this.refuse('unread');
  }

  // For the stream.

  heard(chunk: Buffer): void {
    const { observer, scheduler, queue, now } = this.context;
    this.movedAt = now();
    this.received += chunk.length;
    observer.received(chunk.length);
    this.reader.push(chunk, this.movedAt);
    scheduler.offer(queue, this);
    this.reader.keep();
    this.account();
    this.settle();
  }

  ended(): void {
    this.hungUp = true;
    this.finish();
  }

  taken(): void {
    this.movedAt = this.context.now();
    this.account();
    if (this.replies.pending || this.reader.unread > 0 || this.stream.paused) {
      this.goOn();
    }
  }

  closed(): void {
    this.phase = 'closed';
    this.reader.stop();
    this.context.scheduler.withdraw(this.context.queue, this);
    this.replies.dropAll();
    this.account();
    this.context.quota.leave(this);
    this.onClosed();
  }

  private goOn(): void {
    if (this.phase !== 'closed') {
      this.context.scheduler.offer(this.context.queue, this);
      this.settle();
    }
  }

  private get mayTake(): boolean {
    if (this.phase === 'closed') {
      return false;
    }
    return this.context.channel === 'serial' || (!this.replies.full && this.clear);
  }

  /** After anything happened: reads on or pauses, lets others have what is not needed, ends. */
  private settle(): void {
    if (this.phase === 'ending') {
      this.endWhenDone();
    } else if (this.phase === 'open' && this.context.channel === 'socket') {
      this.tellQueueFull();
      const reads = this.reader.unread === 0 && this.mayTake && this.mayRead();
      if (!reads) {
        this.stream.pause();
      } else if (this.stream.paused) {
        this.stream.resume();
      }
    }
  }

  private tellQueueFull(): void {
    const { full } = this.replies;
    if (full && !this.queueFull) {
      this.context.observer.refused('queue', { limit: this.context.limits.queuedRequests });
    }
    this.queueFull = full;
  }

  /** A line that is not small needs the zone's one slot for it; nothing is read into a full memory. */
  private mayRead(): boolean {
    const { quota } = this.context;
    if (this.reader.heldBytes + this.replies.heldBytes > SMALL_BYTES) {
      return quota.collect(this);
    }
    quota.collected(this);
    return quota.mayRead(this);
  }

  private endWhenDone(): void {
    // A hypervisor that ended its side is gone: nobody would read.
    const gone = this.context.channel === 'serial' && this.hungUp;
    const done = this.reader.unread === 0 && !this.replies.pending;
    if (gone || done) {
      this.stream.end();
    }
  }

  private sent(bytes: number): void {
    this.wrote += bytes;
    this.context.observer.sent(bytes);
    this.account();
  }

  private account(): void {
    let replyBytes = 0;
    let requestBytes = 0;
    if (this.phase !== 'closed') {
      replyBytes = this.reservedBytes + this.stream.unsent + this.kernelBytes;
      requestBytes = this.reader.unread + this.reader.heldBytes + this.replies.heldBytes;
    }
    const moreReplies = replyBytes - this.replyBytes;
    const moreRequests = requestBytes - this.requestBytes;
    if (moreReplies !== 0 || moreRequests !== 0) {
      this.replyBytes = replyBytes;
      this.requestBytes = requestBytes;
      this.context.quota.changed(this, moreReplies, moreRequests);
    }
  }

  private refuse(reason: 'idle' | 'unread'): void {
    const { observer } = this.context;
    observer.refused(reason, { unsent: this.replyBytes, unread: this.reader.heldBytes });
    this.stream.destroy();
  }
}
