/*
 * The brand's part in a zone's mounts: the socket directory shows inside from ready to down.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { codeOf } from '../../src/lib/errors';
import { MOUNT_OPTIONS } from './brand';
import { mountLofs } from './emulation';
import type { Machine } from './machine';
import type { Zone } from './zone';

/** The brand's pre-ready hook: `mkdir -m755 -p`, which leaves an existing directory as it is. */
export function makeSocketDirectory(machine: Machine, zone: Zone): void {
  mkdirSync(machine.paths.zoneDirectory(zone.zonename), { recursive: true, mode: 0o755 });
}

/**
 * Mounts the socket directory as the brand's platform.xml says. An ordinary user may not mount: the zone
 * goes on without, as the rest of the node is of use all the same.
 */
export function mountSocketDirectory(machine: Machine, zone: Zone, zoneroot: string): void {
  if (machine.options.oldPlatform || zone.brand.mountPoint === null) {
    return;
  }
  const target = join(zoneroot, zone.brand.mountPoint);
  mkdirSync(target, { recursive: true, mode: 0o755 });
  try {
    const { root } = machine.paths;
    mountLofs(root, machine.paths.zoneDirectory(zone.zonename), target, MOUNT_OPTIONS);
  } catch (err) {
    if (!['EPERM', 'EACCES'].includes(codeOf(err))) {
      throw err;
    }
    machine.notice(
      'mounts are refused to this user: zones run without their socket directory mounted',
    );
  }
}

/** Unmounts all that is mounted in the zone, whoever mounted it, as zoneadmd does at a halt. */
export function unmountZone(machine: Machine, zoneroot: string): void {
  for (const dir of mountsBelow(machine, zoneroot).reverse()) {
    try {
      machine.platform.umount(dir, true);
    } catch (err) {
      // The agent unmounts what it mounted, and may have been quicker.
      if (!['EINVAL', 'ENOENT'].includes(codeOf(err))) {
        throw err;
      }
    }
  }
}

/** Mount points of the mount table at or below the directory, in the order they were mounted. */
export function mountsBelow(machine: Machine, directory: string): string[] {
  let table;
  try {
    table = readFileSync(machine.paths.mnttab, 'utf8');
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return [];
    }
    throw err;
  }
  const points = table.split('\n').flatMap((line) => line.split('\t')[1] ?? []);
  // On a real node the table has the node's own paths; below another root it may have either.
  return points
    .map((point) =>
      point.startsWith(`${machine.paths.root}/`) ? point : machine.paths.host(point),
    )
    .filter((point) => point.startsWith(`${directory}/`));
}
