/*
 * Parses one line of a transport into the request that a guest makes. README.md in this directory describes the
 * protocol.
 *
 * Pure; never throws. Everything that can be refused without the VM's data is refused here, each with its own text, so
 * no later stage sees an empty key, a key or value that is not UTF-8, or a new name that must not be stored.
 */
import { isUtf8 } from 'node:buffer';
import { decodeBase64, endOfText, isBlank, readFrame, type Frame } from './frame';

/** How the answer must be written: V1 lines have no id, V2 frames carry the request's. */
export type Wire = { readonly version: 1 } | { readonly version: 2; readonly id: string };

interface Condition {
  readonly onlyIf?: string;
}

/**
 * What needs the VM's data to be answered. Keys are trimmed and not empty; a value is as sent. `onlyIf`, of a PUTIF or
 * DELETEIF, is the token that the key must have, `-` where it must be absent. The value of a PUT is bytes where it is
 * longer than 64 KiB.
 */
export type DataRequest = { readonly wire: Wire } & (
  | { readonly kind: 'get'; readonly key: string }
  | { readonly kind: 'keys' }
  | (Condition & {
      readonly kind: 'put';
      readonly key: string;
      readonly value: string | Buffer;
    })
  | (Condition & { readonly kind: 'delete'; readonly key: string })
  | {
      readonly kind: 'watch';
      /** How long it may wait, from 1 to `MAX_WATCH_SECONDS`. */
      readonly seconds: number;
      /** The token that the client has; `-` for none. */
      readonly token: string;
      /** Sorted, each once; null: all that KEYS lists. */
      readonly keys: readonly string[] | null;
    }
  | { readonly kind: 'getall' }
  | { readonly kind: 'hello' }
);

/** The verbs that are answered from a VM's data, as HELLO names them. */
export const VERBS = [
  ...(['GET', 'KEYS', 'PUT', 'DELETE'] as const),
  ...(['WATCH', 'GETALL', 'PUTIF', 'DELETEIF', 'HELLO'] as const),
];
/** Verbs whose payload has a key. */
type KeyedVerb = Exclude<(typeof VERBS)[number], 'KEYS' | 'GETALL' | 'HELLO'>;

/** What is answered from the line alone. */
export type LineRequest =
  /** An empty line, one that starts with white space, a GET without a key: `invalid command`. */
  | { readonly kind: 'reset'; readonly bare: boolean }
  | { readonly kind: 'negotiate'; readonly accepted: boolean }
  /** `text` is the reason that the guest gets. */
  | { readonly kind: 'malformed'; readonly wire: Wire; readonly text: string }
  /** `verb` is the guest's text: cut and escape it before it goes to a log. */
  | { readonly kind: 'unknown'; readonly wire: Wire; readonly verb: string }
  | { readonly kind: 'too-large'; readonly wire: Wire }
  /** A V2 line that is no valid frame: silence, and a record of why. */
  | { readonly kind: 'broken'; readonly reason: string; readonly line: Buffer };

export type Request = DataRequest | LineRequest;

/** A request that changes metadata. */
export type WriteRequest = Extract<DataRequest, { readonly kind: 'put' | 'delete' }>;

/** On a serial port lines may begin with noise; on a socket every byte was meant. */
export type Channel = 'socket' | 'serial';

const V1: Wire = { version: 1 };
const BARE_RESET: Request = { kind: 'reset', bare: true };
const NO_COMMAND: Request = { kind: 'reset', bare: false };
const KEYS_V1: Request = { kind: 'keys', wire: V1 };
/** Longest key that PUT takes: every KEYS reply carries every key. Longer ones of a file can be read and deleted. */
export const MAX_KEY_BYTES = 1024;
/** A proxy or a hypervisor in between may forget a stream that is silent for longer. */
export const MAX_WATCH_SECONDS = 300;
/** Keys of one WATCH, and their bytes in base64, which bound what a waiting one keeps in memory. */
export const MAX_WATCH_KEYS = 64;
export const MAX_WATCH_KEYS_BYTES = 4096;
/** Ours have 32: another agent's may be longer, and is then merely another token. */
const MAX_TOKEN_CHARS = 64;
const TOKEN = /^[!-~]{1,64}$/;
/** `seconds SP token`, and the SP before the first key. */
const WATCH_HEAD = /^([1-9][0-9]{0,2}) ([!-~]{1,64})( |$)/;
const WATCH_HEAD_CHARS = 3 + 1 + MAX_TOKEN_CHARS + 1;
/** As a string a longer value would be copied again and again, and garbage of megabytes takes long to collect. */
const MAX_STRING_BYTES = 64 * 1024;
const SP = 0x20;
/** What a log record shows of an unknown V1 command. */
const UNKNOWN_V1_CHARS = 32;
const FRAME_START = Buffer.from('V2 ', 'latin1');
/**
 * Frame starts inside a serial line that are read, from the last one back. Base64 holds no SP, so the frame's own is
 * the last, or, with `V2` as the code, the one before. A CRC is computed for each.
 */
