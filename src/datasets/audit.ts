/*
 * The audit of one VM's delegated datasets: safe for the node, unsafe and why, unknown, or exempt.
 *
 * "safe" leaves only marks on a VM: a privilege list without sys_fs_import and the two limits. A VM that
 * has any mark was meant to be safe and must have all of them; one that has none is a plain delegated
 * dataset, as operators' services have. A VM that loses its last mark does not become plain: the caller
 * passes the previous audit, which remembers.
 *
 * Called for each zone's creation, change and boot, and by `mdatactl datasets`. A caller that warns keeps the
 * last audit of each zone and warns where the signature differs. Pure; it never waits for a number: a VM
 * whose usage could not be read is unknown, not safe. The feature switch is the caller's.
 */
import {
  delegationOf,
  IMPORT_PRIVILEGE,
  LIMIT_NAMES,
  withoutImport,
  type Delegation,
  type LimitName,
} from '../metadata/datasets';
import { own, type JsonObject } from '../metadata/vm-data';
import {
  checkBrand,
  checkPlatform,
  DEFAULT_LIMITS,
  isListed,
  shown,
  type ReasonCode,
  type SafePolicy,
} from './policy';

/** The rules of a payload that hold for a VM too, and those that only a VM can break. */
export type AuditRule =
  | ReasonCode
  | 'receive-granted'
  | 'privileges-unreadable'
  | 'limit-missing'
  | 'limit-exceeded'
  | 'dataset-outside';

/** One rule that a VM breaks. */
export interface Finding {
  readonly rule: AuditRule;
  /** The property of the VM object. */
  readonly member: string;
  /** What the VM has there, as JSON. */
  readonly value: string;
  readonly text: string;
  /** What to do. */
  readonly fix: string;
}

/** What ZFS compares with its limits: of a dataset and all below it. */
export interface Usage {
  readonly snapshots: number;
  /** Filesystems and volumes: ZFS has one limit for both. */
  readonly filesystems: number;
}

/** A limit and what is used of it; undefined where it is not set or not readable. */
export interface Use {
  readonly limit: number | undefined;
  readonly used: number | undefined;
}

interface Audited {
  readonly datasets: readonly string[];
  readonly use: Readonly<Record<LimitName, Use>>;
  /** Has a mark of "safe", or had one when it was audited before. */
  readonly marked: boolean;
  /** The same for as long as the verdict and its reasons are; usage alone does not change it. */
  readonly signature: string;
}

export type Audit =
  | { readonly kind: 'none'; readonly signature: string }
  | (Audited & { readonly kind: 'safe' })
  /** Breaks no rule as far as is known, but what it uses of its limits could not be read. */
  | (Audited & { readonly kind: 'unknown' })
  | (Audited & { readonly kind: 'exempt'; readonly why: 'owner' | 'plain' })
  | (Audited & { readonly kind: 'unsafe'; readonly findings: readonly [Finding, ...Finding[]] });

/** What is known besides the VM object. */
export interface AuditFacts {
  /** `uname -v` or a build stamp of the node; left out off SmartOS. */
  readonly platform?: string | undefined;
  /** Of the zoneroot's tree, which is what ZFS holds against the limits; undefined: not readable. */
  readonly usage?: Usage | undefined;
  /** The audit of the same VM before this one. */
  readonly last?: Audit | undefined;
}

/** Audits a VM object as vminfod sends it. */
export function auditVm(vm: JsonObject, policy: SafePolicy, facts: AuditFacts = {}): Audit {
  const delegation = delegationOf(vm);
  if (delegation === undefined) {
    return { kind: 'none', signature: 'none' };
  }
  const { datasets, limits, receive } = delegation;
  const { platform, usage, last } = facts;
  const use = {
    zfs_snapshot_limit: { limit: limits.get('zfs_snapshot_limit'), used: usage?.snapshots },
    zfs_filesystem_limit: { limit: limits.get('zfs_filesystem_limit'), used: usage?.filesystems },
  };
  const wasMarked = last !== undefined && last.kind !== 'none' && last.marked;
  const audited = { datasets, use, marked: wasMarked || receive === 'none' || limits.size > 0 };
  const why = exemption(vm, policy, audited.marked);
  if (why !== undefined) {
    return { ...audited, kind: 'exempt', why, signature: `exempt ${why}` };
  }
  const [first, ...others] = [
    ...findPlace(vm, platform),
    ...findTree(vm, delegation),
    ...findPrivileges(vm, delegation),
    ...LIMIT_NAMES.flatMap((name) => findLimit(vm, name, use[name])),
  ];
  if (first === undefined) {
    const kind = usage === undefined ? 'unknown' : 'safe';
    return { ...audited, kind, signature: kind };
  }
  const findings: readonly [Finding, ...Finding[]] = [first, ...others];
  const broken = findings.map(({ rule, member, value }) => `${rule} ${member}=${value}`);
  return { ...audited, kind: 'unsafe', findings, signature: `unsafe ${broken.join('; ')}` };
}

