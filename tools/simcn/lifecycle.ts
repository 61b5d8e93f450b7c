/*
 * How a zone is made, booted, halted and removed: the platform's steps, in the platform's order.
 *
 *   create   index: configured -> incomplete -> installed
 *   boot     installed -> initialized -> ready (brand: directory, mount) -> booting -> running
 *   halt     running -> shutting_down -> empty -> down (unmount) -> dying -> dead -> free
 *   destroy  halt, uninstall (socket directory, zonepath), index line removed
 *
 * Every step changes the kernel first and notifies vminfod after it, as vminfod is notified by the kernel. Each
 * function runs as one operation of its zone (Zone.exclusive); the node sees to that.
 */
import assert from 'node:assert';
import { lstatSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Emulation } from './emulation';
import { ZoneDisk } from './disk';
import { startServices } from './exec';
import { CONSOLE, portPath, Qemu, SimulatedHypervisor } from './hypervisor';
import type { KernelStatus, Machine } from './kernel';
import { makeSocketDirectory, mountSocketDirectory, unmountZone } from './view';
import { readConfig, writeConfig, type IndexState, type VmConfig } from './store';
import type { StartState } from './vm-input';
import { ZfsAdapter } from './zfs-tree';
import type { Zone } from './zone';

/** The index's number of a state (libzonecfg's zone_state_t). */
const INDEX_STATES: Readonly<Record<IndexState, number>> = {
  configured: 0,
  incomplete: 1,
  installed: 2,
};

/** Below the zone's root. */
const PROVISIONING = '/var/svc/provisioning';
const PROVISIONING_POLL_MS = 100;
/** VM.js, the default of mdata_exec_timeout. */
const PROVISIONING_TIMEOUT_MS = 300_000;

/** Ids of simulated init processes start here, above what this machine's own processes commonly have. */
const SIMULATED_PID_BASE = 5_000_000;

/** The moves of the zones of one node. */
export class Lifecycle {
  private readonly machine: Machine;
  private readonly emulation: Emulation;
  private nextPid = SIMULATED_PID_BASE;

  constructor(machine: Machine, emulation: Emulation) {
    this.machine = machine;
    this.emulation = emulation;
  }

  /** The zone's index line is there already. @param until the last state to go to */
  async install(zone: Zone, config: VmConfig, until: IndexState): Promise<void> {
    const { kernel } = this.machine;
    zone.newborn = true;
    await kernel.configured(zone.zonename);
    this.changed(zone);
    if (until === 'configured') {
      zone.newborn = false;
      this.changed(zone);
      return;
    }
    await this.index(zone, 'incomplete');
    const disk = new ZoneDisk(this.machine.paths, zone);
    await disk.make();
    writeConfig(disk.config, config);
    zone.config = readConfig(disk.config);
    zone.newborn = false;
    if (until === 'installed') {
      await this.index(zone, 'installed');
    }
    this.changed(zone);
  }

  /** Brings an installed zone to its first state. */
  async startAs(zone: Zone, start: StartState): Promise<void> {
    switch (start) {
      case 'configured':
      case 'incomplete':
      case 'installed':
        return;
      case 'ready':
        await this.ready(zone);
        return;
      case 'running':
        await this.boot(zone);
        return;
      case 'shutting_down':
      case 'down':
        // A zone that hangs on its way down, as a zone with a process in the kernel does.
        await this.boot(zone);
        await this.move(zone, 'shutting_down');
        if (start === 'down') {
          await this.down(zone);
        }
        return;
      default:
        throw new Error(`no such state: ${String(start satisfies never)}`);
    }
  }

  async boot(zone: Zone): Promise<void> {
    const { options, paths, notice } = this.machine;
    await this.ready(zone);
    try {
      await delay(options.readyMs);
      await this.move(zone, 'booting');
      zone.wanted = true;
      await this.move(zone, 'running');
      // After it: the zone runs from the moment that its init is executed, its port is there later.
      await this.startHypervisor(zone);
      // Brands whose zones have SMF: an lx zone has none, and reads no metadata by itself.
      if (options.services && zone.brand.type === 'OS') {
        this.awaitProvisioning(zone);
        startServices(paths.root, zone.zonename, notice);
      }
    } catch (err) {
      await this.halt(zone);
      throw err;
    }
  }

  /**
   * A zone's first boot: it is `provisioning` until its services have got as far as the scripts, and `failed`
   * where they do not in time. (VM.js waits for the same file to be renamed.)
   */
  private awaitProvisioning(zone: Zone): void {
    const { run } = zone;
    const marker = join(new ZoneDisk(this.machine.paths, zone).zoneroot, PROVISIONING);
    const isPending = (): boolean => lstatSync(marker, { throwIfNoEntry: false }) !== undefined;
    if (!isPending()) {
      return;
    }
    const set = (overlay: string | null): void => {
      zone.overlay = overlay;
      this.changed(zone);
    };
    set('provisioning');
    const deadline = performance.now() + PROVISIONING_TIMEOUT_MS;
    const timer = setInterval(() => {
      const isLate = performance.now() > deadline;
      if (zone.run?.zoneid !== run?.zoneid) {
        clearInterval(timer);
      } else if (!isPending() || isLate) {
        clearInterval(timer);
        set(isLate ? 'failed' : null);
      }
    }, PROVISIONING_POLL_MS);
    timer.unref();
  }

