/*
 * Asks the daemon whether it is healthy: GET /healthz on its admin socket.
 *
 * Used by the start method, which returns to SMF only once the answer is yes, and by the install and
 * upgrade scripts. A degraded daemon answers 200 as a healthy one does: it serves its zones. Opens one connection at a time and leaves nothing behind.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/** A daemon that does not answer its own socket in this time is as good as dead. */
const ANSWER_MS = 2000;
/** Between two requests: the daemon needs some hundred milliseconds to come up. */
const PAUSE_MS = 100;
/** Enough of an answer to show to an operator. */
const MAX_ANSWER_CHARS = 400;

export interface Health {
  readonly healthy: boolean;
  /** The body of its answer, or why there was none. */
  readonly answer: string;
}

/** Asks once. Never rejects; answers within ANSWER_MS. */
function askHealth(socketPath: string): Promise<Health> {
  return new Promise((resolve) => {
    const pending = request(
      { socketPath, path: '/healthz', agent: false, timeout: ANSWER_MS },
      (response) => {
        let answer = '';
        response.setEncoding('utf8');
        response.on(
          'data',
          (chunk: string) => (answer = (answer + chunk).slice(0, MAX_ANSWER_CHARS)),
        );
        response.on('end', () => {
          resolve({ healthy: response.statusCode === 200, answer: answer.trim() });
        });
        response.on('error', (err) => {
          resolve({ healthy: false, answer: err.message });
        });
      },
    );
    pending.on('timeout', () => pending.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    pending.on('error', (err) => {
      resolve({ healthy: false, answer: err.message });
    });
    pending.end();
  });
}

/**
 * Asks until the daemon is healthy, `waitMs` have passed or `signal` is aborted; at least once.
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
    if (health.healthy || Date.now() >= end || signal?.aborted === true) {
      return health;
    }
    await delay(PAUSE_MS);
  }
}
