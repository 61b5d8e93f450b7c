/*
 * The lofs mount of a zone's socket folder, as far as it is ours to see to.
 *
 * Brands of platforms since 20161206 mount it themselves while the zone goes to ready; their platform.xml
 * says so. There we only look whether it is in force when the zone runs. Where a brand does not, we mount
 * it when the zone becomes ready: not later, since mount(2) follows symbolic links and a running zone's
 * processes could move the mount point away under our eyes. What we mounted we unmount.
 *
 * A look or a step that meets a fault (no descriptor, no memory) is made again, at growing intervals, for
 * as long as the zone stays as it is. What is ours is remembered apart from what the last look saw.
 */
import { readFileSync } from 'node:fs';
import { codeOf } from '../lib/errors';
import type { ZoneLog } from '../log';
import type { FolderMounts } from '../platform/mounts';
import type { Paths } from '../platform/paths';
import { checkMount, mountPointIn, mountPointOf, type MountCheck } from './mount-check';
import type { ZoneFacts } from './snapshot';
import type { MountManager } from './zone';

/** Brands of SmartOS that have the folder; others have it only where their own files mount it. */
const NATIVE_BRANDS: readonly string[] = ['joyent', 'joyent-minimal', 'builder', 'lx'];

/** A state that was published is set by then. */
const SETTLED_MS = 50;
/** A zone that is already going down again when we hear that it runs is gone from `running` by then. */
const SECOND_LOOK_MS = 1000;
/** After a fault: zones are ready for a fraction of a second only. Then twice as long, and so on. */
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 60_000;

export type MountState =
  | 'zone halted'
  | 'left to the brand'
  | 'mounted by the brand'
  | 'mounted by the agent'
  | 'not mounted'
  | 'not known'
  | 'none for this brand';

/** What the folders of all zones share. */
export interface SocketMountOptions {
  readonly paths: Paths;
  readonly mounts: FolderMounts;
  readonly mountRunning: boolean;
  /** Whether the zone is ready, and nothing in it runs, at this moment. */
  readonly isReady: (zonename: string) => boolean;
  /** As `brandMounts`. */
  readonly brandMounts: (brand: string) => boolean | undefined;
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

/** The duty of one OS zone. Its zone tells it what state it is in. */
export class SocketMount implements MountManager {
  state: MountState = 'zone halted';
  private readonly facts: ZoneFacts;
  private readonly log: ZoneLog;
  private readonly options: SocketMountOptions;
  /** Whether a mount that is there is ours to unmount; undefined while only the brand says so. */
  private ours: boolean | undefined;
  /** It was not there when we looked into the running zone. */
  private missing = false;
  /** The running zone was seen without it: the log is told, or is about to be. */
  private lost = false;
  private retryMs = 0;
  /** The fault that the log has been told of. */
  private told = '';

  constructor(facts: ZoneFacts, log: ZoneLog, options: SocketMountOptions) {
    this.facts = facts;
    this.log = log;
    this.options = options;
  }

  onReady(): number | null {
    this.missing = false;
    this.lost = false;
    return this.contained('verify', () => {
      // Events can be old: what counts for a mount is that no process of the zone runs now.
      if (!this.isOurs()) {
        this.state = 'left to the brand';
        return null;
      }
      if (this.options.isReady(this.facts.zonename)) {
        return this.mount();
      }
      // The kernel publishes a state before it sets it (zone.c, zone_status_set).
      this.state = 'not mounted';
      return SETTLED_MS;
    });
  }

  onRunning(): number | null {
    return this.contained('verify', () => {
      if (this.isMounted()) {
        this.ours ??= this.isOurs();
        this.state = this.ours ? 'mounted by the agent' : 'mounted by the brand';
        return null;
      }
      if (!this.isExpected()) {
        this.state = 'none for this brand';
        return null;
      }
      this.state = 'not mounted';
      if (!this.missing) {
        this.missing = true;
        return SECOND_LOOK_MS;
      }
      if (this.options.mountRunning) {
        return this.mount();
      }
      this.log.warn(
        { mountpoint: this.mountPoint },
        'zone runs without its metadata folder: reboot it, or set mount_running_zones',
      );
      return null;
    });
  }

  /**
   * What a running zone has at the mount point now: somebody may have unmounted the folder, or removed it.
   * The log is told once, a second later: a zone that goes down has its folder unmounted before we hear of it.
   */
  look(): MountCheck {
    if (!this.state.startsWith('mounted')) {
      return 'unknown';
    }
    const view = checkMount(this.options.paths, this.facts);
    if (view === 'another' && !this.lost) {
      this.lost = true;
      setTimeout(() => this.confirmLoss(), SECOND_LOOK_MS).unref();
    }
    return view;
  }

  private confirmLoss(): void {
    this.lost = this.look() === 'another';
    if (this.lost) {
      this.log.warn(
        { mountpoint: this.mountPoint },
        'the metadata folder was unmounted, or replaced while the zone runs: reboot it',
      );
    }
  }

  onHalted(): number | null {
    this.missing = false;
    this.lost = false;
    const again = this.contained('unmount', () => {
      if ((this.ours ?? this.isOurs()) && this.isMounted()) {
        this.options.mounts.unmount(this.mountPoint);
      }
      this.ours = undefined;
      return null;
    });
    this.state = 'zone halted';
    return again;
  }

  private mount(): number | null {
    return this.contained('mount', () => {
      const { facts, log } = this;
      const { mounts, paths } = this.options;
      const there = this.isMounted();
      // From here on there can be one, whatever the call says.
      this.ours = true;
      if (!there) {
        this.state = 'not mounted';
        mounts.mount(paths.zoneFolder(facts.zonename), this.zoneroot, mountPointOf(facts.brand));
        log.info({ mountpoint: this.mountPoint }, 'mounted the metadata folder');
      }
      this.state = 'mounted by the agent';
      return null;
    });
  }

  private get zoneroot(): string {
    return this.options.paths.host(`${this.facts.zonepath}/root`);
  }

  private get mountPoint(): string {
    return mountPointIn(this.options.paths, this.facts);
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

  /**
   * A fault is told in the log, once as long as it stays the same; this zone and all others go on.
   * @returns when the step is to be made again, ms; null: it is done
   */
  private contained(what: string, step: () => number | null): number | null {
    this.state = 'not known';
    try {
      const again = step();
      if (again === null) {
        this.retryMs = 0;
        this.told = '';
      }
      return again;
    } catch (err) {
      const fault = `${what} ${codeOf(err)}`;
      if (fault !== this.told) {
        this.told = fault;
        const text = `could not ${what} the metadata folder`;
        this.log.error({ err, mountpoint: this.mountPoint }, text);
      }
      this.retryMs = Math.min(Math.max(FIRST_RETRY_MS, 2 * this.retryMs), LONGEST_RETRY_MS);
      return this.retryMs;
    }
  }
}
