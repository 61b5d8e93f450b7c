/*
 * Snapshots of a zone's root, the way back to one, and a fresh root: operations of one zone that
 * combine its disk with its life. Each runs as one operation of its zone (Zone.exclusive).
 */
import type { Paths } from '../../src/sys/paths';
import { ZoneDisk } from './disk';
import type { Lifecycle } from './lifecycle';
import type { Zone } from './zone';

export class Storage {
  private readonly paths: Paths;
  private readonly lifecycle: Lifecycle;

  constructor(paths: Paths, lifecycle: Lifecycle) {
    this.paths = paths;
    this.lifecycle = lifecycle;
  }

  async snapshot(zone: Zone, name: string): Promise<void> {
    await this.diskOf(zone).snapshot(name);
  }

  /** A running zone is halted for it and booted again. */
  async rollback(zone: Zone, name: string): Promise<void> {
    const disk = this.diskOf(zone);
    if (!(await disk.snapshots()).includes(name)) {
      throw new Error(`zone ${zone.zonename} has no snapshot named ${name}`);
    }
    await this.whileHalted(zone, () => disk.rollback(name));
  }

  /** The same, with a root from the template: snapshots are gone, delegated data stays. */
  async reprovision(zone: Zone): Promise<void> {
    const disk = this.diskOf(zone);
    await this.whileHalted(zone, () => disk.reprovision());
  }

  private diskOf(zone: Zone): ZoneDisk {
    if (zone.brand.hvm) {
      throw new Error(`zone ${zone.zonename} is of brand ${zone.brand.name}: not for its disks`);
    }
    if (zone.indexState !== 'installed') {
      throw new Error(`zone ${zone.zonename} is ${zone.indexState}, not installed`);
    }
    return new ZoneDisk(this.paths, zone);
  }

  private async whileHalted(zone: Zone, work: () => Promise<void>): Promise<void> {
    const ran = zone.known;
    if (ran) {
      await this.lifecycle.halt(zone);
    }
    await work();
    if (ran) {
      await this.lifecycle.boot(zone);
    }
  }
}
