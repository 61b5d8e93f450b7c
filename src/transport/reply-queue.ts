/*
 * The answers that one connection owes, in the order in which they were asked for.
 *
 *   request --ask--> [queue] --> running --> unfit --> outlet
 *                       |           |          |
 *                       +-----------+----------+--- dropAll: a new client is on the line
 *
 * What always holds:
 * - One request at a time is with the handler, and the next one starts when its answer has been
 *   written: a GET behind a PUT sees what the PUT stored.
 * - `dropAll` takes back answers, never effects: a write that was asked for is carried out, unheard, and
 *   the observer is told its true result all the same.
 * - An answer becomes bytes only when there is room for them; until then it is a reference into the
 *   VM's data.
 *
 * Used by a connection, which gives it requests and takes its bytes. It reads nothing, frames nothing,
 * and holds no more than `full` lets its connection give it.
 */
import { encodeReply, replyToLine } from '../protocol/reply';
import type { Reply } from '../protocol/reply';
import type { DataRequest, LineRequest, Request } from '../protocol/request';
import type { LinkLimits } from './limits';
import type { Handle, LinkObserver, Origin } from './link';

/** A request and what is known of its coming. */
export interface PendingRequest {
  readonly request: Request;
  /** When its last octet came, in ms of the connection's clock. */
  readonly at: number;
  /** Octets of its line. */
  readonly bytes: number;
}

type WriteRequest = Extract<DataRequest, { readonly kind: 'put' | 'delete' }>;

/** Where answers go. */
export interface ReplySink {
  /** True: the kernel took what was written before, so another answer may follow. */
  readonly clear: boolean;
  /** False: what is written is lost, the end is near. */
  readonly open: boolean;
  /** True: so many octets may be written now. False: `roomMade` is called when that may have changed. */
  fits(bytes: number): boolean;
  /** Takes one whole answer. */
  write(bytes: Buffer): void;
}

export interface ReplyQueueOptions {
  readonly origin: Origin;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  readonly outlet: ReplySink;
  readonly now: () => number;
  /** Something was finished by itself: there may be more to do, or an end. */
  readonly moved: () => void;
}

/** The answers of one connection, from its first request to its end. */
export class ReplyQueue {
  private readonly options: ReplyQueueOptions;
  private readonly queue: PendingRequest[] = [];
  private queued = 0;
  /** Octets of the requests that run, unheard ones included. */
  private busy = 0;
  /** With the handler, as a promise. */
  private current: PendingRequest | null = null;
  /** Answered by the handler, too big to be written now. */
  private unfit: { readonly asked: PendingRequest; readonly reply: Reply } | null = null;
  /** It may fit now. */
  private hopeful = false;
  /** Writes whose answers were taken back and that still run. */
  private unheard = 0;

  constructor(options: ReplyQueueOptions) {
    this.options = options;
  }

  /** True: the handler has a request; it settles by itself. */
  get running(): boolean {
    return this.current !== null;
  }

  /** True: an answer is owed. */
  get owing(): boolean {
    return this.current !== null || this.unfit !== null || this.queue.length > 0;
  }

  /** True: the connection must not give it more than resets. */
  get full(): boolean {
    const { limits } = this.options;
    return this.queue.length >= limits.queuedRequests || this.queued >= limits.lineBytes;
  }

  /** Octets of the requests that wait or run. */
  get heldBytes(): number {
    return this.queued + this.busy;
  }

  /** Takes a request. It is answered at once when nothing stands before it. */
  ask(asked: PendingRequest): void {
    if (this.queue.length === 0 && this.free) {
      this.begin(asked);
    } else {
      this.queue.push(asked);
      this.queued += asked.bytes;
    }
  }

  /** Answers past the queue: a reset's answer does not wait for what was asked before it. */
  answerNow(asked: PendingRequest, request: LineRequest): void {
    this.answerLine(asked, request);
  }

  /** True: something that waits can go on, by `next`. */
  get ready(): boolean {
    return this.unfit === null ? this.queue.length > 0 && this.free : this.hopeful;
  }

  /** There may be room for an answer that had none. */
  roomMade(): void {
    this.hopeful = true;
  }

  /** Goes on with one thing that waits: an answer that had no room, or a request. @returns its octets */
  next(): number {
    const { unfit } = this;
    if (unfit !== null) {
      this.unfit = null;
      this.deliver(unfit.asked, unfit.reply);
      return 0;
    }
    const next = this.queue.shift();
    if (next === undefined) {
      return 0;
    }
    this.queued -= next.bytes;
    this.begin(next);
    return next.bytes;
  }

