/*
 * Listening unix sockets and the connections that come in by them, through the addon (native/sockets.h): node:net costs
 * a request several times what its system calls cost. All that one iteration of the event loop brought is delivered in
 * one go, and all that is answered leaves in one go behind it, one write for each connection:
 *
 *   events, inbox --> deliver --> owners: data, ended ...
 *                                   | write, pause, end, close
 *   the kernel <-- execute <-- commands, outbox
 *
 * An owner is called for its own stream only, never after `destroy` but for `closed`, once; what it writes is executed
 * before the event loop goes on, in order.
 */
import { errnoName, SystemError } from '../lib/errors';
import { loadAddon, type Handle } from './addon';
import type { Stream, StreamOwner } from './stream';

export interface Listener {
  /** Accepts nobody any more, at once. The file stays. Connections that came in by it live on. */
  close(): void;
}

const EVENTS = 1024;
const COMMANDS = 1024;
const INTS = 4;
const INBOX_BYTES = 1024 * 1024;
const OUTBOX_BYTES = 256 * 1024;
/** Sockets and connections at a time: 4,096 zones with some of each. One more is refused. */
const MAX_IDS = 65_536;
/** As in node:net: with more than this buffered the peer is a slow one. */
const NEEDS_DRAIN_BYTES = 16 * 1024;
/** The kernel keeps so many for us while we are busy; more than clients of one zone there are. */
const BACKLOG = 511;

// As in native/sockets.h.
const ACCEPTED = 1;
const ACCEPT_FAILED = 2;
const DATA = 3;
const ENDED = 4;
const DRAIN = 5;
const CLOSED = 6;
const WRITE = 1;
const PAUSE = 2;
const RESUME = 3;
const END = 4;
const CLOSE = 5;

/** Who gets a listener's events. */
interface ListenerOwner {
  readonly accepted: (stream: Stream) => void;
  readonly failed: (err: SystemError) => void;
  readonly path: string;
}

/**
 * One connection that came in by a listening socket. It holds no bytes: the sockets do, for all together.
 *
 *   open --end--> ending --all is written--> closed
 *    |               |
 *    +---destroy-----+--> closing --> closed
 */
class AcceptedStream implements Stream {
  paused = false;
  /** For the sockets: bytes in the outbox. */
  waiting = 0;
  private owner: StreamOwner | null = null;
  private phase: 'open' | 'ending' | 'closing' = 'open';

  /** @param id another connection's after `closed` */
  constructor(
    private readonly sockets: Sockets,
    readonly id: number,
    private readonly descriptor: number,
  ) {}

  get fd(): number | undefined {
    return this.phase === 'closing' ? undefined : this.descriptor;
  }

  get writable(): boolean {
    return this.phase === 'open';
  }

  get buffered(): number {
    return this.phase === 'closing' ? 0 : (this.sockets.bufferedOf[this.id] ?? 0);
  }

  get undelivered(): number {
    const { addon, handle } = this.sockets;
    return this.phase === 'closing' ? 0 : this.waiting + addon.undelivered(handle, this.id);
  }

  get gone(): boolean {
    const { addon, handle } = this.sockets;
    return this.phase === 'closing' || addon.gone(handle, this.id);
  }

  get needsDrain(): boolean {
    return this.waiting + this.buffered >= NEEDS_DRAIN_BYTES;
  }

  start(owner: StreamOwner): void {
    this.owner = owner;
  }

  write(bytes: Buffer): void {
    if (this.phase === 'open') {
      this.sockets.write(this, bytes);
    }
  }

  reserve(bytes: number): boolean {
    const { addon, handle } = this.sockets;
    return this.phase === 'open' && addon.reserve(handle, this.id, bytes) === 0;
  }

  fill(at: number, bytes: Buffer): void {
    const { addon, handle } = this.sockets;
    if (this.phase === 'open') {
      addon.fill(handle, this.id, at, bytes);
    }
  }

  commit(bytes: number): void {
    if (this.phase === 'open') {
      this.sockets.commit(this, bytes);
    }
  }

  pause(): void {
    this.setReading(false);
  }

  resume(): void {
    this.setReading(true);
  }

  end(): void {
    if (this.phase === 'open') {
      this.phase = 'ending';
      this.sockets.command(END, this.id);
    }
  }

  destroy(): void {
    if (this.phase !== 'closing') {
      this.phase = 'closing';
      this.sockets.command(CLOSE, this.id);
    }
  }

  // For the sockets.

  data(chunk: Buffer): void {
    if (this.phase === 'open') {
      this.owner?.data(chunk);
    }
  }

  /** @param errno 0: the peer ended its side, and may still read */
  ended(errno: number): void {
    if (errno !== 0) {
      this.destroy();
    } else if (this.phase === 'open') {
      this.owner?.ended();
    }
  }

  flushed(): void {
    if (this.phase !== 'closing') {
      this.owner?.drain();
    }
  }

  closed(): void {
    this.phase = 'closing';
    this.owner?.closed();
  }

  private setReading(on: boolean): void {
    if (this.paused === on && this.phase !== 'closing') {
      this.paused = !on;
      this.sockets.command(on ? RESUME : PAUSE, this.id);
    }
  }
}

/** All listeners and accepted connections, and the memory that they share with the addon. One serves the process. */
class Sockets {
  readonly addon = loadAddon();
  readonly handle: Handle;
  /** By id: bytes that the kernel had no room for when it was last given some. */
  readonly bufferedOf = new Uint32Array(MAX_IDS);
  private readonly events = new Int32Array(EVENTS * INTS);
  private readonly inbox = Buffer.alloc(INBOX_BYTES);
  private readonly commands = new Int32Array(COMMANDS * INTS);
  private readonly outbox = Buffer.alloc(OUTBOX_BYTES);
  private readonly streams: (AcceptedStream | undefined)[] = [];
  private readonly listeners = new Map<number, ListenerOwner>();
  /** Streams that have bytes in the outbox. */
  private readonly writers: AcceptedStream[] = [];
  /** Streams whose owners wait for `drain`, or have to know how much is buffered. */
  private drains = new Set<AcceptedStream>();
  private commandCount = 0;
  private outboxUsed = 0;
  /** True: `finish` is about to run. */
  private scheduled = false;

