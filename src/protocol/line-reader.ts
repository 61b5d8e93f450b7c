/*
 * Cuts a stream of bytes into lines at LF, for every connection of a guest and for our own clients. A caller whose
 * queue is full pulls no further line, in the middle of a chunk.
 *
 * Every byte is searched once and copied at most a few times, however the stream was cut. A line that was handed out is
 * never written to again; one that lay whole in a chunk is a view of it. Between lines nothing is held: thousands of
 * connections are idle at any time.
 */

/** Enough of `V2 length crc id code`. */
const HEAD_BYTES = 64;
/** Most requests fit: a serial port brings them byte by byte. */
const FIRST_CAPACITY = 256;
/** A longer line gets the room for all that it may come to: to copy it as it grows takes longer than to read it. */
const LONG_LINE_BYTES = 64 * 1024;
/** But not where the operator lets lines be longer than this. */
const MAX_AT_ONCE = 4 * 1024 * 1024;
/** Up to here a loop beats the call into the runtime's search. */
const SHORT_SEARCH = 48;
const LF = 0x0a;

export type Line =
  | { readonly kind: 'line'; readonly bytes: Buffer }
  /** Longer than the limit: of its first 64 bytes its sender can still be answered. */
  | { readonly kind: 'oversize'; readonly head: Buffer };

/** The bytes [from, to) of a buffer, which is written to, behind `to`, only where it is our own. */
interface Span {
  bytes: Buffer;
  from: number;
  to: number;
  own: boolean;
}

/** Cuts the bytes of one connection into lines. Holds one line at most. */
export class LineReader {
  /** Not searched yet. */
  private input: Span | null = null;
  /** The unfinished line: searched, no LF in it. Of one that is too long already its first bytes. */
  private line: Span | null = null;
  private lineBytes = 0;

  /** @param maxLineBytes the longest line that is handed out, without its LF */
  constructor(private readonly maxLineBytes: number) {}

  /** Takes a chunk; the caller must not write to it before `keep`. */
  push(chunk: Buffer): void {
    if (chunk.length === 0) {
      return;
    }
    if (this.input === null) {
      this.input = { bytes: chunk, from: 0, to: chunk.length, own: false };
    } else {
      append(this.input, chunk, 0, chunk.length, Infinity);
    }
  }

  /** The next whole line without its LF; null when more bytes are needed. */
  next(): Line | null {
    const input = this.input;
    if (input === null) {
      return null;
    }
    const { bytes, from, to } = input;
    const lf = indexOfLf(bytes, from, to);
    if (lf < 0) {
      this.input = null;
      this.addToLine(bytes, from, to);
      return null;
    }
    input.from = lf + 1;
    if (input.from === to) {
      this.input = null;
    }
    if (this.line === null && lf - from <= this.maxLineBytes) {
      return { kind: 'line', bytes: bytes.subarray(from, lf) };
    }
    this.addToLine(bytes, from, lf);
    const { held, unfinished } = this;
    this.line = null;
    this.lineBytes = 0;
    return unfinished > this.maxLineBytes
      ? { kind: 'oversize', head: held }
      : { kind: 'line', bytes: held };
  }

  /** Copies what was pushed and not pulled yet: chunks may be written to afterwards. */
  keep(): void {
    const { input } = this;
    if (input !== null && !input.own) {
      // No more room than that: nothing is pushed before it is pulled.
      append(input, EMPTY, 0, 0, lengthOf(input));
    }
  }

  /** Bytes of the line whose LF is still to come, those of it that were thrown away included. */
  get unfinished(): number {
    return this.lineBytes;
  }

  /** What is held of it: all, or the head of one that is too long. Good until the next call. */
  get held(): Buffer {
    return this.line?.bytes.subarray(0, this.line.to) ?? EMPTY;
  }

  /** Bytes that were pushed and not pulled yet. The caller bounds them, by not reading on. */
  get unread(): number {
    return lengthOf(this.input);
  }

  /** Drops every whole line that was not pulled, at once. The line without its LF stays. */
  dropWholeLines(): void {
    const { input } = this;
    if (input === null) {
      return;
    }
    this.input = null;
    const last = input.bytes.subarray(input.from, input.to).lastIndexOf(LF);
    if (last >= 0) {
      this.line = null;
      this.lineBytes = 0;
    }
    this.addToLine(input.bytes, input.from + last + 1, input.to);
  }

  /** Adds bytes without LF to the unfinished line. */
  private addToLine(bytes: Buffer, from: number, to: number): void {
    this.lineBytes += to - from;
    if (this.lineBytes > this.maxLineBytes) {
      const more = bytes.subarray(from, Math.min(to, from + HEAD_BYTES));
      const head = Buffer.concat([this.held.subarray(0, HEAD_BYTES), more]);
      this.line = { bytes: head, from: 0, to: Math.min(head.length, HEAD_BYTES), own: true };
    } else if (from < to) {
      // What outlives the chunk is copied, or the few bytes at its end would keep 64 KiB in memory.
      this.line ??= { bytes: EMPTY, from: 0, to: 0, own: true };
      append(this.line, bytes, from, to, this.maxLineBytes);
    }
  }
}

const EMPTY = Buffer.alloc(0);

function lengthOf(span: Span | null): number {
  return span === null ? 0 : span.to - span.from;
}

/** Never moves what is there: lines that were handed out may still point to it. */
function append(span: Span, more: Buffer, from: number, to: number, maxCapacity: number): void {
  const added = to - from;
  if (!span.own || span.to + added > span.bytes.length) {
    const needed = span.to - span.from + added;
    const room = needed > LONG_LINE_BYTES && maxCapacity <= MAX_AT_ONCE ? maxCapacity : 2 * needed;
    const capacity = Math.max(needed, Math.min(room, maxCapacity), FIRST_CAPACITY);
    // Not from the shared pool: an unfinished line must not keep its neighbours in memory.
    const grown = Buffer.allocUnsafeSlow(capacity);
    span.to = span.bytes.copy(grown, 0, span.from, span.to);
    span.from = 0;
    span.bytes = grown;
    span.own = true;
  }
  more.copy(span.bytes, span.to, from, to);
  span.to += added;
}

function indexOfLf(bytes: Buffer, from: number, to: number): number {
  if (to - from <= SHORT_SEARCH) {
    for (let at = from; at < to; at++) {
      if (bytes[at] === LF) {
        return at;
      }
    }
    return -1;
  }
  // Behind `to` an own buffer holds old bytes: they must be neither found nor searched.
  const searched = to === bytes.length ? bytes : bytes.subarray(0, to);
  return searched.indexOf(LF, from);
}
