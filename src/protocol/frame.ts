/*
 * V2 frames, read and built on bytes; requests and replies have the same shape.
 *
 *     V2 21 265ae1d8 dc4fae17 SUCCESS W10=\n
 *     |  |  |        |<----- body ----->|
 *     |  |  |        |        |       payload: base64; left out with its SP when it is empty
 *     |  |  |        |        code: a verb, SUCCESS NOTFOUND FAILURE
 *     |  |  |        id: chosen by the client, copied into the response
 *     |  |  crc32 of the body's bytes, eight lower-case hex digits
 *     |  bytes of the body, decimal
 *     first bytes of the line
 */
import { isAscii } from 'node:buffer';
import { crc32 } from 'node:zlib';

const SP = 0x20;
const CR = 0x0d;
const CRC_DIGITS = 8;
/** Classes of bytes, of which fields are made. */
const SPACE = 1;
const DIGIT = 2;
const LOWER_HEX = 4;
const VISIBLE = 8;
const CLASSES = Uint8Array.from({ length: 256 }, (_, byte) => {
  const isDigit = byte >= 0x30 && byte <= 0x39;
  return (
    (byte === SP ? SPACE : 0) +
    (isDigit ? DIGIT : 0) +
    (isDigit || (byte >= 0x61 && byte <= 0x66) ? LOWER_HEX : 0) +
    (byte > SP && byte < 0x7f ? VISIBLE : 0)
  );
});

export interface Frame {
  readonly kind: 'frame';
  readonly id: string;
  readonly code: string;
  /** Base64 as received, not checked; empty when the frame has none. A view of the line. */
  readonly payload: Buffer;
}

/** Why a byte sequence is not a frame. `header`: length and CRC at least could be read. */
export interface NoFrame {
  readonly kind: 'none';
  readonly reason: string;
  readonly header: boolean;
}

/** SP, HTAB, VT, FF and CR: what the protocol takes for white space. */
export function isBlank(byte: number | undefined): boolean {
  return byte === SP || byte === 0x09 || (byte !== undefined && byte >= 0x0b && byte <= CR);
}

/** Where a line ends when its trailing white space is cut. */
export function endOfText(line: Buffer, from: number): number {
  let end = line.length;
  while (end > from && isBlank(line[end - 1])) {
    end--;
  }
  return end;
}

/**
 * Reads the frame that fills a line from `from` to its end.
 *
 * White space at the line's end: the body is taken as received, then without the CR of a CRLF, then
 * right-trimmed; its length tells which of them was sent. An empty payload leaves a SP at the end of a
 * body, so cutting first would break that frame.
 */
export function readFrame(line: Buffer, from = 0): Frame | NoFrame {
  if (line[from] !== 0x56 || line[from + 1] !== 0x32) {
    return none('does not begin with V2');
  }
  const lengthAt = skip(line, from + 2, SPACE);
  const lengthEnd = skip(line, lengthAt, DIGIT);
  if (lengthAt === from + 2 || lengthEnd === lengthAt) {
    return none('no length');
  }
  const crcAt = skip(line, lengthEnd, SPACE);
  const crcEnd = skip(line, crcAt, LOWER_HEX);
  if (crcAt === lengthEnd || crcEnd - crcAt !== CRC_DIGITS) {
    return none('no CRC of eight lower-case hex digits');
  }
  const bodyAt = skip(line, crcEnd, SPACE);
  if (bodyAt === crcEnd || bodyAt === line.length) {
    return none('no body');
  }
  const end = bodyAt + numberIn(line, lengthAt, lengthEnd, 10);
  const isWhole =
    end === line.length ||
    (end === line.length - 1 && line[end] === CR) ||
    end === endOfText(line, bodyAt);
  if (end === bodyAt || !isWhole) {
    return none('length does not match', true);
  }
  if (crcOf(line, bodyAt, end) !== numberIn(line, crcAt, crcEnd, 16)) {
    return none('CRC does not match', true);
  }
  const idEnd = skip(line, bodyAt, LOWER_HEX);
  if (idEnd === bodyAt) {
    return none('no request id of lower-case hex digits', true);
  }
  const codeAt = skip(line, idEnd, SPACE);
  const codeEnd = skip(line, codeAt, VISIBLE);
  if (codeAt === idEnd || codeEnd === codeAt) {
    return none('no code', true);
  }
  if (codeEnd < end && line[codeEnd] !== SP) {
    return none('a code with other than visible characters', true);
  }
  const payload = line.subarray(codeEnd + 1, end);
  if (!isAscii(payload)) {
    return none('a byte that is not ASCII', true);
  }
  const head = line.toString('latin1', bodyAt, codeEnd);
  const id = head.slice(0, idEnd - bodyAt);
  return { kind: 'frame', id, code: head.slice(codeAt - bodyAt), payload };
}

