/*
 * What a line means, and what is answered to it, once more from the protocol's description: a request as
 * one line of text, which is easy to compare.
 */
import type { Request } from '../../../src/protocol/request';
import { frameIn, frameOf, fromBase64, fromUtf8, toBase64, toUtf8 } from './wire';

const BLANKS = /[ \t\v\f\r]/;

/** Without the white space at its end; a regular expression would be slow on many blanks. */
function cut(line: string): string {
  let end = line.length;
  while (end > 0 && BLANKS.test(line.charAt(end - 1))) {
    end--;
  }
  return line.slice(0, end);
}

function key(octets: string | null): string | null {
  const text = octets === null ? null : fromUtf8(octets);
  const trimmed = text?.replace(/^[ \t\n\v\f\r]+/, '').replace(/[ \t\n\v\f\r]+$/, '');
  return trimmed === undefined || trimmed === '' ? null : trimmed;
}

function storable(name: string | null): name is string {
  return name !== null && name !== '__proto__' && !/[\0-\x1f\x7f]/.test(name);
}

/** What a whole line means on a zone's socket. @param line octets, one a character, without LF */
export function meaningOf(line: string): string {
  const text = cut(line);
  if (text === '') {
    return 'reset bare';
  }
  if (/^V2(?:[ \t\v\f\r]|$)/.test(text)) {
    return meaningOfFrame(line);
  }
  const [, command = '', blank, argument = ''] =
    /^([^ \t\v\f\r]*)([ \t\v\f\r])?([^]*)$/.exec(text) ?? [];
  switch (command) {
    case '':
      return 'reset';
    case 'GET': {
      if (blank === undefined) {
        return 'reset';
      }
      const name = key(argument);
      return name === null ? 'malformed v1 GET' : `get v1 ${name}`;
    }
    case 'KEYS':
      return 'keys v1';
    case 'NEGOTIATE':
      return blank === undefined ? 'reset' : `negotiate ${String(argument === 'V2')}`;
    default:
      return `unknown v1 ${command.slice(0, 32)}`;
  }
}

/** What a line that begins as a frame must be taken for, in words. */
export function meaningOfFrame(line: string): string {
  const frame = frameIn(line);
  if (frame === null) {
    return 'broken';
  }
  const { id, code, payload } = frame;
  const octets = fromBase64(payload);
  switch (code) {
    case 'GET': {
      const name = key(octets);
      return name === null ? `malformed ${id} GET` : `get ${id} ${name}`;
    }
    case 'KEYS':
      return `keys ${id}`;
    case 'DELETE': {
      const name = key(octets);
      return storable(name) ? `delete ${id} ${name}` : `malformed ${id} DELETE`;
    }
    case 'PUT': {
      const [first = '', second, ...more] = octets?.split(' ') ?? [];
      const name = key(fromBase64(first));
      const bytes = second === undefined ? null : fromBase64(second);
      const value = bytes === null ? null : fromUtf8(bytes);
      return storable(name) && value !== null && more.length === 0
        ? `put ${id} ${name}\0${value}`
        : `malformed ${id} PUT`;
    }
    default:
      return `unknown ${id} ${code}`;
  }
}

/** A request of the agent's own parser in the same words. */
export function wordsOf(request: Request): string {
  const by = 'wire' in request ? (request.wire.version === 1 ? 'v1' : request.wire.id) : '';
  switch (request.kind) {
    case 'reset':
      return request.bare ? 'reset bare' : 'reset';
    case 'negotiate':
      return `negotiate ${String(request.accepted)}`;
    case 'get':
    case 'delete':
      return `${request.kind} ${by} ${request.key}`;
    case 'put':
      return `put ${by} ${request.key}\0${request.value}`;
    case 'keys':
    case 'too-large':
      return `${request.kind} ${by}`;
    case 'malformed':
    case 'unknown':
      return `${request.kind} ${by} ${request.verb}`;
    case 'broken':
      return 'broken';
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** The octets of an answer with `text` to a request made by V1 (`v1`) or with an id. */
export function answerOf(by: string, result: string, text: string): string {
  if (by === 'v1') {
    const lines = toUtf8(text).split('\n');
    const stuffed = lines.map((one) => (one.startsWith('.') ? `.${one}` : one));
    return result === 'SUCCESS' ? `SUCCESS\n${stuffed.join('\n')}\n.\n` : `${result}\n`;
  }
  const payload = text === '' ? '' : ` ${toBase64(toUtf8(text))}`;
  return `${frameOf(`${by} ${result}${payload}`)}\n`;
}

/** What is answered to a line that asks for no data; null for one that does; '' for silence. */
export function answerToLine(meaning: string): string | null {
  const [kind = '', by = ''] = meaning.split(' ', 2);
  const rest = meaning.slice(kind.length + by.length + 2);
  switch (kind) {
    case 'reset':
      return 'invalid command\n';
    case 'negotiate':
      return by === 'true' ? 'V2_OK\n' : 'FAILURE\n';
    case 'malformed':
      return answerOf(by, 'FAILURE', `Invalid ${rest} Request`);
    case 'unknown':
      return answerOf(by, 'FAILURE', `Unknown command ${rest}`);
    case 'broken':
      return '';
    default:
      return null;
  }
}
