/*
 * The secret of this node, of which tokens are made: a file of its own that only root reads, made once.
 *
 * It lies where it survives a boot of the node, so that a guest which waits across one is not told of a change
 * when there was none. Where it is lost a new one is made: every token is another one then, each client that waits
 * is answered once, and a conditional write is refused once; no data is lost. Where none can be kept, the process has
 * one for itself.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, SystemError, systemError } from '../lib/errors';
import { replaceDurably } from './files';

/** As long as the digest's output: more would not be safer. */
const KEY_BYTES = 32;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/**
 * Reads the node's key, or makes it. One process of a node at a time.
 * @param refused is called for a file that is not used, with the reason; a new one replaces it where possible
 */
export async function nodeKey(path: string, refused: (err: SystemError) => void): Promise<Buffer> {
  const known = readKey(path, refused);
  const bytes = known ?? randomBytes(KEY_BYTES);
  if (known === undefined && !fs.existsSync(path)) {
    try {
      fs.mkdirSync(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
      await replaceDurably({ path, temp: `${path}.new`, bytes, owner: null, mode: FILE_MODE });
    } catch (err) {
      refused(systemError('make', path, err));
    }
  }
  return bytes;
}

/** Undefined where there is none that can be used; one that is not whole or not secret is removed. */
function readKey(path: string, refused: (err: SystemError) => void): Buffer | undefined {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  let fd: number;
  try {
    fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      refused(systemError('open', path, err));
      remove(path);
    }
    return undefined;
  }
  try {
    const { mode, uid, size } = fs.fstatSync(fd);
    const isOurs = uid === (process.geteuid?.() ?? 0) && (mode & 0o077) === 0;
    if (!isOurs || size !== KEY_BYTES) {
      const why = isOurs ? 'it is not whole' : 'others may have read it';
      refused(new SystemError('read', path, 'EBADMSG', why));
      remove(path);
      return undefined;
    }
    const key = Buffer.alloc(KEY_BYTES);
    fs.readSync(fd, key, 0, KEY_BYTES, 0);
    return key;
  } catch (err) {
    refused(systemError('read', path, err));
    return undefined;
  } finally {
    fs.closeSync(fd);
  }
}

function remove(path: string): void {
  try {
    fs.rmSync(path, { force: true });
  } catch {
    // Making a new one fails too then, and reports why.
  }
}
