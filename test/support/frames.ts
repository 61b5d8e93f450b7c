/*
 * An independent maker and reader of the wire format for tests: the CRC is computed bit by bit, base64
 * by its definition, and nothing comes from the code under test.
 */

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** CRC-32/ISO-HDLC as eight lower-case hex digits. */
export function crcText(bytes: Buffer): string {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    }
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0');
}

/** RFC 4648, padded. */
export function base64(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 3) {
    const [first = 0, second = 0, third = 0] = bytes.subarray(at, at + 3);
    const group = first * 65536 + second * 256 + third;
    const digits = [18, 12, 6, 0].map((shift) => ALPHABET.charAt((group >> shift) & 63));
    text += digits
      .join('')
      .slice(0, bytes.length - at + 1)
      .padEnd(4, '=');
  }
  return text;
}

/** A frame without its LF. @param body all of it: `id code payload` */
export function frameOfBody(body: string): Buffer {
  const bytes = Buffer.from(body, 'latin1');
  return Buffer.concat([Buffer.from(`V2 ${bytes.length} ${crcText(bytes)} `), bytes]);
}

/** A frame with its LF. @param payload not yet encoded; left out with its SP when it is empty */
export function frame(id: string, code: string, payload: Buffer | string = ''): Buffer {
  const encoded = base64(Buffer.from(payload));
  const body = encoded === '' ? `${id} ${code}` : `${id} ${code} ${encoded}`;
  return Buffer.concat([frameOfBody(body), Buffer.from('\n')]);
}

/** A PUT with its LF. */
export function putFrame(id: string, key: Buffer | string, value: Buffer | string): Buffer {
  return frame(id, 'PUT', `${base64(Buffer.from(key))} ${base64(Buffer.from(value))}`);
}

/** A response's fields as a guest reads them. Throws where the line is no frame. */
export function readFrame(line: string): { id: string; code: string; payload: Buffer } {
  const match =
    /^V2 ([0-9]+) ([0-9a-f]{8}) (([0-9a-f]{8}) ([A-Z]+)(?: ([A-Za-z0-9+/=]+))?)\n$/.exec(line);
  const [, length, crc, body, id, code, payload] = match ?? [];
  if (body === undefined || id === undefined || code === undefined) {
    throw new Error(`no frame: ${JSON.stringify(line)}`);
  }
  if (Number(length) !== body.length || crc !== crcText(Buffer.from(body, 'latin1'))) {
    throw new Error(`wrong length or CRC: ${JSON.stringify(line)}`);
  }
  return { id, code, payload: Buffer.from(payload ?? '', 'base64') };
}

/** A V1 answer to a GET as a guest undoes it: the value of `SUCCESS`, else null. */
export function readV1Value(answer: string): string | null {
  const [first, ...lines] = answer.split('\n');
  if (first !== 'SUCCESS') {
    return null;
  }
  const end = lines.indexOf('.');
  if (end < 0 || lines.length !== end + 2 || lines[end + 1] !== '') {
    throw new Error(`not ended by a dot: ${JSON.stringify(answer)}`);
  }
  return lines
    .slice(0, end)
    .map((line) => (line.startsWith('.') ? line.slice(1) : line))
    .join('\n');
}
