/*
 * The wire format a second time, written from its description alone and slowly on purpose: what the
 * fuzzer compares the agent's own with. It takes nothing from the code under test.
 */

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const SEXTET = new Map(Array.from(Buffer.from(ALPHABET), (byte, index) => [byte, index]));
const CRC_TABLE = new Uint32Array(256).map((_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return crc;
});

/** CRC-32/ISO-HDLC as eight lower-case hex digits. @param bytes one a character */
export function crcText(bytes: string): string {
  let crc = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ bytes.charCodeAt(at)) & 255] ?? 0);
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0');
}

/** RFC 4648, padded. @param bytes one a character */
export function toBase64(bytes: string): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 3) {
    const [a, b, c] = [bytes.charCodeAt(at), bytes.charCodeAt(at + 1), bytes.charCodeAt(at + 2)];
    text += ALPHABET.charAt(a >> 2) + ALPHABET.charAt(((a & 3) << 4) | (b >> 4));
    text += Number.isNaN(b) ? '=' : ALPHABET.charAt(((b & 15) << 2) | (c >> 6));
    text += Number.isNaN(c) ? '=' : ALPHABET.charAt(c & 63);
  }
  return text;
}

/** The bytes, one a character; null for what is no base64. Padding may be missing, never wrong. */
export function fromBase64(text: string): string | null {
  const bare = text.length % 4 === 0 ? text.replace(/==?$/, '') : text;
  if (bare.length % 4 === 1) {
    return null;
  }
  let bytes = '';
  let bits = 0;
  let value = 0;
  for (let at = 0; at < bare.length; at++) {
    const sextet = SEXTET.get(bare.charCodeAt(at));
    if (sextet === undefined) {
      return null;
    }
    value = ((value << 6) | sextet) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes += String.fromCharCode((value >> bits) & 255);
    }
  }
  return bytes;
}

/** UTF-8 to text by the table of RFC 3629; null for what is none. @param bytes one a character */
export function fromUtf8(bytes: string): string | null {
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const lead = bytes.charCodeAt(at);
    const more =
      lead < 0x80 ? 0 : lead < 0xc2 ? -1 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : -1;
    if (more === -1) {
      return null;
    }
    let point = more === 0 ? lead : lead & (0x3f >> more);
    for (let i = 1; i <= more; i++) {
      const byte = bytes.charCodeAt(at + i);
      // NaN at the end of the bytes is no continuation either.
      if (!(byte >= 0x80 && byte <= 0xbf)) {
        return null;
      }
      point = point * 64 + (byte & 0x3f);
    }
    const overlong = (more === 2 && point < 0x800) || (more === 3 && point < 0x10000);
    if (overlong || (point >= 0xd800 && point <= 0xdfff) || point > 0x10ffff) {
      return null;
    }
    text += String.fromCodePoint(point);
    at += more + 1;
  }
  return text;
}

/** Text as UTF-8, one byte a character; the text has no lone surrogates. */
export function toUtf8(text: string): string {
  let bytes = '';
  for (const char of text) {
    const point = char.codePointAt(0) ?? 0;
    if (point < 0x80) {
      bytes += char;
    } else if (point < 0x800) {
      bytes += String.fromCharCode(0xc0 | (point >> 6), 0x80 | (point & 63));
    } else if (point < 0x10000) {
      const rest = [0x80 | ((point >> 6) & 63), 0x80 | (point & 63)];
      bytes += String.fromCharCode(0xe0 | (point >> 12), ...rest);
    } else {
      const rest = [0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63)];
      bytes += String.fromCharCode(0xf0 | (point >> 18), ...rest);
    }
  }
  return bytes;
}

/** A frame without its LF. */
export function frameOf(body: string): string {
  return `V2 ${body.length} ${crcText(body)} ${body}`;
}

export interface ModelFrame {
  readonly id: string;
  readonly code: string;
  readonly payload: string;
}

const HEADER = /^V2 +([0-9]+) +([0-9a-f]{8}) +([^ ][^]*)$/;
const BODY = /^([0-9a-f]+) +([!-~]+)(?: ([\0-\x7f]*))?$/;

/** The frame that fills a line, null where it is none. */
export function frameIn(line: string): ModelFrame | null {
  const header = HEADER.exec(line);
  if (header === null) {
    return null;
  }
  const [, length = '', crc, rest = ''] = header;
  for (const body of [rest, rest.replace(/\r$/, ''), rest.replace(/[ \t\v\f\r]+$/, '')]) {
    const fields = body.length === Number(length) && crcText(body) === crc ? BODY.exec(body) : null;
    if (fields !== null) {
      const [, id = '', code = '', payload = ''] = fields;
      return { id, code, payload };
    }
  }
  return null;
}
