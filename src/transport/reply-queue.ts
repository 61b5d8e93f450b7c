/*
 * The pending requests of one connection, answered one by one in their order.
 *
 *   request --ask--> [queue] --> running --> small: encoded at once --------------> sink
 *                       |           |        large: blocked --room--> building --->
 *                       |           |        WATCH, token the same: waiting --woken--> running
 *                       +-----------+-----------+---------+--- dropAll: a new client is on the line
 *
 * What always holds:
 * - One request at a time is with the handler, and the next one starts when its reply has been written: a GET behind a
 *   PUT sees what the PUT stored.
 * - `dropAll` cancels replies, never effects: a write that was requested is executed, detached, and its true result is
 *   reported to the observer all the same.
 * - One WATCH waits at most, and nothing waits behind it: the next request ends it, and is answered after it.
 * - A large reply, which only reads have, has its room before it is built. Until then its request alone is held.
 *
 * Used by a connection, which sends the bytes, and adds no more requests than `full` lets it.
 */
import {
  encodeReply,
  ReplyEncoder,
  replyToLine,
  sizeOfReply,
  sizeOfSource,
  type Reply,
  type ReplyMemory,
} from '../protocol/reply';
import type { DataVersion } from '../platform/files';
import {
  isDataRequest,
  isWrite,
  type DataRequest,
  type LineRequest,
  type Request,
  type WriteRequest,
} from '../protocol/request';
import { SMALL_BYTES, type Handle, type LinkLimits, type LinkObserver, type Origin } from './link';
import type { ReplySizes } from './reply-sizes';
import { WAITING_BYTES, type WaitingWatch, type Watches } from './watches';

/** A request and when it arrived. */
export interface PendingRequest {
  readonly request: Request;
  /** When its last byte was read, in ms of the connection's clock. */
  readonly at: number;
  /** Of its line. */
  readonly bytes: number;
  /** Of a WATCH that has waited. */
  readonly waited?: Pick<WaitingWatch, 'until' | 'seen'>;
}

/** The request whose reply is next, once it is no longer in the queue. */
type Head =
  | { readonly state: 'none' }
  /** The handler has it, as a promise. */
  | { readonly state: 'running'; readonly asked: PendingRequest }
  /** Its reply had no room; `retryable`: there is room now. */
  | { readonly state: 'blocked'; readonly asked: PendingRequest; readonly retryable: boolean }
  /** A WATCH that waits for a change. */
  | { readonly state: 'waiting'; readonly asked: PendingRequest; readonly watch: WaitingWatch }
  /** Its large reply is being encoded. */
  | {
      readonly state: 'building';
      readonly asked: PendingRequest;
      readonly reply: Reply;
      readonly encoder: ReplyEncoder;
    };

const NONE: Head = { state: 'none' };

/** Above this a reply is built piece by piece, in memory of its own. */
const LARGE_BYTES = 64 * 1024;

/** Where replies go. */
export interface ReplySink extends ReplyMemory {
  /** True: the kernel has taken what was written before, so another reply may follow. */
  readonly clear: boolean;
  /** False: the peer is gone, and what is written is lost. */
  readonly open: boolean;
  /** How large the zone's large replies were: one without room is not fetched. */
  readonly sizes: ReplySizes;
  /** True: a large reply of so many bytes may be built now. False: `retry` is called when it may. */
  fits(bytes: number): boolean;
  /** Reserves the room that `fits` found while the reply is fetched, until `fits` is called again. */
  keep(bytes: number): void;
  /** Gives back what `keep` reserved. */
  release(): void;
  /** Sends one whole reply. */
  write(bytes: Buffer): void;
  /**
   * Allocates memory for one large reply, which `fill` fills.
   * @param whileBuilt bytes that are held besides until `commit`
   */
  reserve(bytes: number, whileBuilt: number): void;
  /** Sends the first bytes of that memory, in one write; with 0 it is freed. */
  commit(bytes: number): void;
}

export interface ReplyQueueOptions {
  readonly origin: Origin;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  readonly sink: ReplySink;
  readonly watches: Watches;
  readonly now: () => number;
  /** A request finished by itself: there may be more to do. */
  readonly onProgress: () => void;
}

/** The requests of one connection, from its first to its end. */
export class ReplyQueue {
  private readonly queue: PendingRequest[] = [];
  /** Of the requests in the queue. */
  private queuedBytes = 0;
  /** Of the head and of detached writes. */
  private busyBytes = 0;
  private head: Head = NONE;
  /** Room is reserved for the reply that is being fetched. */
  private roomKept = false;
  /** No WATCH may wait any more: the peer has ended its side, or we end ours. */
  private ending = false;
  /** Writes whose replies were dropped and that still run. */
  private detached = 0;

  constructor(private readonly options: ReplyQueueOptions) {}

  /** True: the handler has a request, which settles by itself, or a reply is being built. */
  get running(): boolean {
    return this.head.state === 'running' || this.head.state === 'building';
  }

