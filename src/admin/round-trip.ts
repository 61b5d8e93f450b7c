/*
 * Asks a zone's socket for a key, as a guest would: once, and not for longer than a guest's client
 * waits before it doubts. The doctor's proof that a zone is served.
 */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { messageOf } from '../lib/errors';
import { ClientSession, type Outcome, type Step } from '../protocol/client';

/** A request for a VM that is not known yet is answered after 5 s. */
const LIMIT_MS = 6000;

export type RoundTrip =
  | { readonly kind: 'answered'; readonly outcome: Outcome; readonly elapsedMs: number }
  | { readonly kind: 'failed'; readonly reason: string };

/** Never rejects. */
export function roundTrip(path: string, key: string, limitMs = LIMIT_MS): Promise<RoundTrip> {
  const began = performance.now();
  const command = { kind: 'get', key: Buffer.from(key) } as const;
  const session = new ClientSession(command, () => randomBytes(4).toString('hex'));
  return new Promise((resolve) => {
    const socket = connect({ path });
    const finish = (result: RoundTrip): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => {
      finish({ kind: 'failed', reason: `no answer within ${limitMs / 1000} s` });
    }, limitMs);
    const follow = (step: Step): void => {
      switch (step.kind) {
        case 'send':
          socket.write(step.bytes);
          return;
        case 'wait':
          return;
        case 'reopen':
          finish({ kind: 'failed', reason: step.reason });
          return;
        case 'done': {
          const elapsedMs = Math.round((performance.now() - began) * 100) / 100;
          finish({ kind: 'answered', outcome: step.outcome, elapsedMs });
          return;
        }
        default: {
          const never: never = step;
          return never;
        }
      }
    };
    socket.on('connect', () => follow(session.open()));
    socket.on('data', (chunk: Buffer) => follow(session.receive(chunk)));
    socket.on('error', (err) => finish({ kind: 'failed', reason: messageOf(err) }));
    socket.on('close', () => finish({ kind: 'failed', reason: 'the connection was closed' }));
  });
}
