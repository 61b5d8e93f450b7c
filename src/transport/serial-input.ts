/*
 * What is heard on a guest's serial port: a line that whoever is in the guest shares, with noise on it.
 *
 * Here are the rules that a socket does not have:
 * - Nobody says where a client begins. A bare newline that ends what another left, after a pause, is the next
 *   client's: it is answered, and what was left is forgotten.
 * - Bytes get lost. A frame is looked for behind noise, and the rest of one gets silence, not FAILURE.
 * - A port is always read. What nobody waits for is dropped here, line by line.
 * - A port can talk to itself: a tty that echoes sends each answer back as a request, and a login prompt takes
 *   each answer for a user's name. After 20 bad lines in a row one is answered a second.
 */
import { isFrameTail } from '../protocol/frame';
import type { Line } from '../protocol/line-reader';
import type { Request } from '../protocol/request';
import type { PendingRequest } from './reply-queue';
import { RequestReader, signOf } from './request-reader';
import type { RequestReaderOptions } from './request-reader';

/** No line of a client pauses so long before its LF: a LF that comes later is the next client's. */
const CUT_LINE_MS = 1000;
/**
 * Each client is silent for 100 ms before its newline. A frame that is shorter than it says was left by
 * another when a newline comes after that; a little less, since what came before it may have been read late.
 */
const CUT_FRAME_MS = 80;
/** A V2 frame's header, or the beginning of one, and what there is of its body. */
const FRAME_BEGUN = /^V2(?:$| (?:\d{0,15}$|(\d{1,15}) (?:[0-9a-f]{0,8}$|[0-9a-f]{8} (.*)$)))/s;
/** More of a header and less of a body tell nothing more. */
const LENGTH_OF_HEADER = 32;
/** More of them than any opening of a port sends. */
const MOST_NULS = 64;
/** Whole lines of a flood that are looked at: a client sends one and waits. */
const MOST_LINES = 64;
const FRAME_START = Buffer.from('V2 ', 'latin1');
const LF = 0x0a;
const CR = 0x0d;
const RESET: Request = { kind: 'reset', bare: true };

/** More than any client sends while it finds its way into the protocol. */
const TOLERATED = 20;
const INTERVAL_MS = 1000;

/** What one port's connection heard and has not asked for yet. */
export class SerialInput extends RequestReader {
  private readonly guard: EchoGuard;
  /** The LF to come ends a line that its sender left. */
  private cut = false;
  /** The line to come may lack its beginning: nobody was there, or a stray LF is in the middle. */
  private afterLoss = true;

  constructor(options: RequestReaderOptions) {
    super(options);
    this.guard = new EchoGuard(options.now);
  }

  override push(chunk: Buffer, now: number): void {
    const { framer, options } = this;
    const said = afterNuls(chunk);
    if (this.unread === 0 && framer.unfinished > 0 && startsWithNewline(said)) {
      const paused = now - this.heardAt;
      this.cut = paused >= CUT_LINE_MS || (paused >= CUT_FRAME_MS && isCutFrame(framer.held));
    }
    if (this.unread > options.limits.lineBytes) {
      this.dropBacklog();
    }
    // A pause goes on through the NULs that come when the next client opens the port.
    this.heardAt = said.length === 0 ? this.heardAt : now;
    const kept = lastLines(chunk);
    if (kept > 0) {
      framer.push(chunk.subarray(0, kept));
      this.dropBacklog();
    }
    framer.push(chunk.subarray(kept));
  }

  override stop(): void {
    this.guard.stop();
  }

