/*
 * Errors of the system, with enough in them to act on.
 *
 * There are three kinds of error. A guest's is a value (a reply), never an exception. The system's (an errno, a
 * libzonecfg code, an exit code) is a SystemError: what was tried, on what, and the code by name. A bug of the agent is
 * a failed assertion that is not caught: SMF restarts the agent.
 *
 * No message made here ever holds a metadata value.
 */

import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/**
 * The errnos of the running system by number. libuv, and with it node:fs, has no names for some that
 * matter here: EDQUOT for a zone over its quota, ENOLCK for a lock. Of two names the first is the usual one.
 */
const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, errno]) => [errno, name]),
);

export class SystemError extends Error {
  constructor(
    /** What was called: `mount`, `zone_get_state`, `vmadm update`. */
    readonly call: string,
    /** On what it was called: a path, a zone name. */
    readonly subject: string,
    /** The code by name: `ENOENT`, `Z_NO_ZONE`, `EXIT_1`. */
    readonly code: string,
    /** More than the code says; may be empty. */
    readonly detail = '',
    cause?: unknown,
  ) {
    const tail = detail === '' ? '' : `: ${detail}`;
    super(`${call}(${subject}): ${code}${tail}`, cause === undefined ? {} : { cause });
    this.name = 'SystemError';
  }
}

/** The name of an errno of the running system, whose numbers they are: `EBUSY`; `UNKNOWN` for no errno. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? (errno > 0 ? `ERRNO_${errno}` : 'UNKNOWN');
}

/** The code of whatever was thrown, `UNKNOWN` where it carries none. */
export function codeOf(err: unknown): string {
  if (typeof err !== 'object' || err === null || !('code' in err) || typeof err.code !== 'string') {
    return 'UNKNOWN';
  }
  const nameless = err.code.startsWith('Unknown system error');
  return nameless && 'errno' in err && typeof err.errno === 'number'
    ? errnoName(-err.errno)
    : err.code;
}

/** The message of whatever was thrown. */
export function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}

/** Why a system call failed, for a sentence that names the file itself: `permission denied (EACCES)`. */
export function describeError(err: unknown): string {
  const code = codeOf(err);
  const detail = (err instanceof SystemError ? err.detail : detailOf(err)) || meaningOf(code);
  return code === 'UNKNOWN' || detail === '' ? detail || code : `${detail} (${code})`;
}

/** Wraps an error of node:fs and its kind, keeping its errno's name. */
export function systemError(call: string, subject: string, err: unknown): SystemError {
  return err instanceof SystemError
    ? err
    : new SystemError(call, subject, codeOf(err), detailOf(err), err);
}

/**
 * What an error says besides its code and its file, which the messages of node:fs and node:net repeat: "EACCES:
 * permission denied, open '/x'", "connect ENOENT /x".
 */
function detailOf(err: unknown): string {
  const message = messageOf(err);
  const code = codeOf(err);
  return message.includes(code) ? meaningOf(code) : message;
}

/** `permission denied` of EACCES; empty where Node knows no such code. */
function meaningOf(code: string): string {
  return [...getSystemErrorMap().values()].find(([name]) => name === code)?.[1] ?? '';
}
