/*
 * Snapshots of a zone's root, the way back to one, and a fresh root: operations of one zone that
 * combine its disk with its life. Each runs as one operation of its zone (Zone.exclusive).
 */
import { destroyedByReprovision, snapshotScope } from '../../src/datasets/operations';
import type { Paths } from '../../src/platform/paths';
import { ZoneDisk } from './disk';
import type { Lifecycle } from './lifecycle';
import type { Zone } from './zone';
import { ZfsTree } from './zfs-tree';

/** Works on the disks of the zones of one node. */
export class Storage {
  private readonly paths: Paths;
  private readonly lifecycle: Lifecycle;

  constructor(paths: Paths, lifecycle: Lifecycle) {
    this.paths = paths;
    this.lifecycle = lifecycle;
  }

  async snapshot(zone: Zone, name: string): Promise<void> {
    zonerootOf(zone);
    await this.diskOf(zone).snapshot(name);
  }

  /** Of the zoneroot only. A running zone is halted for it and booted again. */
  async rollback(zone: Zone, name: string): Promise<void> {
    zonerootOf(zone);
    const disk = this.diskOf(zone);
    if (!(await disk.snapshots()).includes(name)) {
      throw new Error(`zone ${zone.zonename} has no snapshot named ${name}`);
    }
    await this.whileHalted(zone, () => disk.rollback(name));
  }

  /** The same, with a root from the template: its snapshots are gone, delegated data stays. */
  async reprovision(zone: Zone): Promise<void> {
    const zoneroot = zonerootOf(zone);
    const disk = this.diskOf(zone);
    await this.whileHalted(zone, async () => {
      const ofRoot = (await disk.snapshots()).map((name) => `${zoneroot}@${name}`);
      const below = new ZfsTree(this.paths, zone).list().map(({ name }) => name);
      for (const name of destroyedByReprovision(zoneroot, [...ofRoot, ...below])) {
        await disk.destroySnapshot(name.slice(zoneroot.length + 1));
      }
      await disk.reprovision();
    });
  }

  private diskOf(zone: Zone): ZoneDisk {
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

/** The dataset that snapshots of the zone are of. @throws Error where they are refused */
function zonerootOf(zone: Zone): string {
  const scope = snapshotScope(zone.properties);
  switch (scope.kind) {
    case 'zoneroot':
      return scope.dataset;
    case 'refused':
      throw new Error(`zone ${zone.zonename} (${zone.brand.name}): ${scope.reason.text}`);
  }
}
