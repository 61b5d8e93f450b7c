/*
 * What a snapshot, a rollback and a reprovision of a VM touch, for node.ts. The delegated dataset lies below the
 * zoneroot in ZFS's tree (`zones/<uuid>/data` below `zones/<uuid>`): an operation that recurses, as `zfs snapshot -r`
 * does, is the wrong one. Pure; it runs nothing.
 */
import { delegatedDatasets, zonerootOf } from '../../src/metadata/datasets';
import { own, type JsonObject } from '../../src/metadata/vm-data';
import { isHvm } from '../../src/datasets/policy';

export type SnapshotScope =
  | {
      readonly kind: 'zoneroot';
      /** The dataset that is taken or rolled back, not recursively. */
      readonly dataset: string;
      /** The datasets that stay as they are. */
      readonly untouched: readonly string[];
    }
  | { readonly kind: 'refused'; readonly why: string };

/**
 * What a snapshot or a rollback of this VM works on: the zone's own dataset only, in which its root and its
 * config directory lie, so metadata, tags and routes go back with a rollback. Delegated datasets stay as they
 * are. That a zone with delegated datasets can be snapshotted at all is this project's design: the platform's
 * vmadm refuses it; it refuses kvm guests too, and takes snapshots of bhyve guests, whose disks lie below
 * their own dataset (smartos-live src/vm/node_modules/VM.js, create_snapshot).
 */
export function snapshotScope(vm: JsonObject): SnapshotScope {
  if (isHvm(vm) && own(vm, 'brand') !== 'bhyve') {
    const why = 'snapshots of a kvm guest are refused: they would leave out its disks';
    return { kind: 'refused', why };
  }
  const dataset = zonerootOf(vm);
  if (dataset === undefined) {
    return {
      kind: 'refused',
      why: 'zfs_filesystem does not name the dataset of the zoneroot',
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
