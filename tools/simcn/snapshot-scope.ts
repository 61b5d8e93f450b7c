/*
 * Operations on a VM that exists: what an update may change, and what snapshots and a reprovision touch.
 *
 * Limits may be moved, down to what is used, and not be removed. A privilege list may be changed and gets
 * the exclusion as at creation; sys_fs_import is not granted later. Only what the update touches is
 * judged, so a VM that is unsafe already can still be updated otherwise. An update that asks for "safe" makes
 * a plain delegated dataset safe: it adds what is missing. Updates of exempt VMs, of VMs without
 * datasets, and all of them while the feature is off pass unchanged.
 *
 * A snapshot is of the zoneroot only, so a rollback leaves the delegated datasets as they are; a
 * reprovision destroys all snapshots of the VM and replaces the zoneroot. The delegated dataset lies
 * below the zoneroot in ZFS's tree (`zones/<uuid>/data` below `zones/<uuid>`): an operation that
 * recurses, as `zfs snapshot -r` does, is the wrong one. Pure; it runs nothing.
 */
import {
  delegatedDatasets,
  delegationOf,
  isLimit,
  LIMIT_NAMES,
  zonerootOf,
  type LimitName,
} from '../../src/metadata/datasets';
import { isJsonObject, own, type JsonObject } from '../../src/metadata/vm-data';
import { exemption, isMarked, type AuditFacts } from '../../src/datasets/audit';
import {
  checkLimit,
  checkTree,
  checkUse,
  DEFAULT_LIMITS,
  fitPrivileges,
  isHvm,
  notAnObject,
  outcome,
  readWish,
  type Expansion,
  type Reason,
  type SafePolicy,
} from '../../src/datasets/policy';
import type { Usage } from '../../src/datasets/usage';

/**
 * The update as the VM tool takes it, or all reasons why not.
 *
 * @param vm the VM object as it is now
 * @param update whatever JSON gave
 */
export function expandUpdate(
  vm: JsonObject,
  update: unknown,
  policy: SafePolicy,
  facts: AuditFacts = {},
): Expansion {
  if (!isJsonObject(update)) {
    return { kind: 'refused', reasons: [notAnObject(update)] };
  }
  const wish = readWish(update);
  switch (wish.kind) {
    case 'wrong':
      return { kind: 'refused', reasons: [wish.reason] };
    case 'safe':
      return makeSafe(vm, update, policy, facts);
    case 'other':
      return isHeld(vm, policy, facts)
        ? keepSafe(update, facts.usage)
        : { kind: 'accepted', payload: update };
  }
}

/** True where the rules of "safe" hold for changes of this VM. */
function isHeld(vm: JsonObject, policy: SafePolicy, facts: AuditFacts): boolean {
  const delegation = delegationOf(vm);
  if (!policy.enabled || delegation === undefined) {
    return false;
  }
  return exemption(vm, policy, isMarked(delegation, facts.last)) === undefined;
}

function keepSafe(update: JsonObject, usage: Usage | undefined): Expansion {
  const reasons: Reason[] = [];
  let payload = update;
  if (Object.hasOwn(update, 'limit_priv')) {
    const fitted = fitPrivileges(update.limit_priv);
    reasons.push(...fitted.reasons);
    payload = { ...payload, limit_priv: fitted.value };
  }
  for (const name of LIMIT_NAMES) {
    if (Object.hasOwn(update, name)) {
      reasons.push(...checkLimit(name, update[name], usedOf(name, usage)));
    }
  }
  return outcome(payload, reasons);
}

function makeSafe(
  vm: JsonObject,
  update: JsonObject,
  policy: SafePolicy,
  facts: AuditFacts,
): Expansion {
  const member = 'delegate_dataset';
  const delegation = delegationOf(vm);
  if (delegation === undefined) {
    const text = 'the VM has no delegated dataset, and one is delegated only at its creation';
    return { kind: 'refused', reasons: [{ code: 'no-delegated-dataset', member, text }] };
  }
  // The VM tool takes delegate_dataset at creation only.
  const wanted = Object.fromEntries(Object.entries(update).filter(([name]) => name !== member));
  const filled: Record<string, unknown> = { limit_priv: own(vm, 'limit_priv') };
  for (const name of LIMIT_NAMES) {
    filled[name] = limitFor(vm, name, facts.usage);
  }
  const kept = keepSafe({ ...filled, ...wanted }, facts.usage);
  const use = [...checkUse({ ...vm, ...wanted }, policy, facts.platform), ...checkTree(delegation)];
  switch (kept.kind) {
    case 'accepted':
      return outcome(kept.payload, use);
    case 'refused':
      return outcome(update, [...use, ...kept.reasons]);
  }
}

/** The VM's own limit, or the usual one, but never less than it has made already. */
function limitFor(vm: JsonObject, name: LimitName, usage: Usage | undefined): number {
  const limit = own(vm, name);
  return Math.max(isLimit(limit) ? limit : DEFAULT_LIMITS[name], usedOf(name, usage) ?? 0);
}

function usedOf(name: LimitName, usage: Usage | undefined): number | undefined {
  switch (name) {
    case 'zfs_snapshot_limit':
      return usage?.snapshots;
    case 'zfs_filesystem_limit':
      return usage?.filesystems;
  }
}

export type SnapshotScope =
  | {
      readonly kind: 'zoneroot';
      /** The dataset that is taken or rolled back, not recursively. */
      readonly dataset: string;
      /** The datasets that stay as they are. */
      readonly untouched: readonly string[];
    }
  | { readonly kind: 'refused'; readonly reason: Reason };

/**
 * What a snapshot or a rollback of this VM works on: the zone's own dataset only, in which its root and its
 * config directory lie, so metadata, tags and routes go back with a rollback. Delegated datasets stay as they
 * are. That a zone with delegated datasets can be snapshotted at all is this project's design: the platform's
 * vmadm refuses it; it refuses kvm guests too, and takes snapshots of bhyve guests, whose disks lie below
 * their own dataset (smartos-live src/vm/node_modules/VM.js, create_snapshot).
 */
export function snapshotScope(vm: JsonObject): SnapshotScope {
  if (isHvm(vm) && own(vm, 'brand') !== 'bhyve') {
    const text = 'snapshots of a kvm guest are refused: they would leave out its disks';
    return { kind: 'refused', reason: { code: 'hvm-snapshot', member: 'brand', text } };
  }
  const dataset = zonerootOf(vm);
  if (dataset === undefined) {
    const text = 'zfs_filesystem does not name the dataset of the zoneroot';
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
