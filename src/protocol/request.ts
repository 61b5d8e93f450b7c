/*
 * Parses one line into the request that a guest makes. README.md in this directory describes the protocol.
 *
 * The transports call `parseLine` with each line. It is a pure function of the line's bytes: it never
 * throws, keeps nothing, and decodes text only after the whole line is there. Everything that can be
 * refused without the VM's data is refused here, each with its own text, so no later stage sees an empty
 * key, a key or value that is not UTF-8, or a new name that must not be stored.
 */
import { isUtf8 } from 'node:buffer';
import { decodeBase64, endOfText, isBlank, readFrame, readIdOfHead, type Frame } from './frame';

/** How the answer must be written: V1 lines have no id, V2 frames carry the request's. */
export type Wire = { readonly version: 1 } | { readonly version: 2; readonly id: string };

/** The value of a PUT: a string, or, where it is longer than 64 KiB, the UTF-8 that was sent. */
export type PutValue = string | Buffer;

/** What needs the VM's data to be answered. Keys are trimmed and not empty; a value is as sent. */
export type DataRequest =
  | { readonly kind: 'get'; readonly wire: Wire; readonly key: string }
  | { readonly kind: 'keys'; readonly wire: Wire }
  | {
      readonly kind: 'put';
      readonly wire: Wire;
      readonly key: string;
      readonly value: PutValue;
      /** Of a PUTIF: the token that the key must have, `-` where it must be absent. */
      readonly onlyIf?: string;
    }
  /** `onlyIf` as for a put: a DELETEIF. */
  | { readonly kind: 'delete'; readonly wire: Wire; readonly key: string; readonly onlyIf?: string }
  | WatchRequest
  /** All keys and their values at once. */
  | { readonly kind: 'getall'; readonly wire: Wire }
  /** What the agent can do. */
  | { readonly kind: 'hello'; readonly wire: Wire };

/** A request that is answered when the token of some keys is not the client's any more. */
export interface WatchRequest {
  readonly kind: 'watch';
  readonly wire: Wire;
  /** How long it may wait, from 1 to `MAX_WATCH_SECONDS`. */
  readonly seconds: number;
  /** The token that the client has; `-` for none. */
  readonly token: string;
  /** Sorted, each once; null: all that KEYS lists. */
  readonly keys: readonly string[] | null;
}

/** Verbs whose payload has a key. */
type KeyedVerb = 'GET' | 'PUT' | 'DELETE' | 'WATCH' | 'PUTIF' | 'DELETEIF';

/** What is answered (or met with silence) from the line alone. */
export type LineRequest =
  /** An empty line, one that starts with white space, a GET without a key: `invalid command`. */
  | { readonly kind: 'reset'; readonly bare: boolean }
  | { readonly kind: 'negotiate'; readonly accepted: boolean }
  /** A payload that does not decode to what the verb needs; `text` is the reason that the guest gets. */
  | {
      readonly kind: 'malformed';
      readonly wire: Wire;
      readonly verb: KeyedVerb;
      readonly text: string;
    }
  /** `verb` is the guest's text: cut and escape it before it goes to a log. */
  | { readonly kind: 'unknown'; readonly wire: Wire; readonly verb: string }
  | { readonly kind: 'too-large'; readonly wire: Wire }
  /** A V2 line that is no valid frame: silence, and a record of why. */
  | { readonly kind: 'broken'; readonly reason: string; readonly line: Buffer };

export type Request = DataRequest | LineRequest;

/** A request that changes metadata; the others only read. */
export type WriteRequest = Extract<DataRequest, { readonly kind: 'put' | 'delete' }>;

/** On a serial port lines may begin with noise; on a socket every byte was meant. */
export type Channel = 'socket' | 'serial';

const V1: Wire = { version: 1 };
const BARE_RESET: Request = { kind: 'reset', bare: true };
const NO_COMMAND: Request = { kind: 'reset', bare: false };
const KEYS_V1: Request = { kind: 'keys', wire: V1 };
/**
 * Longest key that PUT takes, in bytes of UTF-8. Every KEYS reply carries every key, so their length
 * must be bounded. Longer ones that the file holds already can be read and deleted.
 */
