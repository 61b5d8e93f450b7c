/*
 * The table of mounts in force (/etc/mnttab): what is mounted where, as far as no zone has to be asked.
 *
 * Paths are of this machine, root included, as the table has them. On illumos the table is the kernel's own
 * list and reading it touches no file system that it names. An entry has what was mounted as mount(2) was given it,
 * and the mount point with all links resolved (vfs.c, domount).
 */
import { readFileSync } from 'node:fs';
import { systemError } from '../lib/errors';
import { openStat, sameStat, type FileStat } from './files';

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

/** What must be in force on the mount of a zone's socket directory, each by any of the names that tables use. */
const SAFE_OPTIONS: readonly (readonly [name: string, ...other: string[]])[] = [
  ['ro'],
  ['nodevices', 'nodev'],
  ['nosetuid', 'nosuid'],
  ['noexec'],
];

/** Those of the options above that a mount lacks. */
export function missingSafeOptions({ options }: MountEntry): string[] {
  return SAFE_OPTIONS.filter((names) => !names.some((name) => options.includes(name))).map(
    ([name]) => name,
  );
}

/**
 * Lines of five fields with tabs between; what is not such a line is left out. Nothing is escaped: a blank
 * or backslash in a path stands there as it is (uts/common/fs/mntfs/mntvnops.c).
 */
export function parseMnttab(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [special = '', mountPoint = '', fstype = '', options = '', time] = line.split('\t');
    return time === undefined
      ? []
      : [{ special, mountPoint, fstype, options: options.split(','), time: Number(time) }];
  });
}

/** The table, read again only when the file changed: thousands of zones ask at once. */
export class MountTable {
  private readonly stat = openStat();
  /** As of the last read. */
  private read: FileStat | null = null;
  private byMountPoint: ReadonlyMap<string, MountEntry> = new Map();
  private bySpecial: ReadonlyMap<string, MountEntry> = new Map();

  /** @param path of the mount table */
  constructor(private readonly path: string) {}

  /** Whether the table shows a lofs at exactly this path. @throws SystemError */
  isMounted(mountPoint: string): boolean {
    this.refresh();
    return this.byMountPoint.get(mountPoint)?.fstype === 'lofs';
  }

  /** Where this is mounted last, whatever its path there has become. @throws SystemError */
  mountOf(special: string): MountEntry | undefined {
    this.refresh();
    return this.bySpecial.get(special);
  }

  private refresh(): void {
    const found = this.stat(this.path);
    if (found !== null && this.read !== null && sameStat(found, this.read)) {
      return;
    }
    let text: string;
    try {
      text = readFileSync(this.path, 'utf8');
    } catch (err) {
      throw systemError('read', this.path, err);
    }
    const entries = parseMnttab(text);
    // The last one wins: what is mounted on top of all before.
    this.byMountPoint = new Map(entries.map((entry) => [entry.mountPoint, entry]));
    this.bySpecial = new Map(entries.map((entry) => [entry.special, entry]));
    this.read = found?.slice() ?? null;
  }
}
