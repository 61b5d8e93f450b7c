/*
 * The replies that one connection owes, in the order in which they were asked for.
 *
 *   request --ask--> [queue] --> running --> small: encoded at once --------------> sink
 *                       |           |        large: blocked --room--> building --->
 *                       |           |        WATCH whose token is the same: waiting --woken--> running
 *                       +-----------+-----------+---------+--- dropAll: a new client is on the line
 *
 * What always holds:
 * - One request at a time is with the handler, and the next one starts when its reply has been
 *   written: a GET behind a PUT sees what the PUT stored.
 * - `dropAll` takes back replies, never effects: a write that was asked for is executed, detached, and
 *   the observer is told its true result all the same.
 * - One WATCH waits at most, and nothing waits behind it: what comes next ends it, and is answered after it.
 * - A large reply has its room before there is any of it. Until then only its request is held, and the
 *   handler is asked again; only reads have large replies.
 *
 * Used by a connection, which gives it requests and takes its bytes. It reads nothing, frames nothing,
 * and holds no more than `full` lets its connection give it.
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
import type { DataRequest, LineRequest, Request } from '../protocol/request';
import { SMALL_BYTES, type LinkLimits } from './limits';
import type { Handle, LinkObserver, Origin } from './link';
import type { DataVersion, Parked, Watches } from './watches';
import type { ReplySizes } from './zone-quota';

/** A request and what is known of its coming. */
export interface PendingRequest {
  readonly request: Request;
  /** When its last byte came, in ms of the connection's clock. */
  readonly at: number;
  /** Of its line. */
  readonly bytes: number;
  /** Of a WATCH that has waited: when its time is over, on the same clock. */
  readonly until?: number;
}

type WriteRequest = Extract<DataRequest, { readonly kind: 'put' | 'delete' }>;

/** A large reply that becomes bytes. */
interface Building {
  readonly asked: PendingRequest;
  readonly reply: Reply;
  readonly encoder: ReplyEncoder;
}

/** A WATCH whose token is still the client's. */
interface WaitingWatch {
  readonly asked: PendingRequest;
  readonly parked: Parked;
  /** It is to be asked again. */
  woken: boolean;
}

/** What one that waits takes of memory besides its request: its places in `Watches`, bytes. */
const WATCH_BYTES = 512;
/** Above this a reply is built piece by piece, in memory of its own. */
const LARGE_BYTES = 64 * 1024;

/** Where replies go. */
export interface ReplySink extends ReplyMemory {
  /** True: the kernel took what was written before, so another reply may follow. */
  readonly clear: boolean;
  /** False: what is written is lost, the end is near. */
  readonly open: boolean;
  /** What large replies took in this zone the last time: where there is no room, they are not asked for. */
  readonly sizes: ReplySizes;
  /** True: a large reply of so many bytes may be made now. False: `retry` is called when it may. */
  fits(bytes: number): boolean;
  /** Keeps the room that `fits` found while the reply is fetched, until `fits` is asked again. */
  keep(bytes: number): void;
  /** Gives back what was kept and is not needed. */
  release(): void;
  /** Takes one whole reply. */
  write(bytes: Buffer): void;
  /**
   * Makes memory for one large reply, which `fill` fills.
   * @param whileBuilt bytes that are held besides until `commit`
   */
  reserve(bytes: number, whileBuilt: number): void;
  /** Sends the first bytes of that memory, in one write; with 0 it is given up. */
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
  /** Something was finished by itself: there may be more to do, or an end. */
  readonly moved: () => void;
}

/** The replies of one connection, from its first request to its end. */
export class ReplyQueue {
  private readonly options: ReplyQueueOptions;
  private readonly queue: PendingRequest[] = [];
  /** Of the requests in the queue. */
  private queuedBytes = 0;
  /** Of the requests that run or are replied to, detached ones included. */
  private busyBytes = 0;
  /** With the handler, as a promise. */
  private current: PendingRequest | null = null;
  /** Its reply had no room. */
  private blocked: PendingRequest | null = null;
  /** There is room for it now. */
  private retryable = false;
  /** Room was kept for the reply that is being fetched. */
  private roomKept = false;
  private building: Building | null = null;
  private watch: WaitingWatch | null = null;
  /** No WATCH may wait any more: the peer has ended its side, or we end ours. */
  private ending = false;
  /** Writes whose replies were taken back and that still run. */
  private detached = 0;

  constructor(options: ReplyQueueOptions) {
    this.options = options;
  }

  /** True: the handler has a request, which settles by itself, or a reply is being built. */
  get running(): boolean {
    return this.current !== null || this.building !== null;
  }

  /** True: a reply is owed. */
  get pending(): boolean {
    return this.running || this.blocked !== null || this.watch !== null || this.queue.length > 0;
  }

  /** True: all that is owed is the reply to a WATCH, which waits or is looked at. */
  get onlyWatches(): boolean {
    const isWatch = this.watch !== null || this.current?.request.kind === 'watch';
    return isWatch && this.queue.length === 0;
  }

