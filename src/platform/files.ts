/*
 * What a file is, and files that are on stable storage when a promise resolves, through the addon.
 *
 * A stat, which each request needs, costs a third of node:fs's. A durable replacement is one trip to a thread for all its
 * calls; by node:fs each would be a trip of its own, which cost the loop ten times as much.
 */
import { dirname } from 'node:path';
import { SystemError, errnoName } from '../lib/errors';
import { loadAddon } from './addon';

/** Device, inode, size, change and modification time, as native/file_stat.h has them. */
export type FileStat = Uint32Array;

/** 32-bit numbers of a FileStat. */
const STAT_MEMBERS = 14;

/** By number, as native/file_replace.h has them. */
const STEPS = 'none open stat write chown chmod fsync close rename unlink'.split(' ');
/** In a step: it is the directory's, not the file's. */
const DIRECTORY_BIT = 0x100;
/** Of what a replacement and a sync resolve to, the bits of the errno; the step is above them. */
const ERRNO_BITS = 16;

/** As text, for a key or a comparison. */
export function textOfStat(stat: FileStat): string {
  return stat.join('/');
}

/** True: the same file, unchanged. Its change time cannot be set back, as the modification time can. */
export function sameStat(a: FileStat, b: FileStat): boolean {
  for (let at = 0; at < STAT_MEMBERS; at++) {
    if (a[at] !== b[at]) {
      return false;
    }
  }
  return true;
}

export function deviceOf(stat: FileStat): number {
  return numberAt(stat, 0);
}

/** Exact up to 2^53, and the inodes of ZFS have 48 bits. */
export function inodeOf(stat: FileStat): number {
  return numberAt(stat, 2);
}

/** Whether another had replaced a file of ours before its stat was taken. */
export function isForeign(stat: FileStat): boolean {
  return deviceOf(stat) === 0 && inodeOf(stat) === 0;
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

/** A stat of the path itself, links not followed, in the same array each time; null: no such file. Throws a SystemError. */
export function openStat(): (path: string) => FileStat | null {
  const into = new Uint32Array(STAT_MEMBERS);
  const native = loadAddon();
  return (path) => {
    const err = native.stat(path, into);
    if (err === 0) {
      return into;
    }
    const code = errnoName(-err);
    if (code === 'ENOENT') {
      return null;
    }
    throw new SystemError('lstat', path, code);
  };
}

/**
 * Bytes that may still be written where `path` lies. Node's statfs counts up to 2,048 times too much on ZFS of illumos,
 * as it takes the wrong block size (native/file_stat.h).
 *
 * @throws SystemError
 */
export async function freeSpace(path: string): Promise<number> {
  const bytes = await loadAddon().freeSpace(path);
  if (bytes < 0) {
    throw new SystemError('statvfs', path, errnoName(-bytes));
  }
  return bytes;
}

/** One tick of a file system's clock is 4 ms and more. */
const UNSETTLED_MS = 20;

/** False: it was changed so shortly before that it may change again within that clock's tick and look the same. */
export function isSettled(stat: FileStat): boolean {
  return Math.abs(Date.now() - changedMsOf(stat)) > UNSETTLED_MS;
}

/** What the files of a zone's data look like at one time: as long as it is the same, so is the data. */
export interface DataVersion {
  readonly text: string;
  /** False: the data may change once more without looking different. */
  readonly settled: boolean;
}

/**
 * Puts a new file in the place of `path`, which only its owner may read. Resolves when it and its name are on stable
 * storage.
 *
 * @param temp a name in the same directory that is ours; what is there is removed
 * @param bytes not to be changed until the promise settles
 * @throws SystemError naming the call; where it is not the directory's, the old file is untouched
 */
export async function replaceDurably(path: string, temp: string, bytes: Buffer): Promise<void> {
  check(await loadAddon().replaceFile(path, temp, dirname(path), bytes), path);
}

/** Brings a file that is there, and its name, onto stable storage. @throws SystemError */
export async function syncDurably(path: string): Promise<void> {
  check(await loadAddon().syncFile(path, dirname(path)), path);
}

function check(result: number, path: string): void {
  if (result !== 0) {
    throw stepError(result >> ERRNO_BITS, result & ((1 << ERRNO_BITS) - 1), path);
  }
}

/** What a step of a replacement failed with. */
export function stepError(step: number, err: number, path: string): SystemError {
  const subject = (step & DIRECTORY_BIT) === 0 ? path : dirname(path);
  return new SystemError(STEPS[step & ~DIRECTORY_BIT] ?? 'write', subject, errnoName(err));
}