  protected override understand(line: Line): Request {
    const { cut, afterLoss } = this;
    const bytes = line.kind === 'line' ? line.bytes.length : line.head.length;
    this.cut = false;
    this.afterLoss = false;
    const request = super.understand(line);
    // A whole frame whose LF came late is a slow guest's: length and CRC cannot be right by chance.
    if (cut && signOf(request) !== 'client') {
      this.dropped += bytes;
      return RESET;
    }
    if (line.kind === 'line' && isFrame(request)) {
      // Base64 holds no SP, so a verb's frame begins where the line says this for the last time.
      this.dropped += Math.max(0, line.bytes.lastIndexOf(FRAME_START));
      return request;
    }
    const understood =
      line.kind === 'line' ? this.lookForLoss(line.bytes, request, afterLoss) : request;
    this.dropped += understood.kind === 'broken' ? bytes : 0;
    return understood;
  }

  protected override greeted(): void {
    this.guard.clear();
  }

  protected override ask(asked: PendingRequest): void {
    const { answers } = this.options;
    const sign = signOf(asked.request);
    if (sign === 'client') {
      this.guard.clear();
    } else if (sign === 'neutral') {
      this.guard.stop();
    }
    if (answers.full) {
      this.drop('queue', asked);
    } else if (sign !== 'bad') {
      answers.ask(asked);
    } else if (!this.guard.bad(() => answers.ask(asked))) {
      this.drop('rate', asked);
    }
  }

  /** A line that is no frame with a verb: the rest of one gets silence. */
  private lookForLoss(line: Buffer, request: Request, afterLoss: boolean): Request {
    if (isWords(request) && isFrameTail(line, afterLoss)) {
      this.afterLoss = true;
      return { kind: 'broken', reason: 'the rest of a frame', line };
    }
    this.afterLoss = request.kind === 'broken';
    return request;
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

/** @param line unfinished @returns whether it ends in a frame that is not as long as it says */
function isCutFrame(line: Buffer): boolean {
  const start = line.lastIndexOf(FRAME_START);
  if (start < 0) {
    return line.length >= 2 && line.subarray(-2).equals(FRAME_START.subarray(0, 2));
  }
  const header = line.toString('latin1', start, start + LENGTH_OF_HEADER);
  const begun = FRAME_BEGUN.exec(header);
  if (begun === null) {
    return false;
  }
  const [, length, body] = begun;
  if (length === undefined || body === undefined) {
    return true;
  }
  const headerBytes = FRAME_START.length + length.length + 1 + 8 + 1;
  return line.length - start - headerBytes < Number(length);
}

/** Where the last lines of a chunk begin that anybody may wait for; 0: all of it. */
function lastLines(chunk: Buffer): number {
  if (chunk.length <= MOST_LINES) {
    return 0;
  }
  let at = chunk.length;
  for (let lines = 0; lines <= MOST_LINES; lines++) {
    at = at === 0 ? -1 : chunk.lastIndexOf(LF, at - 1);
    if (at < 0) {
      return 0;
    }
  }
  return at + 1;
}

/** Counts the bad lines of one port, for as long as its connection lasts. */
export class EchoGuard {
  private readonly now: () => number;
  private inRow = 0;
  private answeredAt = -Infinity;
  private waiting: NodeJS.Timeout | null = null;

  constructor(now: () => number) {
    this.now = now;
  }

  /** A real client is there, or something else is answered first: what waits is not told any more. */
  clear(): void {
    this.inRow = 0;
    this.stop();
  }

  /**
   * A bad line came.
   * @param answer answers it: called at once, in up to a second, or never
   * @returns false when it will never be
   */
  bad(answer: () => void): boolean {
    this.inRow++;
    if (this.waiting !== null) {
      return false;
    }
    const wait = this.answeredAt + INTERVAL_MS - this.now();
    if (this.inRow <= TOLERATED || wait <= 0) {
      this.answeredAt = this.now();
      answer();
      return true;
    }
    this.waiting = setTimeout(() => {
      this.waiting = null;
      this.answeredAt = this.now();
      answer();
    }, wait);
    return true;
  }

  /** Ends the wait, not the count. */
  stop(): void {
    if (this.waiting !== null) {
      clearTimeout(this.waiting);
      this.waiting = null;
    }
  }
}