const MAX_FRAME_STARTS = 4;

/** @param line without its LF; `broken` requests keep it, nothing else does */
export function parseLine(line: Buffer, channel: Channel): Request {
  if (channel === 'socket') {
    return parseClean(line);
  }
  const cleaned = dropNuls(line);
  const request = parseClean(cleaned);
  const isFrame = 'wire' in request && request.wire.version === 2;
  return isFrame ? request : salvage(cleaned, request);
}

/** Parses a line that was too long to keep. @param head its first bytes, see LineReader */
export function parseOversize(head: Buffer, channel: Channel): Request {
  const text = (channel === 'serial' ? dropNuls(head) : head).toString('latin1');
  const [, id] = /^V2 +[0-9]+ +[0-9a-f]{8} +([0-9a-f]+) +[!-~]+/.exec(text) ?? [];
  return { kind: 'too-large', wire: id === undefined ? V1 : { version: 2, id } };
}

/** A guest's port sends NULs when it is opened or reset (seen before cloud-init's first frame). */
function dropNuls(line: Buffer): Buffer {
  let from = 0;
  while (line[from] === 0) {
    from++;
  }
  return from === 0 ? line : line.subarray(from);
}

/**
 * The frame behind noise, where the line ends in one. Where it only resembles one, silence: a client would read a
 * `FAILURE` line as the key's absence.
 * @param otherwise what the line is when no frame is in it
 */
function salvage(line: Buffer, otherwise: Request): Request {
  let request = otherwise;
  let at = line.length;
  for (let starts = 0; starts < MAX_FRAME_STARTS && at > 0; starts++) {
    at = line.lastIndexOf(FRAME_START, at - 1);
    if (at <= 0) {
      break;
    }
    const read = readFrame(line, at);
    if (read.kind === 'frame') {
      return requestOf(read);
    }
    if (read.header && otherwise.kind !== 'broken') {
      request = { kind: 'broken', reason: `noise before a frame: ${read.reason}`, line };
    }
  }
  return request;
}

function parseClean(line: Buffer): Request {
  const end = endOfText(line, 0);
  if (end === 0) {
    return BARE_RESET;
  }
  const isV2 = line[0] === 0x56 && line[1] === 0x32 && (end === 2 || isBlank(line[2]));
  if (isV2) {
    const read = readFrame(line);
    return read.kind === 'frame' ? requestOf(read) : { kind: 'broken', reason: read.reason, line };
  }
  // No command is longer than that: what follows is not looked at.
  const head = line.toString('latin1', 0, Math.min(end, UNKNOWN_V1_CHARS));
  const [command = ''] = /^[^ \t\v\f\r]*/.exec(head) ?? [];
  const hasArgument = command.length < end;
  switch (command) {
    case 'GET':
      return hasArgument
        ? parseKeyed(V1, 'GET', line.subarray(command.length + 1, end))
        : NO_COMMAND;
    case 'KEYS':
      return KEYS_V1;
    case 'NEGOTIATE':
      return hasArgument
        ? { kind: 'negotiate', accepted: head.slice(command.length + 1) === 'V2' }
        : NO_COMMAND;
    case '':
      return NO_COMMAND;
    default:
      return { kind: 'unknown', wire: V1, verb: command };
  }
}

function requestOf({ id, code, payload: text }: Frame): Request {
  const wire: Wire = { version: 2, id };
  const payload = decodeBase64(text);
  switch (code) {
    case 'GET':
    case 'DELETE':
      return parseKeyed(wire, code, payload);
    case 'KEYS':
      return { kind: 'keys', wire };
    case 'GETALL':
      return { kind: 'getall', wire };
    case 'HELLO':
      return { kind: 'hello', wire };
    case 'WATCH':
      return parseWatch(wire, payload);
    case 'PUT':
      return parsePut(wire, code, payload);
    case 'PUTIF':
    case 'DELETEIF': {
      // As PUT, or base64(key), with `SP token` behind it.
      const space = payload?.lastIndexOf(SP) ?? -1;
      const onlyIf = payload?.toString('latin1', space + 1, space + 2 + MAX_TOKEN_CHARS) ?? '';
      if (payload === null || space < 0 || !TOKEN.test(onlyIf)) {
        return invalid(wire, code);
      }
      const rest = payload.subarray(0, space);
      return code === 'PUTIF'
        ? parsePut(wire, code, rest, { onlyIf })
        : parseKeyed(wire, code, decodeBase64(rest), { onlyIf });
    }
    default:
      return { kind: 'unknown', wire, verb: code };
  }
}

function parseKeyed(
  wire: Wire,
  verb: 'GET' | 'DELETE' | 'DELETEIF',
  bytes: Buffer | null,
  condition: Condition = {},
): Request {
  const key = keyOf(bytes, wire, verb);
  if (typeof key !== 'string') {
    return key;
  }
  return verb === 'GET' ? { kind: 'get', wire, key } : { kind: 'delete', wire, key, ...condition };
}

