/*
 * V2 frames, read and built on bytes. Requests and responses have the same shape; client and server
 * both come here.
 *
 *     V2 21 265ae1d8 dc4fae17 SUCCESS W10=\n
 *     |  |  |        |<----- body ----->|
 *     |  |  |        |        |       payload: base64; left out with its SP when it is empty
 *     |  |  |        |        code: a verb, SUCCESS NOTFOUND FAILURE
 *     |  |  |        id: chosen by the client, copied into the response
 *     |  |  crc32 of the body's bytes, eight lower-case hex digits
 *     |  bytes of the body, decimal
 *     first bytes of the line
 *
 * A frame is whole or nothing: its reader gets its fields or the reason why it is not one. What the fields
 * mean is in request.ts and client.ts.
 */
import { isAscii } from 'node:buffer';
import { crc32 } from 'node:zlib';

const SP = 0x20;
const CR = 0x0d;
export const CRC_DIGITS = 8;
/** More bytes than any line has: a length above cannot be right. */
const MAX_LENGTH = 1e15;

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

/** A frame whose length is right, and whose CRC is still to be compared. */
export interface UncheckedFrame {
  readonly kind: 'unchecked';
  /** A view of the line. */
  readonly body: Buffer;
  readonly crc: number;
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

/** Reads the frame that fills a line from `from` to its end. */
export function readFrame(line: Buffer, from = 0): Frame | NoFrame {
  const found = findFrame(line, from);
  return found.kind === 'none' ? found : readBody(found.body, crc32(found.body) === found.crc);
}

/**
 * Reads the header of a frame that fills a line from `from` to its end.
 *
 * White space at the line's end: the body is taken as received, then without the CR of a CRLF, then
 * right-trimmed; its length tells which of them was sent. An empty payload leaves a SP at the end of a
 * body, so cutting first would break that frame.
 */
export function findFrame(line: Buffer, from = 0): UncheckedFrame | NoFrame {
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
  return { kind: 'unchecked', body: line.subarray(bodyAt, bodyEnd), crc: hex(line, crcAt) };
}

/** Compares the CRC of a long frame's body in steps, of about 50 us. */
export function* checkInSteps({ body, crc }: UncheckedFrame): Generator<undefined, boolean> {
  let value = 0;
  for (let at = 0; at < body.length; at += PIECE_BYTES) {
    value = crc32(body.subarray(at, at + PIECE_BYTES), value);
    yield;
  }
  return value === crc;
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
  // All of it is ASCII: as text it has the length and the CRC of its bytes.
  const crc = crc32(body).toString(16).padStart(CRC_DIGITS, '0');
  return Buffer.from(`V2 ${body.length} ${crc} ${body}\n`, 'latin1');
}

/** The id in `V2 length crc id code` at the start of a line that was too long to keep; null where it has none. */
export function readIdOfHead(head: Buffer): string | null {
  return /^V2 +[0-9]+ +[0-9a-f]{8} +([0-9a-f]+) +[!-~]+/.exec(head.toString('latin1'))?.[1] ?? null;
}

/** Reads base64 of the standard alphabet; padding may be missing, but not wrong. Null for anything else. */
export function decodeBase64(text: Buffer): Buffer | null {
  const { length } = text;
  const padding = paddingOf(text);
  if (padding === null) {
    return null;
  }
  if (length <= PIECE_CHARS) {
    const chars = text.toString('latin1');
    const bytes = Buffer.from(chars, 'base64');
    return isDecoded(chars, bytes.length, length - padding) ? bytes : null;
  }
  const steps = decodeInSteps(text, Buffer.allocUnsafe(bytesOfBase64(length - padding)));
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) {
      return value;
    }
  }
}

/**
 * As `decodeBase64`, in steps of about 50 us.
 * @param into what is long enough for the bytes; it may be the text itself, which is lost then
 */
export function* decodeInSteps(text: Buffer, into: Buffer): Generator<undefined, Buffer | null> {
  const { length } = text;
  const padding = paddingOf(text);
  if (padding === null) {
    return null;
  }
  let done = 0;
  // In pieces: as one string it would be megabytes more, each time.
  for (let at = 0; at < length; at += PIECE_CHARS) {
    const chars = text.toString('latin1', at, at + PIECE_CHARS);
    const written = into.write(chars, done, 'base64');
    if (!isDecoded(chars, written, Math.min(PIECE_CHARS, length - padding - at))) {
      return null;
    }
    done += written;
    yield;
  }
  return into.subarray(0, done);
}

