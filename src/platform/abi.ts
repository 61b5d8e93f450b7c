/*
 * Numbers and layouts of the platform's C interface, illumos' and the emulation's (64-bit, little
 * endian), and the names that its codes go by.
 *
 * Everything that differs between the two is in this file. Both have illumos' zones, mounts and
 * credentials, as the emulation speaks its ABI; the fcntl locks are libc's own on either.
 */
export { errnoName } from '../lib/errors';

export const onIllumos = process.platform === 'sunos';

/** Longest zone name with its NUL. */
export const ZONENAME_MAX = 64;
/** Longest path with its NUL. */
export const MAXPATHLEN = 1024;
/** Room for the mount options, which the kernel writes back. */
export const MAX_MNTOPT_STR = 1024;

export const MS_OPTIONSTR = 0x100;
export const MS_FORCE = 0x400;

export const ZONE_ATTR_NAME = 2;
export const ZONE_ATTR_STATUS = 3;
export const ZONE_ATTR_BRAND = 11;

/** libzonecfg's zone_state_t, by number. */
export const ZONE_STATES = [
  'configured',
  'incomplete',
  'installed',
  'ready',
  'running',
  'shutting_down',
  'down',
  'mounted',
] as const;

/** The kernel's zone_status_t, by number; `free` is seen in events only. */
export const ZONE_STATUSES = [
  'uninitialized',
  'initialized',
  'ready',
  'booting',
  'running',
  'shutting_down',
  'empty',
  'down',
  'dying',
  'dead',
] as const;

export const Z_OK = 0;

const Z_NAMES: ReadonlyMap<number, string> = new Map([
  [11, 'Z_NOMEM'],
  [12, 'Z_INVAL'],
  [13, 'Z_ACCES'],
  [16, 'Z_NO_ZONE'],
  [21, 'Z_BAD_ZONE_STATE'],
  [22, 'Z_INVALID_DOCUMENT'],
  [28, 'Z_SYSTEM'],
]);

/** The name of a libzonecfg code: `Z_NO_ZONE`; `Z_25` for one that nobody told us the name of. */
export function zonecfgCode(code: number): string {
  return Z_NAMES.get(code) ?? `Z_${code}`;
}

interface FlockLayout {
  readonly F_SETLK: number;
  readonly F_WRLCK: number;
  /** sizeof (struct flock) */
  readonly bytes: number;
}

const ILLUMOS_FLOCK: FlockLayout = { F_SETLK: 6, F_WRLCK: 2, bytes: 64 };
const LINUX_FLOCK: FlockLayout = { F_SETLK: 6, F_WRLCK: 1, bytes: 32 };

export const FLOCK: FlockLayout = onIllumos ? ILLUMOS_FLOCK : LINUX_FLOCK;

/**
 * A struct flock over the whole file. l_type is a short at 0, l_whence one at 2, l_start and l_len
 * follow at 8 and 16 on both systems; all but the type are 0 (SEEK_SET, from the start, to the end).
 */
export function wholeFile(type: number): Buffer {
  const flock = Buffer.alloc(FLOCK.bytes);
  flock.writeInt16LE(type, 0);
  return flock;
}
