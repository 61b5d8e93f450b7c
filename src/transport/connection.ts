/*
 * One stream that speaks the protocol: a program's connection to a zone socket, or a guest's port.
 *
 *   stream --heard--> intake --a turn--> answers --one write each--> stream
 *      ^                                    |
 *      +----------- pause, resume <---------+   zone sockets only
 *
 * What always holds:
 * - Every answer is handed over in one write. Answers of one turn may leave together, never torn.
 * - A zone socket is read only while there is room for what it says (limits.ts). A port is always read,
 *   since its hypervisor throws away what nobody reads; what is too much there is dropped here, line by
 *   line. A client that waits for its answers never loses one.
 * - A peer that ends its side gets all that it asked for, then the end.
 * - It has no timer of its own: `sweep` is called about once a second while a zone has connections.
 *
 * Made by the links, which count and close them. What a request means it does not know.
 */
import type { Channel } from '../protocol/request';
import type { Stream, StreamOwner } from '../platform/stream';
import { ReplyQueue } from './reply-queue';
import { RequestReader } from './request-reader';
import { SerialInput } from './serial-input';
import { SMALL_BYTES } from './limits';
import type { LinkLimits } from './limits';
import type { Handle, LinkObserver, Origin } from './link';
import type { ZoneQuota } from './zone-quota';
import { costOf, type Scheduler, type RunQueue } from '../lib/scheduler';

/** A reader may stop so long when others of its zone wait for the room that its replies take. */
const UNREAD_GRACE_MS = 2000;
/** A sender may stop so long in a big line when others of its zone wait to send theirs. */
const STALLED_LINE_MS = 10_000;

/** What all connections of one link have in common. */
export interface ConnectionContext {
  readonly channel: Channel;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  readonly turns: Scheduler;
  readonly place: RunQueue;
  readonly share: ZoneQuota;
  /** A clock in ms that never goes back. */
  readonly now: () => number;
}

/** One connection, from an open stream to its end. Whoever makes it is told when it has left, once. */
export class Connection implements StreamOwner {
  /** Octets heard so far. */
  received = 0;
  private readonly stream: Stream;
  private readonly context: ConnectionContext;
  private readonly answers: ReplyQueue;
  private readonly intake: RequestReader;
  private readonly left: () => void;
  private phase: 'open' | 'ending' | 'closed' = 'open';
  /** The peer has ended its side. */
  private hungUp = false;
  /** It is not read because its queue is full. */
  private crammed = false;
  private unsent = 0;
  /** Octets of answers in all. */
  private wrote = 0;
  private untaken = 0;
  private movedAt: number;

  /** @param left runs once, when the descriptor is closed */
  constructor(stream: Stream, origin: Origin, context: ConnectionContext, left: () => void) {
    const { channel, handle, observer, limits, now } = context;
    this.stream = stream;
    this.context = context;
    this.left = left;
    this.answers = new ReplyQueue({
      origin,
      handle,
      observer,
      limits,
      now,
      outlet: this,
      moved: () => this.roomMade(),
    });
    const Reader = channel === 'serial' ? SerialInput : RequestReader;
    this.intake = new Reader({ channel, limits, observer, answers: this.answers, now });
    this.movedAt = now();
    stream.start(this);
  }

  /** Octets of a port that were no request: noise, cut lines, and more than anyone waits for. */
  get dropped(): number {
    return this.intake.dropped;
  }

  /** Answers what was heard, reads no more, then closes. */
  finish(): void {
    if (this.phase === 'open') {
      this.phase = 'ending';
      this.stream.pause();
      this.context.turns.offer(this.context.place, this);
      this.settle();
    }
  }

  /** Closes at once. Writes under way are carried out, unheard. */
  destroy(): void {
    this.stream.destroy();
  }

  /** Closes a zone socket's connection that is silent, or in the way of others. */
  sweep(): void {
    const { share, limits, now } = this.context;
    const untaken = this.unsent === 0 ? 0 : this.stream.untaken;
    if (untaken !== this.untaken) {
      this.untaken = untaken;
      this.movedAt = now();
    }
    const still = now() - this.movedAt;
    const stalled = share.coveted && share.isCollector(this) && !this.answers.owing;
    if (this.unsent > 0 && share.crowded && still >= UNREAD_GRACE_MS) {
      this.refuse('unread');
    } else if (stalled && still >= STALLED_LINE_MS) {
      this.refuse('idle');
    } else if (still >= limits.idleMs && !this.answers.running) {
      this.refuse(this.unsent > 0 ? 'unread' : 'idle');
    }
  }

  // For the turns.

  get ready(): boolean {
    const { answers, intake } = this;
    return this.phase !== 'closed' && (answers.ready || (intake.unread > 0 && this.mayTake));
  }

