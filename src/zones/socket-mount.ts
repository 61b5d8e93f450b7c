/*
 * The lofs mount of a zone's socket directory, as far as the agent manages it.
 *
 * Brands of platforms since 20161206 mount it themselves while the zone goes to ready; their platform.xml says so. There
 * we only check it when the zone runs. Where a brand does not, we mount it when the zone becomes ready: not later, since
 * mount(2) follows symbolic links and a running zone's processes could move the mount point away meanwhile. Nothing is
 * unmounted when the zone halts: zoneadmd takes away all that is mounted below its root (vplat.c, unmount_filesystems).
 *
 *   phase     state
 *   halted    zone halted
 *   ready     left to the brand; mounting --> mounted by the agent
 *                                         --fault--> not mounted, not known --time--> what the phase asks for
 *   running   mounted by the brand, mounted by the agent, none for this brand, no mounts on this node;
 *             checking again --1 s--> one of these, or not mounted; not known --time--> all of these again
 *
 * The table does not show a directory that was removed and made anew while its zone runs: platform/zone-root.ts is
 * asked for it, since the main thread names no path below a zone's root.
 */
import { readFileSync } from 'node:fs';
import { Backoff } from '../lib/backoff';
import { codeOf, SystemError } from '../lib/errors';
import { Fsm, type StateHandle, type States } from '../lib/fsm';
import type { ZoneLog } from '../log';
import { deviceOf, inodeOf, openStat } from '../platform/files';
import type { Platform } from '../platform/libzonecfg';
import type { MountTable } from '../platform/mounts';
import { mountPointOf, type Paths } from '../platform/paths';
import type { ZoneRoot } from '../platform/zone-root';
import type { ZoneFacts } from '../platform/libzonecfg';
import type { Phase } from './events';

/** Brands of SmartOS that have the directory; others have it only where their own files mount it. */
const NATIVE_BRANDS: readonly string[] = ['joyent', 'joyent-minimal', 'builder', 'lx'];

/** A zone that is already going down again when the event of its start comes has left `running` by then. */
const SECOND_CHECK_MS = 1000;
/** The next check asks again. */
const ANSWER_MS = 5000;
/** After a fault: zones are ready for a fraction of a second only. Then twice as long, and so on. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 60_000;

/** Any phase of the zone can follow any other, and each asks anew: so can these. */
const ANY = [
  ...(['zone halted', 'left to the brand', 'mounting', 'checking again'] as const),
  ...(['mounted by the brand', 'mounted by the agent', 'not mounted', 'not known'] as const),
  ...(['none for this brand', 'no mounts on this node'] as const),
];

export type MountState = (typeof ANY)[number];

/** A state that waits for the next phase. */
const STEADY = { next: ANY, enter: (): void => undefined };

export interface SocketMountOptions {
  readonly paths: Paths;
  readonly platform: Pick<Platform, 'zoneFacts'>;
  readonly table: MountTable;
}

/** What was read in brands' files, which are part of the platform image: they change with a boot of the node. */
const brandFiles = new Map<string, boolean>();

/** Whether the brand's own files mount the directory; undefined where the platform has no file of it. */
export function brandMounts(paths: Paths, brand: string): boolean | undefined {
  const file = paths.host(`/usr/lib/brand/${brand}/platform.xml`);
  try {
    const mounts = brandFiles.get(file) ?? readFileSync(file, 'utf8').includes('/var/zonecontrol');
    brandFiles.set(file, mounts);
    return mounts;
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return undefined;
    }
    throw err;
  }
}

const stat = openStat();
/** Zones of an ordinary user's simulated node are mounted in views of their own. */
const seesMounts = process.geteuid?.() === 0;

/** What a running zone has at its mount point. `unknown`: it could not be checked, or should have nothing. */
export type MountCheck = 'ours' | 'another' | 'unknown';

type Handled = StateHandle<MountState>;