  /** True: nothing happens until a WATCH ends. */
  get waiting(): boolean {
    return this.watch?.woken === false;
  }

  /** True: the connection must not give it more than resets. */
  get full(): boolean {
    const { limits } = this.options;
    return this.queue.length >= limits.queuedRequests || this.queuedBytes >= limits.lineBytes;
  }

  /** What the requests that wait or run take of memory, bytes. */
  get heldBytes(): number {
    return this.queuedBytes + this.busyBytes;
  }

  /** Takes a request. It is answered at once when nothing stands before it. */
  ask(asked: PendingRequest): void {
    if (this.queue.length === 0 && this.free) {
      this.begin(asked);
    } else {
      this.queue.push(asked);
      this.queuedBytes += bytesOf(asked);
      this.wakeWatch();
    }
  }

  /** A WATCH is answered as it is, now and from now on. */
  endWatch(): void {
    this.ending = true;
    this.wakeWatch();
  }

  /** Replies past the queue: a reset's reply does not wait for what was asked before it. */
  answerNow(asked: PendingRequest, request: LineRequest): void {
    this.answerLine(asked, request);
  }

  /** True: something that waits can go on, by `next`. */
  get ready(): boolean {
    if (this.building !== null) {
      return true;
    }
    if (this.watch !== null) {
      return this.watch.woken && this.options.sink.clear;
    }
    return this.blocked === null ? this.queue.length > 0 && this.free : this.retryable;
  }

  /** There is room for the reply that had none. */
  retry(): void {
    this.retryable = true;
  }

  /** Goes on with one thing that waits: a large reply, or a request. @returns the bytes of it */
  next(): number {
    const { building, blocked, watch } = this;
    if (building !== null) {
      this.build(building);
      return LARGE_BYTES;
    }
    if (watch !== null) {
      const asked = this.takeWatch(watch);
      // Its wait is not the time that its answer took.
      this.begin({ ...asked, at: this.options.now() });
      return 0;
    }
    if (blocked !== null) {
      this.blocked = null;
      this.busyBytes -= bytesOf(blocked);
      this.begin(blocked);
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

  /** Takes back every reply that was not written yet. Writes that wait are started, detached. */
  dropAll(): void {
    const dropped: PendingRequest[] = [];
    if (this.current !== null) {
      dropped.push(this.current);
      this.current = null;
      this.detached++;
    }
    if (this.building !== null) {
      this.busyBytes -= bytesOf(this.building.asked);
      dropped.push(this.building.asked);
      this.building = null;
      this.options.sink.commit(0);
    }
    if (this.blocked !== null) {
      this.busyBytes -= bytesOf(this.blocked);
      dropped.push(this.blocked);
      this.blocked = null;
    }
    if (this.watch !== null) {
      dropped.push(this.takeWatch(this.watch));
    }
    for (const asked of this.queue.splice(0)) {
      dropped.push(asked);
      this.execute(asked);
    }
    this.queuedBytes = 0;
    for (const { request } of dropped) {
      this.options.observer.refused('dropped-reply', { kind: request.kind });
    }
  }

  private get free(): boolean {
    const { limits, sink } = this.options;
    return (
      !this.running &&
      this.blocked === null &&
      this.watch === null &&
      this.detached < limits.queuedRequests &&
      sink.clear
    );
  }

  private begin(asked: PendingRequest): void {
    const { request } = asked;
    const { origin, handle, sink, observer } = this.options;
    if (!sink.open && !isWrite(request)) {
      // Its reply could be megabytes, and hundreds of connections may end together.
      observer.refused('dropped-reply', { kind: request.kind });
      return;
    }
    if (!isDataRequest(request)) {
      this.answerLine(asked, request);
      return;
    }
    const expected = this.expectedBytes(request);
    if (expected > 0) {
      if (!sink.fits(expected)) {
        this.block(asked);
        return;
      }
      sink.keep(expected);
      this.roomKept = true;
    }
    const { watches } = this.options;
    const version = request.kind === 'watch' ? watches.version(origin.zonename) : null;
    const settle = (reply: Reply): void => {
      const isParked = version !== null && this.parks(asked, request, reply, version);
      if (!isParked) {
        this.deliver(asked, request, reply);
      }
    };
    const reply = handle(origin, request);
    if (!(reply instanceof Promise)) {
      settle(reply);
      this.releaseRoom();
      return;
    }
    this.current = asked;
    this.busyBytes += bytesOf(asked);
    void reply.then((settled) => {
      this.busyBytes -= bytesOf(asked);
      if (this.current === asked) {
        this.current = null;
        settle(settled);
      } else {
        this.detached--;
        this.tellDetached(asked, settled);
      }
      this.releaseRoom();
      this.options.moved();
    });
  }

  /** What room a reply needs before it is asked for; of one that was small the last time, none. */
  private expectedBytes(request: DataRequest): number {
    const known = this.options.sink.sizes.of(request);
    if (known === 0 && request.kind === 'getall') {
      return this.options.limits.unsentBytes;
    }
    return known > SMALL_BYTES ? known : 0;
  }

  /** Whether a WATCH waits on, since its token is still the client's and nothing else is asked. */
  private parks(
    asked: PendingRequest,
    request: DataRequest,
    reply: Reply,
    version: DataVersion,
  ): boolean {
    if (request.kind !== 'watch' || reply.kind !== 'success' || reply.text !== request.token) {
      return false;
    }
    const { origin, now, watches, moved } = this.options;
    const until = asked.until ?? asked.at + 1000 * request.seconds;
    if (this.ending || this.queue.length > 0 || now() >= until) {
      return false;
    }
    const wake = (): void => {
      this.wakeWatch();
      moved();
    };
    const kept = { ...asked, until };
    const parked = watches.park(origin.zonename, { wake }, version, until);
    this.watch = { asked: kept, parked, woken: false };
    this.busyBytes += bytesOf(kept) + WATCH_BYTES;
    return true;
  }

  private wakeWatch(): void {
    if (this.watch !== null) {
      this.watch.woken = true;
    }
  }

  private takeWatch({ asked, parked }: WaitingWatch): PendingRequest {
    this.watch = null;
    this.busyBytes -= bytesOf(asked) + WATCH_BYTES;
    this.options.watches.leave(parked);
    return asked;
  }

  /** What the reply did not take of the room that was kept for it. */
  private releaseRoom(): void {
    if (this.roomKept) {
      this.roomKept = false;
      this.options.sink.release();
    }
  }

  /** Lets a write happen whose reply nobody gets. A question without one who waits for it is dropped. */
  private execute(asked: PendingRequest): void {
    const { request } = asked;
    if (!isWrite(request)) {
      return;
    }
    // No client leaves that many behind: two queues' full.
    if (this.detached >= 2 * this.options.limits.queuedRequests) {
      this.options.observer.refused('rate', { kind: request.kind });
      return;
    }
    const reply = this.options.handle(this.options.origin, request);
    if (!(reply instanceof Promise)) {
      this.tellDetached(asked, reply);
      return;
    }
    this.detached++;
    this.busyBytes += bytesOf(asked);
    void reply.then((settled) => {
      this.detached--;
      this.busyBytes -= bytesOf(asked);
      this.tellDetached(asked, settled);
      this.options.moved();
    });
  }

  /** The record of who changed what must not depend on whether he waited for the reply. */
  private tellDetached({ request, at }: PendingRequest, reply: Reply): void {
    if (isWrite(request)) {
      const { observer, origin, now } = this.options;
      observer.answered(origin, request, reply, now() - at);
    }
  }

  private deliver(asked: PendingRequest, request: DataRequest, reply: Reply): void {
    const { sink } = this.options;
    const size = sizeOfReply(request.wire, reply);
    const isLarge = size > LARGE_BYTES && (reply.kind === 'success' || reply.kind === 'list');
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
        this.busyBytes += bytesOf(asked);
        this.building = { asked, reply, encoder: new ReplyEncoder(request.wire, reply) };
        return;
      }
    }
    if (sink.open) {
      sink.write(encodeReply(request.wire, reply));
    }
    this.tellAnswered(asked, reply);
  }