const PAD = 0x3d;
/** Whole groups of four. */
const PIECE_CHARS = 32 * 1024;
const PIECE_BYTES = 64 * 1024;

/** How many padding characters end it; null for a length that no base64 has. */
function paddingOf(text: Buffer): number | null {
  const { length } = text;
  const padding = text[length - 1] !== PAD ? 0 : text[length - 2] === PAD ? 2 : 1;
  return (padding === 0 ? length % 4 === 1 : length % 4 !== 0) ? null : padding;
}

/** @param chars without padding */
export function bytesOfBase64(chars: number): number {
  return Math.floor((chars * 3) / 4);
}

/**
 * The runtime's decoder skips what it does not know, so the result is too short then, and takes the URL alphabet too. A
 * regular expression over a line of megabytes would take as long as all the rest of its parsing.
 */
function isDecoded(chars: string, bytes: number, unpadded: number): boolean {
  return bytes === bytesOfBase64(unpadded) && !chars.includes('-') && !chars.includes('_');
}

function isBase64(text: string): boolean {
  return /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

/** Fields of a body whose length is right. */
export function readBody(body: Buffer, isCrcRight: boolean): Frame | NoFrame {
  if (!isCrcRight) {
    return none('CRC does not match', true);
  }
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
  const head = body.toString('latin1', 0, codeEnd);
  return {
    kind: 'frame',
    id: head.slice(0, idEnd),
    code: head.slice(codeAt),
    payload: body.subarray(codeEnd + 1),
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
    if (value >= MAX_LENGTH) {
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

/*
 * What is left of a V2 frame of which the first bytes were lost on a serial port.
 *
 * A guest writes whether or not somebody has the other end of its port: of a frame during which the agent
 * started, the hypervisor's port changed hands or a buffer ran full, only the end comes. As a line of its own
 * it would be answered FAILURE or NOTFOUND, which cloud-init takes for "no such key". Its sender asks
 * again when nothing comes, as for any other frame that came broken.
 *
 *     V2 21 433221a9 6f000004 GET bW90ZA==
 *     |<- lost, noise ->|                      recognised by the id and the code in front of the payload
 *     |<--------- lost ---------->|            recognised by the payload itself, where a loss is likely
 *
 * No line of a client matches. A few bytes of a payload, which any word could be, are not recognised.
 */
/** The longest code, its blanks, an id, and one byte more. */
const MOST_BEFORE = 19;
/** Of an id that is whole, or that begins the line. */
const ID_AND_CODE = /(?:^[0-9a-f]{1,7}|[0-9a-f]{8}) (?:GET|PUT|DELETE|WATCH|PUTIF|DELETEIF)$/;
const ID = /(?:^[0-9a-f]{1,7}|[0-9a-f]{8})$/;
const CODES = ['GET', 'PUT', 'DELETE', 'WATCH', 'PUTIF', 'DELETEIF'];
/** Without a payload. */
const CODES_ALONE = ['KEYS', 'GETALL', 'HELLO'];
const ENDS_OF_CODES = CODES.flatMap((code) => Array.from(code, (_, at) => code.slice(at + 1)));
const ENDS_OF_KEYS = ['EYS', 'YS', 'S'];

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
  const last = line.toString('latin1', gap + 1, end);
  const before = line.toString('latin1', Math.max(0, gap - MOST_BEFORE), Math.max(0, gap));
  if (CODES_ALONE.includes(last) || CODES.includes(last)) {
    return gap === 0 ? afterLoss : ID.test(before);
  }
  if (ID_AND_CODE.test(before)) {
    return isBase64(last);
  }
  if (!afterLoss) {
    return false;
  }
  if (CODES.includes(before)) {
    return isBase64(last) && last.endsWith('=');
  }
  if (CODES.includes(before.slice(1)) && before.startsWith(' ')) {
    return isBase64(last);
  }
  return (
    (gap < 0 && ENDS_OF_KEYS.includes(last)) ||
    (ENDS_OF_CODES.includes(before) && looksEncoded(last))
  );
}

/** Padded, or with capitals inside: no word that a person or a program says. */
function looksEncoded(text: string): boolean {
  return isBase64(text) && (text.endsWith('=') || /[a-z0-9][A-Z]/.test(text));
}