function none(reason: string, header = false): NoFrame {
  return { kind: 'none', reason, header };
}

/** Where the first byte is that is of another class. */
function skip(line: Buffer, from: number, wanted: number): number {
  let at = from;
  while (((CLASSES[line[at] ?? 0] ?? 0) & wanted) !== 0) {
    at++;
  }
  return at;
}

/** Digits, lower-case where they are hex, checked before. */
function numberIn(line: Buffer, from: number, to: number, base: 10 | 16): number {
  let value = 0;
  for (let at = from; at < to; at++) {
    const byte = line[at] ?? 0;
    value = value * base + byte - (byte < 0x61 ? 0x30 : 0x57);
  }
  return value;
}

/**
 * Builds a frame, LF included.
 * @param id lower-case hex digits
 * @param data sent as base64; text is sent as UTF-8
 */
export function buildFrame(id: string, code: string, data: string | Buffer): Buffer {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
  const payload = bytes.length === 0 ? '' : ` ${bytes.toString('base64')}`;
  const body = `${id} ${code}${payload}`;
  const frame = Buffer.from(`V2 ${body.length} 00000000 ${body}\n`, 'latin1');
  const bodyAt = frame.length - 1 - body.length;
  let crc = crcOf(frame, bodyAt, frame.length - 1);
  for (let at = bodyAt - 2; crc > 0; at--) {
    frame[at] = HEX_DIGITS[crc & 15] ?? 0;
    crc >>>= 4;
  }
  return frame;
}

/** All of a frame before its body. */
export function frameHeader(bodyBytes: number, crc: number): string {
  return `V2 ${bodyBytes} ${crc.toString(16).padStart(CRC_DIGITS, '0')} `;
}

const HEX_DIGITS = Buffer.from('0123456789abcdef', 'latin1');
/** Up to here a loop beats the call into the runtime, bytes. */
const SHORT_CRC = 96;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return crc;
});

function crcOf(bytes: Buffer, from: number, to: number): number {
  if (to - from > SHORT_CRC) {
    return crc32(bytes.subarray(from, to));
  }
  let crc = -1;
  for (let at = from; at < to; at++) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ (bytes[at] ?? 0)) & 255] ?? 0);
  }
  return ~crc >>> 0;
}

/** Up to here a loop beats the calls into the runtime, characters. */
const SHORT_BASE64 = 256;
const SEXTETS = new Int8Array(256).fill(-1);
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
for (const [value, char] of Buffer.from(ALPHABET, 'latin1').entries()) {
  SEXTETS[char] = value;
}
/** Whole groups of four. As one string a long text would be megabytes more, each time. */
const PIECE_CHARS = 32 * 1024;
const PAD = 0x3d;

