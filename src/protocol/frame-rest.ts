/*
 * What is left of a V2 frame of which the first bytes were lost on a serial port.
 *
 * A guest writes whether or not somebody has the other end of its port: of a frame during which the agent
 * started, the hypervisor was taken over or a buffer ran full, only the rest comes. As a line of its own
 * it would be answered FAILURE or NOTFOUND, which cloud-init takes for "no such key". Its sender asks
 * again when it hears nothing, as for any other frame that came broken.
 *
 *     V2 21 433221a9 6f000004 GET bW90ZA==
 *     |<- lost, noise ->|                      told by the id and the code in front of the payload
 *     |<--------- lost ---------->|            told by the look of the payload, where a loss is likely
 *
 * No client's own line looks so. A few bytes of a payload, which any word could be, are not told.
 */
import { endOfText } from './frame';

const SP = 0x20;
/** The longest code, its blanks, an id, and one byte more. */
const MOST_BEFORE = 19;
/** Of an id that is whole, or that begins the line. */
const ID_AND_CODE = /(?:^[0-9a-f]{1,7}|[0-9a-f]{8}) (?:GET|PUT|DELETE|WATCH|PUTIF|DELETEIF)$/;
const ID = /(?:^[0-9a-f]{1,7}|[0-9a-f]{8})$/;
const CODES = ['GET', 'PUT', 'DELETE', 'WATCH', 'PUTIF', 'DELETEIF'];
const CODES_ALONE = ['KEYS', 'GETALL', 'HELLO'];
const ENDS_OF_CODES = CODES.flatMap((code) => Array.from(code, (_, at) => code.slice(at + 1)));

/**
 * @param line of a serial port, without its LF, that is no frame
 * @param afterLoss whether bytes before the line may have been lost: the first of a connection, or the
 * one after a frame that came broken
 */
export function isRestOfFrame(line: Buffer, afterLoss: boolean): boolean {
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
  return (gap < 0 && isEndOfKeys(last)) || (ENDS_OF_CODES.includes(before) && looksEncoded(last));
}

function isEndOfKeys(text: string): boolean {
  return text === 'EYS' || text === 'YS' || text === 'S';
}

/** Padded, or with capitals inside: no word that a person or a program says. */
function looksEncoded(text: string): boolean {
  return isBase64(text) && (text.endsWith('=') || /[a-z0-9][A-Z]/.test(text));
}

function isBase64(text: string): boolean {
  return /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}
