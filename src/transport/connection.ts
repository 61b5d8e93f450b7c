/*
 * One stream that speaks the protocol, from bytes to requests to replies.
 *
 *   stream --data--> lines --scheduled--> requests --> reply queue --one write each--> stream
 *      ^                                                   |
 *      +----------------- pause, resume <------------------+
 *
 * What it holds is in its zone's account (zone-quota.ts), and it is read only while there is room for what it sends. A
 * peer that ends its side gets all that it asked for, then the end. Made by the links, which call `checkIdle` about once
 * a second; the connections of serial ports (serial-input.ts) override the protected members.
 */
import { costOf, type RunQueue, type Scheduler, type Worker } from '../lib/scheduler';
import type { Stream, StreamOwner } from '../platform/stream';
import { LineReader, type Line } from '../protocol/line-reader';
import {
  parseLine,
  parseOversize,
  type Channel,
  type LineRequest,
  type Request,
} from '../protocol/request';
import { SMALL_BYTES, type Origin } from './link';
import { ReplyQueue, type PendingRequest, type ReplyContext, type ReplyOwner } from './reply-queue';
import { ConnectionAccount, type AccountOwner } from './zone-quota';

/** A peer may leave replies unread for so long while others of its zone wait for the room that they take. */
const UNREAD_GRACE_MS = 2000;
/** A sender may pause for so long in a large line while others of its zone wait to send theirs. */
const STALLED_LINE_MS = 10_000;

/** What all connections of one link have in common. */
export interface ConnectionContext extends ReplyContext {
  readonly scheduler: Pick<Scheduler, 'offer' | 'withdraw'>;
  readonly queue: RunQueue;
}

/** One connection, from an open stream to its end. */
export class Connection implements StreamOwner, Worker, ReplyOwner, AccountOwner {
  protected readonly channel: Channel = 'socket';
  protected readonly replies: ReplyQueue;
  protected readonly lines: LineReader;
  /** `finishing`: we read no more; `hungUp`: the peer has ended its side. Both end when all is answered. */
  protected phase: 'open' | 'finishing' | 'hungUp' | 'closed' = 'open';
  /** When the last bytes were read. */
  protected receivedAt: number;
  private readonly account: ConnectionAccount;
  /** A full queue was reported, and is full still. */
  private queueFull = false;
  /** It does something now. */
  private busy = false;
  /** Whether the peer has left. The kernel is asked once while it is busy: null is before that. */
  private gone: boolean | null = null;

  /** @param onClosed runs once, when the descriptor is closed */
  constructor(
    protected readonly stream: Stream,
    origin: Origin,
    protected readonly context: ConnectionContext,
    private readonly onClosed: () => void,
  ) {
    const { limits, quota, now } = context;
    this.lines = new LineReader(limits.lineBytes);
    this.account = new ConnectionAccount(quota, stream, this, now);
    this.replies = new ReplyQueue(origin, context, stream, this.account, this);
    this.receivedAt = now();
    stream.start(this);
  }

  /** Answers what was read, reads no more, then closes. */
  finish(): void {
    if (this.phase === 'open') {
      this.end('finishing');
    }
  }

  /** Closes at once. Writes that are pending are executed, without a reply. */
  destroy(): void {
    this.stream.destroy();
  }

  /** Closes it when it is silent, or keeps others waiting. */
  checkIdle(): void {
    const { account } = this;
    const { quota, limits, now } = this.context;
    account.recount();
    const { pending, waiting } = this.replies;
    const isUnread = account.replyBytes > 0;
    if (waiting && !isUnread && this.lines.unread + this.lineBytes === 0) {
      // Its peer can only wait too; its time begins when the WATCH ends.
      account.moved(now());
    }
    const { stillMs } = account;
    const keepsLineSlot = quota.isWantedLine(account) && (!pending || waiting);
    if (isUnread && quota.hasWaiters && stillMs >= UNREAD_GRACE_MS) {
      this.refuse('unread');
    } else if (keepsLineSlot && stillMs >= STALLED_LINE_MS) {
      this.refuse('idle');
    } else if (stillMs >= limits.idleMs) {
      this.refuse(isUnread ? 'unread' : 'idle');
    }
  }

