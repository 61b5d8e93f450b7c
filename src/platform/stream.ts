/*
 * A stream of bytes, as connections know it: a zone's socket (sockets.ts), or a socket of node:net to a
 * hypervisor's port (transport/net-stream.ts). Types only, below both.
 */

/** The stream beneath a connection, whatever it is made of. Bytes are written in order. */
export interface Stream {
  /** The descriptor, for getpeerucred; to be asked for when the stream is new. */
  readonly fd: number | undefined;
  /** Bytes that the kernel had no room for when it was last given some. */
  readonly buffered: number;
  /** What the peer has not read by now, as far as the kernel knows: never less than `buffered`. */
  readonly undelivered: number;
  /**
   * True: nobody will read what is written. Worth asking where the stream was not read for a while: a
   * reader alone sees its end.
   */
  readonly gone: boolean;
  /** True: so much was written, or is buffered, that more should wait for `drain`. */
  readonly needsDrain: boolean;
  readonly paused: boolean;
  /** False once it ends or is closed: what is written then is lost. */
  readonly writable: boolean;
  /** Lets the events come. Called once. */
  start(owner: StreamOwner): void;
  write(bytes: Buffer): void;
  /**
   * Makes memory for one large write, which is filled piece by piece and sent by `commit`; a stream has
   * one at a time. False where there is none.
   */
  reserve(bytes: number): boolean;
  /** Takes a copy. */
  fill(at: number, bytes: Buffer): void;
  /** Sends the first bytes of the memory in one write; with 0 nothing is sent. The memory is gone then. */
  commit(bytes: number): void;
  pause(): void;
  resume(): void;
  /** Closes when all is written. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Who gets a stream's events. */
export interface StreamOwner {
  /** The bytes are another's when it returns: what is needed longer must be copied. */
  data(chunk: Buffer): void;
  /** The peer has ended its side. */
  ended(): void;
  /** The kernel was given what `needsDrain` was true for, or took only a part of it: `buffered` says what is left. */
  drain(): void;
  /** The descriptor is closed. Called once, the last of all. */
  closed(): void;
}