  /** True: a request is not answered yet. */
  get pending(): boolean {
    return this.head.state !== 'none' || this.queue.length > 0;
  }

  /** True: nothing happens until a WATCH ends. */
  get waiting(): boolean {
    return this.head.state === 'waiting' && !this.head.watch.woken;
  }

  /** True: all that is pending is a WATCH, which waits or is with the handler. */
  get onlyWatch(): boolean {
    const { head } = this;
    return head.state !== 'none' && head.asked.request.kind === 'watch' && this.queue.length === 0;
  }

  /** True: the connection must not add more than resets. */
  get full(): boolean {
    const { limits } = this.options;
    return this.queue.length >= limits.queuedRequests || this.queuedBytes >= limits.lineBytes;
  }

  /** Memory of the requests that wait or run, bytes. */
  get heldBytes(): number {
    return this.queuedBytes + this.busyBytes;
  }

  /** Adds a request. It is answered at once when no other is pending. */
  ask(asked: PendingRequest): void {
    if (this.queue.length === 0 && this.canBegin) {
      this.begin(asked);
    } else {
      this.queue.push(asked);
      this.queuedBytes += bytesOf(asked);
      this.wakeWatch();
    }
  }

  /** A WATCH that waits is answered as it is, and none waits from now on. */
  endWatch(): void {
    this.ending = true;
    this.wakeWatch();
  }

  /** Answers past the queue: a reset's reply does not wait for what was asked before it. */
  answerNow(asked: PendingRequest, request: LineRequest): void {
    const bytes = replyToLine(request);
    if (bytes !== null) {
      this.options.sink.write(bytes);
      this.reportAnswered(asked, null);
    }
  }

  /** True: something that waits can continue, by `next`. */
  get ready(): boolean {
    switch (this.head.state) {
      case 'building':
        return true;
      case 'blocked':
        return this.head.retryable;
      case 'waiting':
        return this.head.watch.woken && this.options.sink.clear;
      default:
        return this.queue.length > 0 && this.canBegin;
    }
  }

  /** There is room for the blocked reply. */
  retry(): void {
    if (this.head.state === 'blocked') {
      this.head = { ...this.head, retryable: true };
    }
  }

  /** Continues one thing that waits: a large reply, or a request. @returns the bytes of it */
  next(): number {
    const { head } = this;
    if (head.state === 'building') {
      const { sink } = this.options;
      const whole = head.encoder.step(sink);
      if (whole !== null) {
        this.finishHead();
        sink.commit(whole);
        this.reportAnswered(head.asked, head.reply);
      }
      return LARGE_BYTES;
    }
    if (head.state === 'waiting') {
      this.finishHead();
      // Its wait is not the time that its answer took.
      this.begin({ ...head.asked, at: this.options.now(), waited: head.watch });
      return 0;
    }
    if (head.state === 'blocked') {
      this.finishHead();
      this.begin(head.asked);
      return 0;
    }
    const next = this.queue.shift();
    if (next === undefined) {
      return 0;
    }
    this.queuedBytes -= bytesOf(next);
    this.begin(next);
    return next.bytes;
  }

  /** Cancels every reply that was not written yet, uncounted that of a waiting WATCH. Writes are executed, detached. */
  dropAll(): void {
    const { head } = this;
    const dropped = head.state === 'none' || head.state === 'waiting' ? [] : [head.asked];
    if (head.state === 'running') {
      // It stays in busyBytes until it settles.
      this.head = NONE;
      this.detached++;
    } else {
      this.finishHead();
    }
    if (head.state === 'building') {
      this.options.sink.commit(0);
    }
    for (const asked of this.queue.splice(0)) {
      dropped.push(asked);
      if (isWrite(asked.request)) {
        this.executeDetached(asked, asked.request);
      }
    }
    this.queuedBytes = 0;
    for (const { request } of dropped) {
      this.options.observer.refused('dropped-reply', { kind: request.kind });
    }
  }

  private get canBegin(): boolean {
    const { limits, sink } = this.options;
    return this.head.state === 'none' && this.detached < limits.queuedRequests && sink.clear;
  }

  private begin(asked: PendingRequest): void {
    const { request } = asked;
    const { origin, handle, sink, observer, limits, watches } = this.options;
    if (!sink.open && !isWrite(request)) {
      // Its reply could be megabytes, and hundreds of connections may end together.
      observer.refused('dropped-reply', { kind: request.kind });
      return;
    }
    if (!isDataRequest(request)) {
      this.answerNow(asked, request);
      return;
    }
    const expected = sink.sizes.expected(request, limits.replyBytes);
    if (expected > 0) {
      if (!sink.fits(expected)) {
        this.block(asked);
        return;
      }
      sink.keep(expected);
      this.roomKept = true;
    }
    // Before the data is read: what changes meanwhile is found by the next check.
    const seen =
      request.kind === 'watch' ? (asked.waited?.seen ?? watches.version(origin.zonename)) : null;
    const settle = (reply: Reply): void => {
      if (!sink.open && !isWrite(request)) {
        observer.refused('dropped-reply', { kind: request.kind });
      } else if (seen === null || !this.wait(asked, seen, reply)) {
        this.deliver(asked, request, reply);
      }
    };
    const reply = handle(origin, request, () => sink.open);
    if (!(reply instanceof Promise)) {
      settle(reply);
      this.releaseRoom();
      return;
    }
    this.setHead({ state: 'running', asked });
    void reply.then((settled) => {
      if (this.head.state === 'running' && this.head.asked === asked) {
        this.finishHead();
        settle(settled);
      } else {
        this.detached--;
        this.busyBytes -= bytesOf(asked);
        this.reportDetached(asked, settled);
      }
      this.releaseRoom();
      this.options.onProgress();
    });
  }