  work(cost: number): number {
    const { answers, intake, wrote } = this;
    let spent = 0;
    this.stream.cork();
    while (spent < cost && (answers.ready || this.mayTake)) {
      const before = this.wrote;
      const bytes = answers.ready ? answers.next() : intake.next();
      if (bytes === null) {
        break;
      }
      spent += costOf(bytes + this.wrote - before);
      if (this.wrote > wrote && answers.owing && !this.clear) {
        // A port's answers leave one by one: its next request waits for that here, where there is room.
        break;
      }
    }
    this.stream.uncork();
    this.account();
    this.settle();
    return spent;
  }

  // For the answers.

  /** A port gets one answer at a time: one that is not in the kernel yet can still be taken back. */
  get clear(): boolean {
    return this.context.channel === 'serial' ? this.stream.unsent === 0 : !this.stream.clogged;
  }

  get open(): boolean {
    return this.stream.writable;
  }

  fits(bytes: number): boolean {
    const { share, limits, observer } = this.context;
    if (bytes <= SMALL_BYTES || !share.full || this.phase === 'closed') {
      return true;
    }
    if (share.waitForRoom(this)) {
      observer.refused('unsent', { limit: limits.unsentBytes });
    }
    return false;
  }

  write(bytes: Buffer): void {
    if (!this.stream.writable) {
      return;
    }
    // Only resets come past `clear`: a guest that sends them without end and reads nothing.
    if (this.stream.unsent > this.context.limits.unsentBytes && !this.clear) {
      this.context.observer.refused('unread', { unsent: this.unsent });
      return;
    }
    this.wrote += bytes.length;
    this.stream.write(bytes);
    this.context.observer.sent(bytes.length);
    this.account();
  }

  // For the share.

  roomMade(): void {
    if (this.phase === 'closed') {
      return;
    }
    this.answers.roomMade();
    this.context.turns.offer(this.context.place, this);
    this.settle();
  }

  // For the stream.

  heard(chunk: Buffer): void {
    const { observer, turns, place, now } = this.context;
    this.movedAt = now();
    this.received += chunk.length;
    observer.received(chunk.length);
    this.intake.push(chunk, this.movedAt);
    turns.offer(place, this);
    this.intake.keep();
    this.settle();
  }

  ended(): void {
    this.hungUp = true;
    this.finish();
  }

  taken(): void {
    this.movedAt = this.context.now();
    this.account();
    if (this.answers.owing || this.intake.unread > 0 || this.stream.paused) {
      this.roomMade();
    }
  }

  closed(): void {
    this.phase = 'closed';
    this.intake.stop();
    this.context.turns.withdraw(this.context.place, this);
    this.context.share.leave(this);
    this.account();
    this.answers.dropAll();
    this.left();
  }

  private get mayTake(): boolean {
    if (this.phase === 'closed') {
      return false;
    }
    return this.context.channel === 'serial' || (!this.answers.full && this.clear);
  }

  /** After anything happened: reads on or pauses, lets others have what is not needed, ends. */
  private settle(): void {
    if (this.phase === 'ending') {
      this.endWhenDone();
    } else if (this.phase === 'open' && this.context.channel === 'socket') {
      this.tellCrammed();
      const reads = this.intake.unread === 0 && this.mayTake && this.mayCollect();
      if (!reads) {
        this.stream.pause();
      } else if (this.stream.paused) {
        this.stream.resume();
      }
    }
  }

  private tellCrammed(): void {
    const { full } = this.answers;
    if (full && !this.crammed) {
      this.context.observer.refused('queue', { limit: this.context.limits.queuedRequests });
    }
    this.crammed = full;
  }

  /** A line that is not small needs the zone's one place for it. */
  private mayCollect(): boolean {
    const { share } = this.context;
    if (this.intake.heldBytes + this.answers.heldBytes > SMALL_BYTES) {
      return share.collect(this);
    }
    share.collected(this);
    return true;
  }

  private endWhenDone(): void {
    // A hypervisor that ended its side is gone: nobody would hear.
    const deaf = this.context.channel === 'serial' && this.hungUp;
    const done = this.intake.unread === 0 && !this.answers.owing;
    if (deaf || done) {
      this.stream.end();
    }
  }

  private account(): void {
    const unsent = this.phase === 'closed' ? 0 : this.stream.unsent;
    const change = unsent - this.unsent;
    this.unsent = unsent;
    if (change !== 0) {
      this.context.share.unsentChanged(change);
    }
  }

  private refuse(reason: 'idle' | 'unread'): void {
    this.context.observer.refused(reason, { unsent: this.unsent, unread: this.intake.heldBytes });
    this.stream.destroy();
  }
}
