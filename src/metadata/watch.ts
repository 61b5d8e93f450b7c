/*
 * The token of a set of keys, and all keys and values at once: what WATCH and GETALL are answered with.
 *
 * Where the metadata file is long its values are not in memory: they are read one by one, on threads, and digested in
 * pieces. What was computed from a file is kept with its reading: however many wait for a zone's keys,
 * each change is computed once. Nothing is kept of VM objects, tags and routes, which are short.
 *
 * The token of a GETALL is made before its values are read: where a change comes in between, the client's next WATCH
 * is answered at once, and no change is missed.
 */
import type { GetReply } from '../protocol/reply';
import { listKeys } from './keys';
import { endOfPiece, LONG_CHARS, type Tokens } from './token';
import type { MetadataMaps } from './vm-data';

/** The data of a VM as WATCH and GETALL see it, with the file as it is now. */
export interface WatchedData {
  readonly zonename: string;
  readonly tokens: Tokens;
  readonly maps: MetadataMaps;
  /** The internal namespaces, on which it depends where a key is read from. */
  readonly namespaces: readonly string[];
  /** What a GET of the key is answered with, `sdc:` names included. */
  get(key: string): GetReply | Promise<GetReply>;
}

/** Longer values' entries are kept, characters: there are few of them, and to make them again takes long. */
const KEPT_CHARS = 4096;
/** What is made at once: fewer keys, and shorter values together, bytes. About a millisecond. */
const MAX_KEYS_AT_ONCE = 128;
const MAX_BYTES_AT_ONCE = 64 * 1024;
/** Keys after which the loop is yielded. */
const KEYS_PER_STEP = 64;
/** Of a string in memory, as soon as one of its characters is wide. */
const MAX_BYTES_PER_CHAR = 2;
/** Sets of one reading whose tokens are kept. */
const MAX_SETS = 16;

/** What was made of one reading of a metadata file. */
interface Computed {
  readonly entries: Map<string, string | Promise<string>>;
  readonly tokens: Map<string, string | Promise<string>>;
  readonly texts: Map<string, Promise<MetadataText>>;
}

const computedOf = new WeakMap<object, Computed>();

