/*
 * What a line means and how it is answered, implemented a second time from the protocol's description: a
 * request as one line of text, which is easy to compare.
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

/** A key and null, or anything and the reason that the guest gets. @param bytes one a character */
function key(bytes: string | null, verb: string): readonly [name: string, fault: string | null] {
  if (bytes === null) {
    return ['', `Invalid ${verb} Request`];
  }
  const text = fromUtf8(bytes);
  if (text === null) {
    return ['', 'Key is not UTF-8.'];
  }
  const name = text.replace(/^[ \t\n\v\f\r]+/, '').replace(/[ \t\n\v\f\r]+$/, '');
  const invalid = name === '' || (verb !== 'GET' && name === '__proto__');
  return [name, invalid ? `Invalid ${verb} Request` : null];
}

/** Unicode's spaces and line ends, and U+FEFF. */
const SPACE = '[\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff]';
const OUTER_SPACE = new RegExp(`^${SPACE}|${SPACE}$`);

function newKeyFault(name: string): string | null {
  if (/[\0-\x1f\x7f]/.test(name)) {
    return 'Key has control characters.';
  }
  if (OUTER_SPACE.test(name)) {
    return 'Key begins or ends with white space.';
  }
  return toUtf8(name).length > 1024 ? 'Key is too long.' : null;
}

function keyed(verb: 'GET' | 'DELETE' | 'DELETEIF', by: string, bytes: string | null): string {
  const [name, fault] = key(bytes, verb);
  return fault === null ? `${verb.toLowerCase()} ${by} ${name}` : `malformed ${by} ${fault}`;
}

const TOKEN = /^[!-~]{1,64}$/;

/** With one term more, a token. */
function conditional(verb: 'PUTIF' | 'DELETEIF', by: string, payload: string | null): string {
  const terms = payload?.split(' ') ?? [];
  const token = terms.pop() ?? '';
  if (terms.length === 0 || !TOKEN.test(token)) {
    return `malformed ${by} Invalid ${verb} Request`;
  }
  const rest = terms.join(' ');
  if (verb === 'PUTIF') {
    return put('PUTIF', by, rest).replace(/^putif /, `putif ${token} `);
  }
  return keyed('DELETEIF', by, fromBase64(rest)).replace(
    `deleteif ${by} `,
    `deleteif ${by} ${token} `,
  );
}

function watch(by: string, payload: string): string {
  const [seconds = '', token = '', ...terms] = payload.split(' ');
  const isTime = /^[1-9][0-9]{0,2}$/.test(seconds) && Number(seconds) <= 300;
  if (!isTime || !TOKEN.test(token)) {
    return `malformed ${by} Invalid WATCH Request`;
  }
  if (payload.length - `${seconds} ${token}`.length > 4096) {
    return `malformed ${by} Too many keys.`;
  }
  const names: string[] = [];
  for (const term of terms) {
    const [name, fault] = key(fromBase64(term), 'WATCH');
    if (fault !== null && name !== '__proto__') {
      return `malformed ${by} ${fault}`;
    }
    names.push(name);
  }
  const keys = [...new Set(names)].sort();
  if (keys.length > 64) {
    return `malformed ${by} Too many keys.`;
  }
  const list = payload.split(' ').length > 2 ? JSON.stringify(keys) : 'null';
  return `watch ${by} ${Number(seconds)} ${token} ${list}`;
}

function put(verb: 'PUT' | 'PUTIF', by: string, payload: string | null): string {
  const [first = '', second, ...more] = payload?.split(' ') ?? [];
  const bytes = second === undefined || more.length > 0 ? null : fromBase64(second);
  if (bytes === null) {
    return `malformed ${by} Invalid ${verb} Request`;
  }
  const [name, fault] = key(fromBase64(first), verb);
  const value = fromUtf8(bytes);
  const why = fault ?? newKeyFault(name) ?? (value === null ? 'Value is not UTF-8.' : null);
  return why === null
    ? `${verb.toLowerCase()} ${by} ${name}\0${value ?? ''}`
    : `malformed ${by} ${why}`;
}

/** What a whole line means on a zone's socket. @param line bytes, one a character, without LF */
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
      return keyed('GET', 'v1', argument);
    }
    case 'KEYS':
      return 'keys v1';
    case 'NEGOTIATE':
      return blank === undefined ? 'reset' : `negotiate ${String(argument === 'V2')}`;
    default:
      return `unknown v1 ${command.slice(0, 32)}`;
  }
}

/** How a line that begins as a frame must be classified, as text. */
export function meaningOfFrame(line: string): string {
  const frame = frameIn(line);
  if (frame === null) {
    return 'broken';
  }
  const { id, code, payload } = frame;
  const bytes = fromBase64(payload);
  switch (code) {
    case 'GET':
    case 'DELETE':
      return keyed(code, id, bytes);
    case 'KEYS':
    case 'GETALL':
    case 'HELLO':
      return `${code.toLowerCase()} ${id}`;
    case 'PUT':
      return put('PUT', id, bytes);
    case 'PUTIF':
    case 'DELETEIF':
      return conditional(code, id, bytes);
    case 'WATCH':
      return watch(id, bytes ?? '');
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
      return `get ${by} ${request.key}`;
    case 'delete':
      return request.onlyIf === undefined
        ? `delete ${by} ${request.key}`
        : `deleteif ${by} ${request.onlyIf} ${request.key}`;
    case 'put': {
      const { key: name, value, onlyIf } = request;
      const words = `${by} ${name}\0${value.toString()}`;
      return onlyIf === undefined ? `put ${words}` : `putif ${onlyIf} ${words}`;
    }
    case 'watch':
      return `watch ${by} ${request.seconds} ${request.token} ${JSON.stringify(request.keys)}`;
    case 'getall':
    case 'hello':
    case 'keys':
    case 'too-large':
      return `${request.kind} ${by}`;
    case 'malformed':
      return `malformed ${by} ${request.text}`;
    case 'unknown':
      return `unknown ${by} ${request.verb}`;
    case 'broken':
      return 'broken';
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** The bytes of an answer with `text` to a request made by V1 (`v1`) or with an id. */
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
      return answerOf(by, 'FAILURE', rest);
    case 'unknown':
      return answerOf(by, 'FAILURE', `Unknown command ${rest}`);
    case 'broken':
      return '';
    default:
      return null;
  }
}
