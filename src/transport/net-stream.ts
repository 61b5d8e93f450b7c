/*
 * A socket of node:net as a stream for a connection: what a port is made of, which we connect to.
 */
import type { Socket } from 'node:net';
import type { Stream, StreamOwner } from '../platform/stream';
import { fdOf, untakenOf } from './socket-handle';

/** Takes over an open socket, with all of its events. */
export class NetStream implements Stream {
  private readonly socket: Socket;
  private owner: StreamOwner | null = null;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  get fd(): number | undefined {
    return fdOf(this.socket);
  }

  get unsent(): number {
    return this.socket.writableLength;
  }

  get untaken(): number {
    return untakenOf(this.socket);
  }

  get clogged(): boolean {
    return this.socket.writableNeedDrain;
  }

  get paused(): boolean {
    return this.socket.isPaused();
  }

  get writable(): boolean {
    return this.socket.writable;
  }

  start(owner: StreamOwner): void {
    const { socket } = this;
    this.owner = owner;
    socket.on('data', (chunk: Buffer) => owner.heard(chunk));
    socket.on('end', () => owner.ended());
    // The peer vanished: `close` follows and tells all that matters.
    socket.on('error', () => undefined);
    socket.once('close', () => owner.closed());
    socket.resume();
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes, this.taken);
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.socket.destroySoon();
  }

  destroy(): void {
    this.socket.destroy();
  }

  private readonly taken = (): void => {
    this.owner?.taken();
  };
}