export const MAX_KEY_BYTES = 1024;
/** Longest wait of a WATCH: a proxy or a hypervisor in between may forget a stream that is silent for longer. */
export const MAX_WATCH_SECONDS = 300;
/** Keys of one WATCH, and their bytes in base64, which bound what a waiting one keeps in memory. */
export const MAX_WATCH_KEYS = 64;
export const MAX_WATCH_KEYS_BYTES = 4096;
/** Ours have 32: another agent's may be longer, and is then merely another token. */
const MAX_TOKEN_CHARS = 64;
/**
 * A longer value stays bytes until it is in the file: as a string it would be copied again and again, and collections of
 * garbage with megabytes of strings take long.
 */
const MAX_STRING_BYTES = 64 * 1024;
const SP = 0x20;
const EMPTY = Buffer.alloc(0);
/** What a log record shows of an unknown V1 command: the reply does not repeat it. */
const UNKNOWN_V1_CHARS = 32;
const FRAME_START = Buffer.from('V2 ', 'latin1');
/**
 * How many frame starts inside a serial line are read, from the last one back. Base64 holds no SP, so
 * the frame's own start is the last, or, with `V2` as the code, the one before. The bound keeps a guest
 * from having a line's CRC computed once for each start that it put into it.
 */
const MAX_FRAME_STARTS = 4;

/**
 * Parses a line.
 * @param line without its LF; `broken` requests keep it, nothing else does
 */
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
  const id = readIdOfHead(channel === 'serial' ? dropNuls(head) : head);
  return { kind: 'too-large', wire: id === null ? V1 : { version: 2, id } };
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
 * The frame behind noise, where the line ends in one. Where it only resembles one, silence: a client repeats
 * its request then, while it would read a `FAILURE` line as the key's absence.
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
  if (isV2(line, end)) {
    const read = readFrame(line);
    return read.kind === 'frame' ? requestOf(read) : { kind: 'broken', reason: read.reason, line };
  }
  let commandEnd = 0;
  // No command is that long: what follows is not looked at.
  while (commandEnd < Math.min(end, UNKNOWN_V1_CHARS) && !isBlank(line[commandEnd])) {
    commandEnd++;
  }
  return commandEnd === 0 ? NO_COMMAND : parseV1(line, commandEnd, end);
}

/** Whether the command is `V2`; what follows it must be a frame then. */
function isV2(line: Buffer, end: number): boolean {
  return line[0] === 0x56 && line[1] === 0x32 && (end === 2 || isBlank(line[2]));
}

function parseV1(line: Buffer, commandEnd: number, end: number): Request {
  const command = line.toString('latin1', 0, commandEnd);
  switch (command) {
    case 'GET': {
      if (commandEnd === end) {
        return NO_COMMAND;
      }
      const key = keyOf(line.subarray(commandEnd + 1, end), 'GET');
      return 'fault' in key
        ? malformed(V1, 'GET', key.fault)
        : { kind: 'get', wire: V1, key: key.text };
    }
    case 'KEYS':
      return KEYS_V1;
    case 'NEGOTIATE':
      if (commandEnd === end) {
        return NO_COMMAND;
      }
      return {
        kind: 'negotiate',
        accepted: line.toString('latin1', commandEnd + 1, Math.min(end, commandEnd + 4)) === 'V2',
      };
    default:
      return { kind: 'unknown', wire: V1, verb: command };
  }
}

/** What was decoded of a long frame before: the payload, and the value in it where it has one; null: not base64. */
export interface DecodedPayload {
  readonly payload: Buffer | null;
  readonly value: Buffer | null;
}