/** Reads base64 of the standard alphabet; padding may be missing, but not wrong. Null for anything else. */
export function decodeBase64(text: Buffer): Buffer | null {
  const { length } = text;
  const padding = text[length - 1] !== PAD ? 0 : text[length - 2] === PAD ? 2 : 1;
  if (padding === 0 ? length % 4 === 1 : length % 4 !== 0) {
    return null;
  }
  const size = Math.floor(((length - padding) * 3) / 4);
  const bytes = Buffer.allocUnsafe(size);
  let done = 0;
  if (length <= SHORT_BASE64) {
    let bits = 0;
    for (let at = 0; at < length - padding; at++) {
      const sextet = SEXTETS[text[at] ?? 0] ?? -1;
      if (sextet < 0) {
        return null;
      }
      bits = (bits << 6) | sextet;
      if (at % 4 > 0) {
        bytes[done++] = bits >> (6 - 2 * (at % 4));
      }
    }
    return bytes;
  }
  for (let at = 0; at < length; at += PIECE_CHARS) {
    const chars = text.toString('latin1', at, at + PIECE_CHARS);
    // The runtime's decoder takes the URL alphabet too.
    if (chars.includes('-') || chars.includes('_')) {
      return null;
    }
    done += bytes.write(chars, done, 'base64');
  }
  // What it does not know it skips, and the result is too short then.
  return done === size ? bytes : null;
}

/*
 * The end of a V2 frame whose first bytes were lost on a serial port: while the agent started, the port changed hands
 * or a buffer ran full. As a line it would be answered FAILURE or NOTFOUND, which cloud-init takes for "no such key".
 * Its sender asks again when nothing comes.
 *
 *     V2 21 433221a9 6f000004 GET bW90ZA==
 *     |<- lost, noise ->|                      recognised by the id and the code in front of the payload
 *     |<--------- lost ---------->|            recognised by the payload itself, where a loss is likely
 *
 * No line of a client matches. A few bytes of a payload, which any word could be, are not recognised.
 */
/** The longest code, its blanks, an id, and one byte more. */
const MAX_BEFORE = 19;
const CODES = ['GET', 'PUT', 'DELETE', 'WATCH', 'PUTIF', 'DELETEIF'];
const CODE = `(?:${CODES.join('|')})`;
const CODE_ALONE = '(?:KEYS|GETALL|HELLO)';
/** Of each code all ends, the empty one included. */
const ENDS = CODES.flatMap((code) => Array.from(code, (_, at) => code.slice(at + 1)));
const END_OF_CODE = `(?:${ENDS.join('|')})`;
const END_OF_CODE_ALONE = '(?:EYS|YS|S)';
const SEXTET = '[A-Za-z0-9+/]';
const BASE64 = `${SEXTET}*={0,2}`;
const PADDED = `${SEXTET}*={1,2}`;
/** Padded, or with capitals inside: no word that a person or a program says. */
const ENCODED = `(?=${SEXTET}*(?:=|[a-z0-9][A-Z]))${BASE64}`;
/** Behind an id that is whole, or that begins the line. */
const WITH_ID = new RegExp(
  `^(?:[^]{0,12}[0-9a-f]{8}|[0-9a-f]{1,7}) (?:${CODE_ALONE}|${CODE}(?: ${BASE64})?)$`,
);
const AFTER_LOSS = new RegExp(
  `^(?: ${CODE_ALONE}| ${CODE}(?: ${BASE64})?|${CODE} ${PADDED}|` +
    `(?:${END_OF_CODE} )?${ENCODED}|${END_OF_CODE_ALONE})$`,
);

/**
 * Whether a line is the end of a frame that lost its beginning.
 *
 * @param line of a serial port, without its LF, that is not a frame
 * @param afterLoss whether bytes before the line may have been lost: the first of a connection, or the
 * one after a frame that came broken
 */
export function isFrameTail(line: Buffer, afterLoss: boolean): boolean {
  const end = endOfText(line, 0);
  const gap = line.lastIndexOf(SP, end - line.length - 1);
  const from = Math.max(0, gap - MAX_BEFORE);
  // What is cut away is no beginning of a line.
  const text = `${from > 0 ? '\n' : ''}${line.toString('latin1', from, end)}`;
  return WITH_ID.test(text) || (afterLoss && AFTER_LOSS.test(text));
}
