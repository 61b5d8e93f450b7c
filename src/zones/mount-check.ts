/*
 * Whether a running zone has our folder at its mount point: looked at, whatever the mount table says.
 *
 * A folder that is removed and made anew while its zone runs stays mounted in its old shape, and the
 * table knows nothing of it. On a compute node a lofs shows the inode of what it is mounted from.
 */
import { SystemError } from '../lib/errors';
import { inodeOf, openStat } from '../platform/file-stat';
import type { Paths } from '../platform/paths';
import type { ZoneFacts } from './snapshot';

/** `unknown`: it could not be looked at, or there is nothing to compare with. */
export type MountCheck = 'ours' | 'another' | 'unknown';

/** Inside the zone. lx keeps what is native of SmartOS below /native. */
const MOUNT_POINT = '/.zonecontrol';
const LX_MOUNT_POINT = '/native/.zonecontrol';

/** Where a brand shows the folder, as the zone sees it. */
export function mountPointOf(brand: string): string {
  return brand === 'lx' ? LX_MOUNT_POINT : MOUNT_POINT;
}

/** Where the zone has its folder, as a path of this machine. */
export function mountPointIn(paths: Paths, { zonepath, brand }: ZoneFacts): string {
  return paths.host(`${zonepath}/root${mountPointOf(brand)}`);
}

const look = openStat();
/** Zones of an ordinary user's simulated node are mounted in views of their own. */
const seesMounts = process.geteuid?.() === 0;

/** Two system calls. Only of use for a zone that runs and should have the folder. */
export function checkMount(paths: Paths, facts: ZoneFacts): MountCheck {
  if (!seesMounts) {
    return 'unknown';
  }
  const folder = inodeAt(paths.zoneFolder(facts.zonename));
  const seen = inodeAt(mountPointIn(paths, facts));
  if (folder === 'unknown' || seen === 'unknown' || folder === 'absent') {
    return 'unknown';
  }
  return folder === seen ? 'ours' : 'another';
}

function inodeAt(path: string): number | 'absent' | 'unknown' {
  try {
    const found = look(path);
    return found === null ? 'absent' : inodeOf(found);
  } catch (err) {
    if (err instanceof SystemError) {
      return 'unknown';
    }
    throw err;
  }
}
