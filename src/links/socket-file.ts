/*
 * A listening socket's file: made so that there is no moment without one, and known by what it is.
 *
 *   1. the folder, 0755 root; made when it is not there, never replaced (a running zone has it mounted)
 *   2. bind and listen at a name beside the folder, which no zone sees, and which no earlier socket has
 *   3. 0600 root, whatever the umask
 *   4. rename over the real name
 *
 * Closing a listener never removes a file, neither a successor's nor its own (a server of node:net
 * removes the name that it was bound to, which is gone since step 4); `removeSocketFile` does, and only
 * one that is still ours. Used by zone-socket and by the operators' door.
 *
 * The calls are synchronous: each takes microseconds where its way through the pool of threads takes
 * tens of them, and 4,096 zones need some 25,000 at the start. Who binds many gives the loop back in
 * between.
 */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { WorldError, codeOf, worldError } from '../errors';

/** Octets of a path that a socket's address holds, its final NUL left out (sun_path is 108 on both). */
export const MAX_SOCKET_PATH_BYTES = 107;

/** Which file it is, whatever its name. */
export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

let bound = 0;

/** Throws a WorldError for a path that no socket address holds: a kernel would cut it short. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const detail = `${bytes} octets, at most ${MAX_SOCKET_PATH_BYTES} fit`;
    throw new WorldError('bind', path, 'ENAMETOOLONG', detail);
  }
}

/** What listens, and the file that it is reached by. */
export interface Bound<L> {
  readonly listener: L;
  readonly identity: FileIdentity;
}

/**
 * Puts a listening socket at `path`. Rejects with a WorldError; then nothing is left behind.
 *
 * @param listen binds and listens at the path it gets; what it throws is a WorldError
 */
export async function listenAt<L extends { close(): unknown }>(
  path: string,
  listen: (path: string) => L | Promise<L>,
): Promise<Bound<L>> {
  const folder = dirname(path);
  bound++;
  const own = join(dirname(folder), `.${basename(folder)}.${bound}`);
  let listener: L | null = null;
  try {
    checkSocketPath(path);
    checkSocketPath(own);
    ensureFolder(folder);
    attempt('unlink', own, () => removeFile(own));
    listener = await listen(own);
    attempt('chmod', own, () => chmodSync(own, 0o600));
    const stats = attempt('lstat', own, () => lstatSync(own));
    giveToRoot(own, stats);
    attempt('rename', path, () => renameSync(own, path));
    // Who connected to the socket that was there before is accepted by it first: it may be closed next.
    await nextTurn();
    await nextTurn();
    return { listener, identity: { dev: stats.dev, ino: stats.ino } };
  } catch (err) {
    listener?.close();
    removeQuietly(own); // the first error is the one to tell
    throw err;
  }
}

/** Whether the file at `path` is the one. @throws whatever lstat throws but for "not there" */
export async function isStill(identity: FileIdentity, path: string): Promise<boolean> {
  try {
    return sameFile(identity, await lstat(path));
  } catch (err) {
    if (codeOf(err) === 'ENOENT' || codeOf(err) === 'ENOTDIR') {
      return false;
    }
    throw worldError('lstat', path, err);
  }
}

/**
 * Removes the socket if it is the one, and its folder if nothing else is in it. Without a moment between
 * looking and removing in which our own process could put another there.
 */
export function removeSocketFile(identity: FileIdentity, path: string): void {
  try {
    if (sameFile(identity, lstatSync(path))) {
      unlinkSync(path);
    }
    rmdirSync(dirname(path));
  } catch (err) {
    // Gone already, in use by somebody else, or mounted: then it is not ours to remove.
    if (!['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(codeOf(err))) {
      throw worldError('unlink', path, err);
    }
  }
}

function sameFile(identity: FileIdentity, stats: Stats): boolean {
  return stats.isSocket() && stats.dev === identity.dev && stats.ino === identity.ino;
}

function ensureFolder(folder: string): void {
  let stats = attempt('lstat', folder, () => lstatSync(folder, { throwIfNoEntry: false }));
  if (stats === undefined) {
    attempt('mkdir', folder, () => mkdirSync(folder, { recursive: true, mode: 0o755 }));
    stats = attempt('lstat', folder, () => lstatSync(folder));
  }
  if (!stats.isDirectory()) {
    throw new WorldError('lstat', folder, 'ENOTDIR', 'the folder of a zone socket must be one');
  }
  if ((stats.mode & 0o7777) !== 0o755) {
    attempt('chmod', folder, () => chmodSync(folder, 0o755));
  }
  giveToRoot(folder, stats);
}

/** Off a compute node the agent may run as a user, who can give nothing to root. */
function giveToRoot(path: string, { uid, gid }: Stats): void {
  if (process.getuid?.() === 0 && (uid !== 0 || gid !== 0)) {
    attempt('chown', path, () => chownSync(path, 0, 0));
  }
}

/** Looks first: that nothing is there is the rule, and an error of node:fs costs more than ten looks. */
function removeFile(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    rmSync(path, { force: true });
  }
}

function removeQuietly(path: string): void {
  try {
    removeFile(path);
  } catch {
    // Called while another error is on its way, which says more.
  }
}

function attempt<T>(call: string, subject: string, step: () => T): T {
  try {
    return step();
  } catch (err) {
    throw worldError(call, subject, err);
  }
}
