/*
 * Listening unix sockets and the connections that come in by them, through the addon (native/sockets.h).
 *
 * node:net costs a request several times what its system calls cost, mostly for what no client of ours
 * needs. Here all that one turn of the event loop brought is told in one go, and all that is answered
 * leaves in one go behind it, one write for each connection:
 *
 *   events, inbox --> deliver --> owners: heard, ended ...
 *                                   | write, pause, end, close
 *   the kernel <-- carry out <-- commands, outbox
 *
 * What always holds: an owner is called for its own stream only, never after `closed`; what it writes
 * is carried out before the event loop goes on, in order. One set of sockets serves the process; it
 * is there from the first `listenUnix` to the end.
 */
import { SystemError } from '../lib/errors';
import { errnoName } from './abi';
import { AcceptedStream, type StreamCarrier } from './accepted-stream';
import { loadAddon, type SocketsHandle } from './addon';
import type { Stream } from './stream';

/** A socket that is listened on. */
export interface Listener {
  /** Accepts nobody any more, at once. The file stays. Connections that came in by it live on. */
  close(): void;
}

const EVENTS = 1024;
const COMMANDS = 1024;
const INTS = 4;
const INBOX_BYTES = 1024 * 1024;
const OUTBOX_BYTES = 256 * 1024;
/** Sockets and connections at a time: 4,096 zones with some of each. One more is turned away. */
const MAX_IDS = 65_536;
/** The kernel keeps so many for us while we are busy; more than clients of one zone there are. */
const BACKLOG = 511;

// As in native/sockets.h.
const ACCEPTED = 1;
const UNACCEPTED = 2;
const HEARD = 3;
const ENDED = 4;
const TAKEN = 5;
const CLOSED = 6;
const WRITE = 1;
const PAUSE = 2;
const RESUME = 3;
const END = 4;
const CLOSE = 5;

/** Whom a listener tells. */
interface ListenerOwner {
  readonly accepted: (stream: Stream) => void;
  readonly failed: (err: SystemError) => void;
  readonly path: string;
}

class Sockets implements StreamCarrier {
  private readonly addon = loadAddon();
  private readonly handle: SocketsHandle;
  private readonly events = new Int32Array(EVENTS * INTS);
  private readonly inbox = Buffer.alloc(INBOX_BYTES);
  private readonly commands = new Int32Array(COMMANDS * INTS);
  private readonly outbox = Buffer.alloc(OUTBOX_BYTES);
  private readonly unsentOf = new Uint32Array(MAX_IDS);
  private readonly streams: (AcceptedStream | undefined)[] = [];
  private readonly listeners = new Map<number, ListenerOwner>();
  /** Streams that wrote since commands were carried out last. */
  private writers: AcceptedStream[] = [];
  private commandCount = 0;
  private outboxUsed = 0;
  /** True: commands are carried out without anyone asking for it. */
  private scheduled = false;

  constructor() {
    const { events, inbox, commands, outbox, unsentOf } = this;
    const deliver = (count: number): void => this.deliver(count);
    this.handle = this.addon.openSockets(deliver, events, inbox, commands, outbox, unsentOf);
  }

  listen(path: string, owner: ListenerOwner): Listener {
    const id = this.addon.listen(this.handle, path, BACKLOG);
    if (id < 0) {
      throw new SystemError('bind', path, errnoName(-id));
    }
    this.listeners.set(id, owner);
    return {
      close: () => {
        if (this.listeners.get(id) === owner) {
          this.listeners.delete(id);
          this.command(CLOSE, id);
          this.carryOut();
        }
      },
    };
  }

  buffered(id: number): number {
    return this.unsentOf[id] ?? 0;
  }

  undelivered(id: number): number {
    return this.addon.undelivered(this.handle, id);
  }

  gone(id: number): boolean {
    return this.addon.gone(this.handle, id);
  }

  reserve(id: number, bytes: number): boolean {
    return this.addon.reserve(this.handle, id, bytes) === 0;
  }

  fill(id: number, at: number, bytes: Buffer): void {
    this.addon.fill(this.handle, id, at, bytes);
  }

