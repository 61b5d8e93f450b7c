/*
 * From bytes to requests: what one connection heard, and which of it is answered when.
 *
 * A connection pushes what it read and pulls line by line, as its turns come. Here is decided what a line
 * is, and that a new client's reset takes back what an earlier one asked. It reads and writes nothing;
 * replies are made in reply-queue.ts. A serial port has rules of its own: serial-input.ts.
 */
import { Framer } from '../protocol/framer';
import type { Line } from '../protocol/framer';
import { parseLine, parseOversize } from '../protocol/request';
import type { Channel, LineRequest, Request } from '../protocol/request';
import type { ReplyQueue, PendingRequest } from './reply-queue';
import type { LinkLimits } from './limits';
import type { LinkObserver } from './link';

export interface RequestReaderOptions {
  readonly channel: Channel;
  readonly limits: LinkLimits;
  readonly observer: LinkObserver;
  readonly answers: ReplyQueue;
  readonly now: () => number;
}

export type LineSign = 'client' | 'neutral' | 'bad';

/** What a line tells of who is on the port: a client, nothing, or that it is noise. */
export function signOf(request: Request): LineSign {
  switch (request.kind) {
    case 'reset':
      return request.bare ? 'client' : 'bad';
    case 'negotiate':
      return request.accepted ? 'client' : 'bad';
    case 'get':
    case 'keys':
    case 'put':
    case 'delete':
    case 'watch':
    case 'getall':
    case 'hello':
      return request.wire.version === 2 ? 'client' : 'neutral';
    case 'malformed':
      return request.wire.version === 2 ? 'client' : 'bad';
    case 'unknown':
    case 'too-large':
      return 'bad';
    case 'broken':
      return 'neutral';
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** What one connection heard and has not asked for yet. Bounded by the limits of its link. */
export class RequestReader {
  /** Bytes of a port that were no request: noise, cut lines, and more than anyone waits for. */
  dropped = 0;
  protected readonly options: RequestReaderOptions;
  protected readonly framer: Framer;
  protected heardAt: number;

  constructor(options: RequestReaderOptions) {
    this.options = options;
    this.framer = new Framer(options.limits.lineBytes);
    this.heardAt = options.now();
  }

  /** Bytes that were pushed and not looked at. */
  get unread(): number {
    return this.framer.unread;
  }

  /** Bytes held of the line that has no LF yet. Of a line over the limit only its head is held. */
  get heldBytes(): number {
    const { unfinished } = this.framer;
    return unfinished > this.options.limits.lineBytes ? 0 : unfinished;
  }

  /** @param now when it came, on the connection's clock */
  push(chunk: Buffer, now: number): void {
    this.heardAt = now;
    this.framer.push(chunk);
  }

  /** What was pushed may be written to by its owner from now on. */
  keep(): void {
    this.framer.keep();
  }

  /** Takes one line. @returns its bytes, null when there is no whole line */
  next(): number | null {
    const line = this.framer.next();
    if (line === null) {
      return null;
    }
    const bytes = line.kind === 'line' ? line.bytes.length : line.head.length;
    const request = this.understand(line);
    if (request.kind === 'broken') {
      const { reason } = request;
      this.options.observer.refused('broken-frame', { reason, bytes, head: headOf(request.line) });
    } else {
      this.take({ request, at: this.heardAt, bytes });
    }
    return bytes;
  }

  /** Nothing is heard or answered any more. */
  stop(): void {
    // A socket's reader has nothing that waits.
  }

  /** What a line is. */
  protected understand(line: Line): Request {
    const { channel, limits, observer } = this.options;
    if (line.kind === 'oversize') {
      observer.refused('line', { limit: limits.lineBytes });
      return parseOversize(line.head, channel);
    }
    return parseLine(line.bytes, channel);
  }

  private take(asked: PendingRequest): void {
    const { observer } = this.options;
    const { request } = asked;
    const sign = signOf(request);
    if (sign === 'bad' && request.kind !== 'too-large') {
      observer.refused('bad-line', { kind: request.kind, bytes: asked.bytes });
    }
    if (sign === 'client' && (request.kind === 'reset' || request.kind === 'negotiate')) {
      this.greeted();
      this.reset(asked, request);
    } else {
      this.ask(asked);
    }
  }

  /**
   * A new client's reset takes back what an earlier one asked. On a socket there is no earlier one: a WATCH that
   * waits there is answered first.
   */
  protected reset(asked: PendingRequest, request: LineRequest): void {
    const { answers } = this.options;
    if (this.options.channel === 'socket' && answers.onlyWatches) {
      answers.ask(asked);
    } else {
      answers.dropAll();
      answers.answerNow(asked, request);
    }
  }

  /** A client begins. */
  protected greeted(): void {
    // A socket has one from the start.
  }

  /** A request in its order. */
  protected ask(asked: PendingRequest): void {
    this.options.answers.ask(asked);
  }
}

/** What a record may show of a broken frame: its header. Base64 may be a value's. */
function headOf(line: Buffer): string {
  return /^V2[ 0-9a-fA-F]{0,30}/.exec(line.toString('latin1', 0, 32))?.[0] ?? '';
}
