/*
 * Errors of the system (an errno, a libzonecfg code, an exit code): what was tried, on what, the code by name, and what
 * to do about it. A guest's error is a value (a reply), never an exception; a bug of the agent is a failed assertion
 * that is not caught: SMF restarts the agent. No message made here ever holds a metadata value.
 */
import { constants } from 'node:os';
import { dirname } from 'node:path';
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
    /** More than the code says. */
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

/** An error that knows what to do about it. */
export class RemediedError extends Error {
  constructor(
    message: string,
    /** On one line; it may be copied. */
    readonly remedy: string,
  ) {
    super(message);
    this.name = 'RemediedError';
  }
}

/** By the code of a failed system call; each is given what it was called on. */
const REMEDIES: Readonly<Record<string, (path: string) => string>> = {
  EACCES: (path) => `become root (pfexec, sudo), or see who may: ls -ld ${path}`,
  EPERM: (path) => `become root (pfexec, sudo), or see who may: ls -ld ${path}`,
  ENOENT: (path) => `see what is there: ls -la ${dirname(path)}`,
  ENOTDIR: (path) => `see what is there: ls -ld ${dirname(path)}`,
  EISDIR: (path) => `name a file in it: ls -la ${path}`,
  ENAMETOOLONG: () => 'choose a root with a shorter path',
  EADDRINUSE: (path) => `see who has it: fuser ${path}`,
  EBUSY: (path) => `see who has it: fuser ${path}`,
  ECONNREFUSED: () => 'nobody listens there: start it again',
  ENOSPC: (path) => `make room: df -h ${dirname(path)}`,
  EDQUOT: (path) => `make room: df -h ${dirname(path)}`,
  EROFS: (path) => `choose a file system that can be written: df -h ${dirname(path)}`,
  EMFILE: () => 'raise the limit of open files: ulimit -n 65536',
};

/** What to do about a failed system call, on one line; empty where its code says nothing. */
export function remedyFor(code: string, path: string): string {
  return REMEDIES[code]?.(path) ?? '';
}

/** The lines for stderr, each with its newline. @param program what they begin with */
export function explain(program: string, err: unknown): string {
  const call = systemCallOf(err);
  const text =
    call === null ? messageOf(err) : `${call.call} ${call.subject}: ${describeError(call)}`;
  const remedy = remedyOf(err);
  return `${program}: ${text}\n${remedy === '' ? '' : `  ${remedy}\n`}`;
}

/** What to do about an error or its cause, on one line; empty where that is not known. */
export function remedyOf(err: unknown): string {
  if (err instanceof RemediedError) {
    return err.remedy;
  }
  const call = systemCallOf(err);
  if (call === null) {
    return err instanceof Error ? remedyOf(err.cause) : '';
  }
  // The name of a zone or a descriptor is not a path: no directory can be listed.
  const isPath = call.subject.includes('/') || !(err instanceof SystemError);
  return isPath ? remedyFor(call.code, call.subject) : '';
}

/** The system call on a file that an error is about; null for any other error. */
function systemCallOf(err: unknown): SystemError | null {
  if (err instanceof SystemError) {
    return err;
  }
  if (!(err instanceof Error && 'syscall' in err && typeof err.syscall === 'string')) {
    return null;
  }
  const path = 'path' in err ? err.path : 'address' in err ? err.address : undefined;
  return typeof path === 'string' ? systemError(err.syscall, path, err) : null;
}
