/*
 * The guest's side of a serial port: what a scripted guest, or a program that "opened the tty", uses.
 *
 * `write` sends bytes to the host, the event `data` brings the host's. The loss rules of the emulated
 * port live here: nothing is kept for a host that is away or does not read, and opening the port throws
 * away what was unread. Made by Ttyb only.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

/** Bytes of the host kept for a guest that does not read: about what a socket buffer holds. */
const UNREAD_LIMIT_BYTES = 256 * 1024;

/**
 * Events: `data` (Buffer) bytes of the host; `attached` a host connected; `detached` it left.
 * Bytes wait, unread, as long as `data` has no listener and no program has the port open.
 */
export class GuestPort extends EventEmitter {
  /** Bytes that the guest wrote and no host got. */
  lost = 0;
  /** Bytes of the host that opening the port threw away. */
  discarded = 0;
  /** Bytes of the host that wait for the guest to read. */
  unreadBytes = 0;
  /** Of so many written bytes one is lost; 0: none. */
  dropOneIn = 0;
  private host: Socket | null = null;
  private unread: Buffer[] = [];
  private programs: Socket[] = [];
  private written = 0;

  constructor() {
    super();
    this.on('newListener', (event: string) => {
      if (event === 'data') {
        // The listener is there only after this event.
        queueMicrotask(() => this.deliver());
      }
    });
  }

  get attached(): boolean {
    return this.host !== null;
  }

  /** Sends bytes to the host, without waiting and without a promise that they arrive. */
  write(bytes: Buffer | string): void {
    const whole = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    const kept = this.dropOneIn > 0 ? this.thin(whole) : whole;
    // A backlog means that the kernel's buffer is full: bhyve ignores the failed write.
    if (this.host === null || this.host.writableLength > 0) {
      this.lost += kept.length;
      return;
    }
    this.host.write(kept);
  }

  /** A program opens the port: the FIFO is reset, which takes all unread bytes with it. */
  open(program?: Socket): void {
    this.discardUnread();
    if (program === undefined) {
      return;
    }
    this.programs.push(program);
    program.on('data', (bytes: Buffer) => this.write(bytes));
    // A program that was killed is met by `close`.
    program.on('error', () => undefined);
    program.once('close', () => {
      this.programs = this.programs.filter((other) => other !== program);
    });
    program.resume();
  }

  discardUnread(): void {
    this.discarded += this.unreadBytes;
    this.unread = [];
    this.unreadBytes = 0;
    this.host?.resume();
  }

  /** For Ttyb: the hypervisor ends, and with it every program in the guest. */
  closePrograms(): void {
    for (const program of this.programs) {
      program.destroy();
    }
  }

  /** For Ttyb: serves this host from now on. Attaching the one that is attached does nothing. */
  attach(host: Socket): void {
    if (this.host === host) {
      return;
    }
    this.host = host;
    host.on('data', (bytes: Buffer) => {
      this.unread.push(bytes);
      this.unreadBytes += bytes.length;
      this.deliver();
      if (this.unreadBytes > UNREAD_LIMIT_BYTES) {
        host.pause();
      }
    });
    host.resume();
    this.emit('attached');
  }

  /** For Ttyb: this host is gone. */
  detach(host: Socket): void {
    if (this.host === host) {
      this.host = null;
      this.unread = [];
      this.unreadBytes = 0;
      this.emit('detached');
    }
  }

  /** Who reads a shared tty first gets the bytes: here always the program that opened it first. */
  private deliver(): void {
    const reader = this.programs[0];
    if (reader === undefined && this.listenerCount('data') === 0) {
      return;
    }
    const bytes = this.unread;
    this.unread = [];
    this.unreadBytes = 0;
    for (const chunk of bytes) {
      if (reader !== undefined) {
        reader.write(chunk);
      } else {
        this.emit('data', chunk);
      }
    }
    if (this.host?.isPaused() === true) {
      this.host.resume();
    }
  }

  private thin(bytes: Buffer): Buffer {
    const kept = bytes.filter(() => ++this.written % this.dropOneIn !== 0);
    this.lost += bytes.length - kept.length;
    return Buffer.from(kept);
  }
}
