/*
 * V2 frames, read and built on bytes. Requests and responses have the same shape; client and server
 * both come here.
 *
 *     V2 21 265ae1d8 dc4fae17 SUCCESS W10=\n
 *     |  |  |        |<----- body ----->|
 *     |  |  |        |        |       payload: base64; left out with its SP when it is empty
 *     |  |  |        |        code: GET KEYS PUT DELETE, SUCCESS NOTFOUND FAILURE
 *     |  |  |        id: chosen by the client, copied into the response
 *     |  |  crc32 of the body's bytes, eight lower-case hex digits
 *     |  bytes of the body, decimal
 *     first bytes of the line
 *
 * A frame is whole or nothing: whoever reads one gets its fields or the reason why it is none. What the
 * fields mean is request.ts's and client.ts's business.
 */
import { isAscii } from 'node:buffer';
import { crc32 } from 'node:zlib';

const SP = 0x20;
const CR = 0x0d;
export const CRC_DIGITS = 8;
/** More digits than any line has bytes: what follows them cannot be right. */
const MAX_LENGTH_DIGITS = 15;

export interface Frame {
  readonly kind: 'frame';
  readonly id: string;
  readonly code: string;
  /** Base64 as received, not checked; empty when the frame has none. */
  readonly payload: string;
}

/** Why a byte sequence is no frame. `header` tells whether length and CRC at least could be read. */
export interface NoFrame {
  readonly kind: 'none';
  readonly reason: string;
  readonly header: boolean;
}

/** SP, HTAB, VT, FF and CR: what the protocol takes for white space. LF never is inside a line. */
export function isBlank(byte: number | undefined): boolean {
  return byte === SP || byte === 0x09 || (byte !== undefined && byte >= 0x0b && byte <= CR);
}

/** Where the text [from, result) of a line ends when its trailing white space is cut. */
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
  const lengthAt = skipSpaces(line, from + 2);
  const lengthEnd = skipDigits(line, lengthAt);
  if (lengthAt === from + 2 || lengthEnd === lengthAt) {
    return none('no length');
  }
  const crcAt = skipSpaces(line, lengthEnd);
  const crcEnd = skipLowerHex(line, crcAt);
  if (crcAt === lengthEnd || crcEnd - crcAt !== CRC_DIGITS) {
    return none('no CRC of eight lower-case hex digits');
  }
  const bodyAt = skipSpaces(line, crcEnd);
  if (bodyAt === crcEnd || bodyAt === line.length) {
    return none('no body');
  }
  const bodyEnd = endOfBody(line, bodyAt, decimal(line, lengthAt, lengthEnd));
  if (bodyEnd < 0) {
    return none('length does not match', true);
  }
  const body = line.subarray(bodyAt, bodyEnd);
  if (crc32(body) !== hex(line, crcAt)) {
    return none('CRC does not match', true);
  }
  return readBody(body);
}

/**
 * Builds a frame, LF included.
 * @param id lower-case hex digits
 * @param data sent as base64; text is sent as UTF-8
 */
export function buildFrame(id: string, code: string, data: string | Buffer): Buffer {
  const body = data.length === 0 ? `${id} ${code}` : `${id} ${code} ${base64(data)}`;
  // All of it is ASCII: as text it has the length and the CRC of its bytes.
  const crc = crc32(body).toString(16).padStart(CRC_DIGITS, '0');
  return Buffer.from(`V2 ${body.length} ${crc} ${body}\n`, 'latin1');
}

/** The fields of `V2 length crc id code` at the start of a line that was thrown away half-read. */
export function readIdOfHead(head: Buffer): string | null {
  return /^V2 +[0-9]+ +[0-9a-f]{8} +([0-9a-f]+) +[!-~]+/.exec(head.toString('latin1'))?.[1] ?? null;
}

/** Fields of a body whose length and CRC are right. */
function readBody(body: Buffer): Frame | NoFrame {
  const idEnd = skipLowerHex(body, 0);
  if (idEnd === 0) {
    return none('no request id of lower-case hex digits', true);
  }
  const codeAt = skipSpaces(body, idEnd);
  const codeEnd = skipVisible(body, codeAt);
  if (codeAt === idEnd || codeEnd === codeAt) {
    return none('no code', true);
  }
  if (codeEnd < body.length && body[codeEnd] !== SP) {
    return none('a code with other than visible characters', true);
  }
  if (!isAscii(body)) {
    return none('a byte that is not ASCII', true);
  }
  const text = body.toString('latin1');
  return {
    kind: 'frame',
    id: text.slice(0, idEnd),
    code: text.slice(codeAt, codeEnd),
    payload: text.slice(codeEnd + 1),
  };
}

/** Where a body of `length` bytes ends, -1 when none that the line can hold has that length. */
function endOfBody(line: Buffer, bodyAt: number, length: number): number {
  const end = bodyAt + length;
  if (length === 0 || end > line.length) {
    return -1;
  }
  const asReceived = end === line.length;
  const beforeCr = end === line.length - 1 && line[end] === CR;
  return asReceived || beforeCr || end === endOfText(line, bodyAt) ? end : -1;
}

function base64(data: string | Buffer): string {
  return (typeof data === 'string' ? Buffer.from(data, 'utf8') : data).toString('base64');
}

function none(reason: string, header = false): NoFrame {
  return { kind: 'none', reason, header };
}

function skipSpaces(line: Buffer, from: number): number {
  let at = from;
  while (line[at] === SP) {
    at++;
  }
  return at;
}

function skipDigits(line: Buffer, from: number): number {
  let at = from;
  while (isDigit(line[at])) {
    at++;
  }
  return at;
}

function skipLowerHex(line: Buffer, from: number): number {
  let at = from;
  for (let byte = line[at]; isDigit(byte) || isLowerAToF(byte); byte = line[at]) {
    at++;
  }
  return at;
}

function skipVisible(line: Buffer, from: number): number {
  let at = from;
  for (let byte = line[at]; byte !== undefined && byte > SP && byte < 0x7f; byte = line[at]) {
    at++;
  }
  return at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function isLowerAToF(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x61 && byte <= 0x66;
}

/** 0, which no body has, for more digits than a length can have. Leading zeros count for nothing. */
function decimal(line: Buffer, from: number, to: number): number {
  let value = 0;
  for (let at = from; at < to; at++) {
    value = value * 10 + (line[at] ?? 0) - 0x30;
    if (value >= 10 ** MAX_LENGTH_DIGITS) {
      return 0;
    }
  }
  return value;
}

/** Eight lower-case hex digits, checked before: as a number they compare as their text would. */
function hex(line: Buffer, from: number): number {
  let value = 0;
  for (let at = from; at < from + CRC_DIGITS; at++) {
    const byte = line[at] ?? 0;
    value = value * 16 + byte - (byte < 0x61 ? 0x30 : 0x57);
  }
  return value;
}