/** @param decoded what need not be decoded any more */
export function requestOf(frame: Frame, decoded?: DecodedPayload): Request {
  const { id, code } = frame;
  const wire: Wire = { version: 2, id };
  const payload = (): Buffer | null =>
    decoded === undefined ? decodeBase64(frame.payload) : decoded.payload;
  switch (code) {
    case 'GET': {
      const key = keyOf(payload(), 'GET');
      return 'fault' in key
        ? malformed(wire, 'GET', key.fault)
        : { kind: 'get', wire, key: key.text };
    }
    case 'KEYS':
      return { kind: 'keys', wire };
    case 'GETALL':
      return { kind: 'getall', wire };
    case 'HELLO':
      return { kind: 'hello', wire };
    case 'WATCH':
      return parseWatch(wire, payload());
    case 'PUT':
    case 'PUTIF':
      return parsePut(wire, code, payload() ?? EMPTY, decoded);
    case 'DELETEIF':
      return parseDeleteIf(wire, payload() ?? EMPTY);
    case 'DELETE': {
      const key = keyOf(payload(), 'DELETE');
      return deleteOf(wire, 'DELETE', key);
    }
    default:
      return { kind: 'unknown', wire, verb: code };
  }
}

function deleteOf(
  wire: Wire,
  verb: 'DELETE' | 'DELETEIF',
  key: DecodedKey,
  condition: { readonly onlyIf?: string } = {},
): Request {
  if ('fault' in key) {
    return malformed(wire, verb, key.fault);
  }
  return key.text === PROTO
    ? malformed(wire, verb, invalid(verb))
    : { kind: 'delete', wire, key: key.text, ...condition };
}

/** The base64 of the value in `base64(key) SP base64(value)`, or, of a PUTIF, with `SP token` behind it; null for none. */
export function valueOf(verb: 'PUT' | 'PUTIF', terms: Buffer): Buffer | null {
  const start = terms.indexOf(SP) + 1;
  const end = verb === 'PUT' ? terms.length : terms.lastIndexOf(SP);
  return start === 0 || end < start ? null : terms.subarray(start, end);
}

/**
 * The value may be empty.
 * @param terms the payload, decoded once
 */
function parsePut(
  wire: Wire,
  verb: 'PUT' | 'PUTIF',
  terms: Buffer,
  decoded?: DecodedPayload,
): Request {
  const onlyIf = verb === 'PUT' ? undefined : tokenOf(terms);
  const text = valueOf(verb, terms);
  const value = decoded?.value ?? (text === null ? null : decodeBase64(text));
  if (onlyIf === null || text === null || value === null) {
    return malformed(wire, verb, invalid(verb));
  }
  const key = keyOf(decodeBase64(terms.subarray(0, terms.indexOf(SP))), verb);
  if ('fault' in key) {
    return malformed(wire, verb, key.fault);
  }
  const fault = faultOfNewKey(key.text, verb) ?? (isUtf8(value) ? null : 'Value is not UTF-8.');
  if (fault !== null) {
    return malformed(wire, verb, fault);
  }
  const put = value.length > MAX_STRING_BYTES ? value : value.toString('utf8');
  return { kind: 'put', wire, key: key.text, value: put, ...(onlyIf !== undefined && { onlyIf }) };
}

/** `base64(key) SP token`. */
function parseDeleteIf(wire: Wire, terms: Buffer): Request {
  const onlyIf = tokenOf(terms);
  if (onlyIf === null) {
    return malformed(wire, 'DELETEIF', invalid('DELETEIF'));
  }
  const key = keyOf(decodeBase64(terms.subarray(0, terms.lastIndexOf(SP))), 'DELETEIF');
  return deleteOf(wire, 'DELETEIF', key, { onlyIf });
}

/** The last of the terms; null where it is no token, or the only one. */
function tokenOf(terms: Buffer): string | null {
  const space = terms.lastIndexOf(SP);
  const token = terms.toString('latin1', space + 1, space + 2 + MAX_TOKEN_CHARS);
  return space < 0 || !isToken(token) ? null : token;
}

