/*
 * Tokens, and all keys and values at once: what WATCH and GETALL are answered with. A token says what the answers to a
 * set of keys were, as a short text that reveals nothing of them.
 *
 *   entry = HMAC-SHA-256(node's key, "entry", key, result, value)      one for each key
 *   token = HMAC-SHA-256(node's key, "token", entries), 128 bits        keys sorted, each once
 *
 * Made of the rendered answers alone, so that it is the same after a restart of the agent, a reboot or a
 * reprovision, and needs no history. Without the node's key nobody can tell a value from its token by trying values.
 *
 * Where the metadata file is long its values are not in memory: they are read one by one, on threads, and digested in
 * pieces. Such a request holds all names of the zone, so the handler lets one of them run at a time. What was computed
 * from a file is kept with its reading: however many wait for a zone's keys, each change is computed once. Nothing is
 * kept of VM objects, tags and routes, which are short.
 *
 * The token of a GETALL is made before its values are read: where a change comes in between, the client's next WATCH
 * is answered at once, and no change is missed.
 */
import { createHmac } from 'node:crypto';
import { toUSVString } from 'node:util';
import { endOfPiece, type ByteReply, type GetReply } from '../protocol/reply';
import { listKeys, nameList } from './keys';
import { WELL_KNOWN_NAMES } from './sdc';
import type { MetadataMaps } from './vm-data';

/** Stands for "there is no such key" where a token is given, and for "no token yet". */
export const NO_TOKEN = '-';
/** Up to this long a value is digested at once, characters: less than a millisecond. */
const LONG_CHARS = 64 * 1024;
const TOKEN_BYTES = 16;

/** As text, or as its UTF-8: the token is the same. */
type Answer = GetReply | ByteReply;

/** Makes the tokens of a node. */
export class Tokens {
  /** @param key the node's, secret */
  constructor(
    private readonly key: Buffer,
    /** Resolves when another step of long work may be taken. */
    readonly pause: () => Promise<void>,
  ) {}

  /** What stands for one key and its answer in a token: 32 characters of one byte. At once, whatever its length. */
  entry(key: string, answer: Answer): string {
    return this.begin(key, answer).update(textOf(answer)).digest('binary');
  }