/** The mount of one OS zone's directory. Its zone calls `moved` with each phase. */
export class SocketMount {
  private static readonly states: States<MountState, SocketMount> = {
    'zone halted': STEADY,
    'left to the brand': STEADY,
    mounting: { next: ANY, enter: (handle, mount) => mount.enterMounting(handle) },
    'checking again': {
      next: ANY,
      enter: (handle, mount) => handle.timeout(SECOND_CHECK_MS, () => handle.goto(mount.next())),
    },
    'mounted by the brand': STEADY,
    'mounted by the agent': STEADY,
    'not mounted': { next: ANY, enter: (handle, mount) => mount.enterNotMounted(handle) },
    'not known': { next: ANY, enter: (handle, mount) => mount.retryLater(handle) },
    'none for this brand': STEADY,
    'no mounts on this node': STEADY,
  };
  private readonly machine: Fsm<MountState, SocketMount>;
  private phase: Phase = 'halted';
  private readonly backoff = new Backoff(FIRST_RETRY_MS, LONGEST_RETRY_MS);
  /** The fault that was logged last. */
  private logged = '';
  /** What the zone has at its mount point, as it was seen last; null: not seen, or nothing. */
  private seen: string | null = null;
  /** The running zone was seen without it: that is logged, or about to be. */
  private isLost = false;
  /** Of the record of a loss. */
  private lossTimer: NodeJS.Timeout | undefined;
  /** Counts phases: what was asked for in an earlier one says nothing of this one. */
  private moves = 0;

  constructor(
    private readonly facts: ZoneFacts,
    private readonly root: ZoneRoot,
    private readonly log: ZoneLog,
    private readonly options: SocketMountOptions,
  ) {
    const name = `mount of ${facts.zonename}`;
    this.machine = new Fsm(name, SocketMount.states, 'zone halted', this);
    this.machine.start();
  }

  get state(): MountState {
    return this.machine.state;
  }

  /** This machine's path of the mount point, as the table has it. */
  get mountPoint(): string {
    return this.root.nameOf(mountPointOf(this.facts.brand));
  }

  moved(phase: Phase): void {
    this.phase = phase;
    this.moves++;
    this.seen = null;
    this.isLost = false;
    clearTimeout(this.lossTimer);
    this.machine.goto(this.next());
  }

  /** By the table and by the directory in the global zone; what is below the root is from `check`. */
  lastCheck(): MountCheck {
    if (!this.runsMounted()) {
      return 'unknown';
    }
    try {
      if (!this.isMounted()) {
        return 'another';
      }
      const found = stat(this.options.paths.zoneDirectory(this.facts.zonename));
      if (found === null || this.seen === null) {
        return 'unknown';
      }
      return this.seen === `${deviceOf(found)}/${inodeOf(found)}` ? 'ours' : 'another';
    } catch {
      // The table cannot be read, or our directory.
      return 'unknown';
    }
  }

  /**
   * Asks for the mount point of a running zone: somebody may have unmounted the directory, or removed it. That
   * is logged once, a second later: a zone that goes down has it unmounted before its event comes. Resolves
   * when the zone's file system answered, or the signal ended the wait.
   */
  async check(signal = AbortSignal.timeout(ANSWER_MS)): Promise<void> {
    if (!this.runsMounted()) {
      return;
    }
    const { moves } = this;
    const at = mountPointOf(this.facts.brand);
    const found = await this.root.directoryAt(at, signal).catch(() => null);
    if (moves !== this.moves) {
      return;
    }
    this.seen = found;
    const seen = this.lastCheck();
    if (seen === 'ours') {
      this.isLost = false;
    } else if (seen === 'another' && !this.isLost) {
      this.isLost = true;
      this.lossTimer = setTimeout(() => this.logLoss(), SECOND_CHECK_MS).unref();
    }
  }

  private logLoss(): void {
    this.isLost = this.lastCheck() === 'another';
    if (this.isLost) {
      const text =
        'the metadata directory was unmounted, or replaced while the zone runs: reboot it';
      this.log.warn({ mountpoint: this.mountPoint }, text);
    }
  }

  /** What the zone's phase asks for now; `not known` where it cannot be seen: this zone and all others go on. */
  private next(): MountState {
    try {
      const state = this.nextByTable();
      if (state !== 'mounting' && state !== 'not mounted') {
        this.succeeded();
      }
      return state;
    } catch (err) {
      this.fault('verify', err);
      return 'not known';
    }
  }

