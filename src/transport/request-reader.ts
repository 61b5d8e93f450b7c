/*
 * From octets to requests: what one connection heard, and which of it is answered when.
 *
 * A connection pushes what it read and pulls line by line, as its turns come. Here is decided what a
 * line is (a request, the end of a line that somebody left, a new client's reset), what is dropped, and
 * what a port that talks to itself is told. It reads and writes nothing; answers are made in answers.ts.
 */
import { isRestOfFrame } from '../protocol/frame-rest';
import { Framer } from '../protocol/framer';
import type { Line } from '../protocol/framer';
import { parseLine, parseOversize } from '../protocol/request';
import type { Channel, Request } from '../protocol/request';
import type { ReplyQueue, PendingRequest } from './reply-queue';
import { EchoGuard, signOf } from './echo-guard';
import type { LinkLimits } from './limits';
import type { LinkObserver } from './link';

/** No line of a client pauses so long before its LF: a LF that comes later is the next client's. */
const CUT_LINE_MS = 1000;
/** More of them than any opening of a port sends. */
const MOST_NULS = 64;
const FRAME_START = Buffer.from('V2 ', 'latin1');
const LF = 0x0a;
const CR = 0x0d;
const RESET: Request = { kind: 'reset', bare: true };

export interface RequestReaderOptions {
  readonly channel: Channel;
  readonly limits: LinkLimits;
  readonly observer: LinkObserver;
  readonly answers: ReplyQueue;
  readonly now: () => number;
}

/** What one connection heard and has not asked for yet. Bounded by the limits of its link. */
export class RequestReader {
  /** Octets of a port that were no request: noise, cut lines, and more than anyone waits for. */
  dropped = 0;
  private readonly options: RequestReaderOptions;
  private readonly framer: Framer;
  private readonly guard: EchoGuard | null;
  private heardAt: number;
  /** The LF to come ends a line that its sender left. */
  private cut = false;
  /** The line to come may lack its beginning: nobody was there, or a stray LF is in the middle. */
  private afterLoss = true;

  constructor(options: RequestReaderOptions) {
    this.options = options;
    this.framer = new Framer(options.limits.lineBytes);
    this.guard = options.channel === 'serial' ? new EchoGuard(options.now) : null;
    this.heardAt = options.now();
  }

  /** Octets that were pushed and not looked at. */
  get unread(): number {
    return this.framer.unread;
  }

  /** Octets held of the line that has no LF yet. Of a line over the limit only its head is held. */
  get heldBytes(): number {
    const { unfinished } = this.framer;
    return unfinished > this.options.limits.lineBytes ? 0 : unfinished;
  }

  /** @param now when it came, on the connection's clock */
  push(chunk: Buffer, now: number): void {
    if (this.options.channel === 'serial') {
      const paused = now - this.heardAt >= CUT_LINE_MS;
      const said = afterNuls(chunk);
      if (paused && this.unread === 0 && this.framer.unfinished > 0 && startsWithNewline(said)) {
        this.cut = true;
      }
      if (this.unread > this.options.limits.lineBytes) {
        this.dropBacklog();
      }
      // A pause goes on through the NULs that come when the next client opens the port.
      this.heardAt = said.length === 0 ? this.heardAt : now;
    } else {
      this.heardAt = now;
    }
    this.framer.push(chunk);
  }

  /** What was pushed may be written to by its owner from now on. */
  keep(): void {
    this.framer.keep();
  }

  /** Takes one line. @returns its octets, null when there is no whole line */
  next(): number | null {
    const line = this.framer.next();
    if (line === null) {
      return null;
    }
    const bytes = line.kind === 'line' ? line.bytes.length : line.head.length;
    const request = this.understand(line, bytes);
    if (request.kind === 'broken') {
      const { reason } = request;
      this.dropped += this.guard === null ? 0 : bytes;
      this.options.observer.refused('broken-frame', { reason, bytes, head: headOf(request.line) });
    } else {
      this.take({ request, at: this.heardAt, bytes });
    }
    return bytes;
  }

