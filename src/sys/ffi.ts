/*
 * The door to the platform's C functions, through ffi-napi. (spec: illumos-abi)
 */

/** libzonecfg's state of a zone. */
export type ZoneState =
  | 'configured'
  | 'incomplete'
  | 'installed'
  | 'ready'
  | 'running'
  | 'shutting_down'
  | 'down'
  | 'mounted';

/** The kernel's status of a zone that it knows. */
export type ZoneStatus =
  | 'uninitialized'
  | 'initialized'
  | 'ready'
  | 'booting'
  | 'running'
  | 'shutting_down'
  | 'empty'
  | 'down'
  | 'dying'
  | 'dead';

export interface PeerCredential {
  readonly zoneid: number;
  readonly pid: number;
  readonly uid: number;
}

/** Every method throws a WorldError (call, subject, errno or Z_ name) when the platform refuses. */
export interface Platform {
  /** Names of all configured zones, the global one left out. */
  configuredZones(): string[];
  /** Ids of the zones that the kernel knows, 0 included. */
  zoneIds(): number[];
  zoneName(zoneid: number): string;
  zoneStatus(zoneid: number): ZoneStatus;
  zoneBrandById(zoneid: number): string;
  /** The id of a zone that the kernel knows, undefined for one that it does not. */
  zoneIdByName(zonename: string): number | undefined;
  zoneState(zonename: string): ZoneState;
  zoneBrand(zonename: string): string;
  /** Platform path (below the root), no trailing slash: `/zones/<name>`. */
  zonepath(zonename: string): string;
  zoneRootpath(zonename: string): string;
  /** lofs mount of host path `special` on host path `dir`. Follows symbolic links in `dir`: check first. */
  mountLofs(special: string, dir: string, options: string): void;
  umount(dir: string, force: boolean): void;
  /** Tries a write lock over the whole file: false when another process holds it. Never blocks. */
  tryLock(fd: number): boolean;
  unlock(fd: number): void;
  peer(fd: number): PeerCredential;
}