  private nextByTable(): MountState {
    const { brand } = this.facts;
    switch (this.phase) {
      case 'halted':
        return 'zone halted';
      case 'ready':
        if (!this.isOurs()) {
          return 'left to the brand';
        }
        // Events can be old: what counts for a mount is that no process of the zone runs now.
        // The kernel publishes a state before it sets it (zone.c, zone_status_set): asked again soon.
        return this.isReady() ? 'mounting' : 'not mounted';
      case 'running':
        if (!seesMounts) {
          return 'no mounts on this node';
        }
        if (this.isMounted()) {
          return this.isOurs() ? 'mounted by the agent' : 'mounted by the brand';
        }
        if (!NATIVE_BRANDS.includes(brand) && brandMounts(this.options.paths, brand) !== true) {
          return 'none for this brand';
        }
        return this.state === 'checking again' ? 'not mounted' : 'checking again';
    }
  }

  private enterMounting(handle: Handled): void {
    handle.until(
      this.mount(),
      () => {
        this.succeeded();
        handle.goto('mounted by the agent');
      },
      (err) => {
        this.fault('mount', err);
        const isOfTable = err instanceof SystemError && err.call === 'read';
        handle.goto(isOfTable ? 'not known' : 'not mounted');
      },
    );
  }

  private enterNotMounted(handle: Handled): void {
    if (this.phase === 'ready') {
      this.retryLater(handle);
    } else {
      const text = 'zone runs without its metadata directory: reboot it';
      this.log.warn({ mountpoint: this.mountPoint }, text);
    }
  }

  private retryLater(handle: Handled): void {
    handle.timeout(this.backoff.next(), () => handle.goto(this.next()));
  }

  private async mount(): Promise<void> {
    const { facts, root, log, mountPoint } = this;
    const { paths, table } = this.options;
    if (this.isMounted()) {
      return;
    }
    const special = paths.zoneDirectory(facts.zonename);
    try {
      await root.mount(special, mountPointOf(facts.brand));
      if (!this.isMounted()) {
        throw new SystemError('mount', mountPoint, 'ESTALE', 'the mount point was moved meanwhile');
      }
      if (this.phase === 'halted' && !this.isReady()) {
        throw new SystemError('mount', mountPoint, 'ESTALE', 'the zone was halted meanwhile');
      }
    } catch (err) {
      // What could not be seen to be in its place must not stay. It goes by the path that the table has.
      const stray = strayMount(table, special);
      if (stray !== undefined) {
        await root.unmount(stray).catch((cause: unknown) => {
          log.error({ err: cause, mountpoint: stray }, 'could not unmount the metadata directory');
        });
      }
      throw err;
    }
    log.info({ mountpoint: mountPoint }, 'mounted the metadata directory');
  }

  private runsMounted(): boolean {
    return this.phase === 'running' && this.state.startsWith('mounted');
  }

  private isMounted(): boolean {
    return this.options.table.isMounted(this.mountPoint);
  }

  private isOurs(): boolean {
    const { brand } = this.facts;
    return NATIVE_BRANDS.includes(brand) && brandMounts(this.options.paths, brand) === false;
  }

  /** Nothing in the zone runs now. */
  private isReady(): boolean {
    return this.options.platform.zoneFacts(this.facts.zonename)?.state === 'ready';
  }

  private succeeded(): void {
    this.backoff.reset();
    this.logged = '';
  }

  /** A fault is logged once as long as it stays the same. */
  private fault(what: string, err: unknown): void {
    const fault = `${what} ${codeOf(err)}`;
    if (fault !== this.logged) {
      this.logged = fault;
      const text = `could not ${what} the metadata directory`;
      this.log.error({ err, mountpoint: this.mountPoint }, text);
    }
  }
}

/** Where a directory is mounted by the table, if anywhere. */
function strayMount(table: MountTable, special: string): string | undefined {
  try {
    return table.mountOf(special)?.mountPoint;
  } catch {
    // The next attempt finds what is there, and counts it as mounted; why this one failed says more.
    return undefined;
  }
}