/** `base64(key) SP base64(value)`. The value may be empty. */
function parsePut(
  wire: Wire,
  verb: 'PUT' | 'PUTIF',
  terms: Buffer | null,
  condition: Condition = {},
): Request {
  const space = terms?.indexOf(SP) ?? -1;
  const value = terms === null || space < 0 ? null : decodeBase64(terms.subarray(space + 1));
  if (terms === null || value === null) {
    return invalid(wire, verb);
  }
  const key = keyOf(decodeBase64(terms.subarray(0, space)), wire, verb);
  if (typeof key !== 'string') {
    return key;
  }
  const fault = faultOfNewKey(key) ?? (isUtf8(value) ? null : 'Value is not UTF-8.');
  if (fault !== null) {
    return malformed(wire, fault);
  }
  const put = value.length > MAX_STRING_BYTES ? value : value.toString('utf8');
  return { kind: 'put', wire, key, value: put, ...condition };
}

/** `seconds SP token (SP base64(key))*`. What is kept of it refers to nothing of the line. */
function parseWatch(wire: Wire, payload: Buffer | null): Request {
  const head = WATCH_HEAD.exec(payload?.toString('latin1', 0, WATCH_HEAD_CHARS) ?? '');
  const [text = '', timeout = '', token = '', space = ''] = head ?? [];
  const seconds = Number(timeout);
  if (payload === null || head === null || seconds > MAX_WATCH_SECONDS) {
    return invalid(wire, 'WATCH');
  }
  if (space === '') {
    return { kind: 'watch', wire, seconds, token, keys: null };
  }
  if (space.length + payload.length - text.length > MAX_WATCH_KEYS_BYTES) {
    return malformed(wire, TOO_MANY_KEYS);
  }
  const keys = new Set<string>();
  for (const term of payload.toString('latin1', text.length).split(' ')) {
    const key = keyOf(decodeBase64(Buffer.from(term, 'latin1')), wire, 'WATCH');
    if (typeof key !== 'string') {
      return key;
    }
    keys.add(key);
  }
  return keys.size > MAX_WATCH_KEYS
    ? malformed(wire, TOO_MANY_KEYS)
    : { kind: 'watch', wire, seconds, token, keys: [...keys].sort() };
}

const TOO_MANY_KEYS = 'Too many keys.';

function malformed(wire: Wire, text: string): Request {
  return { kind: 'malformed', wire, text };
}

function invalid(wire: Wire, verb: KeyedVerb): Request {
  return malformed(wire, `Invalid ${verb} Request`);
}

/** @param bytes null where the payload is not base64 @returns the key, or what the guest gets instead */
function keyOf(bytes: Buffer | null, wire: Wire, verb: KeyedVerb): string | Request {
  if (bytes === null) {
    return invalid(wire, verb);
  }
  // Metadata is JSON text: other bytes could only be stored changed.
  if (!isUtf8(bytes)) {
    return malformed(wire, 'Key is not UTF-8.');
  }
  let from = 0;
  let to = bytes.length;
  while (from < to && isKeySpace(bytes[from])) {
    from++;
  }
  while (to > from && isKeySpace(bytes[to - 1])) {
    to--;
  }
  const key = bytes.toString('utf8', from, to);
  // A program that handles the metadata as a plain object loses `__proto__`, so no change of it is tried.
  const isRead = verb === 'GET' || verb === 'WATCH';
  return key === '' || (key === '__proto__' && !isRead) ? invalid(wire, verb) : key;
}

/** In a decoded key LF is white space too: shell clients encode the output of `echo`. */
function isKeySpace(byte: number | undefined): boolean {
  return byte === SP || (byte !== undefined && byte >= 0x09 && byte <= 0x0d);
}

/**
 * Why no value may be stored under a key; null where one may. Only PUT asks: what an earlier agent or
 * an operator stored can be read and deleted whatever its name is.
 */
function faultOfNewKey(key: string): string | null {
  // LF separates the names in a KEYS reply, and a terminal obeys the others.
  if (/[\u0000-\u001f\u007f]/.test(key)) {
    return 'Key has control characters.';
  }
  // The platform's agent cuts Unicode spaces and U+FEFF too, so it could never give this value back.
  if (key.trim() !== key) {
    return 'Key begins or ends with white space.';
  }
  return Buffer.byteLength(key) > MAX_KEY_BYTES ? 'Key is too long.' : null;
}

const WITHOUT_DATA: ReadonlySet<Request['kind']> = new Set(['malformed', 'unknown', 'too-large']);

/** True for a request that the handler answers. */
export function isDataRequest(request: Request): request is DataRequest {
  return 'wire' in request && !WITHOUT_DATA.has(request.kind);
}

export function isWrite(request: Request): request is WriteRequest {
  return request.kind === 'put' || request.kind === 'delete';
}