  // The stream's owner.

  data(chunk: Buffer): void {
    const { observer, scheduler, queue, now } = this.context;
    const at = now();
    this.account.moved(at);
    observer.received(chunk.length);
    this.receivedAt = at;
    this.push(chunk);
    scheduler.offer(queue, this);
    this.lines.keep();
    this.account.update();
    this.settle();
  }

  ended(): void {
    if (this.phase === 'open') {
      this.end('hungUp');
    } else if (this.phase === 'finishing') {
      this.phase = 'hungUp';
    }
  }

  drain(): void {
    this.account.moved(this.context.now());
    this.account.update();
    if (this.replies.pending || this.lines.unread > 0 || this.stream.paused) {
      this.proceed();
    }
  }

  closed(): void {
    this.phase = 'closed';
    this.context.scheduler.withdraw(this.context.queue, this);
    this.replies.dropAll();
    this.account.close();
    this.onClosed();
  }

  // The scheduler's worker.

  get ready(): boolean {
    const { replies, lines } = this;
    return this.phase !== 'closed' && (replies.ready || (lines.unread > 0 && this.mayAsk));
  }

  work(cost: number): number {
    const { replies } = this;
    const { written } = replies;
    let spent = 0;
    this.whileBusy(() => {
      while (spent < cost && (replies.ready || this.mayAsk)) {
        const before = replies.written;
        const bytes = replies.ready ? replies.next() : this.takeLine();
        if (bytes === null) {
          break;
        }
        spent += costOf(bytes + replies.written - before);
        if (replies.written > written && replies.pending && !this.clear) {
          // The next request waits here, where there is room, until the kernel has taken the reply.
          break;
        }
      }
    });
    this.settle();
    return spent;
  }

  /** Continues after something outside has changed: there is room, a request has finished, a WATCH is woken. */
  proceed(): void {
    if (this.phase !== 'closed' && !this.busy) {
      this.context.scheduler.offer(this.context.queue, this);
      this.settle();
    }
  }

  // From bytes to requests.

  /** Takes what was read. The bytes are the stream's again when `data` returns. */
  protected push(chunk: Buffer): void {
    this.lines.push(chunk);
  }

  /** Takes one line. @returns the bytes of it, null when there is no whole line */
  private takeLine(): number | null {
    const line = this.lines.next();
    if (line === null) {
      return null;
    }
    const { observer } = this.context;
    const bytes = line.kind === 'line' ? line.bytes.length : line.head.length;
    const request = this.parse(line);
    const asked = { request, at: this.receivedAt, bytes };
    const { kind } = request;
    if (kind === 'broken') {
      // Only the header: base64 may be a value's.
      const [head = ''] =
        /^V2[ 0-9a-fA-F]{0,30}/.exec(request.line.toString('latin1', 0, 32)) ?? [];
      observer.refused('broken-frame', { reason: request.reason, bytes, head });
      return bytes;
    }
    const isBad = isBadLine(request);
    // One that is too large was counted where it was cut.
    if (isBad && kind !== 'too-large') {
      observer.refused('bad-line', { kind, bytes });
    }
    if (!isBad && (kind === 'reset' || kind === 'negotiate')) {
      this.reset(asked, request);
    } else {
      this.ask(asked);
    }
    return bytes;
  }

  protected parse(line: Line): Request {
    const { limits, observer } = this.context;
    if (line.kind === 'oversize') {
      observer.refused('line', { limit: limits.lineBytes });
      return parseOversize(line.head, this.channel);
    }
    return parseLine(line.bytes, this.channel);
  }