  /** As `entry`, of a long value in pieces. */
  async longEntry(key: string, answer: Answer): Promise<string> {
    const text = textOf(answer);
    const digest = this.begin(key, answer);
    for (let at = 0; at < text.length;) {
      await this.pause();
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

  private begin(key: string, { kind }: Answer): ReturnType<typeof createHmac> {
    const bytes = Buffer.byteLength(key);
    const result = kind === 'bytes' ? 'success' : kind;
    return createHmac('sha256', this.key).update(`entry\0${bytes}\0${key}${result}\0`);
  }
}

/** Of a failure without a value nothing but that it failed. */
function textOf(answer: Answer): string | Buffer {
  return answer.kind === 'success' || answer.kind === 'bytes' ? answer.text : '';
}

/** The data of a VM as WATCH and GETALL see it, with the file as it is now. */
export interface WatchedData {
  readonly tokens: Tokens;
  readonly maps: MetadataMaps;
  /** The internal namespaces, on which it depends where a key is read from. */
  readonly namespaces: readonly string[];
  /** What a GET of the key is answered with, `sdc:` names included. */
  readonly get: (key: string) => GetReply | Promise<GetReply>;
  /** The same at once; null where values are read one by one. */
  readonly getNow: ((key: string) => GetReply) | null;
}

/** Longer values' entries are kept, characters: there are few of them, and to make them again takes long. */
const KEPT_CHARS = 4096;
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

/** What was made of one reading of a metadata file. */
interface Computed {
  readonly entries: Map<string, string | Promise<string>>;
  readonly tokens: Map<string, string | Promise<string>>;
  /** Limits that the JSON of the metadata alone is over. */
  readonly tooLarge: Set<string>;
}

const computedOf = new WeakMap<object, Computed>();

function computed({ maps }: WatchedData): Computed {
  const source = maps.onDisk ?? maps;
  let known = computedOf.get(source);
  if (known === undefined) {
    known = { entries: new Map(), tokens: new Map(), tooLarge: new Set() };
    computedOf.set(source, known);
  }
  return known;
}

/**
 * The token of some keys: at once where it is known or little work.
 * @param keys sorted, each once; null: all that KEYS lists
 */
export function tokenOf(
  data: WatchedData,
  keys: readonly string[] | null,
): string | Promise<string> {
  const { namespaces, maps } = data;
  if (keys?.some((key) => key.startsWith('sdc:'))) {
    return makeToken(data, keys);
  }
  // No key and no namespace has a NUL that nothing follows.
  const name = [...namespaces, '', ...(keys ?? [])].join('\0') + (keys === null ? '\0' : '');
  return shared(computed(data).tokens, name, MAX_SETS, () => {
    return makeToken(data, keys ?? listKeys(maps, namespaces).sort());
  });
}

/** Kept, while it is made too: whoever asks meanwhile waits for the same. A failure is not kept. */
function shared<T>(
  known: Map<string, T | Promise<T>>,
  name: string,
  most: number,
  make: () => T | Promise<T>,
): T | Promise<T> {
  const found = known.get(name);
  if (found !== undefined) {
    return found;
  }
  const value = make();
  if (known.size >= most) {
    known.clear();
  }
  known.set(name, value);
  if (value instanceof Promise) {
    value.then(
      (settled) => known.get(name) === value && known.set(name, settled),
      () => known.get(name) === value && known.delete(name),
    );
  }
  return value;
}

function makeToken(data: WatchedData, keys: readonly string[]): string | Promise<string> {
  const { tokens, maps, getNow } = data;
  const isLongWork = (): boolean =>
    keys.length > MAX_KEYS_AT_ONCE ||
    keys.reduce((sum, key) => sum + bytesOf(maps, key), 0) > MAX_BYTES_AT_ONCE;
  if (getNow === null || isLongWork()) {
    return makeLongToken(data, keys);
  }
  const entries: string[] = [];
  for (const key of keys) {
    const answer = getNow(key);
    if (isLong(answer)) {
      return makeLongToken(data, keys);
    }
    entries.push(tokens.entry(key, answer));
  }
  return tokens.of(entries);
}

function isLong(answer: GetReply): boolean {
  return answer.kind === 'success' && answer.text.length > LONG_CHARS;
}

function bytesOf({ customer, internal }: MetadataMaps, key: string): number {
  return (customer.bytesOf?.(key) ?? 0) + (internal.bytesOf?.(key) ?? 0);
}

async function makeLongToken(data: WatchedData, keys: readonly string[]): Promise<string> {
  const entries: string[] = [];
  for (const [at, key] of keys.entries()) {
    if (at % KEYS_PER_STEP === 0) {
      await data.tokens.pause();
    }
    entries.push(await entryOf(data, key));
  }
  return data.tokens.of(entries);
}

/** Of a long value it is kept, and made once. */
function entryOf(data: WatchedData, key: string): string | Promise<string> {
  const { tokens, maps, namespaces } = data;
  const make = async (): Promise<string> => {
    const answer = await data.get(key);
    return isLong(answer) ? await tokens.longEntry(key, answer) : tokens.entry(key, answer);
  };
  if (key.startsWith('sdc:') || bytesOf(maps, key) <= KEPT_CHARS) {
    return make();
  }
  const { entries } = computed(data);
  return shared(entries, [...namespaces, '', key].join('\0'), Infinity, make);
}

const TOO_LARGE: GetReply = { kind: 'failure', text: 'Too large' };

/** The answer to GETALL. Where it would be too large no value is read. @param bytesMax longest JSON */
export async function replyToGetAll(
  data: WatchedData,
  bytesMax: number,
): Promise<GetReply | ByteReply> {
  const { maps, tokens } = data;
  const { tooLarge } = computed(data);
  const limit = [...data.namespaces, '', String(bytesMax)].join('\0');
  // A long list of names is not even decoded.
  if (tooLarge.has(limit) || nameList(maps, data.namespaces).text.length > bytesMax) {
    return TOO_LARGE;
  }
  const keys = listKeys(maps, data.namespaces);
  let least = 0;
  let likely = FIRST_BYTES;
  for (const [at, key] of keys.entries()) {
    if (at > 0 && at % KEYS_PER_STEP === 0) {
      await tokens.pause();
    }
    const bytes = bytesOf(maps, key);
    // A value is at least so long in JSON as a stored string of ASCII, and a third of what it can come to.
    least += key.length + Math.floor(bytes / 3);
    likely += key.length + MEMBER_BYTES + bytes;
  }
  if (least > bytesMax) {
    tooLarge.add(limit);
    return TOO_LARGE;
  }
  const token = await tokenOf(data, null);
  const json = new JsonBytes(tokens, likely, bytesMax);
  json.open(`{"token":"${token}","metadata":{`);
  for (const [at, key] of keys.entries()) {
    if (at > 0 && at % KEYS_PER_STEP === 0) {
      await tokens.pause();
    }
    await json.add(key, await data.get(key));
    if (json.full) {
      tooLarge.add(limit);
      return TOO_LARGE;
    }
  }
  json.open('},"sdc":{');
  for (const name of WELL_KNOWN_NAMES) {
    await json.add(name, await data.get(`sdc:${name}`));
  }
  json.push('}}');
  return json.full ? TOO_LARGE : { kind: 'bytes', text: json.bytes };
}

/**
 * A JSON object whose members are objects of strings, made in pieces and as UTF-8: as a string it would be twice as
 * long as soon as one of its characters is wide, for as long as the collector lets it be.
 */
class JsonBytes {
  private memory: Buffer;
  private length = 0;
  private comma = '';

  /** @param bytes what it is likely to come to @param bytesMax what does not fit in there is not kept */
  constructor(
    private readonly tokens: Tokens,
    bytes: number,
    private readonly bytesMax: number,
  ) {
    this.memory = Buffer.allocUnsafe(Math.min(bytes, bytesMax));
  }

  get bytes(): Buffer {
    return this.memory.subarray(0, this.length);
  }

  /** True: it is longer than the limit. */
  get full(): boolean {
    return this.length > this.bytesMax;
  }

  /** Adds a member, where the answer has a value. */
  async add(name: string, answer: GetReply): Promise<void> {
    if (answer.kind !== 'success') {
      return;
    }
    const value = answer.text;
    this.push(`${this.comma}${JSON.stringify(name)}:"`);
    this.comma = ',';
    for (let at = 0; at < value.length && !this.full;) {
      if (at > 0) {
        await this.tokens.pause();
      }
      const end = endOfPiece(value, at + LONG_CHARS);
      // A lone half of a surrogate pair is U+FFFD, as in the answer to a GET.
      this.push(JSON.stringify(toUSVString(value.slice(at, end))).slice(1, -1));
      at = end;
    }
    this.push('"');
  }

  /** Adds a text that begins an object. */
  open(part: string): void {
    this.push(part);
    this.comma = '';
  }

  push(part: string): void {
    const start = this.length;
    this.length += Buffer.byteLength(part);
    if (this.full) {
      return;
    }
    if (this.length > this.memory.length) {
      const larger = Buffer.allocUnsafe(Math.min(2 * this.length, this.bytesMax));
      this.memory.copy(larger, 0, 0, start);
      this.memory = larger;
    }
    this.memory.write(part, start);
  }
}
