/*
 * Replies to a guest, and their bytes.
 *
 * A reply is one buffer, for one write: the platform's own client waits for the first byte of a reply
 * and not at all for the others, so a reply that leaves in two pieces fails. Small ones are encoded at
 * once. A large one is encoded piece by piece into memory that was made for it: its length is known
 * before, and neither the pieces nor the whole exist a second time.
 */
import { crc32 } from 'node:zlib';
import { buildFrame, CRC_DIGITS } from './frame';
import type { LineRequest, Wire } from './request';

/** The limits of a zone that a change can meet. Names are label values of a metric: keep them. */
export type ChangeLimit =
  | 'keys' // too many keys
  | 'size' // too many bytes in all
  | 'writes' // slowed down to its rate of writes
  | 'waiting-writes'; // too many of them, or too large, wait already

/** What a change met before it was on disk: for the request log, nothing of it is sent. */
export interface ChangeCourse {
  /** It does not count for the zone's rate of writes: it joined another, or was rejected. */
  readonly uncharged?: true;
  /** The limit that it met: it waited for it, or was refused by it. */
  readonly limit?: ChangeLimit;
}

/**
 * A text as UTF-8, never decoded, since it can be long: the names that KEYS lists, without control characters and with
 * an LF between two of them, or the JSON of GETALL.
 */
export interface ByteReply {
  readonly kind: 'bytes';
  readonly text: Buffer;
}

/**
 * A data reply. `text` is the value or the reason of a failure. `change` is there where a change was
 * asked of the VM's writer.
 */
export type Reply =
  | {
      readonly kind: 'success';
      readonly text: string;
      readonly change?: ChangeCourse;
    }
  | ByteReply
  | { readonly kind: 'notfound' }
  | { readonly kind: 'failure'; readonly text: string; readonly change?: ChangeCourse };

/** The answer to a GET. */
export type GetReply = Exclude<Reply, ByteReply>;

// Never written to, so one copy of each serves all connections.
const INVALID_COMMAND = Buffer.from('invalid command\n', 'latin1');
const V2_OK = Buffer.from('V2_OK\n', 'latin1');
const NOTFOUND = Buffer.from('NOTFOUND\n', 'latin1');
const FAILURE = Buffer.from('FAILURE\n', 'latin1');

/** The bytes of a data reply, LF included. V1 has no room for the reason of a failure. */
export function encodeReply(wire: Wire, reply: Reply): Buffer {
  switch (reply.kind) {
    case 'success':
      return encodeSuccess(wire, reply.text);
    case 'bytes':
      return encodeSuccess(wire, reply.text.toString('utf8'));
    case 'notfound':
      return wire.version === 1 ? NOTFOUND : buildFrame(wire.id, 'NOTFOUND', '');
    case 'failure':
      return wire.version === 1 ? FAILURE : buildFrame(wire.id, 'FAILURE', reply.text);
    default: {
      const never: never = reply;
      return never;
    }
  }
}

/**
 * How large a reply is, before there is any of it.
 *
 * @returns its bytes, or a little more; of a small one only that it is small
 */
export function sizeOfReply(wire: Wire, reply: Reply): number {
  switch (reply.kind) {
    case 'notfound':
      return 0;
    case 'failure':
      return sizeOnWire(wire, reply.text.length * MAX_BYTES_PER_CHAR, 0);
    case 'bytes':
      return sizeOnWire(wire, reply.text.length, mostDots(wire, reply.text));
    case 'success': {
      const { text } = reply;
      // To count the bytes of a short text costs more than to send it.
      const bytes =
        text.length < SHORT_CHARS ? text.length * MAX_BYTES_PER_CHAR : Buffer.byteLength(text);
      return sizeOnWire(wire, bytes, mostDots(wire, text));
    }
    default: {
      const never: never = reply;
      return never;
    }
  }
}