  /** A client has reset the protocol: it does not wait for the replies to earlier requests, but for a WATCH. */
  protected reset(asked: PendingRequest, request: LineRequest): void {
    if (this.replies.onlyWatch) {
      this.replies.ask(asked);
    } else {
      this.replies.dropAll();
      this.replies.answerNow(asked, request);
    }
  }

  /** A request in its order. */
  protected ask(asked: PendingRequest): void {
    this.replies.ask(asked);
  }

  /** Whether the next line may be taken. */
  protected get mayAsk(): boolean {
    return this.phase !== 'closed' && !this.replies.full && this.clear;
  }

  /** Bytes of the unfinished line. Of one over the limit only its head is kept. */
  private get lineBytes(): number {
    const { unfinished } = this.lines;
    return unfinished > this.context.limits.lineBytes ? 0 : unfinished;
  }

  // Whether it is read, and its end.

  /** After any change: reads on or pauses, or ends. */
  private settle(): void {
    if (this.phase === 'open') {
      this.controlFlow();
    } else if (this.phase !== 'closed' && this.hasAnsweredAll) {
      this.stream.end();
    }
  }

  /** Pauses a peer that sends more than there is room for. */
  protected controlFlow(): void {
    const { full } = this.replies;
    if (full && !this.queueFull) {
      this.context.observer.refused('queue', { limit: this.context.limits.queuedRequests });
    }
    this.queueFull = full;
    if (this.lines.unread > 0 || !this.mayAsk || !this.mayRead()) {
      this.stream.pause();
    } else if (this.stream.paused) {
      this.stream.resume();
    }
  }

  /** A line that is not small needs the zone's line slot, and a full memory is not filled further. */
  private mayRead(): boolean {
    const { quota } = this.context;
    if (this.lineBytes + this.replies.heldBytes > SMALL_BYTES) {
      return quota.takeLineSlot(this.account);
    }
    quota.releaseLineSlot(this.account);
    return quota.mayRead(this.account);
  }

  protected get hasAnsweredAll(): boolean {
    return this.lines.unread === 0 && !this.replies.pending;
  }

  private end(phase: 'finishing' | 'hungUp'): void {
    this.phase = phase;
    this.stream.pause();
    this.replies.endWatch();
    this.context.scheduler.offer(this.context.queue, this);
    this.settle();
  }

  private refuse(reason: 'idle' | 'unread'): void {
    const detail = { unsent: this.account.replyBytes, unread: this.lineBytes };
    this.context.observer.refused(reason, detail);
    this.stream.destroy();
  }

  // The reply queue's owner.

  get clear(): boolean {
    return !this.stream.needsDrain;
  }

  get open(): boolean {
    const { stream, phase } = this;
    if (!stream.writable || (!stream.paused && phase !== 'hungUp')) {
      return stream.writable;
    }
    // The end of a stream that is not read is not reported.
    if (!this.busy) {
      return !stream.gone;
    }
    this.gone ??= stream.gone;
    return !this.gone;
  }

  /**
   * Nothing else is begun before `step` returns: room that it gives back is offered to this connection too, and its next
   * request would be answered before the one that it has in hand.
   */
  whileBusy(step: () => void): void {
    this.busy = true;
    this.gone = null;
    step();
    this.busy = false;
    this.account.update();
  }

  // The account's owner; also `proceed`.

  get requestBytes(): number {
    return this.lines.unread + this.lineBytes + this.replies.heldBytes;
  }

  get running(): boolean {
    return this.replies.running || this.ready;
  }

  evict(): void {
    this.refuse('unread');
  }
}

/** True: not a request of the protocol; it is answered FAILURE or `invalid command`. */
export function isBadLine(request: Request): boolean {
  switch (request.kind) {
    case 'reset':
      return !request.bare;
    case 'negotiate':
      return !request.accepted;
    case 'malformed':
      return request.wire.version === 1;
    case 'unknown':
    case 'too-large':
      return true;
    default:
      return false;
  }
}
