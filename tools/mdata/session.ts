/*
 * One command over the metadata socket: GuestChannel does the talking, this opens, closes and waits.
 *
 * Goes on until there is an answer, like the platform's client, since boot scripts count on that: a
 * service that restarts, hangs up or loses a reply is asked again. It gives up on what waiting cannot
 * mend (no permission, no socket), and when the caller's time is over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, SystemError } from '../../src/lib/errors';
import type { Command, Outcome } from '../../src/protocol/client';
import { GuestChannel } from '../../src/transport/guest-channel';

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

/** Asks until answered. Throws a SystemError that says what cannot be mended by waiting. */
export async function ask(command: Command, options: AskOptions): Promise<Outcome> {
  const signal = options.limitMs === null ? NEVER : AbortSignal.timeout(options.limitMs);
  try {
    for (;;) {
      const channel = await open(options, signal);
      const outcome = await channel.ask(command, signal).finally(() => channel.close());
      if (outcome.kind !== 'reopen') {
        return outcome;
      }
      options.note(`${outcome.reason}, resetting protocol...`);
      await sleep(outcome.pauseMs, undefined, { signal });
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
async function open(options: AskOptions, signal: AbortSignal): Promise<GuestChannel> {
  let missing = 0;
  for (let tries = 0; ; tries++) {
    const codes = new Map<string, string>();
    for (const path of options.paths) {
      try {
        return await GuestChannel.open(path, signal);
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
