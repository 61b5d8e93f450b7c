/*
 * What a real guest is made of: Debian's cloud kernel, its static busybox, and our client, built here.
 *
 * Used by the tests in test/guest. Packages are fetched with apt, unpacked and never installed; what is
 * needed of them stays in .cache/guest, so that it is fetched once. Where something cannot be had, the
 * answer is the reason, which is what the skipped test then says.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { messageOf } from '../../src/lib/errors';

const run = promisify(execFile);

/** The checkout, seen from the built file. */
const TOP = join(__dirname, '..', '..', '..');
const CACHE = join(TOP, '.cache', 'guest');
const CLIENT_SOURCES = ['guest-client.c', 'guest-frame.c'].map((name) =>
  join(TOP, 'test', 'support', name),
);

const QEMU = 'qemu-system-x86_64';
/** A meta package: it depends on the kernel of the day. */
const KERNEL_META = 'linux-image-cloud-amd64';
/** About 30 MB come from a mirror, perhaps after a fetch of its index. */
const FETCH_TIMEOUT_MS = 120_000;

/**
 * A lean boot. Without `no_timer_check` the kernel may take a busy machine's emulated timer for a
 * broken one, and stop.
 */
export const KERNEL_ARGUMENTS = 'console=ttyS0 quiet mitigations=off no_timer_check';

/** Host paths. */
export interface GuestPackages {
  readonly kernel: string;
  readonly busybox: string;
  readonly client: string;
}

/** @returns the parts, or in words why this machine has none */
export async function guestPackages(): Promise<GuestPackages | string> {
  mkdirSync(CACHE, { recursive: true });
  const parts = {
    kernel: join(CACHE, 'vmlinuz'),
    busybox: join(CACHE, 'busybox'),
    client: join(CACHE, 'guest-client'),
  };
  try {
    await run(QEMU, ['--version']);
  } catch (err) {
    return `qemu is not installed: ${messageOf(err)}`;
  }
  try {
    if (!existsSync(parts.kernel)) {
      await fetchFile(await kernelPackage(), './boot/vmlinuz-*', parts.kernel);
    }
    if (!existsSync(parts.busybox)) {
      await fetchFile('busybox-static', './*bin/busybox', parts.busybox);
    }
  } catch (err) {
    return `the packages of a guest cannot be had: ${messageOf(err)}`;
  }
  // Always anew: it is quick, and the source may have changed.
  await run('cc', ['-static', '-O2', '-Wall', '-Wextra', '-o', parts.client, ...CLIENT_SOURCES]);
  return parts;
}

async function kernelPackage(): Promise<string> {
  const find = async () => {
    const { stdout } = await run('apt-cache', ['depends', KERNEL_META]);
    return /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
  };
  const known = await find();
  if (known !== undefined) {
    return known;
  }
  await updateIndex();
  const updated = await find();
  if (updated === undefined) {
    throw new Error(`no package that ${KERNEL_META} depends on`);
  }
  return updated;
}

/** A fresh image of a container has no index of packages, or one that names versions of yesterday. */
async function updateIndex(): Promise<void> {
  await run('apt-get', ['update', '-qq'], { timeout: FETCH_TIMEOUT_MS });
}

/** Fetches a package and puts the one file of it that `pattern` (for tar) fits at `target`. */
async function fetchFile(name: string, pattern: string, target: string): Promise<void> {
  const directory = mkdtempSync(join(CACHE, 'fetch-'));
  const download = () =>
    run('apt-get', ['download', '-qq', name], { cwd: directory, timeout: FETCH_TIMEOUT_MS });
  try {
    await download().catch(async () => {
      await updateIndex();
      await download();
    });
    const unpack =
      'dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards --transform "s,.*/,," "$1" && rm ./*.deb && mv ./* unpacked';
    await run('sh', ['-c', unpack, 'sh', pattern], { cwd: directory });
    renameSync(join(directory, 'unpacked'), target);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
