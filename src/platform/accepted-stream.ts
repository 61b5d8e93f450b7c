/*
 * One connection that came in by a listening socket, as the stream of its owner.
 *
 *   open --end--> ending --> closed
 *    |               |
 *    +---destroy-----+--> closing --> closed
 *
 * It holds no bytes: the sockets that carry it (sockets.ts) do, for all connections together, and tell
 * it what happened to it. What always holds: its owner hears nothing after `destroy` but `closed`, once.
 */
import type { Stream, StreamOwner } from './stream';

/** As in node:net: more than this buffered, and the peer is a slow one. */
const NEEDS_DRAIN_BYTES = 16 * 1024;

/** What moves the bytes of streams. A stream is named by its number, which is another's after `closed`. */
export interface StreamCarrier {
  /** Bytes that the kernel had no room for when it was last given some. */
  buffered(id: number): number;
  /** What the peer has not read by now, as far as the kernel tells. */
  undelivered(id: number): number;
  /** Whether the peer has closed its end. */
  gone(id: number): boolean;
  /** The bytes may be another's when it returns. */
  write(stream: AcceptedStream, bytes: Buffer): void;
  reserve(id: number, bytes: number): boolean;
  fill(id: number, at: number, bytes: Buffer): void;
  commit(stream: AcceptedStream, bytes: number): void;
  setReading(id: number, on: boolean): void;
  /** Closes when all is written. */
  end(id: number): void;
  /** Closes at once. */
  close(id: number): void;
}

/** Made by its carrier, for each connection that is accepted. */
export class AcceptedStream implements Stream {
  readonly id: number;
  paused = false;
  /** The carrier's: bytes that it has not carried out yet. */
  waiting = 0;
  /** The carrier's: this wrote since all was carried out last. */
  wrote = false;
  private readonly carrier: StreamCarrier;
  private readonly descriptor: number;
  private owner: StreamOwner | null = null;
  private phase: 'open' | 'ending' | 'closing' | 'closed' = 'open';

  constructor(carrier: StreamCarrier, id: number, fd: number) {
    this.carrier = carrier;
    this.id = id;
    this.descriptor = fd;
  }

  get fd(): number | undefined {
    return this.phase === 'open' || this.phase === 'ending' ? this.descriptor : undefined;
  }

  get writable(): boolean {
    return this.phase === 'open';
  }

  get buffered(): number {
    return this.fd === undefined ? 0 : this.waiting + this.carrier.buffered(this.id);
  }

  get undelivered(): number {
    return this.fd === undefined ? 0 : this.waiting + this.carrier.undelivered(this.id);
  }

  get gone(): boolean {
    return this.fd === undefined || this.carrier.gone(this.id);
  }

  get needsDrain(): boolean {
    return this.buffered >= NEEDS_DRAIN_BYTES;
  }

  start(owner: StreamOwner): void {
    this.owner = owner;
  }

  write(bytes: Buffer): void {
    if (this.phase === 'open') {
      this.carrier.write(this, bytes);
    }
  }

  reserve(bytes: number): boolean {
    return this.phase === 'open' && this.carrier.reserve(this.id, bytes);
  }

  fill(at: number, bytes: Buffer): void {
    if (this.phase === 'open') {
      this.carrier.fill(this.id, at, bytes);
    }
  }

  commit(bytes: number): void {
    if (this.phase === 'open') {
      this.carrier.commit(this, bytes);
    }
  }

  cork(): void {
    // All that one delivery makes us write leaves together anyway.
  }

  uncork(): void {
    // See cork.
  }

  pause(): void {
    this.read(false);
  }

  resume(): void {
    this.read(true);
  }

  end(): void {
    if (this.phase === 'open') {
      this.phase = 'ending';
      this.carrier.end(this.id);
    }
  }

  destroy(): void {
    if (this.phase === 'open' || this.phase === 'ending') {
      this.phase = 'closing';
      this.carrier.close(this.id);
    }
  }

  // For the carrier.

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
    if (this.phase === 'open' || this.phase === 'ending') {
      this.owner?.drain();
    }
  }

  closed(): void {
    this.phase = 'closed';
    this.owner?.closed();
  }

  private read(on: boolean): void {
    if (this.paused === on && (this.phase === 'open' || this.phase === 'ending')) {
      this.paused = !on;
      this.carrier.setReading(this.id, on);
    }
  }
}