/**
 * What a reply's text takes of memory while it is encoded, bytes: two for each character where one of
 * them is wide.
 */
export function sizeOfSource(reply: Reply): number {
  switch (reply.kind) {
    case 'notfound':
      return 0;
    case 'bytes':
      return reply.text.length;
    default:
      return 2 * reply.text.length;
  }
}

/** Where a reply is put together. */
export interface ReplyMemory {
  /** Takes a copy. */
  fill(at: number, bytes: Buffer): void;
}

/** Encodes one reply of a read piece by piece. Holds nothing but the reply itself. */
export class ReplyEncoder {
  private readonly text: string | Buffer;
  /** Where the next piece of it begins. */
  private next = 0;
  /** Bytes of text that did not fill a group of base64 yet: two at most. */
  private carried = 0;
  private readonly carry = Buffer.alloc(2);
  private crc: number;
  private at: number;
  private readonly bodyBytes: number;
  private afterLf = true;

  /** @param reply a large one; its memory must have room for `sizeOfReply` */
  constructor(
    private readonly wire: Wire,
    reply: { readonly text: string | Buffer },
  ) {
    this.text = reply.text;
    if (wire.version === 1) {
      this.at = V1_SUCCESS.length;
      this.crc = 0;
      this.bodyBytes = 0;
      return;
    }
    const head = Buffer.from(`${wire.id} SUCCESS `, 'latin1');
    this.bodyBytes = head.length + base64Length(Buffer.byteLength(reply.text));
    this.crc = crc32(head);
    this.at = headOf(this.bodyBytes, 0).length + head.length;
  }

  /**
   * Encodes the next piece, some 64 KiB.
   *
   * @returns the bytes of the whole reply when this was its last piece, else null
   */
  step(memory: ReplyMemory): number | null {
    const { text, next } = this;
    const end = typeof text === 'string' ? endOfPiece(text, next) : next + PIECE_CHARS;
    const last = end >= text.length;
    const carried = this.carry.copy(scratch, 0, 0, this.carried);
    const used = carried + this.write(next, end, carried);
    this.next = end;
    if (this.wire.version === 1) {
      return this.stepV1(memory, used, last);
    }
    const whole = last ? used : used - (used % 3);
    this.carried = scratch.copy(this.carry, 0, whole, used);
    const bytes = encoded.write(scratch.toString('base64', 0, whole), 0, 'latin1');
    this.put(memory, encoded.subarray(0, bytes));
    return last ? this.finishV2(memory, this.wire.id) : null;
  }

  private stepV1(memory: ReplyMemory, used: number, last: boolean): number | null {
    memory.fill(this.at, scratch.subarray(0, used));
    this.at += used;
    if (!last) {
      return null;
    }
    memory.fill(0, V1_SUCCESS);
    memory.fill(this.at, V1_END);
    return this.at + V1_END.length;
  }

  private finishV2(memory: ReplyMemory, id: string): number {
    const head = headOf(this.bodyBytes, this.crc);
    memory.fill(0, Buffer.concat([head, Buffer.from(`${id} SUCCESS `, 'latin1')]));
    memory.fill(this.at, LF);
    return this.at + 1;
  }

  private put(memory: ReplyMemory, bytes: Buffer): void {
    this.crc = crc32(bytes, this.crc);
    memory.fill(this.at, bytes);
    this.at += bytes.length;
  }

  /** Copies text to the scratch memory, with its dots doubled where V1 wants it. @returns its bytes */
  private write(from: number, end: number, at: number): number {
    const { text, wire } = this;
    if (wire.version !== 1) {
      return typeof text === 'string'
        ? scratch.write(text.slice(from, end), at, 'utf8')
        : text.copy(scratch, at, from, end);
    }
    // In bytes of UTF-8 dots and LFs are what they are in characters.
    const [piece, encoding] =
      typeof text === 'string'
        ? ([text.slice(from, end), 'utf8'] as const)
        : ([text.toString('latin1', from, end), 'latin1'] as const);
    let stuffed = piece.includes('\n.') ? piece.replaceAll('\n.', '\n..') : piece;
    if (this.afterLf && piece.startsWith('.')) {
      stuffed = `.${stuffed}`;
    }
    this.afterLf = piece === '' ? this.afterLf : piece.endsWith('\n');
    return scratch.write(stuffed, at, encoding);
  }
}