  constructor() {
    const { events, inbox, commands, outbox, bufferedOf } = this;
    const deliver = (count: number): void => this.deliver(count);
    this.handle = this.addon.openSockets(deliver, events, inbox, commands, outbox, bufferedOf);
  }

  listen(owner: ListenerOwner): Listener {
    const id = this.addon.listen(this.handle, owner.path, BACKLOG);
    if (id < 0) {
      throw new SystemError('bind', owner.path, errnoName(-id));
    }
    this.listeners.set(id, owner);
    return {
      close: () => {
        if (this.listeners.get(id) === owner) {
          this.listeners.delete(id);
          this.command(CLOSE, id);
          this.execute();
        }
      },
    };
  }

  write(stream: AcceptedStream, bytes: Buffer): void {
    const { length } = bytes;
    if (length > OUTBOX_BYTES) {
      for (let at = 0; at < length; at += OUTBOX_BYTES) {
        this.write(stream, bytes.subarray(at, at + OUTBOX_BYTES));
      }
      return;
    }
    // Before the bytes are there: executing empties the outbox.
    if (this.outboxUsed + length > OUTBOX_BYTES || this.commandCount === COMMANDS) {
      this.execute();
    }
    const at = this.outboxUsed;
    this.outbox.set(bytes, at);
    this.outboxUsed += length;
    const last = (this.commandCount - 1) * INTS;
    if (last >= 0 && this.commands[last] === WRITE && this.commands[last + 1] === stream.id) {
      this.commands[last + 3] = (this.commands[last + 3] ?? 0) + length;
    } else {
      this.command(WRITE, stream.id, at, length);
    }
    if (stream.waiting === 0) {
      this.writers.push(stream);
    }
    stream.waiting += length;
    if (stream.needsDrain) {
      this.drains.add(stream);
    }
  }

  commit(stream: AcceptedStream, bytes: number): void {
    // What was written before leaves before.
    this.execute();
    this.addon.commit(this.handle, stream.id, bytes);
  }

  command(kind: number, id: number, at = 0, length = 0): void {
    if (this.commandCount === COMMANDS) {
      this.execute();
    }
    const from = this.commandCount++ * INTS;
    this.commands[from] = kind;
    this.commands[from + 1] = id;
    this.commands[from + 2] = at;
    this.commands[from + 3] = length;
    this.schedule();
  }

  /** What is written outside of a delivery is executed when the function that wrote it returns. */
  private schedule(): void {
    if (!this.scheduled) {
      this.scheduled = true;
      queueMicrotask(() => this.finish());
    }
  }

  private deliver(count: number): void {
    this.scheduled = true;
    const { events } = this;
    for (let at = 0, end = count * INTS; at < end; at += INTS) {
      this.dispatch(events[at] ?? 0, events[at + 1] ?? 0, events[at + 2] ?? 0, events[at + 3] ?? 0);
    }
    this.finish();
  }

  /** Until nothing is left to be written: an owner may write more on `drain`. */
  private finish(): void {
    while (this.commandCount > 0 || this.drains.size > 0) {
      this.execute();
      const { drains } = this;
      this.drains = new Set();
      drains.forEach((stream) => stream.flushed());
    }
    this.scheduled = false;
  }

  private execute(): void {
    if (this.commandCount === 0) {
      return;
    }
    this.addon.execute(this.handle, this.commandCount);
    this.commandCount = 0;
    this.outboxUsed = 0;
    for (const stream of this.writers) {
      stream.waiting = 0;
      if (stream.buffered > 0) {
        this.drains.add(stream);
      }
    }
    this.writers.length = 0;
  }

  private dispatch(kind: number, id: number, a: number, b: number): void {
    const stream = this.streams[id];
    switch (kind) {
      case ACCEPTED:
        this.accepted(id, a, b);
        break;
      case ACCEPT_FAILED: {
        const owner = this.listeners.get(id);
        owner?.failed(new SystemError('accept', owner.path, errnoName(a)));
        break;
      }
      case DATA:
        stream?.data(this.inbox.subarray(a, a + b));
        break;
      case ENDED:
        stream?.ended(a);
        break;
      case DRAIN:
        stream?.flushed();
        break;
      case CLOSED:
        this.streams[id] = undefined;
        stream?.closed();
        break;
      default:
        break;
    }
  }

  private accepted(id: number, listener: number, fd: number): void {
    const owner = this.listeners.get(listener);
    if (owner === undefined) {
      // Accepted just before its listener was closed.
      this.command(CLOSE, id);
      return;
    }
    const stream = new AcceptedStream(this, id, fd);
    this.streams[id] = stream;
    owner.accepted(stream);
  }
}

let sockets: Sockets | null = null;

/**
 * Binds a new socket to `path` and listens.
 *
 * @param accepted gets each connection; it must start or destroy it before it returns
 * @param failed gets the reason where one could not be accepted; the listener goes on
 * @throws SystemError, `bind`: EADDRINUSE, ENOENT, EACCES ...
 */
export function listenUnix(
  path: string,
  accepted: (stream: Stream) => void,
  failed: (err: SystemError) => void,
): Listener {
  sockets ??= new Sockets();
  return sockets.listen({ path, accepted, failed });
}
