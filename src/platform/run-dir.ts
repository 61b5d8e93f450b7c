/*
 * The agent's own directory of things that end with the node's run: its lock, its admin socket.
 *
 * Made at each start, where it is missing: /var/run is emptied by a boot of the node. What is in it stays.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, systemError } from '../lib/errors';

/** The mode of the admin socket in it keeps nobody out on illumos (transport/socket-file.ts). */
const MODE = 0o700;

/** @throws SystemError with the errno of the system call that refused */
export function makeRunDir(path: string): void {
  // In two steps: node:fs loses the errno of a directory that it makes with those above it.
  mkdirSync(dirname(path), { recursive: true });
  try {
    mkdirSync(path, { mode: MODE });
  } catch (err) {
    if (codeOf(err) !== 'EEXIST') {
      throw systemError('mkdir', path, err);
    }
  }
}
