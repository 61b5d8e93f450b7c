/*
 * One command over the metadata socket: ClientSession does the talking, this opens, closes and waits.
 *
 * Goes on until there is an answer, like the platform's client, since boot scripts count on that: a
 * service that restarts, hangs up or loses a reply is asked again. It gives up on what waiting cannot
 * mend (no permission, no socket), and when the caller's time is over.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, SystemError } from '../../src/lib/errors';
import { ClientSession } from '../../src/protocol/client';
import type { Command, Outcome, Step } from '../../src/protocol/client';

const RETRY_MS = 1_000;
/** The service puts a socket that was removed back within 2 s; one that is still missing is not coming. */
const MISSING_TRIES = 4;

export interface AskOptions {
  readonly paths: readonly string[];
  /** Ends everything; null: never. */
  readonly limitMs: number | null;
  /** Told of what the user may want to know while waiting. */
  readonly note: (text: string) => void;
}

type Reopen = Extract<Step, { readonly kind: 'reopen' }>;

/** Asks until answered. Throws a SystemError that says what cannot be mended by waiting. */
export async function ask(command: Command, options: AskOptions): Promise<Outcome> {
  const session = new ClientSession(command, () => randomBytes(4).toString('hex'));
  const signal = options.limitMs === null ? NEVER : AbortSignal.timeout(options.limitMs);
  try {
    for (;;) {
      const socket = await open(options, signal);
      const step = await converse(socket, session, signal);
      if (step.kind === 'done') {
        return step.outcome;
      }
      options.note(`${step.reason}, resetting protocol...`);
      await sleep(step.pauseMs, undefined, { signal });
    }
  } catch (err) {
    if (signal.aborted && !(err instanceof SystemError)) {
      throw new SystemError('ask', options.paths.join(' '), 'ETIMEDOUT', 'no answer in time', err);
    }
    throw err;
  }
}

const NEVER = new AbortController().signal;

/** Connects to the first path that takes us. */
async function open(options: AskOptions, signal: AbortSignal): Promise<Socket> {
  let missing = 0;
  for (let tries = 0; ; tries++) {
    const codes = new Map<string, string>();
    for (const path of options.paths) {
      try {
        return await connectTo(path, signal);
      } catch (err) {
        signal.throwIfAborted();
        codes.set(path, codeOf(err));
      }
    }
    missing = [...codes.values()].every((code) => code === 'ENOENT') ? missing + 1 : 0;
    const fatal = fatalOf(codes, missing);
    if (fatal !== null) {
      throw fatal;
    }
    if (tries === 0) {
      options.note('the metadata service does not answer yet, waiting...');
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}

function fatalOf(codes: ReadonlyMap<string, string>, missing: number): SystemError | null {
  for (const [path, code] of codes) {
    if (code === 'EACCES' || code === 'EPERM') {
      return new SystemError('connect', path, code, 'only root may read metadata');
    }
    if (code === 'ENOTSOCK' || code === 'ENOTDIR' || code === 'EINVAL') {
      return new SystemError('connect', path, code, 'not a metadata socket');
    }
  }
  if (missing >= MISSING_TRIES) {
    const paths = [...codes.keys()].join(' ');
    return new SystemError('connect', paths, 'ENOENT', 'no metadata socket: not in a zone?');
  }
  return null;
}

async function connectTo(path: string, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ path });
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (err) {
    socket.destroy();
    throw err;
  }
}

/** Runs the session on one connection until it is done or wants another one. Closes the connection. */
function converse(
  socket: Socket,
  session: ClientSession,
  signal: AbortSignal,
): Promise<Extract<Step, { readonly kind: 'done' }> | Reopen> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const onAbort = (): void =>
      finish(() => reject(new Error('aborted', { cause: signal.reason })));
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      socket.removeAllListeners().on('error', ignoreAfterEnd).destroy();
      settle();
    };
    const follow = (step: Step): void => {
      switch (step.kind) {
        case 'send':
          clearTimeout(timer);
          timer = setTimeout(() => follow(session.timedOut()), step.waitMs);
          socket.write(step.bytes);
          return;
        case 'wait':
          timer?.refresh();
          return;
        case 'reopen':
        case 'done':
          finish(() => resolve(step));
          return;
        default: {
          const never: never = step;
          return never;
        }
      }
    };
    signal.addEventListener('abort', onAbort);
    socket.on('data', (chunk: Buffer) => follow(session.receive(chunk)));
    socket.on('error', () => follow(session.hungUp()));
    socket.on('close', () => follow(session.hungUp()));
    follow(session.open());
  });
}

/** The session is over: how its connection ends is of no interest. */
function ignoreAfterEnd(): void {
  return;
}
