/*
 * Replies to a guest, and their bytes: one buffer for one write, since the platform's own client waits for the first
 * byte of a reply and for no other. A large one is encoded piece by piece into memory that was made for it: its length
 * is known before.
 */
import { crc32 } from 'node:zlib';
import { buildFrame, frameHeader } from './frame';
import type { LineRequest, Wire } from './request';

/** The limits of a zone that a change can meet. Names are label values of a metric: keep them. */
export const CHANGE_LIMITS = [
  'writes', // slowed down to its rate of writes
  'keys', // too many keys
  'size', // too many bytes in all
  'waiting-writes', // too many of them, or too large, wait already
] as const;

/** What a change met before it was on disk, for the request log. */
export interface ChangeCourse {
  /** It does not count for the zone's rate of writes: it joined another, or was rejected. */
  readonly uncharged?: true;
  /** The limit that it met: it waited for it, or was refused by it. */
  readonly limit?: (typeof CHANGE_LIMITS)[number];
}

/**
 * A data reply. `text` is the value or the reason of a failure; as bytes, which are UTF-8 and are never decoded, it is
 * the names that KEYS lists, with an LF between two of them, or the JSON of GETALL. `change` is there where a change
 * was asked of the VM's writer.
 */
export type Reply =
  | {
      readonly kind: 'success';
      readonly text: string | Buffer;
      readonly change?: ChangeCourse;
    }
  | { readonly kind: 'notfound' }
  | { readonly kind: 'failure'; readonly text: string; readonly change?: ChangeCourse };

/** The answer to a GET. */
export type GetReply =
  | Exclude<Reply, { readonly kind: 'success' }>
  | { readonly kind: 'success'; readonly text: string };

// Never written to, so one copy of each serves all connections.
const INVALID_COMMAND = Buffer.from('invalid command\n', 'latin1');
const V2_OK = Buffer.from('V2_OK\n', 'latin1');
const NOTFOUND = Buffer.from('NOTFOUND\n', 'latin1');
const FAILURE = Buffer.from('FAILURE\n', 'latin1');

