/*
 * Delegated datasets of the node's VMs and what the "safe" policy says of each: `mdatactl datasets`.
 *
 * Usage is read from one `zfs list` of the whole node; without it no VM is called safe.
 */
import { version } from 'node:os';
import { auditVm } from '../datasets/audit';
import type { DatasetAudit } from '../datasets/live-audit';
import type { SafePolicy } from '../datasets/policy';
import { listUsage } from '../datasets/usage';
import type { Config } from '../config';
import { zonerootOf } from '../metadata/datasets';
import { aliasOf, ownString } from '../metadata/vm-data';
import type { AdminNode } from './node';

export interface DatasetRow {
  readonly zonename: string;
  readonly alias: string | null;
  readonly owner: string | null;
  readonly audit: DatasetAudit;
}

export interface DatasetsReport {
  readonly policy: SafePolicy;
  /** Why usage could not be read; empty where it was. */
  readonly usageUnknown: string;
  readonly zones: readonly DatasetRow[];
}

/** The policy "safe" as the configuration gives it. */
export function policyOf({ datasets }: Config): SafePolicy {
  const { enabled, owners = 'all', plain_owners: plainOwners = 'all' } = datasets;
  return { enabled, safeOwners: owners, plainOwners };
}

/** The platform stamp of this node; undefined off SmartOS. */
export function platformStamp(): string | undefined {
  return process.platform === 'sunos' ? version() : undefined;
}

/** @param zonename one zone's only; undefined: of all that have delegated datasets */
export async function datasetsReport(
  node: AdminNode,
  zonename: string | undefined,
): Promise<DatasetsReport> {
  const policy = policyOf(node.config());
  const listed = await listUsage(node.paths.zfs);
  const platform = platformStamp();
  const { table } = node.store;
  const zones = (zonename === undefined ? table.zonenames() : [zonename]).flatMap((name) => {
    const vm = table.vm(name);
    if (vm === undefined) {
      return [];
    }
    const usage = listed.kind === 'known' ? listed.usage.get(zonerootOf(vm) ?? '') : undefined;
    const last = node.datasets.lastOf(name);
    const audit = auditVm(vm, policy, { platform, usage, last });
    if (audit.kind === 'none') {
      return [];
    }
    const owner = ownString(vm, 'owner_uuid') ?? null;
    return [{ zonename: name, alias: aliasOf(vm), owner, audit }];
  });
  return { policy, usageUnknown: listed.kind === 'unknown' ? listed.why : '', zones };
}
