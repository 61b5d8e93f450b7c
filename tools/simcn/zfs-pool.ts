/*
 * The node's pool, as its own zfs command lists it.
 */
import type { Paths } from '../../src/platform/paths';
import { ZoneDisk } from './disk';
import type { Zone } from './zone';
import { ZfsTree, type Listed } from './zfs-tree';

/** All of it: zoneroots, their snapshots, and what is delegated. */
export async function listPool(paths: Paths, zones: readonly Zone[]): Promise<Listed[]> {
  const listed: Listed[] = [{ name: 'zones', type: 'filesystem' }];
  for (const zone of zones.filter(({ indexState }) => indexState !== 'configured')) {
    const zoneroot = String(zone.properties.zfs_filesystem);
    listed.push({ name: zoneroot, type: 'filesystem' });
    for (const snap of await new ZoneDisk(paths, zone).snapshots()) {
      listed.push({ name: `${zoneroot}@${snap}`, type: 'snapshot' });
    }
    listed.push(...new ZfsTree(paths, zone).list());
  }
  return listed;
}
