/*
 * Whether a running zone has our folder at its mount point: looked at, whatever the mount table says.
 *
 * A folder that is removed and made anew while its zone runs stays mounted in its old shape, and the
 * table knows nothing of it. On a compute node a lofs shows the inode of what it is mounted from.
 */
import { lstatSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { codeOf } from '../errors';
import type { Paths } from '../sys/paths';
import { mountPointOf } from '../zones/folder-mount';
import type { Zone } from '../zones/zone';

/** `unknown`: it could not be looked at, or there is nothing to compare with. */
export type FolderView = 'ours' | 'another' | 'unknown';

/** Where the zone has its folder, as a path of this machine. */
export function mountPointIn(paths: Paths, zone: Zone): string {
  const { zonepath, brand } = zone.facts;
  return join(paths.host(`${zonepath}/root`), mountPointOf(brand));
}

/** Two system calls. Only of use for a zone that runs and should have the folder. */
export function folderViewOf(paths: Paths, zone: Zone): FolderView {
  if (process.geteuid?.() !== 0) {
    // Zones of an ordinary user's simulated node are mounted in views of their own.
    return 'unknown';
  }
  const folder = inodeOf(dirname(zone.link.link.path));
  const seen = inodeOf(mountPointIn(paths, zone));
  if (folder === 'unknown' || seen === 'unknown' || folder === 'absent') {
    return 'unknown';
  }
  return folder === seen ? 'ours' : 'another';
}

function inodeOf(path: string): number | 'absent' | 'unknown' {
  try {
    return lstatSync(path).ino;
  } catch (err) {
    return codeOf(err) === 'ENOENT' ? 'absent' : 'unknown';
  }
}
