/*
 * Asks a daemon whether it is well: GET /healthz on its admin socket.
 *
 * Used by the start method, which returns to SMF only once the answer is yes, and by the install and
 * upgrade scripts. Opens one connection at a time and leaves nothing behind.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/** A daemon that does not answer its own socket in this time is as good as dead. */
const ANSWER_MS = 2000;
/** Between two questions: the daemon needs some hundred milliseconds to come up. */
const PAUSE_MS = 100;
/** Enough of an answer to show to an operator. */
const MAX_WORDS = 400;

export interface Health {
  readonly well: boolean;
  /** The daemon's own words, or why there were none. */
  readonly words: string;
}

/** Asks once. Never rejects; answers within ANSWER_MS. */
function askHealth(socketPath: string): Promise<Health> {
  return new Promise((resolve) => {
    const asked = request(
      { socketPath, path: '/healthz', agent: false, timeout: ANSWER_MS },
      (answer) => {
        let words = '';
        answer.setEncoding('utf8');
        answer.on('data', (text: string) => (words = (words + text).slice(0, MAX_WORDS)));
        answer.on('end', () => {
          resolve({ well: answer.statusCode === 200, words: words.trim() });
        });
        answer.on('error', (err) => {
          resolve({ well: false, words: err.message });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    asked.on('error', (err) => {
      resolve({ well: false, words: err.message });
    });
    asked.end();
  });
}

/**
 * Asks until the daemon is well, `waitMs` have passed or `signal` is aborted; at least once.
 * Never rejects; returns the last answer.
 */
export async function awaitHealth(
  socketPath: string,
  waitMs: number,
  signal?: AbortSignal,
): Promise<Health> {
  const end = Date.now() + waitMs;
  for (;;) {
    const health = await askHealth(socketPath);
    if (health.well || Date.now() >= end || signal?.aborted === true) {
      return health;
    }
    await delay(PAUSE_MS);
  }
}