  /** Only the request is held until there is room for its reply. */
  private block(asked: PendingRequest): void {
    this.blocked = asked;
    this.busyBytes += bytesOf(asked);
    this.retryable = false;
  }

  private build({ asked, reply, encoder }: Building): void {
    const { sink } = this.options;
    const whole = encoder.step(sink);
    if (whole !== null) {
      this.building = null;
      this.busyBytes -= bytesOf(asked);
      sink.commit(whole);
      this.tellAnswered(asked, reply);
    }
  }

  private answerLine(asked: PendingRequest, request: LineRequest): void {
    const bytes = replyToLine(request);
    if (bytes !== null) {
      this.options.sink.write(bytes);
      this.tellAnswered(asked, null);
    }
  }

  private tellAnswered({ request, at }: PendingRequest, reply: Reply | null): void {
    const { observer, origin, now } = this.options;
    observer.answered(origin, request, reply, now() - at);
  }
}

/** What a request takes of memory: its text has two bytes a character where one of them is wide. */
function bytesOf({ request, bytes }: PendingRequest): number {
  switch (request.kind) {
    case 'get':
    case 'delete':
      return Math.max(bytes, 2 * request.key.length);
    case 'put':
      return Math.max(bytes, 2 * (request.key.length + request.value.length));
    case 'watch':
      // Each key is a string of its own.
      return (request.keys ?? []).reduce((sum, key) => sum + 2 * key.length + 32, 200);
    default:
      return bytes;
  }
}

function isDataRequest(request: Request): request is DataRequest {
  switch (request.kind) {
    case 'get':
    case 'keys':
    case 'put':
    case 'delete':
    case 'watch':
    case 'getall':
    case 'hello':
      return true;
    default:
      return false;
  }
}

function isWrite(request: Request): request is WriteRequest {
  return request.kind === 'put' || request.kind === 'delete';
}
