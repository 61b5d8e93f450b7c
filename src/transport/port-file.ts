/*
 * Where a hypervisor's port is, and whether it may be trusted to be there.
 *
 * The zone's root is in the hands of a hypervisor process that a guest may have taken over: a link named
 * `tmp` could lead us to another VM's port. So each component below the root is looked at before we
 * connect, and once more after it. Pure looking: nothing is opened here.
 */
import assert from 'node:assert';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { SystemError, systemError } from '../lib/errors';
import { MAX_SOCKET_PATH_BYTES } from './socket-file';

/** What the platform gives bhyve when the VM says nothing; qemu's is the same, always. */
export const DEFAULT_PORT = '/tmp/vm.ttyb';

/**
 * The port's path inside the zone by the VM's `com2`.
 * @returns null when the VM has no metadata channel: a device, or options that we do not know
 */
export function portOf(com2: unknown): string | null {
  if (com2 === undefined || com2 === null) {
    return DEFAULT_PORT;
  }
  const path = typeof com2 === 'string' ? /^socket,(\/[^,\0]+)$/.exec(com2)?.[1] : undefined;
  const names = componentsOf(path ?? '');
  if (path === undefined || names.length === 0 || names.some((n) => n === '.' || n === '..')) {
    return null;
  }
  return path;
}

export interface PortFile {
  readonly path: string;
  /** Two looks that find the same `identity` found the same file. */
  readonly identity: string;
  /**
   * Two looks that find the same `way` were led there by the same folders, and none of these was
   * renamed or changed in between: the time of change tells of a folder that was put aside for a link
   * and came back.
   */
  readonly way: string;
}

/**
 * Finds the port below a zone's root.
 * @param zoneroot host path; it and what is above it belong to the global zone
 * @param port path inside the zone
 * Rejects with a SystemError: ENOENT when it is not there (yet), ELOOP for a symbolic link, ENOTDIR,
 * ENOTSOCK, ENAMETOOLONG for a path that no socket address holds.
 */
export async function findPort(zoneroot: string, port: string): Promise<PortFile> {
  const names = componentsOf(port);
  assert(names.length > 0, 'a port has a name');
  const path = join(zoneroot, ...names);
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const detail = `${bytes} octets, at most ${MAX_SOCKET_PATH_BYTES} fit`;
    throw new SystemError('connect', path, 'ENAMETOOLONG', detail);
  }
  // From the port up: a folder that is looked at after its port has all changes that made the port, so
  // that a port which appears between two looks is no change of its way.
  const way: string[] = [];
  let fault: Error | null = null;
  for (let depth = names.length; depth > 0; depth--) {
    const at = join(zoneroot, ...names.slice(0, depth));
    try {
      way.push(await look(at, depth === names.length));
    } catch (err) {
      // The one nearest to the root tells the cause: below a link anything may be found, or nothing.
      fault = systemError('lstat', at, err);
    }
  }
  if (fault !== null) {
    throw fault;
  }
  return { path, identity: way[0] ?? '', way: way.join(' ') };
}

/** Looks at one component. An inode's number is used again soon; with its time of change it is its own. */
async function look(path: string, last: boolean): Promise<string> {
  const stats = await lstat(path, { bigint: true }).catch((err: unknown) => {
    throw systemError('lstat', path, err);
  });
  if (stats.isSymbolicLink()) {
    throw new SystemError('lstat', path, 'ELOOP', 'a symbolic link inside a zone is not followed');
  }
  if (last ? !stats.isSocket() : !stats.isDirectory()) {
    const [code, wanted] = last ? ['ENOTSOCK', 'a socket'] : ['ENOTDIR', 'a folder'];
    throw new SystemError('lstat', path, code, `not ${wanted}`);
  }
  return `${stats.dev}:${stats.ino}:${stats.ctimeNs}`;
}

function componentsOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}
