/*
 * A listening socket's file: replaced atomically, and identified by device and inode.
 *
 *   1. the directory, 0700 root; made when it is not there, never replaced (a running zone has it mounted)
 *   2. bind and listen at a name beside the directory, which no zone sees, and which no earlier socket has
 *   3. 0600 root, whatever the umask (native/socket_listener.c creates it so on Linux)
 *   4. rename over the real name
 *
 * What keeps other users out is the mode of the directory: on illumos a connect needs no permission on the socket itself
 * (socksubr.c, so_ux_lookup, whose check is made for XPG4_2 and lx programs only). Where other users may read, both modes
 * let them connect, and the peer's uid decides what they may do.
 *
 * Closing a listener removes no file: that of its name at step 2 is gone. Used by socket-server and by the admin server.
 * The calls are synchronous, which takes microseconds each and tens of them on the thread pool: 4,096 zones need 25,000.
 */
import {
  type Stats,
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { SystemError, codeOf, systemError } from '../lib/errors';
import { deviceOf, inodeOf, openStat } from '../platform/files';

/** Bytes of a path that a socket's address holds, its final NUL left out (sun_path is 108 on both). */
const MAX_SOCKET_PATH_BYTES = 107;

export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

export interface SocketModes {
  readonly directory: number;
  readonly socket: number;
}

export const ROOT_ONLY: SocketModes = { directory: 0o700, socket: 0o600 };
/** Every user can connect, and then the peer is checked; an lx program needs both bits of the file. */
export const WITH_READERS: SocketModes = { directory: 0o711, socket: 0o666 };

const PARENT_MODE = 0o755;

let bound = 0;
const stat = openStat();
/** Off a compute node the agent may run as a user, who cannot chown to root. */
const isRoot = process.getuid?.() === 0;

/** @throws SystemError for a path that no socket address holds: a kernel would cut it short */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const detail = `${bytes} bytes, at most ${MAX_SOCKET_PATH_BYTES} fit`;
    throw new SystemError('bind', path, 'ENAMETOOLONG', detail);
  }
}

export interface Bound<L> {
  readonly listener: L;
  readonly identity: FileIdentity;
}

/**
 * Puts a listening socket at `path`. Clients of the one that was there before are still accepted by it: the caller closes
 * it after the next poll, not sooner.
 * @param listen binds and listens at the path it gets
 * @throws SystemError; then nothing is left behind
 */
export function bindAt<L extends { close(): unknown }>(
  path: string,
  listen: (path: string) => L,
  modes: SocketModes = ROOT_ONLY,
): Bound<L> {
  const own = prepare(path, modes);
  let listener: L;
  try {
    listener = listen(own);
  } catch (err) {
    if (codeOf(err) !== 'EADDRINUSE') {
      discard(own);
      throw err;
    }
    // Left by an agent that was killed: rare, so it is not looked for before.
    attempt('unlink', own, () => unlinkSync(own));
    listener = listen(own);
  }
  return publish(own, path, modes, listener);
}

/** The same for a listener that starts asynchronously. */
export async function listenAt<L extends { close(): unknown }>(
  path: string,
  listen: (path: string) => Promise<L>,
): Promise<Bound<L>> {
  const own = prepare(path, ROOT_ONLY);
  attempt('unlink', own, () => rmSync(own, { force: true }));
  return publish(own, path, ROOT_ONLY, await listen(own));
}

/** Whether the file at `path` still has this identity. @throws what lstat throws but for "not there" */
export function isStill(identity: FileIdentity, path: string): boolean {
  try {
    const found = stat(path);
    // The inode of a socket with a listener stays allocated, so no other file has its number.
    return found !== null && identity.dev === deviceOf(found) && identity.ino === inodeOf(found);
  } catch (err) {
    if (codeOf(err) === 'ENOTDIR') {
      return false;
    }
    throw err;
  }
}

/** Removes the socket if it has this identity, and its directory if that is empty. */
export function removeSocketFile({ dev, ino }: FileIdentity, path: string): void {
  try {
    const found = lstatSync(path);
    if (found.isSocket() && found.dev === dev && found.ino === ino) {
      unlinkSync(path);
    }
    rmdirSync(dirname(path));
  } catch (err) {
    // Gone already, used by another process, or mounted: then it is not ours to remove.
    if (!['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(codeOf(err))) {
      throw systemError('unlink', path, err);
    }
  }
}

/** Makes the directory. @returns the name to bind */
function prepare(path: string, modes: SocketModes): string {
  const directory = dirname(path);
  bound++;
  const own = join(dirname(directory), `.${basename(directory)}.${bound}`);
  checkSocketPath(path);
  checkSocketPath(own);
  let stats = attempt('lstat', directory, () => lstatSync(directory, { throwIfNoEntry: false }));
  if (stats === undefined) {
    makeParent(dirname(directory));
    attempt('mkdir', directory, () => mkdirSync(directory, { mode: modes.directory }));
    stats = attempt('lstat', directory, () => lstatSync(directory));
  }
  if (!stats.isDirectory()) {
    const detail = 'the directory of a zone socket must be one';
    throw new SystemError('lstat', directory, 'ENOTDIR', detail);
  }
  protect(directory, stats, modes.directory);
  return own;
}

/** /var/zonecontrol is everybody's to enter, as svc-zones makes it; only the directories in it are root's alone. */
function makeParent(parent: string): void {
  attempt('mkdir', parent, () => {
    if (mkdirSync(parent, { recursive: true, mode: PARENT_MODE }) !== undefined) {
      chmodSync(parent, PARENT_MODE);
    }
  });
}

/** Gives the socket its mode, owner and real name. */
function publish<L extends { close(): unknown }>(
  own: string,
  path: string,
  modes: SocketModes,
  listener: L,
): Bound<L> {
  try {
    const stats = attempt('lstat', own, () => lstatSync(own));
    // A zone's has its mode from the start on Linux; one of node:net has not, nor any on illumos.
    protect(own, stats, modes.socket);
    attempt('rename', path, () => renameSync(own, path));
    return { listener, identity: { dev: stats.dev, ino: stats.ino } };
  } catch (err) {
    listener.close();
    discard(own);
    throw err;
  }
}

function discard(own: string): void {
  try {
    rmSync(own, { force: true });
  } catch {
    // The error that is being handled says more.
  }
}

function protect(path: string, { mode, uid, gid }: Stats, wanted: number): void {
  if ((mode & 0o7777) !== wanted) {
    attempt('chmod', path, () => chmodSync(path, wanted));
  }
  if (isRoot && (uid !== 0 || gid !== 0)) {
    attempt('chown', path, () => chownSync(path, 0, 0));
  }
}

function attempt<T>(call: string, subject: string, step: () => T): T {
  try {
    return step();
  } catch (err) {
    throw systemError(call, subject, err);
  }
}
