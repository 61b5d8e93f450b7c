/*
 * One zone of the node: what it is, what state it is in, and the VM object that this makes.
 *
 * It is made by the node and moved by lifecycle.ts. Operations on one zone run one after the other
 * (`exclusive`), those of different zones side by side. It does nothing to the kernel by itself.
 */
import { readdir, readlink } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

import { settlesWithin } from '../../src/lib/bounded-wait';
import type { JsonObject } from '../../src/metadata/vm-data';
import { stateOf } from '../../src/platform/libzonecfg';
import { brandOf, type Brand } from './brand';
import type { Hypervisor } from './hypervisor';
import type { KernelStatus } from './kernel';
import type { Image, IndexState, StoredVm, VmConfig } from './store';

/** What is true of a zone only while the kernel knows it. */
interface Run {
  readonly zoneid: number;
  readonly pid: number;
  readonly bootTimestamp: string;
  initRestarts: number;
}

/** Of the zone's own dataset. */
export interface Snapshot {
  readonly name: string;
  readonly createdMs: number;
}

/** A program that runs inside. */
export interface Session {
  /** The zone halts: kills the program. */
  readonly end: () => void;
  /** Resolves when it has ended. */
  readonly over: Promise<unknown>;
}

/** What no VM can be without; vm-input.ts saw to it that it is there. */
const identitySchema = z.object({
  zonename: z.string(),
  uuid: z.string(),
  brand: z.string(),
  zonepath: z.string(),
});

/** A program that has not ended in this time is waited for no longer. */
const LEAVE_MS = 2000;

/** SIGKILL leaves a process no choice; more rounds than this means that it keeps forking. */
const KILL_ROUNDS = 50;
const ROUND_MS = 10;

/** One configured zone of the node. */
export class Zone {
  readonly zonename: string;
  readonly uuid: string;
  readonly brand: Brand;
  /** Platform path, `/zones/<uuid>`. */
  readonly zonepath: string;
  readonly image: Image | null;
  properties: JsonObject;
  config: VmConfig = { customer_metadata: {}, internal_metadata: {}, tags: {}, routes: {} };
  indexState: IndexState;
  status: KernelStatus = 'uninitialized';
  run: Run | null = null;
  hypervisor: Hypervisor | null = null;
  /** Open from ready to down, where something is delegated. */
  zfs: { close(): Promise<void> } | null = null;
  overlay: string | null;
  /** It runs again when the node comes back. */
  wanted: boolean;
  /** vminfod knows no more than the first properties of a zone that is just being made. */
  newborn = false;
  exitTimestamp: string | null = null;
  /** Of the zone's own dataset, as the disk has them. */
  snapshots: readonly Snapshot[] = [];
  lastModified = new Date().toISOString();
  private readonly sessions = new Set<Session>();
  private entered = false;
  private tail: Promise<unknown> = Promise.resolve();

  constructor(vm: StoredVm) {
    const { zonename, uuid, brand, zonepath } = identitySchema.parse(vm.properties);
    this.zonename = zonename;
    this.uuid = uuid;
    this.brand = brandOf(brand);
    this.zonepath = zonepath;
    this.image = vm.image;
    this.properties = vm.properties;
    this.indexState = vm.indexState;
    this.overlay = vm.overlay;
    this.wanted = vm.running;
  }

  /** Runs one operation at a time; a failed one does not stop the next. */
  exclusive<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.tail.then(operation, operation);
    // The caller has the rejection; here it only marks the end.
    this.tail = result.catch(() => undefined);
    return result;
  }

  /** True from ready to the end of a shutdown. */
  get known(): boolean {
    return this.run !== null;
  }

  /** The state by libzonecfg's name. */
  get zoneState(): string {
    return stateOf(this.status) ?? this.indexState;
  }

  /** The VM object as vminfod has it. */
  vm(): JsonObject {
    const zoneState = this.zoneState;
    const state = this.overlay ?? (zoneState === 'installed' ? 'stopped' : zoneState);
    if (this.newborn) {
      const { zonename, uuid, zonepath } = this;
      const first = { zonename, uuid, brand: this.brand.name, hvm: this.brand.hvm, zonepath };
      return { ...first, zone_state: zoneState, state, zoneid: null };
    }
    return {
      nics: [],
      resolvers: [],
      ...this.properties,
      ...(this.brand.hvm && Array.isArray(this.properties.disks) ? { device: null } : {}),
      zone_state: zoneState,
      state,
      zoneid: this.run?.zoneid ?? null,
      ...(this.run === null
        ? {}
        : {
            pid: this.run.pid,
            init_restarts: this.run.initRestarts,
            boot_timestamp: this.run.bootTimestamp,
          }),
      ...(this.exitTimestamp === null ? {} : { exit_timestamp: this.exitTimestamp }),
      last_modified: this.lastModified,
      snapshots: [...this.snapshots]
        .sort((a, b) => b.createdMs - a.createdMs)
        .map(({ name, createdMs }) => ({ name, created_at: new Date(createdMs).toISOString() })),
      ...this.config,
    };
  }

  stored(): StoredVm {
    const { properties, indexState, wanted: running, overlay, image } = this;
    return { properties, indexState, running, overlay, image };
  }

  enter(session: Session): void {
    this.entered = true;
    this.sessions.add(session);
    void session.over.then(() => this.sessions.delete(session));
  }

  /** Ends whatever runs inside, as the kernel does: sessions, and what they left in the background. */
  async killAll(zoneroot: string): Promise<void> {
    const sessions = [...this.sessions];
    sessions.forEach((session) => session.end());
    // Most zones are never entered: reading all of /proc for each would slow the halt of a full node.
    if (this.entered) {
      this.entered = false;
      await killProcessesOf(zoneroot);
    }
    if (sessions.length > 0) {
      const over = Promise.all(sessions.map((session) => session.over));
      await settlesWithin(over, LEAVE_MS);
      // What was just being started when the others were ended.
      await killProcessesOf(zoneroot);
    }
  }
}

/** Kills every process that is chrooted to the directory, and waits until none is left (at most 0.5 s). */
async function killProcessesOf(zoneroot: string): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const pids = await processesOf(zoneroot);
    if (pids.length === 0) {
      return;
    }
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Ended between the listing and the kill: nothing is left to do.
      }
    }
    await delay(ROUND_MS);
  }
}

async function processesOf(zoneroot: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const roots = await Promise.all(
    // Ended meanwhile, or of another user: then it is not one of ours.
    pids.map((pid) => readlink(`/proc/${pid}/root`).catch(() => null)),
  );
  return pids.filter((_, i) => roots[i] === zoneroot);
}
