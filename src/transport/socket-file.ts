/*
 * A listening socket's file: made so that there is no moment without one, and known by what it is.
 *
 *   1. the directory, 0700 root; made when it is not there, never replaced (a running zone has it mounted)
 *   2. bind and listen at a name beside the directory, which no zone sees, and which no earlier socket has
 *   3. 0600 root, whatever the umask (native/socket_listener.c has it so from the first moment on Linux)
 *   4. rename over the real name
 *
 * What keeps other users out is the mode of the directory: on illumos a connect needs no permission on the
 * socket itself (socksubr.c, so_ux_lookup, whose check is made for XPG4_2 and lx programs only). Where other
 * users are to read, both modes let them pass, and who may do what is decided by the uid of the peer.
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
import { basename, dirname, join } from 'node:path';
import { SystemError, codeOf, systemError } from '../lib/errors';
import { deviceOf, inodeOf, openStat } from '../platform/files';

/** Bytes of a path that a socket's address holds, its final NUL left out (sun_path is 108 on both). */
export const MAX_SOCKET_PATH_BYTES = 107;

/** Which file it is, whatever its name. */
export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

/** Of a socket's directory and of the socket. */
export interface SocketModes {
  readonly directory: number;
  readonly socket: number;
}

export const ROOT_ONLY: SocketModes = { directory: 0o700, socket: 0o600 };
/** Whoever knows the path gets as far as the check of the peer; an lx program needs both bits of the file. */
export const WITH_READERS: SocketModes = { directory: 0o711, socket: 0o666 };

let bound = 0;
const look = openStat();
/** Off a compute node the agent may run as a user, who can give nothing to root. */
const isRoot = process.getuid?.() === 0;

/** Throws a SystemError for a path that no socket address holds: a kernel would cut it short. */
function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const detail = `${bytes} bytes, at most ${MAX_SOCKET_PATH_BYTES} fit`;
    throw new SystemError('bind', path, 'ENAMETOOLONG', detail);
  }
}

/** What listens, and the file that it is reached by. */
export interface Bound<L> {
  readonly listener: L;
  readonly identity: FileIdentity;
}

/**
 * Puts a listening socket at `path`. Throws a SystemError; then nothing is left behind. Who connected to
 * one that was there before is still to be accepted by it: it is closed two turns later, not sooner.
 *
 * @param listen binds and listens at the path it gets; what it throws is a SystemError
 */
export function bindAt<L extends { close(): unknown }>(
  path: string,
  listen: (path: string) => L,
  modes: SocketModes = ROOT_ONLY,
): Bound<L> {
  const own = ownName(path);
  let listener: L | null = null;
  try {
    prepare(own, path, modes);
    listener = listenAnew(own, listen);
    return { listener, identity: publish(own, path, modes) };
  } catch (err) {
    giveUp(own, listener);
    throw err;
  }
}

/** The same for what listens only some time after it was told to. */
export async function listenAt<L extends { close(): unknown }>(
  path: string,
  listen: (path: string) => Promise<L>,
): Promise<Bound<L>> {
  const own = ownName(path);
  let listener: L | null = null;
  try {
    prepare(own, path, ROOT_ONLY);
    attempt('unlink', own, () => rmSync(own, { force: true }));
    listener = await listen(own);
    return { listener, identity: publish(own, path, ROOT_ONLY) };
  } catch (err) {
    giveUp(own, listener);
    throw err;
  }
}

/** Whether the file at `path` is the one. @throws whatever lstat throws but for "not there" */
export function isStill(identity: FileIdentity, path: string): boolean {
  try {
    const found = look(path);
    // A socket that somebody listens at keeps its inode: the number is no other file's.
    return found !== null && identity.dev === deviceOf(found) && identity.ino === inodeOf(found);
  } catch (err) {
    if (codeOf(err) === 'ENOTDIR') {
      return false;
    }
    throw err;
  }
}

/**
 * Removes the socket if it is the one, and its directory if nothing else is in it. Without a moment between
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
      throw systemError('unlink', path, err);
    }
  }
}

function ownName(path: string): string {
  const directory = dirname(path);
  bound++;
  return join(dirname(directory), `.${basename(directory)}.${bound}`);
}

function prepare(own: string, path: string, modes: SocketModes): void {
  checkSocketPath(path);
  checkSocketPath(own);
  ensureDirectory(dirname(path), modes.directory);
}

/** An agent that was killed may have left the name: rare, so it costs nothing where there is none. */
function listenAnew<L>(own: string, listen: (path: string) => L): L {
  try {
    return listen(own);
  } catch (err) {
    if (codeOf(err) !== 'EADDRINUSE') {
      throw err;
    }
    attempt('unlink', own, () => unlinkSync(own));
    return listen(own);
  }
}

function publish(own: string, path: string, modes: SocketModes): FileIdentity {
  const stats = attempt('lstat', own, () => lstatSync(own));
  // A zone's is made so on Linux; one of node:net is not, nor any on illumos.
  if ((stats.mode & 0o7777) !== modes.socket) {
    attempt('chmod', own, () => chmodSync(own, modes.socket));
  }
  giveToRoot(own, stats);
  attempt('rename', path, () => renameSync(own, path));
  return { dev: stats.dev, ino: stats.ino };
}

/** The error that brought us here is the one to tell. */
function giveUp(own: string, listener: { close(): unknown } | null): void {
  listener?.close();
  removeQuietly(own);
}

function sameFile(identity: FileIdentity, stats: Stats): boolean {
  return stats.isSocket() && stats.dev === identity.dev && stats.ino === identity.ino;
}

function ensureDirectory(directory: string, mode: number): void {
  let stats = attempt('lstat', directory, () => lstatSync(directory, { throwIfNoEntry: false }));
  if (stats === undefined) {
    attempt('mkdir', directory, () => mkdirSync(directory, { recursive: true, mode }));
    stats = attempt('lstat', directory, () => lstatSync(directory));
  }
  if (!stats.isDirectory()) {
    throw new SystemError(
      'lstat',
      directory,
      'ENOTDIR',
      'the directory of a zone socket must be one',
    );
  }
  if ((stats.mode & 0o7777) !== mode) {
    attempt('chmod', directory, () => chmodSync(directory, mode));
  }
  giveToRoot(directory, stats);
}

function giveToRoot(path: string, { uid, gid }: Stats): void {
  if (isRoot && (uid !== 0 || gid !== 0)) {
    attempt('chown', path, () => chownSync(path, 0, 0));
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Called while another error is on its way, which says more.
  }
}

function attempt<T>(call: string, subject: string, step: () => T): T {
  try {
    return step();
  } catch (err) {
    throw systemError(call, subject, err);
  }
}
