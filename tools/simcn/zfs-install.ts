/*
 * The zfs command where the platform has it, on the node and in its zones, and what it lists on the node.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Paths } from '../../src/sys/paths';
import { ZoneDisk } from './disk';
import type { Zone } from './zone';
import { ZfsTree, type Listed } from './zfs-tree';

/** Puts `zfs` where the platform has it; its root is the node's. */
export function installZfs(paths: Paths): void {
  const words = [process.execPath, join(__dirname, 'zfs.js')].map(quoted).join(' ');
  writeFileSync(
    paths.zfs,
    `#!/bin/sh\nSIMCN_ROOT=${quoted(paths.root)}\nexport SIMCN_ROOT\nexec ${words} "$@"\n`,
  );
  chmodSync(paths.zfs, 0o755);
}

/** The whole pool: zoneroots, their snapshots, and what is delegated. */
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

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
