/*
 * Delegated datasets of the node's VMs and what the "safe" policy says of each: `mdatactl datasets`.
 *
 * Use is read from one `zfs list` of the whole node where there is a zfs; without it no limit is judged.
 */
import { existsSync } from 'node:fs';
import { version } from 'node:os';
import { auditVm, type Audit } from '../datasets/audit';
import type { SafePolicy } from '../datasets/policy';
import { parseZfsList, usageOf, ZFS_LIST_ARGS, type Usage } from '../datasets/usage';
import type { Config } from '../config';
import { messageOf } from '../errors';
import { delegationOf } from '../metadata/datasets';
import { run } from '../sys/exec';
import { ownString } from '../vm/vm';
import type { AdminNode } from './node';

const ZFS_MS = 10_000;

export interface DatasetRow {
  readonly zonename: string;
  readonly alias: string | null;
  readonly owner: string | null;
  readonly audit: Exclude<Audit, { readonly kind: 'none' }>;
}

export interface DatasetsReport {
  readonly policy: SafePolicy;
  /** Why use is not known; empty where it is. */
  readonly usageUnknown: string;
  readonly zones: readonly DatasetRow[];
}

export function policyOf({ datasets }: Config): SafePolicy {
  return { enabled: datasets.enabled, safeOwners: datasets.owners ?? 'all', plainOwners: 'all' };
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
  const listed = await listUsage(node.paths.host('/usr/sbin/zfs'));
  const { table } = node.store;
  const zones = (zonename === undefined ? table.zonenames() : [zonename]).flatMap((name) => {
    const vm = table.vm(name);
    if (vm === undefined) {
      return [];
    }
    const datasets = delegationOf(vm)?.datasets ?? [];
    const usage = typeof listed === 'string' ? undefined : usageOf(listed, datasets);
    const audit = auditVm(vm, policy, { platform: platformStamp(), usage });
    if (audit.kind === 'none') {
      return [];
    }
    const alias = ownString(vm, 'alias') ?? null;
    return [{ zonename: name, alias, owner: ownString(vm, 'owner_uuid') ?? null, audit }];
  });
  return { policy, usageUnknown: typeof listed === 'string' ? listed : '', zones };
}

/** @returns use by dataset, or why it is not known */
async function listUsage(zfs: string): Promise<ReadonlyMap<string, Usage> | string> {
  if (!existsSync(zfs)) {
    return `${zfs} is not there`;
  }
  try {
    const { stdout } = await run([zfs, ...ZFS_LIST_ARGS], { timeoutMs: ZFS_MS });
    const listing = parseZfsList(stdout);
    return listing.kind === 'listed'
      ? listing.usage
      : `zfs list: line ${listing.line} is unreadable`;
  } catch (err) {
    return messageOf(err);
  }
}