/** `seconds SP token (SP base64(key))*`. What is kept of it refers to nothing of the line. */
function parseWatch(wire: Wire, payload: Buffer | null): Request {
  const fault = malformed(wire, 'WATCH', invalid('WATCH'));
  const first = payload?.indexOf(' ') ?? -1;
  if (payload === null || first < 1 || first > 3) {
    return fault;
  }
  const after = payload.indexOf(' ', first + 1);
  const end = after < 0 ? payload.length : after;
  const timeout = payload.toString('latin1', 0, first);
  const token = payload.toString('latin1', first + 1, Math.min(end, first + 2 + MAX_TOKEN_CHARS));
  const seconds = /^[1-9][0-9]*$/.test(timeout) ? Number(timeout) : 0;
  if (seconds < 1 || seconds > MAX_WATCH_SECONDS || !isToken(token)) {
    return fault;
  }
  if (after < 0) {
    return { kind: 'watch', wire, seconds, token, keys: null };
  }
  if (payload.length - after > MAX_WATCH_KEYS_BYTES) {
    return malformed(wire, 'WATCH', TOO_MANY_KEYS);
  }
  const keys = new Set<string>();
  for (const term of payload.toString('latin1', after + 1).split(' ')) {
    const key = keyOf(decodeBase64(Buffer.from(term, 'latin1')), 'WATCH');
    if ('fault' in key) {
      return malformed(wire, 'WATCH', key.fault);
    }
    keys.add(key.text);
  }
  return keys.size > MAX_WATCH_KEYS
    ? malformed(wire, 'WATCH', TOO_MANY_KEYS)
    : { kind: 'watch', wire, seconds, token, keys: [...keys].sort() };
}

const TOO_MANY_KEYS = 'Too many keys.';

/** What a client may take for a token; whether it is one is found out when it is compared. */
function isToken(text: string): boolean {
  return text.length <= MAX_TOKEN_CHARS && /^[!-~]+$/.test(text);
}

function malformed(wire: Wire, verb: KeyedVerb, text: string): Request {
  return { kind: 'malformed', wire, verb, text };
}

function invalid(verb: KeyedVerb): string {
  return `Invalid ${verb} Request`;
}

/** A program that handles the metadata as a plain object loses this name, so no change of it is tried. */
const PROTO = '__proto__';

/**
 * Why no value may be stored under a key; null where one may. Only PUT asks: what an earlier agent or
 * an operator stored can be read and deleted whatever its name is.
 */
function faultOfNewKey(key: string, verb: 'PUT' | 'PUTIF'): string | null {
  if (key === PROTO) {
    return invalid(verb);
  }
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

/** A decoded key, or the reason that the guest gets instead. */
type DecodedKey = { readonly text: string } | { readonly fault: string };

/**
 * A key is UTF-8, its outer ASCII white space does not count, and something must be left.
 * @param bytes null where the payload is not base64
 */
function keyOf(bytes: Buffer | null, verb: KeyedVerb): DecodedKey {
  if (bytes === null) {
    return { fault: invalid(verb) };
  }
  // Metadata is JSON text: other bytes could only be stored changed.
  if (!isUtf8(bytes)) {
    return { fault: 'Key is not UTF-8.' };
  }
  const text = bytes.toString('utf8');
  let from = 0;
  let to = text.length;
  while (from < to && isKeySpace(text.charCodeAt(from))) {
    from++;
  }
  while (to > from && isKeySpace(text.charCodeAt(to - 1))) {
    to--;
  }
  return from === to ? { fault: invalid(verb) } : { text: text.slice(from, to) };
}

/** In a decoded key LF is white space too: shell clients encode the output of `echo`. */
function isKeySpace(char: number): boolean {
  return char === 0x20 || (char >= 0x09 && char <= 0x0d);
}

/** True for a request that the handler answers. */
export function isDataRequest(request: Request): request is DataRequest {
  switch (request.kind) {
    case 'get':
    case 'keys':
    case 'put':
    case 'delete':
    case 'watch':
    case 'getall':
    case 'hello':
      return true;
    default:
      return false;
  }
}

export function isWrite(request: Request): request is WriteRequest {
  return request.kind === 'put' || request.kind === 'delete';
}
