/*
 * Tokens, and all keys and values at once: what WATCH and GETALL are answered with. A token says what the answers to a
 * set of keys were, as a short text that reveals nothing of them.
 *
 *   entry = HMAC-SHA-256(node's key, "entry", key, result, value)      one for each key
 *   token = HMAC-SHA-256(node's key, "token", entries), 128 bits        keys sorted, each once
 *
 * Made of the rendered answers alone, so it is the same after a restart of the agent, a reboot or a reprovision.
 * Without the node's key nobody can tell a value from its token by trying values. Long work is done in steps; the
 * handler lets one request of a zone do it at a time.
 */
import assert from 'node:assert';
import { createHmac } from 'node:crypto';
import { toUSVString } from 'node:util';
import { endOfPiece, type GetReply, type Reply } from '../protocol/reply';
import { listKeys, nameList, SDC_PREFIX } from './keys';
import { WELL_KNOWN_NAMES } from './sdc';
import type { MetadataMaps } from './vm-data';

/** Stands for "there is no such key" where a token is given, and for "no token yet". */
export const NO_TOKEN = '-';
/** Up to this long a value is digested at once, characters: less than a millisecond. */
const LONG_CHARS = 64 * 1024;
const TOKEN_BYTES = 16;

/** Makes the tokens of a node. */
export class Tokens {
  /** @param key the node's, secret */
  constructor(
    private readonly key: Buffer,
    /** Resolves when another step of long work may be taken. */
    readonly pause: () => Promise<void>,
  ) {}

  /** What stands for one key and its answer in a token: 32 characters of one byte. At once, whatever its length. */
  entry(key: string, answer: Reply): string {
    return this.begin(key, answer).update(textOf(answer)).digest('binary');
  }

  /** The same in steps where the value is long. */
  async longEntry(key: string, answer: Reply): Promise<string> {
    const text = textOf(answer);
    const digest = this.begin(key, answer);
    for (let at = 0; at < text.length;) {
      if (at > 0) {
        await this.pause();
      }
      const end = typeof text === 'string' ? endOfPiece(text, at + LONG_CHARS) : at + LONG_CHARS;
      digest.update(typeof text === 'string' ? text.slice(at, end) : text.subarray(at, end));
      at = end;
    }
    return digest.digest('binary');
  }

  /** The token of a set. @param entries in the order of their sorted keys */
  of(entries: readonly string[]): string {
    const digest = createHmac('sha256', this.key).update('token\0');
    return digest.update(entries.join(''), 'latin1').digest().toString('hex', 0, TOKEN_BYTES);
  }

  private begin(key: string, { kind }: Reply): ReturnType<typeof createHmac> {
    const bytes = Buffer.byteLength(key);
    return createHmac('sha256', this.key).update(`entry\0${bytes}\0${key}${kind}\0`);
  }
}

/** Of a failure nothing but that it failed. */
function textOf(answer: Reply): string | Buffer {
  return answer.kind === 'success' ? answer.text : '';
}

/** The data of a VM as WATCH and GETALL see it, with the file as it is now. */
export interface WatchedData {
  readonly tokens: Tokens;
  readonly maps: MetadataMaps;
  /** The internal namespaces, on which it depends where a key is read from. */
  readonly namespaces: readonly string[];
  /** What a GET of the key is answered with, `sdc:` names included; by a promise where the value is read for it. */
  readonly get: (key: string) => GetReply | Promise<GetReply>;
}

/** What is made at once: fewer keys, and shorter values together, bytes. About a millisecond. */
const MAX_KEYS_AT_ONCE = 128;
const MAX_BYTES_AT_ONCE = 64 * 1024;
/** Keys after which the loop is yielded. */
const KEYS_PER_STEP = 64;
/** For the token and the names of the three members, and most of the well-known names, bytes. */
const FIRST_BYTES = 1024;
/** Quotes, colon and comma of a member. */
const MEMBER_BYTES = 6;
/** Sets of one reading whose tokens are kept. */
const MAX_SETS = 16;

/** By the reading of a metadata file that they were made of. Whoever asks while one is made waits for the same. */
const tokensOfReading = new WeakMap<object, Map<string, string | Promise<string>>>();

/**
 * The token of some keys: at once where it is known or little work.
 * @param keys sorted, each once; null: all that KEYS lists
 */
export function tokenOf(
  data: WatchedData,
  keys: readonly string[] | null,
): string | Promise<string> {
  const { namespaces, maps } = data;
  if (keys?.some((key) => key.startsWith(SDC_PREFIX))) {
    return makeToken(data, keys);
  }
  const reading = maps.onDisk ?? maps;
  const known = tokensOfReading.get(reading) ?? new Map<string, string | Promise<string>>();
  tokensOfReading.set(reading, known);
  // No key and no namespace has a NUL that nothing follows.
  const name = [...namespaces, '', ...(keys ?? [])].join('\0') + (keys === null ? '\0' : '');
  const found = known.get(name);
  if (found !== undefined) {
    return found;
  }
  const token = makeToken(data, keys ?? listKeys(maps, namespaces).sort());
  if (known.size >= MAX_SETS) {
    known.clear();
  }
  known.set(name, token);
  if (token instanceof Promise) {
    token.then(
      (made) => known.set(name, made),
      () => known.delete(name),
    );
  }
  return token;
}

