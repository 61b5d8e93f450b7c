/*
 * Asks the daemon on its admin socket whether it is healthy (GET /healthz) and which process it is (GET /status).
 *
 * Used by the start method, which returns to SMF only once the answer is yes, and by the install and upgrade
 * scripts. A degraded daemon answers 200 as a healthy one does: it serves its zones. Opens one connection at a
 * time and leaves nothing behind.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../src/lib/errors';
import { parseJsonObject } from '../../src/metadata/vm-data';

/** A daemon that does not answer its own socket in this time is as good as dead. */
const ANSWER_MS = 2000;
/** Between two requests: the daemon needs some hundred milliseconds to come up. */
const PAUSE_MS = 100;
/** Enough of an answer to show to an operator. */
const MAX_ANSWER_CHARS = 400;

export interface Health {
  readonly healthy: boolean;
  /** Whether anybody listens on the socket, though it may give no answer. */
  readonly listening: boolean;
  /** The body of its answer, or why there was none. */
  readonly answer: string;
}

/** Asks once. Never rejects; answers within ANSWER_MS. */
export async function askHealth(socketPath: string): Promise<Health> {
  let listening = false;
  try {
    const { status, body } = await get(socketPath, '/healthz', () => (listening = true));
    return { healthy: status === 200, listening, answer: body.slice(0, MAX_ANSWER_CHARS).trim() };
  } catch (err) {
    return { healthy: false, listening, answer: messageOf(err) };
  }
}

/** The process id of the mdatad that answers on the socket; null where none says it within ANSWER_MS. */
export async function askPid(socketPath: string): Promise<number | null> {
  const reply = await get(socketPath, '/status').catch(() => null);
  const status = parseJsonObject(reply?.body ?? '');
  return typeof status?.pid === 'number' ? status.pid : null;
}

function get(
  socketPath: string,
  path: string,
  connected?: () => void,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const pending = request({ socketPath, path, agent: false, timeout: ANSWER_MS }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body });
      });
      response.on('error', reject);
    });
    pending.on('socket', (socket) => socket.on('connect', () => connected?.()));
    pending.on('timeout', () => pending.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    pending.on('error', reject);
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
  return askUntil(
    () => askHealth(socketPath),
    ({ healthy }) => healthy,
    waitMs,
    signal,
  );
}

/** As awaitHealth, for the process id: a daemon that has just begun to serve may be slow to say it. */
export async function awaitPid(
  socketPath: string,
  waitMs: number,
  signal: AbortSignal,
): Promise<number | null> {
  return askUntil(
    () => askPid(socketPath),
    (pid) => pid !== null,
    waitMs,
    signal,
  );
}

async function askUntil<T>(
  ask: () => Promise<T>,
  isEnough: (answer: T) => boolean,
  waitMs: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  const end = Date.now() + waitMs;
  for (;;) {
    const answer = await ask();
    if (isEnough(answer) || Date.now() >= end || signal?.aborted === true) {
      return answer;
    }
    await delay(PAUSE_MS);
  }
}
