/*
 * The root of a real guest: a tree of files as a cpio archive, which the kernel unpacks into memory.
 *
 * Used by the tests in test/guest. The tree has busybox, our client, an /init and what a test adds.
 * Device nodes are not needed: the kernel brings /dev/console, /init mounts the rest.
 */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, utimesSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import type { GuestPackages } from './guest-packages';

const run = promisify(execFile);

const MOUNT_POINTS = ['proc', 'sys', 'dev', 'tmp', 'run', 'var'];

export interface InitrdFile {
  /** Path on this machine. */
  readonly from: string;
  /** Path in the guest. */
  readonly to: string;
}

/**
 * Makes `<directory>/initrd`; `directory` has to be there.
 * @param init path of the script that becomes /init
 * @param files what the guest needs besides; their times are kept, as python looks at them
 * @returns the path of the archive
 */
export async function makeInitrd(
  directory: string,
  parts: GuestPackages,
  init: string,
  files: readonly InitrdFile[] = [],
): Promise<string> {
  const tree = join(directory, 'tree');
  for (const point of MOUNT_POINTS) {
    mkdirSync(join(tree, point), { recursive: true });
  }
  const all = [
    { from: parts.busybox, to: '/bin/busybox' },
    { from: parts.client, to: '/bin/guest-client' },
    { from: init, to: '/init' },
    ...files,
  ];
  for (const { from, to } of all) {
    const target = join(tree, to);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(from, target);
    const { atime, mtime } = statSync(from);
    utimesSync(target, atime, mtime);
  }
  symlinkSync('busybox', join(tree, 'bin', 'sh'));
  const archive = join(directory, 'initrd');
  const pack = 'find . | "$1" cpio -o -H newc >"$2"';
  await run('sh', ['-c', pack, 'sh', parts.busybox, archive], { cwd: tree });
  rmSync(tree, { recursive: true });
  return archive;
}
