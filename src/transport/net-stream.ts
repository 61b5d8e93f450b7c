/*
 * A socket of node:net as the stream of a connection to a serial port.
 *
 * A port is read at a bounded rate, and in passes with the others. A guest can write without end, at many times the
 * speed of any UART; while we do not read, its hypervisor buffers what it writes or discards it. Also here: what
 * node:net knows of a socket and has no interface for.
 */
import type { Socket } from 'node:net';
import type { TaskQueue } from '../lib/scheduler';
import { TokenBucket } from '../lib/token-bucket';
import type { Stream, StreamOwner } from '../platform/stream';

/** Three times the fastest UART, bytes a second. */
const RATE_BYTES = 256 * 1024;
/** Bytes at once: the longest line of a request, and more. */
const BURST_BYTES = 3 * 1024 * 1024;
/** No guest with a UART fills a read of this size; one that does is queued behind the others. */
const SMALL_READ_BYTES = 8 * 1024;
/** For the queue of reads, which serves the process: 64 KiB each in one iteration, however many ports there are. */
export const PORT_READS = { tasks: 4 };

/** Takes over an open socket, with all of its events. */
export class NetStream implements Stream {
  private readonly allowed: TokenBucket;
  private owner: StreamOwner | null = null;
  private large: Buffer | null = null;
  /** Cancels the next read where it has to wait. */
  private cancelRead: (() => void) | null = null;
  /** Paused by its owner. */
  private pausedByOwner = false;

  constructor(
    private readonly socket: Socket,
    /** Null: it is read as fast as data arrives. */
    private readonly reads: TaskQueue | null = null,
    now: () => number = () => performance.now(),
  ) {
    this.allowed = new TokenBucket({ perSecond: RATE_BYTES, burst: BURST_BYTES }, now);
  }

  get fd(): number | undefined {
    return fdOf(this.socket);
  }

  get buffered(): number {
    return this.socket.writableLength;
  }

  get undelivered(): number {
    return inflightOf(this.socket);
  }

  get gone(): boolean {
    return this.socket.destroyed;
  }

  get needsDrain(): boolean {
    return this.socket.writableNeedDrain;
  }

  get paused(): boolean {
    return this.pausedByOwner;
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
    // The peer vanished: `close` follows, which is all that matters.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.cancelRead?.();
      owner.closed();
    });
    socket.resume();
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes, this.drained);
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
    this.pausedByOwner = true;
    this.socket.pause();
  }

  resume(): void {
    this.pausedByOwner = false;
    if (this.cancelRead === null) {
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
    const allowed = this.allowed.level() - bytes;
    this.allowed.take(bytes);
    if (this.cancelRead !== null) {
      // What node:net had read already when it was told to pause.
      return;
    }
    if (allowed < 0) {
      const timer = setTimeout(this.readOn, (-allowed * 1000) / RATE_BYTES);
      this.cancelRead = (): void => clearTimeout(timer);
      this.socket.pause();
    } else if (bytes >= SMALL_READ_BYTES) {
      this.cancelRead = this.reads.add(this.readOn);
      this.socket.pause();
    }
  }

  private readonly readOn = (): void => {
    this.cancelRead = null;
    if (!this.pausedByOwner) {
      this.socket.resume();
    }
  };

  private readonly drained = (): void => {
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
 * Bytes of the current write that the kernel has not taken. It shrinks while a slow peer reads a big reply, where
 * `writableLength` changes only at the reply's end.
 */
function inflightOf(socket: Socket): number {
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
