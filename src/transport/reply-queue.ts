/*
 * The pending requests of one connection, answered one by one in their order.
 *
 *   request --ask--> [queue] --> running --> small: encoded at once --------------> stream
 *                       |           |        large: blocked --room--> building --->
 *                       |           |        WATCH, token the same: waiting --woken--> running
 *                       +-----------+-----------+---------+--- dropAll: a new client is on the line
 *
 * One request at a time is with the handler, the next after its reply is written: a GET sees what the PUT before stored.
 * `dropAll` cancels replies, never effects. Nothing waits behind a WATCH: the next request ends it, and is answered after
 * it. A large reply, which only reads have, has its room before it is built. Part of a connection, which adds no more
 * requests than `full` lets it.
 */
import {
  encodeReply,
  ReplyEncoder,
  replyToLine,
  sizeOfReply,
  sizeOfSource,
  type Reply,
} from '../protocol/reply';
import type { DataVersion } from '../platform/files';
import type { Stream } from '../platform/stream';
import {
  isDataRequest,
  isWrite,
  type DataRequest,
  type LineRequest,
  type Request,
  type WriteRequest,
} from '../protocol/request';
import { SMALL_BYTES, type Handle, type LinkLimits, type LinkObserver, type Origin } from './link';
import { WAITING_BYTES, type WaitingWatch, type Watches } from './watches';
import type { ConnectionAccount, ZoneQuota } from './zone-quota';

export interface PendingRequest {
  readonly request: Request;
  /** When its last byte was read, on the connection's clock, ms. */
  readonly at: number;
  /** Of its line. */
  readonly bytes: number;
  /** Of a WATCH that has waited. */
  readonly waited?: Pick<WaitingWatch, 'until' | 'seen'>;
}

/**
 * The request whose reply is next, once it is no longer in the queue. `running`: the handler has it, as a promise;
 * `blocked`: its reply waits for room, which the account reserves; `waiting`: a WATCH waits for a change; `building`: its
 * large reply is being encoded.
 */
type Head =
  | { readonly state: 'none' }
  | { readonly state: 'running' | 'blocked'; readonly asked: PendingRequest }
  | { readonly state: 'waiting'; readonly asked: PendingRequest; readonly watch: WaitingWatch }
  | {
      readonly state: 'building';
      readonly asked: PendingRequest;
      readonly reply: Reply;
      readonly encoder: ReplyEncoder;
    };

const NONE: Head = { state: 'none' };

/** Above this a reply is built piece by piece, in memory of its own. */
const LARGE_BYTES = 64 * 1024;

export interface ReplyContext {
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  readonly quota: ZoneQuota;
  readonly watches: Watches;
  /** A clock in ms that never goes back. */
  readonly now: () => number;
}

export interface ReplyOwner {
  /** True: the kernel has taken what was written before, so another reply may follow. */
  readonly clear: boolean;
  /** False: the peer is gone, and what is written is lost. */
  readonly open: boolean;
  /** Runs `step`, in which `proceed` does nothing. */
  whileBusy(step: () => void): void;
  /** A request finished by itself: there may be more to do. */
  proceed(): void;
}

export class ReplyQueue {
  /** Bytes of replies in all. */
  written = 0;
  private readonly queue: PendingRequest[] = [];
  /** Of the requests in the queue. */
  private queuedBytes = 0;
  /** Of the head and of detached writes. */
  private busyBytes = 0;
  private head: Head = NONE;
  /** No WATCH may wait any more: the peer has ended its side, or we end ours. */
  private ending = false;
  /** Writes whose replies were dropped and that still run. */
  private detached = 0;
  private readonly isOpen = (): boolean => this.owner.open;

