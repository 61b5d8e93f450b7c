/*
 * What the snapshot operations on a VM touch, and what they leave alone.
 *
 * A snapshot is of the zoneroot only, so a rollback leaves the delegated datasets as they are; a
 * reprovision destroys all snapshots of the VM and replaces the zoneroot. The delegated dataset lies
 * below the zoneroot in ZFS's tree (`zones/<uuid>/data` below `zones/<uuid>`): an operation that
 * recurses, as `zfs snapshot -r` does, is the wrong one. Pure; it runs nothing.
 */
import { delegatedDatasets } from '../metadata/datasets';
import { own, type JsonObject } from '../metadata/vm-data';
import type { Reason } from './reason';
import { isHvm } from './rules';

export type SnapshotScope =
  | {
      readonly kind: 'zoneroot';
      /** The dataset that is taken or rolled back, not recursively. */
      readonly dataset: string;
      /** The datasets that stay as they are. */
      readonly untouched: readonly string[];
    }
  | { readonly kind: 'refused'; readonly reason: Reason };

/** What a snapshot or a rollback of this VM works on. */
export function snapshotScope(vm: JsonObject): SnapshotScope {
  if (isHvm(vm)) {
    const text = 'snapshots of an HVM guest are refused: they would leave out its disks';
    return { kind: 'refused', reason: { code: 'hvm-snapshot', member: 'brand', text } };
  }
  const dataset = own(vm, 'zfs_filesystem');
  if (typeof dataset !== 'string' || dataset === '') {
    const text = 'zfs_filesystem does not tell the dataset of the zoneroot';
    return {
      kind: 'refused',
      reason: { code: 'zoneroot-unknown', member: 'zfs_filesystem', text },
    };
  }
  return { kind: 'zoneroot', dataset, untouched: delegatedDatasets(vm) };
}

/**
 * The snapshots that a reprovision destroys, out of those that exist: all of the zoneroot. What a guest
 * took of its delegated dataset is kept.
 *
 * @param zoneroot its dataset
 * @param snapshots names as ZFS has them, `zones/<uuid>@NAME`
 */
export function destroyedByReprovision(
  zoneroot: string,
  snapshots: readonly string[],
): readonly string[] {
  return snapshots.filter((name) => name.startsWith(`${zoneroot}@`));
}