  commit(stream: AcceptedStream, bytes: number): void {
    // What was written before leaves before.
    this.carryOut();
    this.addon.commit(this.handle, stream.id, bytes);
    this.wrote(stream);
    this.schedule();
  }

  write(stream: AcceptedStream, bytes: Buffer): void {
    const { length } = bytes;
    if (length > OUTBOX_BYTES) {
      this.carryOut();
      this.addon.write(this.handle, stream.id, bytes);
      this.wrote(stream);
      this.schedule();
      return;
    }
    // Before the bytes are there: to carry out makes the outbox empty.
    if (this.outboxUsed + length > OUTBOX_BYTES || this.commandCount === COMMANDS) {
      this.carryOut();
    }
    const at = this.outboxUsed;
    bytes.copy(this.outbox, at);
    this.outboxUsed += length;
    const last = (this.commandCount - 1) * INTS;
    if (last >= 0 && this.commands[last] === WRITE && this.commands[last + 1] === stream.id) {
      this.commands[last + 3] = (this.commands[last + 3] ?? 0) + length;
    } else {
      this.command(WRITE, stream.id, at, length);
    }
    stream.waiting += length;
    this.wrote(stream);
  }

  setReading(id: number, on: boolean): void {
    this.command(on ? RESUME : PAUSE, id);
  }

  end(id: number): void {
    this.command(END, id);
  }

  close(id: number): void {
    this.command(CLOSE, id);
  }

  private command(kind: number, id: number, at = 0, length = 0): void {
    if (this.commandCount === COMMANDS) {
      this.carryOut();
    }
    const from = this.commandCount++ * INTS;
    this.commands[from] = kind;
    this.commands[from + 1] = id;
    this.commands[from + 2] = at;
    this.commands[from + 3] = length;
    this.schedule();
  }

  private wrote(stream: AcceptedStream): void {
    if (!stream.wrote) {
      stream.wrote = true;
      this.writers.push(stream);
    }
  }

  /** What is written outside of a delivery is carried out when the function that wrote it returns. */
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
      this.tell(events[at] ?? 0, events[at + 1] ?? 0, events[at + 2] ?? 0, events[at + 3] ?? 0);
    }
    this.finish();
  }

  /** Until nothing is left to be written: who hears that his bytes were taken may write more. */
  private finish(): void {
    while (this.commandCount > 0 || this.writers.length > 0) {
      this.carryOut();
      const { writers } = this;
      this.writers = [];
      for (const stream of writers) {
        stream.wrote = false;
        stream.flushed();
      }
    }
    this.scheduled = false;
  }

  private carryOut(): void {
    const { commandCount, writers } = this;
    if (commandCount > 0) {
      this.addon.carryOut(this.handle, commandCount);
      this.commandCount = 0;
      this.outboxUsed = 0;
      for (const stream of writers) {
        stream.waiting = 0;
      }
    }
  }

  private tell(kind: number, id: number, a: number, b: number): void {
    switch (kind) {
      case ACCEPTED:
        this.accepted(id, a, b);
        break;
      case UNACCEPTED: {
        const owner = this.listeners.get(id);
        owner?.failed(new SystemError('accept', owner.path, errnoName(a)));
        break;
      }
      case HEARD:
        this.streams[id]?.data(this.inbox.subarray(a, a + b));
        break;
      case ENDED:
        this.streams[id]?.ended(a);
        break;
      case TAKEN:
        this.streams[id]?.flushed();
        break;
      case CLOSED: {
        const stream = this.streams[id];
        this.streams[id] = undefined;
        stream?.closed();
        break;
      }
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
 * @param failed is told why one could not be accepted; the listener goes on
 * @throws SystemError, `bind`: EADDRINUSE, ENOENT, EACCES ...
 */
export function listenUnix(
  path: string,
  accepted: (stream: Stream) => void,
  failed: (err: SystemError) => void,
): Listener {
  sockets ??= new Sockets();
  return sockets.listen(path, { path, accepted, failed });
}
