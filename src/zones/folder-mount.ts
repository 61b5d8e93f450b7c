/*
 * The lofs mount of a zone's socket folder, as far as it is ours to see to.
 *
 * Brands of platforms since 20161206 mount it themselves while the zone goes to ready; their platform.xml
 * says so. There we only look whether it is in force when the zone runs. Where a brand does not, we mount
 * it when the zone becomes ready: not later, since mount(2) follows symbolic links and a running zone's
 * processes could move the mount point away under our eyes. What we mounted we unmount.
 */
import { readFileSync } from 'node:fs';
import { codeOf } from '../errors';
import type { ZoneLog } from '../log';
import type { FolderMounts } from '../sys/mounts';
import type { Paths } from '../sys/paths';
import type { ZoneFacts } from './picture';
import type { FolderDuty } from './zone';

/** Inside the zone. lx keeps what is native of SmartOS below /native. */
const MOUNT_POINT = '/.zonecontrol';
const LX_MOUNT_POINT = '/native/.zonecontrol';

/** Brands of SmartOS that have the folder; others have it only where their own files mount it. */
const NATIVE_BRANDS: readonly string[] = ['joyent', 'joyent-minimal', 'builder', 'lx'];

export type MountState =
  | 'zone halted'
  | 'left to the brand'
  | 'mounted by the brand'
  | 'mounted by the agent'
  | 'not mounted'
  | 'none for this brand';

/** What the folders of all zones share. */
export interface FolderMountOptions {
  readonly paths: Paths;
  readonly mounts: FolderMounts;
  readonly mountRunning: boolean;
  /** Whether the zone is ready, and nothing in it runs, at this moment. */
  readonly isReady: (zonename: string) => boolean;
  /** As `brandMounts`. */
  readonly brandMounts: (brand: string) => boolean | undefined;
}

/** Where a brand shows the folder, as the zone sees it. */
export function mountPointOf(brand: string): string {
  return brand === 'lx' ? LX_MOUNT_POINT : MOUNT_POINT;
}

/** Whether the brand's own files mount the folder; undefined where the platform has no file of it. */
export function brandMounts(paths: Paths, brand: string): boolean | undefined {
  try {
    const xml = readFileSync(paths.host(`/usr/lib/brand/${brand}/platform.xml`), 'utf8');
    return xml.includes('/var/zonecontrol');
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return undefined;
    }
    throw err;
  }
}

export class FolderMount implements FolderDuty {
  state: MountState = 'zone halted';
  private readonly facts: ZoneFacts;
  private readonly log: ZoneLog;
  private readonly options: FolderMountOptions;

  constructor(facts: ZoneFacts, log: ZoneLog, options: FolderMountOptions) {
    this.facts = facts;
    this.log = log;
    this.options = options;
  }

  onReady(): void {
    this.contained('verify', () => {
      this.state = 'left to the brand';
      // Events can be old: what counts for a mount is that no process of the zone runs now.
      if (this.isOurs() && this.options.isReady(this.facts.zonename)) {
        this.mount();
      }
    });
  }

  onRunning(): boolean {
    let fine = true;
    this.contained('verify', () => {
      if (this.isMounted()) {
        this.state = this.isOurs() ? 'mounted by the agent' : 'mounted by the brand';
      } else if (this.isExpected()) {
        this.state = 'not mounted';
        fine = false;
      } else {
        this.state = 'none for this brand';
      }
    });
    return fine;
  }

  onStillMissing(): void {
    if (this.onRunning()) {
      return;
    }
    if (this.options.mountRunning) {
      this.mount();
    } else {
      this.log.warn(
        { mountpoint: this.mountPoint },
        'zone runs without its metadata folder: reboot it, or set mount_running_zones',
      );
    }
  }

  onHalted(): void {
    if (this.state === 'mounted by the agent') {
      this.contained('unmount', () => {
        if (this.isMounted()) {
          this.options.mounts.unmount(this.mountPoint);
        }
      });
    }
    this.state = 'zone halted';
  }

  private mount(): void {
    this.contained('mount', () => {
      this.state = 'mounted by the agent';
      if (this.isMounted()) {
        return;
      }
      const { facts, log } = this;
      const { mounts, paths } = this.options;
      mounts.mount(paths.zoneFolder(facts.zonename), this.zoneroot, mountPointOf(facts.brand));
      log.info({ mountpoint: this.mountPoint }, 'mounted the metadata folder');
    });
  }

  private get zoneroot(): string {
    return this.options.paths.host(`${this.facts.zonepath}/root`);
  }

  private get mountPoint(): string {
    return `${this.zoneroot}${mountPointOf(this.facts.brand)}`;
  }

  private isMounted(): boolean {
    return this.options.mounts.isMounted(this.mountPoint);
  }

  private isOurs(): boolean {
    const { brand } = this.facts;
    return NATIVE_BRANDS.includes(brand) && this.options.brandMounts(brand) === false;
  }

  private isExpected(): boolean {
    const { brand } = this.facts;
    return NATIVE_BRANDS.includes(brand) || this.options.brandMounts(brand) === true;
  }

  /** A zone whose folder cannot be mounted is told in the log; it and all others go on. */
  private contained(what: string, step: () => void): void {
    try {
      step();
    } catch (err) {
      this.state = 'not mounted';
      this.log.error({ err, mountpoint: this.mountPoint }, `could not ${what} the metadata folder`);
    }
  }
}
