/*
 * A socket of node:net as the stream of a connection to a serial port. It is read at a bounded rate, and in passes with
 * the others: a guest can write without end, at many times the speed of any UART. While we do not read, its hypervisor
 * buffers what it writes or discards it.
 */
import type { Socket } from 'node:net';
import { TaskQueue } from '../lib/scheduler';
import { TokenBucket } from '../lib/token-bucket';
import type { Stream, StreamOwner } from '../platform/stream';

/** Three times the fastest UART, bytes a second. */
const RATE_BYTES = 256 * 1024;
/** Bytes at once: the longest line of a request, and more. */
const BURST_BYTES = 3 * 1024 * 1024;
/** No guest with a UART fills a read of this size; one that does is queued behind the others. */
const SMALL_READ_BYTES = 8 * 1024;
/** Large reads of all ports: four of 64 KiB in one iteration, however many ports there are. */
const largeReads = new TaskQueue({ tasks: 4 });

/** Takes over an open socket, with all of its events. */
export class NetStream implements Stream {
  /** By its owner. */
  paused = false;
  private readonly allowed: TokenBucket;
  private owner: StreamOwner | null = null;
  private large: Buffer | null = null;
  /** Cancels the next read where it has to wait. */
  private cancelRead: (() => void) | null = null;

  constructor(
    private readonly socket: Socket,
    now: () => number,
  ) {
    this.allowed = new TokenBucket({ perSecond: RATE_BYTES, burst: BURST_BYTES }, now);
  }

  get fd(): number | undefined {
    return fdOf(this.socket);
  }

  get buffered(): number {
    return this.socket.writableLength;
  }

  /** It shrinks while a slow peer reads a big reply, where `writableLength` changes only at the reply's end. */
  get undelivered(): number {
    return handleNumber(this.socket, 'writeQueueSize') ?? this.socket.writableLength;
  }

  get gone(): boolean {
    return this.socket.destroyed;
  }

  get needsDrain(): boolean {
    return this.socket.writableNeedDrain;
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
    this.socket.write(bytes, () => this.owner?.drain());
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

  pause(): void {
    this.paused = true;
    this.socket.pause();
  }

  resume(): void {
    this.paused = false;
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
    const allowed = this.allowed.level() - bytes;
    this.allowed.take(bytes);
    // Where one waits, this is what node:net had read already when it was told to pause.
    if (this.cancelRead !== null || this.socket.destroyed) {
      return;
    }
    const readOn = (): void => {
      this.cancelRead = null;
      if (!this.paused) {
        this.socket.resume();
      }
    };
    if (allowed < 0) {
      const timer = setTimeout(readOn, (-allowed * 1000) / RATE_BYTES);
      this.cancelRead = () => clearTimeout(timer);
      this.socket.pause();
    } else if (bytes >= SMALL_READ_BYTES) {
      this.cancelRead = largeReads.add(readOn);
      this.socket.pause();
    }
  }
}

/**
 * The descriptor of an open socket, for getpeerucred; undefined once it is closed. `_handle` is libuv's pipe; its `fd` and
 * `writeQueueSize` are what net.js itself uses. To be removed when node:net offers a descriptor.
 */
export function fdOf(socket: Socket): number | undefined {
  const fd = handleNumber(socket, 'fd');
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

function handleNumber(socket: Socket, name: string): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) {
    return undefined;
  }
  const value: unknown = Reflect.get(handle, name);
  return typeof value === 'number' ? value : undefined;
}