  /** @returns false where a WATCH is not to wait: it has news, its time is over, or something else is asked */
  private wait(asked: PendingRequest, seen: DataVersion, reply: Reply): boolean {
    const { origin, now, watches, onProgress } = this.options;
    const { request, at, waited } = asked;
    if (request.kind !== 'watch' || reply.kind !== 'success' || reply.text !== request.token) {
      return false;
    }
    const until = waited?.until ?? at + 1000 * request.seconds;
    if (this.ending || this.queue.length > 0 || now() >= until) {
      return false;
    }
    const watch = watches.park(origin.zonename, seen, until, onProgress);
    this.setHead({ state: 'waiting', asked, watch });
    return true;
  }

  private wakeWatch(): void {
    if (this.head.state === 'waiting') {
      this.head.watch.woken = true;
    }
  }

  /** Gives back what the reply did not need of its reserved room. */
  private releaseRoom(): void {
    if (this.roomKept) {
      this.roomKept = false;
      this.options.sink.release();
    }
  }

  private executeDetached(asked: PendingRequest, request: WriteRequest): void {
    const { origin, handle, limits, observer, onProgress } = this.options;
    // No client leaves that many behind: two queues' full.
    if (this.detached >= 2 * limits.queuedRequests) {
      observer.refused('rate', { kind: request.kind });
      return;
    }
    const reply = handle(origin, request);
    if (!(reply instanceof Promise)) {
      this.reportDetached(asked, reply);
      return;
    }
    this.detached++;
    this.busyBytes += bytesOf(asked);
    void reply.then((settled) => {
      this.detached--;
      this.busyBytes -= bytesOf(asked);
      this.reportDetached(asked, settled);
      onProgress();
    });
  }

  /** Who changed what is logged whether or not the client waited for the reply. */
  private reportDetached(asked: PendingRequest, reply: Reply): void {
    if (isWrite(asked.request)) {
      this.reportAnswered(asked, reply);
    }
  }

  private deliver(asked: PendingRequest, request: DataRequest, reply: Reply): void {
    const { sink } = this.options;
    const size = sizeOfReply(request.wire, reply);
    const isLarge = size > LARGE_BYTES && (reply.kind === 'success' || reply.kind === 'bytes');
    const whileBuilt = isLarge ? sizeOfSource(reply) : 0;
    if (!isWrite(request)) {
      sink.sizes.note(request, size + whileBuilt);
    }
    // A write's reply is a few words: it cannot be asked for again.
    if (size > SMALL_BYTES && !isWrite(request)) {
      if (!sink.fits(size + whileBuilt)) {
        this.block(asked);
        return;
      }
      if (isLarge) {
        sink.reserve(size, whileBuilt);
        const encoder = new ReplyEncoder(request.wire, reply);
        this.setHead({ state: 'building', asked, reply, encoder });
        return;
      }
    }
    if (sink.open) {
      sink.write(encodeReply(request.wire, reply));
    }
    this.reportAnswered(asked, reply);
  }

  /** Only the request is held until there is room for its reply. */
  private block(asked: PendingRequest): void {
    this.setHead({ state: 'blocked', asked, retryable: false });
  }

  private setHead(head: Exclude<Head, { readonly state: 'none' }>): void {
    this.head = head;
    this.busyBytes += bytesOf(head.asked);
  }

  private finishHead(): void {
    if (this.head.state !== 'none') {
      this.busyBytes -= bytesOf(this.head.asked);
      if (this.head.state === 'waiting') {
        this.options.watches.unpark(this.head.watch);
      }
      this.head = NONE;
    }
  }

  private reportAnswered({ request, at }: PendingRequest, reply: Reply | null): void {
    const { observer, origin, now } = this.options;
    observer.answered(origin, request, reply, now() - at);
  }
}

/** Memory of a request: a string takes two bytes a character as soon as one of them is wide. */
function bytesOf({ request, bytes }: PendingRequest): number {
  switch (request.kind) {
    case 'get':
    case 'delete':
      return Math.max(bytes, 2 * request.key.length);
    case 'put':
      return Math.max(bytes, 2 * (request.key.length + request.value.length));
    case 'watch':
      // Each key is a string of its own.
      return (request.keys ?? []).reduce((sum, key) => sum + 2 * key.length + 32, WAITING_BYTES);
    default:
      return bytes;
  }
}
