/*
 * The secret of this node, of which tokens are made: a file of its own that only root reads, made once.
 *
 * It lies where it survives a boot of the node, so that a guest which waits for a change across one is not told of a
 * change that was none. Where it is lost a new one is made: every token is another one then, each client that waits
 * is answered once, and a conditional write is refused once; no data is lost. Where none can be kept, the process has
 * one for itself.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, SystemError, systemError } from '../lib/errors';

/** As long as the digest's output: more would not be safer. */
const KEY_BYTES = 32;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/**
 * Reads the node's key, or makes it. One process of a node at a time.
 * @param refused told of a file that is not used, and why; a new one takes its place where that is possible
 */
export function nodeKey(path: string, refused: (err: SystemError) => void): Buffer {
  const key = readKey(path, refused) ?? randomBytes(KEY_BYTES);
  if (!fs.existsSync(path)) {
    makeKey(path, key, refused);
  }
  return key;
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

/** Whole or not at all: written under another name, on stable storage before it has its own. */
function makeKey(path: string, key: Buffer, refused: (err: SystemError) => void): void {
  const temp = `${path}.new`;
  try {
    fs.mkdirSync(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
    fs.rmSync(temp, { force: true });
    const fd = fs.openSync(temp, 'wx', FILE_MODE);
    try {
      fs.writeSync(fd, key);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temp, path);
    const directory = fs.openSync(dirname(path), 'r');
    try {
      fs.fsyncSync(directory);
    } finally {
      fs.closeSync(directory);
    }
  } catch (err) {
    refused(systemError('make', path, err));
  }
}

function remove(path: string): void {
  try {
    fs.rmSync(path, { force: true });
  } catch {
    // A new one cannot be made either then, and that is told.
  }
}