  constructor(
    private readonly origin: Origin,
    private readonly context: ReplyContext,
    private readonly stream: Stream,
    private readonly account: ConnectionAccount,
    private readonly owner: ReplyOwner,
  ) {}

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
    const { limits } = this.context;
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
      this.write(bytes);
      this.reportAnswered(asked, null);
    }
  }

  /** True: something that waits can continue, by `next`. */
  get ready(): boolean {
    switch (this.head.state) {
      case 'building':
        return true;
      case 'blocked':
        return this.account.reservedBytes > 0;
      case 'waiting':
        return this.head.watch.woken && this.owner.clear;
      default:
        return this.queue.length > 0 && this.canBegin;
    }
  }

  /** Continues one thing that waits: a large reply, or a request. @returns the bytes of it */
  next(): number {
    const { head } = this;
    if (head.state === 'building') {
      const whole = head.encoder.step(this.stream);
      if (whole !== null) {
        this.finishHead();
        this.stream.commit(whole);
        this.account.written();
        this.sent(whole);
        this.reportAnswered(head.asked, head.reply);
      }
      return LARGE_BYTES;
    }
    if (head.state === 'waiting' || head.state === 'blocked') {
      this.finishHead();
      // The wait of a WATCH is not the time that its answer took.
      const woken = head.state === 'waiting' && { at: this.context.now(), waited: head.watch };
      this.begin({ ...head.asked, ...woken });
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

  /** Cancels every reply that was not written yet, a waiting WATCH's uncounted. Writes are executed, detached. */
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
      this.stream.commit(0);
    }
    this.context.quota.cancel(this.account);
    for (const asked of this.queue.splice(0)) {
      dropped.push(asked);
      if (isWrite(asked.request)) {
        this.executeDetached(asked, asked.request);
      }
    }
    this.queuedBytes = 0;
    for (const { request } of dropped) {
      this.context.observer.refused('dropped-reply', { kind: request.kind });
    }
  }

  private get canBegin(): boolean {
    const { head, detached, owner, context } = this;
    return head.state === 'none' && detached < context.limits.queuedRequests && owner.clear;
  }

  private begin(asked: PendingRequest): void {
    const { request } = asked;
    const { origin, owner } = this;
    const { handle, observer, quota, watches } = this.context;
    if (!owner.open && !isWrite(request)) {
      // Its reply could be megabytes, and hundreds of connections may end together.
      observer.refused('dropped-reply', { kind: request.kind });
      return;
    }
    if (!isDataRequest(request)) {
      this.answerNow(asked, request);
      return;
    }
    // One that was too large for the room there is is not fetched again and again.
    if (!this.takeRoom(asked, quota.expectedBytes(request))) {
      return;
    }
    // Before the data is read: what changes meanwhile is found by the next check.
    const seen =
      request.kind === 'watch' ? (asked.waited?.seen ?? watches.version(origin.zonename)) : null;
    const reply = handle(origin, request, this.isOpen);
    if (!(reply instanceof Promise)) {
      this.settle(asked, request, seen, reply);
      return;
    }
    this.setHead({ state: 'running', asked });
    void reply.then((settled) => {
      if (this.head.state === 'running' && this.head.asked === asked) {
        owner.whileBusy(() => {
          this.finishHead();
          this.settle(asked, request, seen, settled);
        });
        owner.proceed();
      } else {
        this.finishDetached(asked, settled);
      }
    });
  }

  /** The handler has answered. */
  private settle(
    asked: PendingRequest,
    request: DataRequest,
    seen: DataVersion | null,
    reply: Reply,
  ): void {
    // Until now its peer could only wait.
    this.account.moved(this.context.now());
    if (!this.owner.open && !isWrite(request)) {
      this.context.observer.refused('dropped-reply', { kind: request.kind });
    } else if (seen === null || !this.wait(asked, seen, reply)) {
      this.deliver(asked, request, reply);
    }
    // What the reply did not need of its room.
    if (this.account.reservedBytes > 0 && this.head.state !== 'building') {
      this.account.reserve(0);
    }
  }

  /** @returns false where a WATCH is not to wait: it has news, its time is over, or something else is asked */
  private wait(asked: PendingRequest, seen: DataVersion, reply: Reply): boolean {
    const { now, watches } = this.context;
    const { request, at, waited } = asked;
    if (request.kind !== 'watch' || reply.kind !== 'success' || reply.text !== request.token) {
      return false;
    }
    const until = waited?.until ?? at + 1000 * request.seconds;
    if (this.ending || this.queue.length > 0 || now() >= until) {
      return false;
    }
    const watch = watches.park(this.origin.zonename, seen, until, () => this.owner.proceed());
    this.setHead({ state: 'waiting', asked, watch });
    return true;
  }

  private wakeWatch(): void {
    if (this.head.state === 'waiting') {
      this.head.watch.woken = true;
    }
  }

  /** A write that was requested is executed, and logged, whether or not its client waits for the reply. */
  private executeDetached(asked: PendingRequest, request: WriteRequest): void {
    const { handle, limits, observer } = this.context;
    // No client leaves that many behind: two queues' full.
    if (this.detached >= 2 * limits.queuedRequests) {
      observer.refused('rate', { kind: request.kind });
      return;
    }
    const reply = handle(this.origin, request);
    if (!(reply instanceof Promise)) {
      this.reportAnswered(asked, reply);
      return;
    }
    this.detached++;
    this.busyBytes += bytesOf(asked);
    void reply.then((settled) => this.finishDetached(asked, settled));
  }

  private finishDetached(asked: PendingRequest, reply: Reply): void {
    this.detached--;
    this.busyBytes -= bytesOf(asked);
    if (isWrite(asked.request)) {
      this.reportAnswered(asked, reply);
    }
    this.owner.proceed();
  }

  private deliver(asked: PendingRequest, request: DataRequest, reply: Reply): void {
    const size = sizeOfReply(request.wire, reply);
    // A write's reply is a few words: it cannot be asked for again.
    if (!isWrite(request)) {
      const isLarge = size > LARGE_BYTES && reply.kind === 'success';
      const whole = isLarge ? size + sizeOfSource(reply) : size;
      this.context.quota.noteBytes(request, whole);
      if (size > SMALL_BYTES && !this.takeRoom(asked, whole)) {
        return;
      }
      if (isLarge) {
        this.account.reserve(whole);
        const encoder = new ReplyEncoder(request.wire, reply);
        this.setHead({ state: 'building', asked, reply, encoder });
        if (!this.stream.reserve(size)) {
          this.stream.destroy();
        }
        return;
      }
    }
    if (this.owner.open) {
      this.write(encodeReply(request.wire, reply));
    }
    this.reportAnswered(asked, reply);
  }

  /** Reserves what a large reply needs to be fetched or built. False: only its request is held until there is room. */
  private takeRoom(asked: PendingRequest, bytes: number): boolean {
    const { quota, observer, limits } = this.context;
    const took = quota.takeReplyRoom(this.account, bytes);
    if (!took) {
      observer.refused('unsent', { limit: limits.replyBytes });
      this.setHead({ state: 'blocked', asked });
    }
    return took;
  }

  private write(bytes: Buffer): void {
    const { stream, account, context } = this;
    if (!stream.writable) {
      return;
    }
    // Only resets are answered before the peer has read what came before.
    if (stream.buffered > context.limits.replyBytes && !this.owner.clear) {
      context.observer.refused('unread', { unsent: account.replyBytes });
      return;
    }
    stream.write(bytes);
    this.sent(bytes.length);
  }

  private sent(bytes: number): void {
    this.written += bytes;
    this.context.observer.sent(bytes);
  }

  private setHead(head: Exclude<Head, { readonly state: 'none' }>): void {
    this.head = head;
    this.busyBytes += bytesOf(head.asked);
  }

  private finishHead(): void {
    if (this.head.state !== 'none') {
      this.busyBytes -= bytesOf(this.head.asked);
      if (this.head.state === 'waiting') {
        this.context.watches.unpark(this.head.watch);
      }
      this.head = NONE;
    }
  }

  private reportAnswered({ request, at }: PendingRequest, reply: Reply | null): void {
    this.context.observer.answered(this.origin, request, reply, this.context.now() - at);
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