/** Why the rules of "safe" are not for this VM; undefined where they are. */
function exemption(vm: JsonObject, { plainOwners }: SafePolicy, marked: boolean) {
  if (plainOwners === 'all') {
    return marked ? undefined : 'plain';
  }
  return isListed(plainOwners, own(vm, 'owner_uuid')) ? 'owner' : undefined;
}

function finding(
  vm: JsonObject,
  rule: AuditRule,
  member: string,
  text: string,
  fix: string,
): Finding {
  return { rule, member, value: shown(own(vm, member)), text, fix };
}

function findPlace(vm: JsonObject, platform: string | undefined): readonly Finding[] {
  const brand = checkBrand(vm).map(({ code, member, text }) => {
    const fix = 'destroy the VM and create it without a delegated dataset';
    return finding(vm, code, member, text, fix);
  });
  const stamp = checkPlatform(vm, platform).map(({ code, member, text }) => {
    const value = shown(member === '' ? platform : own(vm, member));
    const fix = 'boot the node with a newer platform, or move the VM to a node that has one';
    return { ...finding(vm, code, 'platform_buildstamp', text, fix), value };
  });
  return [...brand, ...stamp];
}

/** Why the limits of the VM do not hold for all its datasets: ZFS applies them below the zoneroot only. */
function findTree(vm: JsonObject, { zoneroot, outside }: Delegation): readonly Finding[] {
  if (zoneroot === undefined) {
    const text = 'zfs_filesystem does not name the dataset of the zoneroot, which has the limits';
    const fix = 'find out why the platform does not load the dataset of the zoneroot: vmadm get';
    return [finding(vm, 'zoneroot-unknown', 'zfs_filesystem', text, fix)];
  }
  return outside.map((dataset) => {
    const text = `${shown(dataset)} is outside ${zoneroot}, so no limit of the VM applies to it`;
    const fix =
      'create the VM without this dataset, or set limits on it by zfs and exempt its owner (datasets.plain_owners)';
    return finding(vm, 'dataset-outside', 'datasets', text, fix);
  });
}

function findPrivileges(vm: JsonObject, { receive }: Delegation): readonly Finding[] {
  const list = own(vm, 'limit_priv');
  if (receive === 'none') {
    return [];
  }
  if (receive === 'unreadable') {
    const text = `limit_priv ${shown(list)} is not a list of privileges`;
    const fix = updateWith(vm, { limit_priv: withoutImport(undefined) });
    return [finding(vm, 'privileges-unreadable', 'limit_priv', text, fix)];
  }
  const text = `the zone can receive ZFS streams: ${IMPORT_PRIVILEGE} is not excluded`;
  // A zone's privileges are fixed when it boots.
  const fix = `${updateWith(vm, { limit_priv: withoutImport(list) })}, then reboot the zone`;
  return [finding(vm, 'receive-granted', 'limit_priv', text, fix)];
}

function findLimit(vm: JsonObject, member: LimitName, { limit, used }: Use): readonly Finding[] {
  if (limit === undefined) {
    const fix = updateWith(vm, { [member]: Math.max(DEFAULT_LIMITS[member], used ?? 0) });
    return [finding(vm, 'limit-missing', member, `${member} is not set`, fix)];
  }
  if (used === undefined || used <= limit) {
    return [];
  }
  const fix = `have the owner destroy some, or ${updateWith(vm, { [member]: used })}`;
  return [finding(vm, 'limit-exceeded', member, `${used} are used of ${member} ${limit}`, fix)];
}

/** A line for a shell: what goes into it is a uuid, privilege names and numbers, and nothing else. */
function updateWith(vm: JsonObject, update: JsonObject): string {
  const uuid = own(vm, 'uuid');
  const subject = typeof uuid === 'string' && /^[0-9a-f-]{36}$/i.test(uuid) ? uuid : 'UUID';
  return `vmadm update ${subject} <<<'${JSON.stringify(update)}'`;
}