function computed({ maps }: WatchedData): Computed {
  const source = maps.onDisk ?? maps;
  let known = computedOf.get(source);
  if (known === undefined) {
    known = { entries: new Map(), tokens: new Map(), texts: new Map() };
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
  const { tokens } = data;
  if (!isSmall(data, keys)) {
    return makeLongToken(data, keys);
  }
  const entries: string[] = [];
  for (const key of keys) {
    const answer = data.get(key);
    if (answer instanceof Promise) {
      // It is asked for again, and meets the same fault then.
      answer.catch(() => undefined);
      return makeLongToken(data, keys);
    }
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

function isSmall({ maps }: WatchedData, keys: readonly string[]): boolean {
  if (maps.onDisk !== undefined || keys.length > MAX_KEYS_AT_ONCE) {
    return false;
  }
  const bytes = keys.reduce((sum, key) => sum + bytesOf(maps, key), 0);
  return bytes <= MAX_BYTES_AT_ONCE;
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

/** Does something with a value. However many zones do so at once, the long ones stay within the memory for them. */
async function withValue<T>(
  data: WatchedData,
  key: string,
  work: (answer: GetReply) => Promise<T>,
): Promise<T> {
  const bytes = bytesOf(data.maps, key);
  const getAndWork = async (): Promise<T> => work(await data.get(key));
  return bytes <= LONG_CHARS
    ? getAndWork()
    : data.tokens.withRoom(data.zonename, MAX_BYTES_PER_CHAR * bytes, getAndWork);
}

/** Of a long value it is kept, and made once. */
function entryOf(data: WatchedData, key: string): string | Promise<string> {
  const { tokens, maps, namespaces } = data;
  const make = (): Promise<string> =>
    withValue(data, key, async (answer) => {
      return isLong(answer) ? await tokens.longEntry(key, answer) : tokens.entry(key, answer);
    });
  if (key.startsWith('sdc:') || bytesOf(maps, key) <= KEPT_CHARS) {
    return make();
  }
  const { entries } = computed(data);
  return shared(entries, [...namespaces, '', key].join('\0'), Infinity, make);
}

/** The metadata as JSON. */
interface MetadataText {
  readonly token: string;
  readonly json: string;
  readonly bytes: number;
}

/** What GETALL may come to and holds. */
export interface AllOptions {
  /** Names without `sdc:`. */
  readonly sdcNames: readonly string[];
  /** Longest JSON text, bytes. */
  readonly bytesMax: number;
}

const TOO_LARGE: GetReply = { kind: 'failure', text: 'Too large' };

/** The token, and the names of the three members. */
const ENVELOPE_BYTES = 128;

/** The answer to GETALL. Where it would be too large no value is read. */
export async function replyToGetAll(data: WatchedData, options: AllOptions): Promise<GetReply> {
  const { sdcNames } = options;
  const bytesMax = options.bytesMax - ENVELOPE_BYTES;
  const keys = listKeys(data.maps, data.namespaces);
  const least = keys.reduce((sum, key) => sum + sizeOf(data.maps, key), 0);
  if (least > bytesMax) {
    return TOO_LARGE;
  }
  const name = [...data.namespaces, '', String(bytesMax)].join('\0');
  const { texts } = computed(data);
  let text = texts.get(name);
  if (text === undefined) {
    // Whoever asks while it is made gets the same; it is not kept, since it can be long.
    text = makeText(data, keys, bytesMax).finally(() => texts.delete(name));
    texts.set(name, text);
  }
  const { token, json, bytes } = await text;
  if (bytes > bytesMax) {
    return TOO_LARGE;
  }
  const sdc = new JsonText(data.tokens, bytesMax - bytes);
  for (const name of sdcNames) {
    const answer = await data.get(`sdc:${name}`);
    if (answer.kind === 'success' && !(await sdc.add(name, answer.text))) {
      return TOO_LARGE;
    }
  }
  const head = `{"token":"${token}","metadata":{`;
  const middle = '},"sdc":{';
  return {
    kind: 'success',
    // All who ask at once share the metadata's text, until there is room for a reply of theirs.
    text: `${head}${json}${middle}${sdc.text}}}`,
    bytes: head.length + bytes + middle.length + sdc.bytes + 2,
  };
}

/** A value is at least so long in JSON as a stored string of ASCII, and a third of what it can come to. */
function sizeOf(maps: MetadataMaps, key: string): number {
  return key.length + Math.floor(bytesOf(maps, key) / 3);
}

/** Longer than the limit: cut, which its length tells. */
async function makeText(
  data: WatchedData,
  keys: readonly string[],
  bytesMax: number,
): Promise<MetadataText> {
  const token = await tokenOf(data, null);
  const json = new JsonText(data.tokens, bytesMax);
  for (const [at, key] of keys.entries()) {
    if (at % KEYS_PER_STEP === 0) {
      await data.tokens.pause();
    }
    const fits = await withValue(data, key, async (answer) => {
      return answer.kind !== 'success' || json.add(key, answer.text);
    });
    if (!fits) {
      break;
    }
  }
  return { token, json: json.text, bytes: json.bytes };
}

/** Members of an object in JSON, made in pieces. */
class JsonText {
  bytes = 0;
  private readonly parts: string[] = [];
  private readonly tokens: Tokens;
  private readonly bytesMax: number;

  constructor(tokens: Tokens, bytesMax: number) {
    this.tokens = tokens;
    this.bytesMax = bytesMax;
  }

  get text(): string {
    return this.parts.join('');
  }

  /** @returns false where it is longer than the limit now */
  async add(name: string, value: string): Promise<boolean> {
    this.push(`${this.parts.length === 0 ? '' : ','}${JSON.stringify(name)}:"`);
    for (let at = 0; at < value.length;) {
      if (at > 0) {
        await this.tokens.pause();
      }
      const end = endOfPiece(value, at + LONG_CHARS);
      this.push(JSON.stringify(value.slice(at, end)).slice(1, -1));
      at = end;
      if (this.bytes > this.bytesMax) {
        return false;
      }
    }
    this.push('"');
    return this.bytes <= this.bytesMax;
  }

  private push(part: string): void {
    this.parts.push(part);
    this.bytes += Buffer.byteLength(part);
  }
}
