/*
 * Snapshots of a zone, the way back to one, and a fresh root: operations of one zone that combine its disk
 * with its life. Each runs as one operation of its zone (Zone.exclusive).
 *
 * Two rules meet here. A snapshot of a zone with delegated datasets leaves those out: that is this
 * project's design. The platform's own vmadm refuses to take one at all, and so does the node's vmadm
 * (vmadm.ts); `simcn snapshot` takes it.
 */
import { destroyedByReprovision, snapshotScope } from './dataset-operations';
import type { Paths } from '../../src/platform/paths';
import { ZoneDisk } from './disk';
import type { Lifecycle } from './lifecycle';
import type { Zone } from './zone';
import { ZfsTree, type Listed } from './zfs-tree';

/** Works on the disks of the zones of one node. */
export class Storage {
  private readonly paths: Paths;
  private readonly lifecycle: Lifecycle;
  private readonly reread: (zone: Zone) => void;

  /** @param reread called when a zone's config files are other ones than before */
  constructor(paths: Paths, lifecycle: Lifecycle, reread: (zone: Zone) => void) {
    this.paths = paths;
    this.lifecycle = lifecycle;
    this.reread = reread;
  }

  /** The node's pool: zoneroots, their snapshots, and what is delegated. */
  pool(zones: readonly Zone[]): Listed[] {
    const listed: Listed[] = [{ name: 'zones', type: 'filesystem' }];
    for (const zone of zones.filter(({ indexState }) => indexState !== 'configured')) {
      const zoneroot = String(zone.properties.zfs_filesystem);
      listed.push({ name: zoneroot, type: 'filesystem' });
      for (const { name } of new ZoneDisk(this.paths, zone).snapshots()) {
        listed.push({ name: `${zoneroot}@${name}`, type: 'snapshot' });
      }
      listed.push(...new ZfsTree(this.paths, zone).list());
    }
    return listed;
  }

  /** The zone's VM object names its snapshots. */
  load(zone: Zone): void {
    zone.snapshots = new ZoneDisk(this.paths, zone).snapshots();
  }

  async snapshot(zone: Zone, name: string): Promise<void> {
    zonerootOf(zone);
    await this.diskOf(zone).snapshot(name);
    this.changed(zone);
  }

  async deleteSnapshot(zone: Zone, name: string): Promise<void> {
    zonerootOf(zone);
    await this.diskOf(zone).destroySnapshot(name);
    this.changed(zone);
  }

  /**
   * Of the zone's own dataset only. A running zone is halted for it and booted again.
   * @param start one that does not run is booted as well, as vmadm does
   */
  async rollback(zone: Zone, name: string, start: boolean): Promise<void> {
    zonerootOf(zone);
    const disk = this.diskOf(zone);
    if (!disk.snapshots().some((snapshot) => snapshot.name === name)) {
      throw new Error(`No snapshot named "${name}" for ${zone.uuid}`);
    }
    await this.whileHalted(zone, () => disk.rollback(name), start);
  }

  /** The same, with a root from the template: its snapshots are gone, delegated data stays. */
  async reprovision(zone: Zone): Promise<void> {
    const zoneroot = zonerootOf(zone);
    const disk = this.diskOf(zone);
    await this.whileHalted(zone, async () => {
      const ofRoot = disk.snapshots().map(({ name }) => `${zoneroot}@${name}`);
      const below = new ZfsTree(this.paths, zone).list().map(({ name }) => name);
      for (const name of destroyedByReprovision(zoneroot, [...ofRoot, ...below])) {
        await disk.destroySnapshot(name.slice(zoneroot.length + 1));
      }
      await disk.reprovision();
    });
  }

  private changed(zone: Zone): void {
    this.load(zone);
    this.lifecycle.changed(zone);
  }

  private diskOf(zone: Zone): ZoneDisk {
    if (zone.indexState !== 'installed') {
      throw new Error(`zone ${zone.zonename} is ${zone.indexState}, not installed`);
    }
    return new ZoneDisk(this.paths, zone);
  }

  private async whileHalted(zone: Zone, work: () => Promise<void>, start = false): Promise<void> {
    const ran = zone.known;
    if (ran) {
      await this.lifecycle.halt(zone);
    }
    await work();
    this.reread(zone);
    this.changed(zone);
    if (ran || start) {
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
