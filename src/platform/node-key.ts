/*
 * The secret of this node, of which tokens are made: a file of its own that only root reads, made once.
 *
 * It survives a boot of the node, so that a guest which waits across one is not told of a change when there was none.
 * Where it is lost every token is another one: each client that waits is answered once, and a conditional write refused
 * once. Where none can be kept, the process has one for itself.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, SystemError, systemError } from '../lib/errors';
import { replaceDurably } from './files';

/** As long as the digest's output: more would not be safer. */
const KEY_BYTES = 32;
const DIRECTORY_MODE = 0o700;

/**
 * Reads the node's key, or makes it. One process of a node at a time.
 * @param refused is called for a file that cannot be used, or not be made, with the reason; what cannot be used is
 *     replaced where possible
 */
export async function nodeKey(path: string, refused: (err: SystemError) => void): Promise<Buffer> {
  try {
    return readKey(path);
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      refused(systemError('open', path, err));
    }
  }
  const bytes = randomBytes(KEY_BYTES);
  try {
    fs.mkdirSync(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
    await replaceDurably(path, `${path}.new`, bytes);
  } catch (err) {
    refused(systemError('make', path, err));
  }
  return bytes;
}

function readKey(path: string): Buffer {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const { mode, uid, size } = fs.fstatSync(fd);
    const isOurs = uid === (process.geteuid?.() ?? 0) && (mode & 0o077) === 0;
    if (!isOurs || size !== KEY_BYTES) {
      const why = isOurs ? 'it is not whole' : 'others may have read it';
      throw new SystemError('read', path, 'EBADMSG', why);
    }
    const key = Buffer.alloc(KEY_BYTES);
    fs.readSync(fd, key, 0, KEY_BYTES, 0);
    return key;
  } finally {
    fs.closeSync(fd);
  }
}
