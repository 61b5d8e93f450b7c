/*
 * A connection to a guest's serial port: a line that all programs of the guest share, with noise on it.
 *
 * - Nothing marks where a client begins. A bare newline that ends what another client left, after a pause, is the next
 *   client's: it is answered, and what was left is dropped.
 * - Bytes get lost. A frame is searched for behind noise, and the tail of one gets silence, not FAILURE.
 * - A port is always read, since its hypervisor discards what is not read. What is too much is dropped here, line by
 *   line; a client that waits for its replies never loses one.
 * - It gets one reply at a time: one that the kernel has not taken yet can still be dropped when a new client begins.
 * - A tty that echoes sends each reply back as a request, and a login prompt takes each reply for a user's name. After
 *   20 bad lines in a row one is answered a second.
 */
import { isFrameTail } from '../protocol/frame';
import type { Line } from '../protocol/line-reader';
import type { Stream } from '../platform/stream';
import type { LineRequest, Request } from '../protocol/request';
import { Connection, isBadLine, type ConnectionContext } from './connection';
import type { Origin } from './link';
import type { PendingRequest } from './reply-queue';

/** No client pauses so long before the LF of its line: one that comes later is the next client's. */
const CUT_LINE_MS = 1000;
/**
 * Each client is silent for 100 ms before its newline. When one comes after that, a frame shorter than its own length
 * was left by another client; a little less, since what came before may have been read late.
 */
const CUT_FRAME_MS = 80;
/** A V2 frame's beginning within its header, or the whole header, which is captured with the length in it. */
const FRAME_BEGUN = /^V2(?:$| \d{0,15}$| \d{1,15} [0-9a-f]{0,8}$)|^(V2 (\d{1,15}) [0-9a-f]{8} )/;
/** Longer than any header. */
const MAX_HEADER_BYTES = 32;
/** More than a guest sends when it opens the port. */
const MAX_NULS = 64;
/** Whole lines of a flood that are parsed: a client sends one and waits. */
const MAX_LINES = 64;
const FRAME_START = Buffer.from('V2 ', 'latin1');
const LF = 0x0a;
const CR = 0x0d;
const RESET: Request = { kind: 'reset', bare: true };

export interface PortEvents {
  /** Bytes were not part of a request: noise, cut lines, and more than any client waits for. */
  dropped(bytes: number): void;
  /** Runs once, when the descriptor is closed. */
  closed(): void;
}

export class PortConnection extends Connection {
  protected override readonly channel = 'serial';
  private readonly guard: EchoGuard;
  /** When the last bytes other than NULs were read. */
  private textAt: number;
  /** The LF to come ends a line that its sender left. */
  private cut = false;
  /** The next line may lack its beginning: nobody was connected, or a stray LF is in its middle. */
  private afterLoss = true;

  /** @param stream must not call its owner before this returns */
  constructor(
    stream: Stream,
    origin: Origin,
    context: ConnectionContext,
    private readonly events: PortEvents,
  ) {
    super(stream, origin, context, () => events.closed());
    this.guard = new EchoGuard(context.now);
    this.textAt = this.receivedAt;
  }

  override closed(): void {
    this.guard.stop();
    super.closed();
  }

  override get clear(): boolean {
    return this.stream.buffered === 0;
  }

  protected override get mayAsk(): boolean {
    return this.phase !== 'closed';
  }

  protected override controlFlow(): void {
    // It is always read.
  }

  protected override get hasAnsweredAll(): boolean {
    // A hypervisor that ended its side is gone: nobody would read.
    return this.phase === 'hungUp' || super.hasAnsweredAll;
  }

  protected override push(chunk: Buffer): void {
    const { lines, context, receivedAt: now } = this;
    const text = afterNuls(chunk);
    if (lines.unread === 0 && lines.unfinished > 0 && startsWithNewline(text)) {
      const paused = now - this.textAt;
      this.cut = paused >= CUT_LINE_MS || (paused >= CUT_FRAME_MS && isCutFrame(lines.held));
    }
    if (lines.unread > context.limits.lineBytes) {
      this.dropBacklog();
    }
    // A pause includes the NULs that are sent when the next client opens the port.
    this.textAt = text.length === 0 ? this.textAt : now;
    const kept = lastLines(chunk);
    if (kept > 0) {
      lines.push(chunk.subarray(0, kept));
      this.dropBacklog();
    }
    lines.push(chunk.subarray(kept));
  }

  protected override parse(line: Line): Request {
    const { cut, afterLoss, events } = this;
    this.cut = false;
    this.afterLoss = false;
    const request = super.parse(line);
    const isClient = senderOf(request) === 'client';
    // A whole frame whose LF came late is a slow guest's: length and CRC cannot be right by chance.
    if (cut && !isClient) {
      events.dropped(line.kind === 'line' ? line.bytes.length : line.head.length);
      return RESET;
    }
    if (line.kind !== 'line') {
      return request;
    }
    const { bytes } = line;
    if (isClient && 'wire' in request) {
      // Base64 holds no SP, so a verb's frame begins at the last of these.
      const noise = bytes.lastIndexOf(FRAME_START);
      if (noise > 0) {
        events.dropped(noise);
      }
      return request;
    }
    const isTail = isText(request) && isFrameTail(bytes, afterLoss);
    if (!isTail && request.kind !== 'broken') {
      return request;
    }
    this.afterLoss = true;
    events.dropped(bytes.length);
    return isTail ? { kind: 'broken', reason: 'the rest of a frame', line: bytes } : request;
  }

