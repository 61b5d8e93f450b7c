/*
 * lofs mounts of a zone's socket folder, and the table of mounts in force (/etc/mnttab).
 *
 * mount(2) follows symbolic links, and what lies below a zone's root is the zone's to arrange. So every
 * component is looked at first, and no zone may run meanwhile: whoever calls `mount` sees to that.
 * Paths are of this machine, root included, as the table has them.
 */
import { lstatSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, SystemError, systemError } from '../lib/errors';
import type { Platform } from './libzonecfg';

/** The set that the platform's brands use: a zone reads its folder, and nothing more. */
const FOLDER_OPTIONS = 'ro,nodevices,nosetuid,noexec';
/** As the brands make it. */
const MOUNT_POINT_MODE = 0o755;

/** One line of the mount table. */
export interface MountEntry {
  readonly special: string;
  readonly mountPoint: string;
  readonly fstype: string;
  /** `ro`, `zone=<name>`, `dev=<hex>`; in the table's order. */
  readonly options: readonly string[];
  /** Seconds since 1970. */
  readonly time: number;
}

export interface FolderMounts {
  /** Whether the table shows a lofs at exactly this path. */
  isMounted(mountPoint: string): boolean;
  /**
   * Mounts a folder read-only into a zone, at a mount point that is made where it is missing. Nothing
   * happens where a lofs is mounted there already.
   * @param mountPoint as the zone sees it: `/.zonecontrol`
   */
  mount(special: string, zoneroot: string, mountPoint: string): void;
  unmount(mountPoint: string): void;
}

/** @param mnttab path of the mount table */
export function openMounts(
  platform: Pick<Platform, 'mountLofs' | 'umount'>,
  mnttab: string,
): FolderMounts {
  const table = new MountTable(mnttab);
  const isMounted = (mountPoint: string) => table.at(mountPoint)?.fstype === 'lofs';
  return {
    isMounted,
    mount: (special, zoneroot, mountPoint) => {
      const dir = makeMountPoint(zoneroot, mountPoint);
      if (isMounted(dir)) {
        return;
      }
      platform.mountLofs(special, dir, FOLDER_OPTIONS);
      let there = false;
      try {
        there = isMounted(dir);
      } finally {
        if (!there) {
          // What could not be seen to be in its place must not stay.
          platform.umount(dir, true);
        }
      }
      if (!there) {
        // The table names what a link led to: somebody in the zone was at work.
        throw new SystemError('mount', dir, 'ESTALE', 'the mount point was moved meanwhile');
      }
    },
    // Forced: a process of the dying zone that sits in the folder must not keep it.
    unmount: (mountPoint) => platform.umount(mountPoint, true),
  };
}

/**
 * Lines of five fields with tabs between; what is not such a line is left out. Nothing is escaped: a blank
 * or backslash in a path stands there as it is (uts/common/fs/mntfs/mntvnops.c).
 */
export function parseMnttab(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [special, mountPoint, fstype, options, time] = line.split('\t');
    if (
      special === undefined ||
      mountPoint === undefined ||
      fstype === undefined ||
      options === undefined ||
      time === undefined
    ) {
      return [];
    }
    return [
      {
        special,
        mountPoint,
        fstype,
        options: options.split(','),
        time: Number(time),
      },
    ];
  });
}

/** The table by mount point, read again only when the file changed: thousands of zones ask at once. */
class MountTable {
  private readonly path: string;
  private version = '';
  private entries: ReadonlyMap<string, MountEntry> = new Map();

  constructor(path: string) {
    this.path = path;
  }

  /** What is mounted there last, on top of all before. */
  at(mountPoint: string): MountEntry | undefined {
    try {
      const { dev, ino, mtimeNs, ctimeNs, size } = statSync(this.path, { bigint: true });
      const version = [dev, ino, mtimeNs, ctimeNs, size].join(' ');
      if (version !== this.version) {
        const entries = parseMnttab(readFileSync(this.path, 'utf8'));
        this.entries = new Map(entries.map((entry) => [entry.mountPoint, entry]));
        this.version = version;
      }
    } catch (err) {
      throw systemError('read', this.path, err);
    }
    return this.entries.get(mountPoint);
  }
}

/**
 * The mount point as a path of this machine, every component below the zone's root seen to be a real
 * folder. What is missing is made: mkdir follows no link in its last component.
 */
function makeMountPoint(zoneroot: string, mountPoint: string): string {
  let dir = zoneroot;
  requireFolder(dir);
  for (const component of mountPoint.split('/').filter((part) => part !== '')) {
    if (component === '..' || component === '.') {
      throw new SystemError('mount', mountPoint, 'EINVAL', 'not a plain path');
    }
    dir = join(dir, component);
    try {
      mkdirSync(dir, { mode: MOUNT_POINT_MODE });
    } catch (err) {
      if (codeOf(err) !== 'EEXIST') {
        throw systemError('mkdir', dir, err);
      }
    }
    requireFolder(dir);
  }
  return dir;
}

function requireFolder(dir: string): void {
  let found;
  try {
    found = lstatSync(dir);
  } catch (err) {
    throw systemError('lstat', dir, err);
  }
  if (found.isSymbolicLink()) {
    throw new SystemError('mount', dir, 'ELOOP', 'a symbolic link below the zone root');
  }
  if (!found.isDirectory()) {
    throw new SystemError('mount', dir, 'ENOTDIR', 'not a folder');
  }
}
