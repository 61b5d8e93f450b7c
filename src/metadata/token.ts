/*
 * Tokens: what the answers to a set of keys were, as a short text that reveals nothing of them.
 *
 *   entry = HMAC-SHA-256(node's key, "entry", key, result, value)      one for each key
 *   token = HMAC-SHA-256(node's key, "token", entries), 128 bits        keys sorted, each once
 *
 * Made of the rendered answers alone, so that it is the same after a restart of the agent, a reboot or a
 * reprovision, and needs no history. Without the node's key nobody can tell a value from its token by trying
 * values. Long values are digested in steps, one in each iteration of the event loop for all zones together.
 */
import { createHmac } from 'node:crypto';
import type { ByteReply, GetReply } from '../protocol/reply';

/** Stands for "there is no such key" where a token is given, and for "no token yet". */
export const NO_TOKEN = '-';
/** Up to this long a value is digested at once, characters: less than a millisecond. */
export const LONG_CHARS = 64 * 1024;
const TOKEN_BYTES = 16;

/** As text, or as its UTF-8: the token is the same. */
export type Answer = GetReply | ByteReply;

/** Makes the tokens of a node. */
export class Tokens {
  /**
   * @param key the node's, secret
   * @param pause resolves when another step of long work may be taken
   */
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

  /** The token of one key alone. */
  ofOne(key: string, answer: Answer): string {
    return this.of([this.entry(key, answer)]);
  }

  async ofLongOne(key: string, answer: Answer): Promise<string> {
    return this.of([await this.longEntry(key, answer)]);
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

/** Never between the two halves of a character. */
export function endOfPiece(text: string, end: number): number {
  const code = end < text.length ? text.charCodeAt(end - 1) : 0;
  return code >= 0xd800 && code <= 0xdbff ? end - 1 : Math.min(end, text.length);
}