/** The bytes of a data reply, LF included. V1 has no room for the reason of a failure. */
export function encodeReply(wire: Wire, reply: Reply): Buffer {
  switch (reply.kind) {
    case 'success':
      return wire.version === 1
        ? Buffer.from(`SUCCESS\n${stuff(reply.text.toString(), true)}\n.\n`, 'utf8')
        : buildFrame(wire.id, 'SUCCESS', reply.text);
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

/** How large a reply is, before there is any of it: its bytes, or a little more; of a small one only that it is small. */
export function sizeOfReply(wire: Wire, reply: Reply): number {
  if (reply.kind === 'notfound') {
    return 0;
  }
  const { text } = reply;
  // To count the bytes of a short text costs more than to send it.
  const isShort = text.length < SHORT_CHARS;
  const bytes = isShort ? text.length * MAX_BYTES_PER_CHAR : Buffer.byteLength(text);
  if (wire.version === 2) {
    return MAX_HEAD_BYTES + wire.id.length + base64Length(bytes);
  }
  const dots = text.includes('\n.') ? 1 + Math.ceil(text.length / 2) : 1;
  return V1_SUCCESS.length + bytes + dots + V1_END.length;
}

/** What a reply's text takes of memory while it is encoded, bytes. A string has two for a character, or one. */
export function sizeOfSource(reply: Reply): number {
  if (reply.kind === 'notfound') {
    return 0;
  }
  return Buffer.isBuffer(reply.text) ? reply.text.length : 2 * reply.text.length;
}

/** Where a reply is put together. */
export interface ReplyMemory {
  /** Takes a copy. */
  fill(at: number, bytes: Buffer): void;
}

/** Encodes one reply of a read piece by piece: a text of megabytes becomes UTF-8 in as many steps. */
export class ReplyEncoder {
  private readonly text: string | Buffer;
  /** Where the next piece of it begins, and where its encoding goes. */
  private next = 0;
  private at: number;
  /** Bytes that did not fill a group of base64 yet: two at most. */
  private rest: Buffer = EMPTY;
  private startsLine = true;
  /** Of a V2 body, up to the payload. */
  private readonly bodyHead: string;
  private readonly bodyBytes: number;
  private crc: number;

  /** @param reply a large one; its memory must have room for `sizeOfReply` */
  constructor(
    private readonly wire: Wire,
    { text }: { readonly text: string | Buffer },
  ) {
    this.text = text;
    this.bodyHead = wire.version === 1 ? '' : `${wire.id} SUCCESS `;
    this.bodyBytes = this.bodyHead.length + base64Length(Buffer.byteLength(text));
    this.crc = crc32(this.bodyHead);
    this.at =
      wire.version === 1
        ? V1_SUCCESS.length
        : frameHeader(this.bodyBytes, 0).length + this.bodyHead.length;
  }

  /**
   * Encodes the next piece, some 64 KiB where its characters are ASCII.
   *
   * @returns the bytes of the whole reply when this was its last piece, else null
   */
  step(memory: ReplyMemory): number | null {
    const { text, wire, next } = this;
    const end =
      typeof text === 'string' ? endOfPiece(text, next + PIECE_CHARS) : next + PIECE_CHARS;
    const isLast = end >= text.length;
    this.next = end;
    const utf8 =
      typeof text === 'string' ? Buffer.from(text.slice(next, end)) : text.subarray(next, end);
    const encoded = wire.version === 1 ? this.stuffed(utf8) : this.base64(utf8, isLast);
    memory.fill(this.at, encoded);
    this.at += encoded.length;
    if (!isLast) {
      return null;
    }
    const [head, tail] =
      wire.version === 1
        ? [V1_SUCCESS, V1_END]
        : [frameHeader(this.bodyBytes, this.crc) + this.bodyHead, '\n'];
    memory.fill(0, Buffer.from(head, 'latin1'));
    memory.fill(this.at, Buffer.from(tail, 'latin1'));
    return this.at + tail.length;
  }

  private base64(utf8: Buffer, isLast: boolean): Buffer {
    const bytes = this.rest.length === 0 ? utf8 : Buffer.concat([this.rest, utf8]);
    const whole = isLast ? bytes.length : bytes.length - (bytes.length % 3);
    this.rest = bytes.subarray(whole);
    const encoded = scratch.subarray(
      0,
      scratch.write(bytes.toString('base64', 0, whole), 'latin1'),
    );
    this.crc = crc32(encoded, this.crc);
    return encoded;
  }

  /** In bytes of UTF-8 dots and LFs are what they are in characters. */
  private stuffed(utf8: Buffer): Buffer {
    const text = stuff(utf8.toString('latin1'), this.startsLine);
    this.startsLine = utf8.at(-1) === LF;
    return scratch.subarray(0, scratch.write(text, 'latin1'));
  }
}

/**
 * Where a piece of a text ends: never between the two halves of a character.
 * @param end where it would
 */
export function endOfPiece(text: string, end: number): number {
  const code = end < text.length ? text.charCodeAt(end - 1) : 0;
  return Math.min(text.length, code >= 0xd800 && code <= 0xdbff ? end - 1 : end);
}

/** As base64 it has some 64 KiB where its characters are ASCII. */
const PIECE_CHARS = 48 * 1024;
const EMPTY = Buffer.alloc(0);
const MAX_BYTES_PER_CHAR = 3;
const SHORT_CHARS = 1024;
/** `V2 `, the length, the CRC, the code, and what stands between them. */
const MAX_HEAD_BYTES = 48;
const V1_SUCCESS = 'SUCCESS\n';
const V1_END = '\n.\n';
const LF = 0x0a;
/** Of one piece and what was left of the one before; with dots doubled it has half as much again. Serves all encoders. */
const scratch = Buffer.allocUnsafeSlow(16 + 1.5 * MAX_BYTES_PER_CHAR * PIECE_CHARS);

function base64Length(bytes: number): number {
  return 4 * Math.ceil(bytes / 3);
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
 * @param startsLine whether the text's beginning is that of a line
 */
function stuff(text: string, startsLine: boolean): string {
  const stuffed = text.includes('\n.') ? text.replaceAll('\n.', '\n..') : text;
  return startsLine && stuffed.startsWith('.') ? `.${stuffed}` : stuffed;
}
