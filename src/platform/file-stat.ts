/*
 * Whether a path still names the file that was read: the one thing that each request asks of the file
 * system, at a third of what node:fs takes for it. Links are not followed.
 */
import type { BigIntStats } from 'node:fs';
import { SystemError, errnoName } from '../lib/errors';
import { loadAddon } from './addon';

/** Device, inode, size, change and modification time, as native/file_look.h has them. */
export type FileStat = Uint32Array;

const MEMBERS = 14;
const NS = 1_000_000_000n;
const ABSENT = 'ENOENT';

/** The look of what was seen by node:fs. */
export function statOf({ dev, ino, size, ctimeNs, mtimeNs }: BigIntStats): FileStat {
  const members = [dev, ino, size, ctimeNs / NS, ctimeNs % NS, mtimeNs / NS, mtimeNs % NS];
  return new Uint32Array(new BigUint64Array(members).buffer);
}

/** As text, for a key or a comparison. */
export function textOfStat(look: FileStat): string {
  return look.join('/');
}

/** A look that nothing has filled yet. */
export function emptyStat(): FileStat {
  return new Uint32Array(MEMBERS);
}

/** True: the same file, unchanged. Its change time cannot be set back, as the modification time can. */
export function sameStat(a: FileStat, b: FileStat): boolean {
  for (let at = 0; at < MEMBERS; at++) {
    if (a[at] !== b[at]) {
      return false;
    }
  }
  return true;
}

/** As node:fs tells them, in numbers. */
export function deviceOf(look: FileStat): number {
  return (look[0] ?? 0) + (look[1] ?? 0) * 2 ** 32;
}

/** The inode of what was looked at. Exact up to 2^53, and those of ZFS have 48 bits. */
export function inodeOf(look: FileStat): number {
  return (look[2] ?? 0) + (look[3] ?? 0) * 2 ** 32;
}

/** When its content was modified, ms since 1970. */
export function modifiedMsOf(stat: FileStat): number {
  return numberAt(stat, 10) * 1000 + (stat[12] ?? 0) / 1e6;
}

/** When it was changed in any way, ms since 1970; nobody can set it. */
export function changedMsOf(stat: FileStat): number {
  return numberAt(stat, 6) * 1000 + (stat[8] ?? 0) / 1e6;
}

/** Bytes of a file. */
export function sizeOf(stat: FileStat): number {
  return numberAt(stat, 4);
}

function numberAt(stat: FileStat, at: number): number {
  return (stat[at] ?? 0) + (stat[at + 1] ?? 0) * 2 ** 32;
}

/** @returns fills an array, the same one each time; null where there is no such file @throws SystemError */
export function openStat(): (path: string) => FileStat | null {
  const into = emptyStat();
  const native = loadAddon();
  return (path) => {
    const err = native.look(path, into);
    if (err === 0) {
      return into;
    }
    const code = errnoName(-err);
    if (code === ABSENT) {
      return null;
    }
    throw new SystemError('lstat', path, code);
  };
}

/**
 * Bytes that may still be written where `path` lies. Not by node's statfs, which on ZFS of illumos counts too
 * much, by up to 2,048 times: it takes the wrong block size (native/file_look.h).
 *
 * @throws SystemError, the errno of statvfs
 */
export async function freeSpace(path: string): Promise<number> {
  const told = await loadAddon().freeSpace(path);
  if (told < 0) {
    throw new SystemError('statvfs', path, errnoName(-told));
  }
  return told;
}