  /** Nothing is heard or told any more. */
  stop(): void {
    this.guard?.stop();
  }

  private understand(line: Line, bytes: number): Request {
    const { channel, limits, observer } = this.options;
    const { cut, afterLoss } = this;
    this.cut = false;
    this.afterLoss = false;
    if (line.kind === 'oversize') {
      observer.refused('line', { limit: limits.lineBytes });
    }
    const request =
      line.kind === 'line' ? parseLine(line.bytes, channel) : parseOversize(line.head, channel);
    // A whole frame whose LF came late is a slow guest's: length and CRC cannot be right by chance.
    if (cut && signOf(request) !== 'client') {
      this.dropped += bytes;
      return RESET;
    }
    if (this.guard !== null && line.kind === 'line' && isFrame(request)) {
      // Base64 holds no SP, so a verb's frame begins where the line says this for the last time.
      this.dropped += Math.max(0, line.bytes.lastIndexOf(FRAME_START));
    } else if (this.guard !== null && line.kind === 'line') {
      return this.lookForLoss(line.bytes, request, afterLoss);
    }
    return request;
  }

  /** A port's line that is no frame with a verb: the rest of one gets silence. */
  private lookForLoss(line: Buffer, request: Request, afterLoss: boolean): Request {
    if (isWords(request) && isRestOfFrame(line, afterLoss)) {
      this.afterLoss = true;
      return { kind: 'broken', reason: 'the rest of a frame', line };
    }
    this.afterLoss = request.kind === 'broken';
    return request;
  }

  private take(asked: PendingRequest): void {
    const { answers, observer } = this.options;
    const { request } = asked;
    const sign = signOf(request);
    if (sign === 'client') {
      this.guard?.clear();
    } else if (sign === 'neutral') {
      this.guard?.stop();
    } else if (request.kind !== 'too-large') {
      observer.refused('bad-line', { kind: request.kind, bytes: asked.bytes });
    }
    if (sign === 'client' && (request.kind === 'reset' || request.kind === 'negotiate')) {
      answers.dropAll();
      answers.answerNow(asked, request);
    } else if (this.guard === null) {
      answers.ask(asked);
    } else if (answers.full) {
      this.drop('queue', asked);
    } else if (sign === 'bad' && !this.guard.bad(() => answers.ask(asked))) {
      this.drop('rate', asked);
    } else if (sign !== 'bad') {
      answers.ask(asked);
    }
  }

  /** A line of a port that is whole, and too much. */
  private drop(reason: 'queue' | 'rate', { request, bytes }: PendingRequest): void {
    this.dropped += bytes + 1;
    this.options.observer.refused(reason, { kind: request.kind });
  }

  /** More on a port than turns come round for: nobody waits for answers to that. */
  private dropBacklog(): void {
    const before = this.unread + this.framer.unfinished;
    // Only the line that is still unfinished may be a client's who waits.
    this.framer.dropWholeLines();
    const bytes = before - this.framer.unfinished;
    this.dropped += bytes;
    this.options.observer.refused('rate', { bytes });
  }
}

/** A client's frame: its code is a verb of the protocol. */
function isFrame(request: Request): boolean {
  return 'wire' in request && request.wire.version === 2 && signOf(request) === 'client';
}

/** A line of V1, or of nothing. */
function isWords(request: Request): boolean {
  const unknown = request.kind === 'unknown' || request.kind === 'get';
  return unknown ? request.wire.version === 1 : request.kind === 'reset' && !request.bare;
}

function afterNuls(chunk: Buffer): Buffer {
  let from = 0;
  while (from < MOST_NULS && chunk[from] === 0) {
    from++;
  }
  return chunk.subarray(from);
}

function startsWithNewline(chunk: Buffer): boolean {
  return chunk[0] === LF || (chunk[0] === CR && chunk[1] === LF);
}

/** What a record may show of a broken frame: its header. Base64 may be a value's. */
function headOf(line: Buffer): string {
  return /^V2[ 0-9a-fA-F]{0,30}/.exec(line.toString('latin1', 0, 32))?.[0] ?? '';
}
