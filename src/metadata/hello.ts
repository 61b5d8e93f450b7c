/*
 * What the agent says of itself to HELLO, so that a client need not guess: its verbs, its limits, and by their ids
 * the differences from the platform's agent (src/protocol/README.md).
 */
import {
  MAX_KEY_BYTES,
  MAX_WATCH_KEYS,
  MAX_WATCH_KEYS_BYTES,
  MAX_WATCH_SECONDS,
} from '../protocol/request';

/** What is configured, bytes but for `keys`. */
export interface HelloLimits {
  readonly lineBytes: number;
  readonly replyBytes: number;
  /** What a guest can write in all: names and values. */
  readonly metadataBytes: number;
  readonly keys: number;
}

const VERBS = ['GET', 'KEYS', 'PUT', 'DELETE', 'WATCH', 'GETALL', 'PUTIF', 'DELETEIF', 'HELLO'];
/** P1 to this. */
const DIFFERENCES = 32;
/** Of a PUTIF: its frame, and a token in base64; and the key's name in base64 twice. */
const FRAME_BYTES = 160;
const KEY_IN_LINE_BYTES = Math.ceil((MAX_KEY_BYTES * 16) / 9);

/** The JSON that HELLO is answered with. */
export function helloText(version: string, limits: HelloLimits): string {
  const { lineBytes, replyBytes, metadataBytes, keys } = limits;
  // A value is encoded twice, each time by a third longer.
  const inLine = Math.floor(((lineBytes - FRAME_BYTES - KEY_IN_LINE_BYTES) * 9) / 16);
  return JSON.stringify({
    agent: 'mdatad',
    version,
    verbs: VERBS,
    limits: {
      line: lineBytes,
      reply: replyBytes,
      value: Math.max(0, Math.min(inLine, metadataBytes)),
      metadata: metadataBytes,
      keys,
      key: MAX_KEY_BYTES,
      watch_keys: MAX_WATCH_KEYS,
      watch_keys_bytes: MAX_WATCH_KEYS_BYTES,
      watch_seconds: MAX_WATCH_SECONDS,
    },
    differences: Array.from({ length: DIFFERENCES }, (_, at) => `P${at + 1}`),
  });
}
