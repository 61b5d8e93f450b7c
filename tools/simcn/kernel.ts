/*
 * The node's kernel as the zones meet it: each zone's status, and the events that tell of its changes.
 *
 * A status is published first and goes into the shared table then, as in the kernel (zone.c,
 * zone_status_set): a subscriber that reads the table at once on an event may still find the status before. A move waits
 * until every subscriber's queue took its event: a subscriber that is stuck holds up the zone, as on the
 * platform. A test can have events of a zone lost or late; the moves themselves are never touched by that.
 */
import { setTimeout as delay } from 'node:timers/promises';

import { ZONE_STATUSES } from '../../src/platform/ffi';
import type { Emulation } from './emulation';
import type { JsonObject } from '../../src/metadata/vm-data';
import type { Paths } from '../../src/platform/paths';
import type { FaultTable } from './faults';
import type { IndexState, VmStore } from './store';

/** The kernel's zone_status_t. `free` is seen in events and in the table only. */
export type KernelStatus = (typeof ZONE_STATUSES)[number] | 'free';

/** By their numbers. */
const STATUSES: readonly KernelStatus[] = [...ZONE_STATUSES, 'free'];

/**
 * The kernel's zone_status_table: what an event calls a status. Several share a name, so an event's old
 * and new state can be equal.
 */
const EVENT_NAMES: Readonly<Record<KernelStatus, string>> = {
  uninitialized: 'uninitialized',
  initialized: 'initialized',
  ready: 'ready',
  booting: 'ready',
  running: 'running',
  shutting_down: 'shutting_down',
  empty: 'shutting_down',
  down: 'shutting_down',
  dying: 'shutting_down',
  dead: 'uninitialized',
  free: 'free',
};

/** What an event gives as the id of a zone that the kernel does not know. */
const NO_ZONEID = -1;

/** The zones of one node as its kernel has them. */
export class Kernel {
  private readonly emulation: Emulation;
  private readonly faults: FaultTable;
  /** The last late event of each zone: later ones stay behind it. */
  private readonly late = new Map<string, Promise<void>>();
  /** Zones that are dead, by name, whose `free` comes so long after their next run has begun. */
  private readonly deathrow = new Map<string, { readonly zoneid: number; readonly ms: number }>();

  constructor(emulation: Emulation, faults: FaultTable) {
    this.emulation = emulation;
    this.faults = faults;
  }

  /**
   * Moves a zone on and publishes the event.
   * @param pid of its init; 0 for none
   * @returns the zone's id
   */
  async move(zonename: string, from: KernelStatus, to: KernelStatus, pid = 0): Promise<number> {
    const change = (status: KernelStatus): number =>
      this.emulation.zoneStatus(zonename, STATUSES.indexOf(status), pid);
    // A zone that is being made has its id before; `uninitialized` only tells the id of another.
    const zoneid = change(to === 'initialized' ? to : 'uninitialized');
    const lateFree = this.faults.of('events.late-free', zonename);
    if (to === 'free' && lateFree !== undefined) {
      this.deathrow.set(zonename, { zoneid, ms: lateFree.value });
    } else {
      await this.publish(zonename, zoneid, EVENT_NAMES[to], EVENT_NAMES[from]);
    }
    if (to !== 'initialized') {
      change(to);
    }
    const before = to === 'running' ? this.deathrow.get(zonename) : undefined;
    if (before !== undefined) {
      this.deathrow.delete(zonename);
      const publish = () => this.publish(zonename, before.zoneid, 'free', EVENT_NAMES.dead);
      // Nobody waits for it, nor for its failure.
      delay(before.ms)
        .then(publish)
        .catch(() => undefined);
    }
    return zoneid;
  }

  /** zoneadm wrote a state into the index (libzonecfg.c, zone_set_state): published by userland, and after it. */
  async indexed(zonename: string, from: IndexState, to: IndexState): Promise<void> {
    await this.publish(zonename, NO_ZONEID, to, from);
  }

  async configured(zonename: string): Promise<void> {
    await this.publish(zonename, NO_ZONEID, 'configured', '');
  }

  async deleted(zonename: string): Promise<void> {
    await this.publish(zonename, NO_ZONEID, '', 'configured');
  }

  private async publish(
    zonename: string,
    zoneid: number,
    newstate: string,
    oldstate: string,
  ): Promise<void> {
    if (this.faults.of('events.drop', zonename) !== undefined) {
      return;
    }
    const when = BigInt(Date.now()) * 1_000_000n;
    const send = () => this.emulation.publish(zonename, zoneid, newstate, oldstate, when);
    const lateMs = this.faults.of('events.delay', zonename)?.value ?? 0;
    const before = this.late.get(zonename);
    if (lateMs === 0 && before === undefined) {
      await send();
      return;
    }
    const sent = Promise.all([delay(lateMs), before]).then(send);
    this.late.set(zonename, sent);
    const remove = () => {
      if (this.late.get(zonename) === sent) {
        this.late.delete(zonename);
      }
    };
    // Nobody waits for a late event or for its failure; the order of the rest counts.
    sent.then(remove, remove);
  }
}

export interface NodeOptions {
  /** A platform from before December 2016: its brands do not mount the socket directory. */
  readonly oldPlatform: boolean;
  /** How long a zone stays ready before it boots: the time in which an agent can mount. */
  readonly readyMs: number;
  /** Native zones run their mdata services when they boot: the operator's script and the user's. */
  readonly services: boolean;
}

/** The part of vminfod that the node notifies of its VMs. */
export interface VmFeed {
  /** A VM is there, or is other than it was. */
  modified(vm: JsonObject): void;
  deleted(zonename: string): void;
}

export interface Machine {
  readonly paths: Paths;
  readonly emulation: Emulation;
  readonly kernel: Kernel;
  readonly store: VmStore;
  readonly feed: VmFeed;
  readonly faults: FaultTable;
  readonly options: NodeOptions;
  /** Writes a line on stderr, each text once. */
  readonly notice: (text: string) => void;
}