  /** A new client: nobody waits for the replies to earlier requests, nor for a WATCH. */
  protected override reset(asked: PendingRequest, request: LineRequest): void {
    this.guard.clear();
    this.replies.dropAll();
    this.replies.answerNow(asked, request);
  }

  protected override ask(asked: PendingRequest): void {
    const { replies } = this;
    const sender = senderOf(asked.request);
    if (sender === 'client') {
      this.guard.clear();
    } else if (sender === 'unclear') {
      this.guard.stop();
    }
    if (replies.full) {
      this.drop('queue', asked);
    } else if (sender !== 'noise') {
      replies.ask(asked);
    } else if (!this.guard.bad(() => replies.ask(asked))) {
      this.drop('rate', asked);
    }
  }

  /** A whole line that is too much. */
  private drop(reason: 'queue' | 'rate', { request, bytes }: PendingRequest): void {
    this.events.dropped(bytes + 1);
    this.context.observer.refused(reason, { kind: request.kind });
  }

  /** More lines than can be answered in time: no client waits for those replies. */
  private dropBacklog(): void {
    const before = this.lines.unread + this.lines.unfinished;
    // Only the line that is still unfinished may be that of a client who waits.
    this.lines.dropWholeLines();
    const bytes = before - this.lines.unfinished;
    this.events.dropped(bytes);
    this.context.observer.refused('rate', { bytes });
  }
}

/** Who sent a line: a client of the protocol, noise, or perhaps either. */
function senderOf(request: Request): 'client' | 'noise' | 'unclear' {
  if (isBadLine(request)) {
    return 'noise';
  }
  const isPlain = 'wire' in request ? request.wire.version === 1 : request.kind === 'broken';
  return isPlain ? 'unclear' : 'client';
}

/** Plain text: a V1 line, or not a request. */
function isText(request: Request): boolean {
  const unknown = request.kind === 'unknown' || request.kind === 'get';
  return unknown ? request.wire.version === 1 : request.kind === 'reset' && !request.bare;
}

function afterNuls(chunk: Buffer): Buffer {
  let from = 0;
  while (from < MAX_NULS && chunk[from] === 0) {
    from++;
  }
  return chunk.subarray(from);
}

function startsWithNewline(chunk: Buffer): boolean {
  return chunk[0] === LF || (chunk[0] === CR && chunk[1] === LF);
}

/** Whether an unfinished line ends in a frame that is shorter than its own length. */
function isCutFrame(line: Buffer): boolean {
  const found = line.lastIndexOf(FRAME_START);
  const start = found < 0 ? Math.max(0, line.length - 2) : found;
  const begun = FRAME_BEGUN.exec(line.toString('latin1', start, start + MAX_HEADER_BYTES));
  if (begun === null) {
    return false;
  }
  const [, header = '', length = Infinity] = begun;
  return line.length - start - header.length < Number(length);
}

/** The offset of the last lines of a chunk, which a client may wait for; 0: all of it. */
function lastLines(chunk: Buffer): number {
  if (chunk.length <= MAX_LINES) {
    return 0;
  }
  let at = chunk.length;
  for (let lines = 0; lines <= MAX_LINES; lines++) {
    at = at === 0 ? -1 : chunk.lastIndexOf(LF, at - 1);
    if (at < 0) {
      return 0;
    }
  }
  return at + 1;
}

/** Bad lines in a row that are answered at once: more than any client sends before it has reset the protocol. */
const TOLERATED = 20;
const INTERVAL_MS = 1000;

/** Counts the bad lines of one connection. */
class EchoGuard {
  private inRow = 0;
  private answeredAt = -Infinity;
  private waiting: NodeJS.Timeout | null = null;

  constructor(private readonly now: () => number) {}

  /** A client begins: the count starts again, and the reply that waits is dropped. */
  clear(): void {
    this.inRow = 0;
    this.stop();
  }

  /**
   * A bad line was read.
   * @param answer answers it: called at once, or within a second
   * @returns false when it is not answered
   */
  bad(answer: () => void): boolean {
    this.inRow++;
    if (this.waiting !== null) {
      return false;
    }
    const answerNow = (): void => {
      this.waiting = null;
      this.answeredAt = this.now();
      answer();
    };
    const waitMs = this.answeredAt + INTERVAL_MS - this.now();
    if (this.inRow <= TOLERATED || waitMs <= 0) {
      answerNow();
    } else {
      this.waiting = setTimeout(answerNow, waitMs);
    }
    return true;
  }

  /** Drops the reply that waits; the count goes on. */
  stop(): void {
    if (this.waiting !== null) {
      clearTimeout(this.waiting);
      this.waiting = null;
    }
  }
}
