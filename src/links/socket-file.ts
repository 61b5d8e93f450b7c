/*
 * A listening socket's file: made so that there is no moment without one, and known by what it is.
 *
 *   1. the folder, 0755 root; made when it is not there, never replaced (a running zone has it mounted)
 *   2. bind and listen at a name beside the folder, which no zone sees, and which no earlier socket has
 *   3. 0600 root, whatever the umask
 *   4. rename over the real name
 *
 * A server of node:net removes, when it is closed, the name that it was bound to. That name is gone since
 * step 4, so closing one never removes a file, neither a successor's nor its own; `removeSocketFile` does,
 * and only one that is still ours. Used by zone-socket.
 */
import { lstatSync, rmdirSync, unlinkSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { chmod, chown, lstat, mkdir, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
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

/**
 * Makes `server` listen at `path`. Rejects with a WorldError; then the server is closed and nothing is
 * left behind.
 */
export async function listenAt(server: Server, path: string): Promise<FileIdentity> {
  const folder = dirname(path);
  bound++;
  const own = join(dirname(folder), `.${basename(folder)}.${bound}`);
  try {
    checkSocketPath(path);
    checkSocketPath(own);
    await ensureFolder(folder);
    await attempt('unlink', own, rm(own, { force: true }));
    await attempt('bind', own, listen(server, own));
    await secure(own, 0o600);
    const { dev, ino } = await attempt('lstat', own, lstat(own));
    await attempt('rename', path, rename(own, path));
    return { dev, ino };
  } catch (err) {
    server.close();
    await rm(own, { force: true }).catch(() => undefined); // the first error is the one to tell
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

async function ensureFolder(folder: string): Promise<void> {
  await attempt('mkdir', folder, mkdir(folder, { recursive: true, mode: 0o755 }));
  const stats = await attempt('lstat', folder, lstat(folder));
  if (!stats.isDirectory()) {
    throw new WorldError('lstat', folder, 'ENOTDIR', 'the folder of a zone socket must be one');
  }
  if ((stats.mode & 0o7777) !== 0o755 || stats.uid !== 0) {
    await secure(folder, 0o755);
  }
}

/** Off a compute node the agent may run as a user, who can give nothing to root. */
async function secure(path: string, mode: number): Promise<void> {
  if (process.getuid?.() === 0) {
    await attempt('chown', path, chown(path, 0, 0));
  }
  await attempt('chmod', path, chmod(path, mode));
}

async function attempt<T>(call: string, subject: string, promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (err) {
    throw worldError(call, subject, err);
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}