function makeToken(data: WatchedData, keys: readonly string[]): string | Promise<string> {
  const { tokens, maps } = data;
  const isLongWork =
    maps.onDisk !== undefined ||
    keys.length > MAX_KEYS_AT_ONCE ||
    keys.reduce((sum, key) => sum + bytesOf(maps, key), 0) > MAX_BYTES_AT_ONCE;
  if (isLongWork) {
    return makeLongToken(data, keys);
  }
  const entries: string[] = [];
  for (const key of keys) {
    const answer = data.get(key);
    assert(!(answer instanceof Promise), 'values in memory are there at once');
    entries.push(tokens.entry(key, answer));
  }
  return tokens.of(entries);
}

async function makeLongToken(data: WatchedData, keys: readonly string[]): Promise<string> {
  const { tokens } = data;
  const entries: string[] = [];
  for await (const key of inSteps(keys, tokens)) {
    entries.push(await tokens.longEntry(key, await data.get(key)));
  }
  return tokens.of(entries);
}

async function* inSteps(keys: readonly string[], { pause }: Tokens): AsyncGenerator<string> {
  for (const [at, key] of keys.entries()) {
    if (at > 0 && at % KEYS_PER_STEP === 0) {
      await pause();
    }
    yield key;
  }
}

function bytesOf({ customer, internal }: MetadataMaps, key: string): number {
  return (customer.bytesOf?.(key) ?? 0) + (internal.bytesOf?.(key) ?? 0);
}

const TOO_LARGE: Reply = { kind: 'failure', text: 'Too large' };

/**
 * The answer to GETALL. Where it would be too large no value is read. The token is made before the values are read:
 * where a change comes in between, the client's next WATCH is answered at once, and no change is missed.
 * @param bytesMax longest JSON
 */
export async function replyToGetAll(data: WatchedData, bytesMax: number): Promise<Reply> {
  const { maps, tokens, namespaces } = data;
  const namesBytes = nameList(maps, namespaces).text.length;
  // A long list of names is not even decoded.
  if (namesBytes > bytesMax) {
    return TOO_LARGE;
  }
  const keys = listKeys(maps, namespaces);
  let valueBytes = 0;
  for await (const key of inSteps(keys, tokens)) {
    valueBytes += bytesOf(maps, key);
  }
  // A value is at least so long in JSON as a stored string of ASCII, and a third of what it can come to.
  if (namesBytes + Math.floor(valueBytes / 3) > bytesMax) {
    return TOO_LARGE;
  }
  const token = await tokenOf(data, null);
  const likelyBytes = FIRST_BYTES + namesBytes + MEMBER_BYTES * keys.length + valueBytes;
  // As a string it would be twice as long as soon as one of its characters is wide.
  let json = Buffer.allocUnsafe(Math.min(likelyBytes, bytesMax));
  let length = 0;
  for await (const part of partsOfAll(data, token, keys)) {
    const start = length;
    length += Buffer.byteLength(part);
    if (length > bytesMax) {
      return TOO_LARGE;
    }
    if (length > json.length) {
      const larger = Buffer.allocUnsafe(Math.min(2 * length, bytesMax));
      json.copy(larger, 0, 0, start);
      json = larger;
    }
    json.write(part, start);
  }
  return { kind: 'success', text: json.subarray(0, length) };
}

async function* partsOfAll(
  data: WatchedData,
  token: string,
  keys: readonly string[],
): AsyncGenerator<string> {
  yield `{"token":"${token}","metadata":{`;
  yield* membersOf(data, keys, '');
  yield '},"sdc":{';
  yield* membersOf(data, WELL_KNOWN_NAMES, SDC_PREFIX);
  yield '}}';
}

/** The members of an object: names whose answer has a value. */
async function* membersOf(
  { tokens, get }: WatchedData,
  names: readonly string[],
  prefix: string,
): AsyncGenerator<string> {
  let comma = '';
  for await (const name of inSteps(names, tokens)) {
    const answer = await get(`${prefix}${name}`);
    if (answer.kind !== 'success') {
      continue;
    }
    const { text } = answer;
    let part = `${comma}${JSON.stringify(name)}:"`;
    comma = ',';
    for (let at = 0; at < text.length;) {
      if (at > 0) {
        yield part;
        part = '';
        await tokens.pause();
      }
      const end = endOfPiece(text, at + LONG_CHARS);
      // A lone half of a surrogate pair is U+FFFD, as in the answer to a GET.
      part += JSON.stringify(toUSVString(text.slice(at, end))).slice(1, -1);
      at = end;
    }
    yield `${part}"`;
  }
}
