/*
 * A VM's delegated datasets, as its VM object tells them: read for the guest (`sdc:datasets`,
 * `sdc:delegate_dataset`) and, by datasets/, for the audit.
 *
 * "safe" is no property of a VM: provisioning turns it into a privilege list and two limits. So a VM is
 * safe when these are there, and a VM that lost one of them is told `true`, which is what it then has.
 * Nothing of the VM object is believed. It does not know the policy (datasets/policy).
 */
import { own, type JsonObject } from './vm-data';
import { importGrant, parsePrivileges, type ImportGrant } from './privileges';

/** The limits of the platform on what a zone may make below its dataset. */
export type LimitName = 'zfs_snapshot_limit' | 'zfs_filesystem_limit';

export const LIMIT_NAMES: readonly LimitName[] = ['zfs_snapshot_limit', 'zfs_filesystem_limit'];

/** What a VM with at least one delegated dataset may do with it. */
export interface Delegation {
  /** Names as ZFS has them, `zones/<uuid>/data`, in the order of the VM object. */
  readonly datasets: readonly string[];
  /** Why `zfs recv` works in the zone; `unreadable` where the list is no privilege list. */
  readonly receive: ImportGrant | 'unreadable';
  /** The limits that are set, in snapshots and filesystems. */
  readonly limits: ReadonlyMap<LimitName, number>;
}

/** The names of the delegated datasets; empty where there are none. */
export function delegatedDatasets(vm: JsonObject): readonly string[] {
  const names = own(vm, 'datasets');
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}

/** Undefined for a VM without a delegated dataset. */
export function delegationOf(vm: JsonObject): Delegation | undefined {
  const datasets = delegatedDatasets(vm);
  if (datasets.length === 0) {
    return undefined;
  }
  const limits = new Map<LimitName, number>();
  for (const name of LIMIT_NAMES) {
    const limit = own(vm, name);
    if (isLimit(limit)) {
      limits.set(name, limit);
    }
  }
  const privileges = parsePrivileges(own(vm, 'limit_priv'));
  const receive = privileges.kind === 'list' ? importGrant(privileges.items) : 'unreadable';
  return { datasets, receive, limits };
}

/** True where the zone cannot receive a stream and has both limits. */
function holdsSafeRules(delegation: Delegation): boolean {
  return delegation.receive === 'none' && delegation.limits.size === LIMIT_NAMES.length;
}

/** What `sdc:delegate_dataset` says; undefined is NOTFOUND. */
export function delegateDatasetWord(vm: JsonObject): 'safe' | 'true' | undefined {
  const delegation = delegationOf(vm);
  if (delegation === undefined) {
    return undefined;
  }
  return holdsSafeRules(delegation) ? 'safe' : 'true';
}

/**
 * What `sdc:datasets` says: the names as a compact JSON list. Undefined (NOTFOUND) where the VM object has
 * no such list at all; a VM that has an empty one is told `[]`.
 */
export function datasetsText(vm: JsonObject): string | undefined {
  return Array.isArray(own(vm, 'datasets')) ? JSON.stringify(delegatedDatasets(vm)) : undefined;
}

/** A number that ZFS takes as a limit. Zero is one: none may be made. */
export function isLimit(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
