/*
 * Files that are on stable storage when a promise resolves: one trip to a thread of the pool for all the
 * calls that it takes, where each by node:fs would be a trip of its own and cost the loop ten times as
 * much. Nothing is kept here.
 */
import { dirname } from 'node:path';
import { SystemError, errnoName } from '../lib/errors';
import { deviceOf, emptyStat, inodeOf, type FileStat } from './file-stat';
import { loadAddon } from './addon';

/** By number, as native/file_replace.h has them. */
export const STEPS = 'none open stat write chown chmod fsync close rename unlink'.split(' ');
const ERRNO_MASK = 0xffff;
const STEP_SHIFT = 16;
const STEP_MASK = 0xff;
const FOLDER_BIT = 1 << 24;

export interface Replacement {
  readonly path: string;
  /** A name in the same directory that is ours; what is there is removed. */
  readonly temp: string;
  /** Not to be changed until the promise settles. */
  readonly bytes: Buffer;
  /** Null: as a new file of ours comes. */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  readonly mode: number;
}

/**
 * Puts a new file in the place of `path`. Resolves when it and its name are on stable storage: with what
 * a look at it shows, or null where the path is another's already.
 *
 * @throws SystemError naming the call; where it is not the directory's, the old file is untouched
 */
export async function replaceDurably(replacement: Replacement): Promise<FileStat | null> {
  const { path, temp, bytes, owner, mode } = replacement;
  const look = emptyStat();
  const { uid, gid } = owner ?? { uid: -1, gid: -1 };
  const directory = dirname(path);
  const told = await loadAddon().replaceFile(path, temp, directory, bytes, uid, gid, mode, look);
  check(told, path, directory);
  return deviceOf(look) === 0 && inodeOf(look) === 0 ? null : look;
}

/** Brings a file that is there, and its name, onto stable storage. @throws SystemError */
export async function syncDurably(path: string): Promise<void> {
  const directory = dirname(path);
  check(await loadAddon().syncFile(path, directory), path, directory);
}

function check(told: number, path: string, directory: string): void {
  if (told !== 0) {
    const subject = (told & FOLDER_BIT) === 0 ? path : directory;
    const call = STEPS[(told >> STEP_SHIFT) & STEP_MASK] ?? 'write';
    throw new SystemError(call, subject, errnoName(told & ERRNO_MASK));
  }
}