  /** Takes back every answer that was not written yet. Writes that wait are started, unheard. */
  dropAll(): void {
    const dropped: PendingRequest[] = [];
    if (this.current !== null) {
      dropped.push(this.current);
      this.current = null;
      this.unheard++;
    }
    if (this.unfit !== null) {
      dropped.push(this.unfit.asked);
      this.tellUnheard(this.unfit.asked, this.unfit.reply);
      this.unfit = null;
    }
    for (const asked of this.queue.splice(0)) {
      dropped.push(asked);
      this.carryOut(asked);
    }
    this.queued = 0;
    for (const { request } of dropped) {
      this.options.observer.refused('dropped-reply', { kind: request.kind });
    }
  }

  private get free(): boolean {
    const { limits, outlet } = this.options;
    return (
      this.current === null &&
      this.unfit === null &&
      this.unheard < limits.queuedRequests &&
      outlet.clear
    );
  }

  private begin(asked: PendingRequest): void {
    const { request } = asked;
    const { origin, handle, outlet, observer } = this.options;
    if (!outlet.open && !isWrite(request)) {
      // Its answer could be megabytes, and hundreds of connections may end together.
      observer.refused('dropped-reply', { kind: request.kind });
      return;
    }
    if (!isDataRequest(request)) {
      this.answerLine(asked, request);
      return;
    }
    const answer = handle(origin, request);
    if (!(answer instanceof Promise)) {
      this.deliver(asked, answer);
      return;
    }
    this.current = asked;
    this.busy += asked.bytes;
    void answer.then((reply) => {
      this.busy -= asked.bytes;
      if (this.current === asked) {
        this.current = null;
        this.deliver(asked, reply);
      } else {
        this.unheard--;
        this.tellUnheard(asked, reply);
      }
      this.options.moved();
    });
  }

  /** Lets a write happen that nobody hears of. A question that nobody hears the answer of is dropped. */
  private carryOut(asked: PendingRequest): void {
    const { request, bytes } = asked;
    if (!isWrite(request)) {
      return;
    }
    // No client leaves that many behind: two queues' full.
    if (this.unheard >= 2 * this.options.limits.queuedRequests) {
      this.options.observer.refused('rate', { kind: request.kind });
      return;
    }
    const answer = this.options.handle(this.options.origin, request);
    if (!(answer instanceof Promise)) {
      this.tellUnheard(asked, answer);
      return;
    }
    this.unheard++;
    this.busy += bytes;
    void answer.then((reply) => {
      this.unheard--;
      this.busy -= bytes;
      this.tellUnheard(asked, reply);
      this.options.moved();
    });
  }

  /** The record of who changed what must not depend on whether he waited for the answer. */
  private tellUnheard({ request, at }: PendingRequest, reply: Reply): void {
    if (isWrite(request)) {
      const { observer, origin, now } = this.options;
      observer.answered(origin, request, reply, now() - at);
    }
  }

  private deliver(asked: PendingRequest, reply: Reply): void {
    const { request, at } = asked;
    if (!isDataRequest(request)) {
      return;
    }
    const { outlet, observer, origin, now } = this.options;
    // Base64 makes four octets of three; that much is known before the reply is built.
    const size = reply.kind === 'notfound' ? 0 : Math.ceil((reply.text.length * 4) / 3);
    if (!outlet.fits(size)) {
      this.unfit = { asked, reply };
      this.hopeful = false;
      return;
    }
    if (outlet.open) {
      outlet.write(encodeReply(request.wire, reply));
    }
    observer.answered(origin, request, reply, now() - at);
  }

  private answerLine(asked: PendingRequest, request: LineRequest): void {
    const bytes = replyToLine(request);
    if (bytes === null) {
      return;
    }
    const { outlet, observer, origin, now } = this.options;
    outlet.write(bytes);
    observer.answered(origin, request, null, now() - asked.at);
  }
}

function isDataRequest(request: Request): request is DataRequest {
  switch (request.kind) {
    case 'get':
    case 'keys':
    case 'put':
    case 'delete':
      return true;
    default:
      return false;
  }
}

function isWrite(request: Request): request is WriteRequest {
  return request.kind === 'put' || request.kind === 'delete';
}