/** Of one piece: as base64 it has some 64 KiB where its characters are ASCII. */
const PIECE_CHARS = 48 * 1024;
const MAX_BYTES_PER_CHAR = 3;
const SHORT_CHARS = 1024;
const V1_SUCCESS = Buffer.from('SUCCESS\n', 'latin1');
const V1_END = Buffer.from('\n.\n', 'latin1');
const LF = Buffer.from('\n', 'latin1');
/** Of one piece and what was carried into it; with dots doubled, half as much again. Serves all encoders. */
const scratch = Buffer.allocUnsafeSlow(16 + PIECE_CHARS * (MAX_BYTES_PER_CHAR + 1));
const encoded = Buffer.allocUnsafeSlow(base64Length(scratch.length));

function headOf(bodyBytes: number, crc: number): Buffer {
  return Buffer.from(`V2 ${bodyBytes} ${crc.toString(16).padStart(CRC_DIGITS, '0')} `, 'latin1');
}

function base64Length(bytes: number): number {
  return 4 * Math.ceil(bytes / 3);
}

/** Where a piece ends that begins at `from`: never between the two halves of a character. */
function endOfPiece(text: string, from: number): number {
  const end = Math.min(text.length, from + PIECE_CHARS);
  const code = end < text.length ? text.charCodeAt(end - 1) : 0;
  return code >= 0xd800 && code <= 0xdbff ? end - 1 : end;
}

/** @param dots lines of a V1 reply that may begin with one */
function sizeOnWire(wire: Wire, bytes: number, dots: number): number {
  return wire.version === 1
    ? V1_SUCCESS.length + bytes + dots + V1_END.length
    : MAX_HEAD_BYTES + wire.id.length + base64Length(bytes);
}

/** `V2 `, the length, the CRC, the code, and what stands between them. */
const MAX_HEAD_BYTES = 48;

function mostDots(wire: Wire, text: string | Buffer): number {
  if (wire.version !== 1) {
    return 0;
  }
  return text.includes('\n.') ? 1 + Math.ceil(text.length / 2) : 1;
}

function encodeSuccess(wire: Wire, text: string): Buffer {
  return wire.version === 1
    ? Buffer.from(`SUCCESS\n${stuff(text)}\n.\n`, 'utf8')
    : buildFrame(wire.id, 'SUCCESS', text);
}

/** The bytes of an answer that needs no data; null where silence is the answer. */
export function replyToLine(request: LineRequest): Buffer | null {
  switch (request.kind) {
    case 'reset':
      return INVALID_COMMAND;
    case 'negotiate':
      return request.accepted ? V2_OK : FAILURE;
    case 'malformed':
      return encodeFailure(request.wire, request.text);
    case 'unknown':
      return encodeFailure(request.wire, `Unknown command ${request.verb}`);
    case 'too-large':
      return encodeFailure(request.wire, 'Request too large');
    case 'broken':
      return null;
    default: {
      const never: never = request;
      return never;
    }
  }
}

function encodeFailure(wire: Wire, text: string): Buffer {
  return encodeReply(wire, { kind: 'failure', text });
}

/**
 * V1 ends a value with a line that is a dot, so a line of the value that begins with one gets another.
 * Only LF makes a line: receivers undo the doubling there and nowhere else.
 */
function stuff(text: string): string {
  const stuffed = text.includes('\n.') ? text.replaceAll('\n.', '\n..') : text;
  return stuffed.startsWith('.') ? `.${stuffed}` : stuffed;
}
