/*
 * A socket of node:net as a stream for a connection: what a port is made of, which we connect to.
 *
 * A port is read at a bounded rate, and in rounds with the others. A guest can write without end, at many
 * times the speed of any UART; what it writes is its hypervisor's to keep or to drop while we do not read.
 * Also here: what node:net knows of a socket and does not tell.
 */
import type { Socket } from 'node:net';
import type { Stream, StreamOwner } from '../platform/stream';

/** The fastest UART brings a third of it, bytes a second. */
const RATE_BYTES = 256 * 1024;
/** At once: the longest line of a request, and more. */
const BURST_BYTES = 3 * 1024 * 1024;
/** No guest with a UART fills a read of this size; who does takes turns. */
const SMALL_READ_BYTES = 8 * 1024;
/** Reads of 64 KiB each in a turn of the event loop, whatever the number of ports. */
const READS_A_TURN = 4;

/** Lets ports that bring much be read one behind the other. One serves the process. */
export class PortReads {
  private readonly waiting = new Set<() => void>();
  private scheduled = false;

  /** Calls `read` in a later turn of the event loop. @returns takes it back */
  later(read: () => void): () => void {
    this.waiting.add(read);
    this.schedule();
    return () => this.waiting.delete(read);
  }

  private schedule(): void {
    if (!this.scheduled && this.waiting.size > 0) {
      this.scheduled = true;
      setImmediate(() => this.turn());
    }
  }

  private turn(): void {
    this.scheduled = false;
    let left = READS_A_TURN;
    for (const read of this.waiting) {
      if (left-- === 0) {
        break;
      }
      this.waiting.delete(read);
      read();
    }
    this.schedule();
  }
}

/** Takes over an open socket, with all of its events. */
export class NetStream implements Stream {
  private readonly socket: Socket;
  /** Null: it is read as fast as it comes. */
  private readonly reads: PortReads | null;
  private readonly now: () => number;
  private owner: StreamOwner | null = null;
  private large: Buffer | null = null;
  private allowedBytes = BURST_BYTES;
  private allowedAt: number;
  /** Ends the wait for the next read; null while it is read. */
  private endWait: (() => void) | null = null;
  /** By its owner. */
  private stopped = false;

  constructor(
    socket: Socket,
    reads: PortReads | null = null,
    now: () => number = () => performance.now(),
  ) {
    this.socket = socket;
    this.reads = reads;
    this.now = now;
    this.allowedAt = now();
  }

  get fd(): number | undefined {
    return fdOf(this.socket);
  }

  get buffered(): number {
    return this.socket.writableLength;
  }

  get undelivered(): number {
    return untakenOf(this.socket);
  }

  get gone(): boolean {
    return this.socket.destroyed;
  }

  get needsDrain(): boolean {
    return this.socket.writableNeedDrain;
  }

  get paused(): boolean {
    return this.stopped;
  }

  get writable(): boolean {
    return this.socket.writable;
  }

  start(owner: StreamOwner): void {
    const { socket } = this;
    this.owner = owner;
    socket.on('data', (chunk: Buffer) => {
      owner.data(chunk);
      this.charge(chunk.length);
    });
    socket.on('end', () => owner.ended());
    // The peer vanished: `close` follows and tells all that matters.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.endWait?.();
      owner.closed();
    });
    socket.resume();
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes, this.taken);
  }

  reserve(bytes: number): boolean {
    this.large = Buffer.allocUnsafeSlow(bytes);
    return true;
  }

  fill(at: number, bytes: Buffer): void {
    if (this.large !== null) {
      bytes.copy(this.large, at);
    }
  }

  commit(bytes: number): void {
    const { large } = this;
    this.large = null;
    if (large !== null && bytes > 0) {
      this.write(large.subarray(0, bytes));
    }
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  pause(): void {
    this.stopped = true;
    this.socket.pause();
  }

  resume(): void {
    this.stopped = false;
    if (this.endWait === null) {
      this.socket.resume();
    }
  }

  end(): void {
    this.socket.destroySoon();
  }

  destroy(): void {
    this.socket.destroy();
  }

  private charge(bytes: number): void {
    if (this.reads === null || this.socket.destroyed) {
      return;
    }
    const now = this.now();
    const refilled = this.allowedBytes + ((now - this.allowedAt) * RATE_BYTES) / 1000;
    this.allowedBytes = Math.min(BURST_BYTES, refilled) - bytes;
    this.allowedAt = now;
    if (this.endWait !== null) {
      // What node:net had read already when it was told to pause.
      return;
    }
    if (this.allowedBytes < 0) {
      const timer = setTimeout(this.readOn, (-this.allowedBytes * 1000) / RATE_BYTES);
      this.rest(() => clearTimeout(timer));
    } else if (bytes >= SMALL_READ_BYTES) {
      this.rest(this.reads.later(this.readOn));
    }
  }

  private rest(end: () => void): void {
    this.endWait = end;
    this.socket.pause();
  }

  private readonly readOn = (): void => {
    this.endWait = null;
    if (!this.stopped) {
      this.socket.resume();
    }
  };

  private readonly taken = (): void => {
    this.owner?.drain();
  };
}

/**
 * The descriptor of an open socket, for getpeerucred; undefined once it is closed. `_handle` is libuv's pipe
 * beneath a socket; its `fd` and `writeQueueSize` are what net.js itself uses. To be removed when node:net
 * offers a descriptor.
 */
export function fdOf(socket: Socket): number | undefined {
  const fd = handleNumber(socket, 'fd');
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

/**
 * Bytes of the write under way that the kernel has not taken. It shrinks while a slow peer reads a big
 * reply, which `writableLength` tells only at the reply's end.
 */
function untakenOf(socket: Socket): number {
  return handleNumber(socket, 'writeQueueSize') ?? socket.writableLength;
}

function handleNumber(socket: Socket, name: string): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) {
    return undefined;
  }
  const value: unknown = Reflect.get(handle, name);
  return typeof value === 'number' ? value : undefined;
}