  async ready(zone: Zone): Promise<void> {
    if (zone.indexState !== 'installed') {
      throw new Error(`zone ${zone.zonename} is ${zone.indexState}, not installed`);
    }
    if (zone.known) {
      throw new Error(`zone ${zone.zonename} is already ${zone.zoneState}`);
    }
    const { kernel, paths } = this.machine;
    const pid = this.nextPid++;
    const zoneid = await kernel.move(zone.zonename, 'uninitialized', 'initialized', pid);
    zone.status = 'initialized';
    zone.run = { zoneid, pid, bootTimestamp: new Date().toISOString(), initRestarts: 0 };
    const { zoneroot } = new ZoneDisk(paths, zone);
    try {
      makeSocketDirectory(this.machine, zone);
      mountSocketDirectory(this.machine, zone, zoneroot);
      zone.zfs = await ZfsAdapter.open(paths, zone);
      await this.move(zone, 'ready');
    } catch (err) {
      await this.halt(zone);
      throw err;
    }
  }

  /** Halts a zone that the kernel knows, from whatever status it is in. */
  async halt(zone: Zone): Promise<void> {
    if (zone.status !== 'shutting_down' && zone.status !== 'down') {
      await this.move(zone, 'shutting_down');
    }
    if (zone.status !== 'down') {
      await this.down(zone);
    }
    await this.move(zone, 'dying', false);
    await this.move(zone, 'dead', false);
    await this.move(zone, 'free', false);
    zone.status = 'uninitialized';
    zone.run = null;
    zone.overlay = null;
    zone.exitTimestamp = new Date().toISOString();
    this.changed(zone);
  }

  /** A reboot that the guest asks for, not the operator. */
  async guestReboot(zone: Zone): Promise<void> {
    if (zone.hypervisor === null || zone.run === null) {
      await this.halt(zone);
      await this.boot(zone);
      return;
    }
    await zone.hypervisor.guestReboot();
    if (zone.brand.name === 'bhyve') {
      // bhyve is the zone's init: it exited and was executed again. qemu goes on, and nobody is notified.
      zone.run.initRestarts++;
      this.changed(zone);
    }
  }

  async destroy(zone: Zone): Promise<void> {
    if (zone.known) {
      await this.halt(zone);
    }
    if (zone.indexState !== 'configured') {
      await this.index(zone, 'incomplete');
      // What the uninstall script of the joyent brands does.
      rmSync(this.machine.paths.zoneDirectory(zone.zonename), { recursive: true, force: true });
      new ZoneDisk(this.machine.paths, zone).remove();
      await this.index(zone, 'configured');
    }
    this.emulation.zoneDelete(zone.zonename);
    this.machine.store.remove(zone.zonename);
    this.machine.feed.deleted(zone.zonename);
    await this.machine.kernel.deleted(zone.zonename);
  }

  /** The zone has changed: store it and notify vminfod. */
  changed(zone: Zone): void {
    this.machine.store.save(zone.zonename, zone.stored());
    this.machine.feed.modified(zone.vm());
  }

  private async index(zone: Zone, state: IndexState): Promise<void> {
    const before = zone.indexState;
    this.emulation.zoneIndexState(zone.zonename, INDEX_STATES[state]);
    zone.indexState = state;
    await this.machine.kernel.indexed(zone.zonename, before, state);
  }

  private async move(zone: Zone, to: KernelStatus, tell = true): Promise<void> {
    await this.machine.kernel.move(zone.zonename, zone.status, to, zone.run?.pid ?? 0);
    const before = zone.zoneState;
    zone.status = to;
    if (tell && zone.zoneState !== before) {
      this.changed(zone);
    }
  }

  /** shutting_down -> empty (no process is left) -> down (no mount is left). */
  private async down(zone: Zone): Promise<void> {
    const { zoneroot } = new ZoneDisk(this.machine.paths, zone);
    await zone.killAll(zoneroot);
    const hypervisor = zone.hypervisor;
    zone.hypervisor = null;
    await hypervisor?.stop();
    const zfs = zone.zfs;
    zone.zfs = null;
    await zfs?.close();
    await this.move(zone, 'empty');
    unmountZone(this.machine, zoneroot);
    await this.move(zone, 'down');
  }

  private async startHypervisor(zone: Zone): Promise<void> {
    if (!zone.brand.hvm) {
      return;
    }
    assert(zone.hypervisor === null, `${zone.zonename}: a second hypervisor`);
    const { zoneroot, zonepath, logs, disk } = new ZoneDisk(this.machine.paths, zone);
    const kind = zone.brand.name === 'bhyve' ? 'bhyve' : 'kvm';
    const port = portPath(zoneroot, zone.properties);
    if (zone.image === null || 'rootfs' in zone.image) {
      zone.hypervisor = new SimulatedHypervisor(kind, port, `${zonepath}/ttyb`, zoneroot);
      await zone.hypervisor.start();
      return;
    }
    if (port === null) {
      throw new Error(`zone ${zone.zonename}: com2 names no socket`);
    }
    const place = {
      ...{ port, console: `${zoneroot}${CONSOLE}`, disk, logs, zoneroot },
      ...{ name: zone.zonename, restarts: kind === 'bhyve' },
    };
    const qemu = new Qemu(zone.image, place, () => this.poweredOff(zone));
    zone.hypervisor = qemu;
    await qemu.start();
    if (zone.run !== null && qemu.pid !== null) {
      zone.run = { ...zone.run, pid: qemu.pid };
    }
  }

  /** The guest's hypervisor ended by itself: the zone has lost its init, so it halts. */
  private poweredOff(zone: Zone): void {
    const halted = zone.exclusive(async () => {
      if (zone.known && zone.hypervisor !== null) {
        zone.wanted = false;
        await this.halt(zone);
      }
    });
    halted.catch((err: unknown) => {
      this.machine.notice(`halt of ${zone.zonename} failed: ${String(err)}`);
    });
  }
}
