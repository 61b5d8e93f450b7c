/*
 * An error as a program prints it before it ends: once, with the file that it is about, and what to do on a line of
 * its own. Used by mdatad, mdatactl, simcn, the mdata tools and the packager.
 */
import { dirname } from 'node:path';
import { codeOf, describeError, messageOf, SystemError } from './errors';

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
  const remedy = remedyOf(err);
  return `${program}: ${textOf(err)}\n${remedy === '' ? '' : `  ${remedy}\n`}`;
}

function textOf(err: unknown): string {
  const failed = failedCall(err);
  return failed === null || failed.err !== err
    ? messageOf(err)
    : `${failed.call} ${failed.path}: ${describeError(err)}`;
}

/** What to do about an error, on one line; empty where that is not known. */
export function remedyOf(err: unknown): string {
  if (err instanceof RemediedError) {
    return err.remedy;
  }
  const failed = failedCall(err);
  // The name of a zone or a descriptor is not a path: no directory can be listed.
  const isPath =
    failed !== null && (failed.path.includes('/') || !(failed.err instanceof SystemError));
  return isPath ? remedyFor(codeOf(failed.err), failed.path) : '';
}

interface FailedCall {
  readonly err: unknown;
  readonly call: string;
  readonly path: string;
}

/** The system call that an error, or its cause, is about; null for any other error. */
function failedCall(err: unknown): FailedCall | null {
  if (err instanceof SystemError) {
    return { err, call: err.call, path: err.subject };
  }
  if (!(err instanceof Error)) {
    return null;
  }
  if ('syscall' in err && typeof err.syscall === 'string') {
    const path = 'path' in err ? err.path : 'address' in err ? err.address : undefined;
    return typeof path === 'string' ? { err, call: err.syscall, path } : null;
  }
  return err.cause === undefined ? null : failedCall(err.cause);
}
