/*
 * The policy of "safe" delegated datasets: what a provisioning payload becomes under it, for `mdatactl datasets expand`
 * and simcn, and the audit of a VM that exists, for the live audit and `mdatactl datasets`. README.md has the rules.
 *
 * A refusal lists every rule that is broken. What no rule reads passes unchanged, and the input is never modified. On a
 * VM "safe" leaves only marks: the privilege list without sys_fs_import and the two limits. A VM that has any must have
 * all. One that loses its last mark does not become plain: the audit before is passed in, and remembers.
 */
import { version } from 'node:os';
import {
  delegationOf,
  IMPORT_PRIVILEGE,
  importGrant,
  isLimit,
  LIMIT_NAMES,
  withoutImport,
  type Delegation,
  type LimitName,
} from '../metadata/datasets';
import { HVM_BRANDS, isJsonObject, own, type JsonObject } from '../metadata/vm-data';

/** The rules that a payload can break. */
export type ReasonCode =
  | 'payload-not-object'
  | 'delegate-dataset-value'
  | 'feature-off'
  | 'brand-not-text'
  | 'hvm-brand'
  | 'owner-missing'
  | 'owner-not-allowed'
  | 'platform-unreadable'
  | 'platform-too-old'
  | 'limit-priv-malformed'
  | 'limit-priv-grants-import'
  | 'limit-not-number'
  | 'limit-removed';

/** The rules that a VM can break. */
export type AuditRule =
  | ReasonCode
  | 'receive-granted'
  | 'privileges-unreadable'
  | 'limit-missing'
  | 'limit-exceeded'
  | 'dataset-outside'
  | 'zoneroot-unknown';

/** The first platform with both the receive privilege and the two limits. */
const OLDEST_STAMP = '20150418T000000Z';

/** `uname -v` or a `platform_buildstamp`. */
const STAMP = /^(?:joyent_)?([0-9]{8}T[0-9]{6}Z)$/;

export interface Reason {
  readonly code: ReasonCode;
  /** The member that breaks the rule, empty for the whole. */
  readonly member: string;
  readonly text: string;
}

type Refuse = (code: ReasonCode, member: string, text: string) => void;

export type Expansion =
  | { readonly kind: 'accepted'; readonly payload: JsonObject }
  | { readonly kind: 'refused'; readonly reasons: readonly Reason[] };

/** Owners by uuid, or every owner. */
export type Owners = 'all' | readonly string[];

/** The part of the configuration that decides here. */
export interface SafePolicy {
  readonly enabled: boolean;
  /** Who may use "safe". An empty list is nobody. */
  readonly safeOwners: Owners;
  /**
   * Whose zones may have a plain delegated dataset. With a list, the zones of these owners are exempt from the audit
   * whatever they have, and nobody else's are; with `all`, every zone is that bears no mark of "safe".
   */
  readonly plainOwners: Owners;
}

export function policyOf(settings: {
  readonly enabled: boolean;
  readonly owners?: readonly string[] | undefined;
  readonly plain_owners?: readonly string[] | undefined;
}): SafePolicy {
  const { enabled, owners = 'all', plain_owners: plainOwners = 'all' } = settings;
  return { enabled, safeOwners: owners, plainOwners };
}

export const DEFAULT_POLICY = policyOf({ enabled: true });

/** The platform stamp of this node; undefined off SmartOS. */
export function platformStamp(): string | undefined {
  return process.platform === 'sunos' ? version() : undefined;
}

/**
 * What the VM tool takes besides "safe", as strings too. Any other word is refused: were `"Safe"` read as true further
 * down, the zone would get a dataset without any rule.
 */
const OTHER_WISHES: ReadonlySet<unknown> = new Set(['true', 'false', true, false, null, undefined]);

const DEFAULT_LIMITS: Readonly<Record<LimitName, number>> = {
  zfs_snapshot_limit: 128,
  zfs_filesystem_limit: 32,
};

/** Longest value in a reason: a line of a terminal or two. */
const SHOWN_CHARS = 160;

/**
 * The payload as the VM tool takes it, or all reasons why not.
 *
 * @param payload whatever JSON gave
 * @param platform `uname -v` or a build stamp of the node; undefined where it is not known, which is
 *     not judged. A `platform_buildstamp` in the payload counts besides it.
 */
export function expandPayload(payload: unknown, policy: SafePolicy, platform?: string): Expansion {
  if (!isJsonObject(payload)) {
    const type = Array.isArray(payload) ? 'a list' : `a ${typeof payload}`;
    const kind = payload === undefined ? 'missing' : payload === null ? 'null' : type;
    return refused('payload-not-object', '', `the payload is ${kind}, not one JSON object`);
  }
  const member = 'delegate_dataset';
  const wish = own(payload, member);
  if (OTHER_WISHES.has(wish)) {
    return { kind: 'accepted', payload };
  }
  if (wish !== 'safe') {
    const text = `delegate_dataset is ${shown(wish)}: it takes true, false or "safe"`;
    return refused('delegate-dataset-value', member, text);
  }
  const reasons: Reason[] = [];
  const refuse: Refuse = (code, member, text) => void reasons.push({ code, member, text });
  if (policy.enabled) {
    checkBrand(payload, refuse);
    checkOwner(own(payload, 'owner_uuid'), policy.safeOwners, refuse);
    checkPlatform(payload, platform, refuse);
  } else {
    const text = 'safe delegated datasets are switched off in the configuration of this node';
    refuse('feature-off', member, text);
  }
  const limitPriv = own(payload, 'limit_priv');
  const grant = importGrant(limitPriv);
  if (grant.kind === 'malformed') {
    const text = `limit_priv is no list of privileges: ${grant.text}`;
    refuse('limit-priv-malformed', 'limit_priv', text);
  } else if (grant.kind === 'named') {
    // One of the two wishes would have to be dropped silently.
    const text =
      `limit_priv ${shown(limitPriv)} grants ${IMPORT_PRIVILEGE}, which a safe dataset excludes: ` +
      `take it out of the list`;
    refuse('limit-priv-grants-import', 'limit_priv', text);
  }
  // Own members only: a limit that is there as null was removed on purpose.
  const limits = LIMIT_NAMES.map((name) => {
    return [name, Object.hasOwn(payload, name) ? payload[name] : DEFAULT_LIMITS[name]] as const;
  });
  for (const [name, limit] of limits) {
    if (limit === null || limit === undefined || limit === '') {
      const text =
        `${name} is taken away, and a safe dataset has this limit: give a number ` +
        `(${DEFAULT_LIMITS[name]} is usual)`;
      refuse('limit-removed', name, text);
    } else if (!isLimit(limit)) {
      const text = `${name} is ${shown(limit)}, not a whole number from 0 up`;
      refuse('limit-not-number', name, text);
    }
  }
  if (reasons.length > 0) {
    return { kind: 'refused', reasons };
  }
  const expanded = {
    delegate_dataset: true,
    limit_priv: grant.kind === 'default' ? withoutImport(limitPriv) : limitPriv,
  };
  return { kind: 'accepted', payload: { ...payload, ...expanded, ...Object.fromEntries(limits) } };
}

function refused(code: ReasonCode, member: string, text: string): Expansion {
  return { kind: 'refused', reasons: [{ code, member, text }] };
}

/** A VM object or payload of a hardware-virtualised guest, which owns disks, not datasets. */
export function isHvm(members: JsonObject): boolean {
  return own(members, 'hvm') === true || HVM_BRANDS.has(own(members, 'brand'));
}

/** Uuids are caseless. */
function isListed(owners: readonly string[], owner: unknown): boolean {
  return typeof owner === 'string' && owners.some((o) => o.toLowerCase() === owner.toLowerCase());
}

/** A payload may name no brand. */
function checkBrand(members: JsonObject, refuse: Refuse): void {
  const brand = own(members, 'brand');
  if (brand !== undefined && typeof brand !== 'string') {
    refuse('brand-not-text', 'brand', `brand is ${shown(brand)}, not the name of a brand`);
  } else if (isHvm(members)) {
    const kind = brand ?? 'hvm';
    const text = `HVM guests (${kind}) have disks and take no delegated dataset: leave it out`;
    refuse('hvm-brand', 'brand', text);
  }
}

function checkOwner(owner: unknown, allowed: Owners, refuse: Refuse): void {
  if (allowed === 'all' || isListed(allowed, owner)) {
    return;
  }
  if (typeof owner === 'string') {
    const text = `owner ${shown(owner)} is not on the list of those who may use safe datasets`;
    refuse('owner-not-allowed', 'owner_uuid', text);
  } else {
    const text = 'owner_uuid is missing, and for now only listed owners may use safe datasets';
    refuse('owner-missing', 'owner_uuid', text);
  }
}

/**
 * Both stamps must be new enough, as far as they are known: the node's, refused without a member, and the
 * `platform_buildstamp`. One reason is enough, as mostly they are the same.
 */
function checkPlatform(members: JsonObject, platform: string | undefined, refuse: Refuse): void {
  const stamps = { '': platform, platform_buildstamp: own(members, 'platform_buildstamp') };
  for (const [member, value] of Object.entries(stamps)) {
    if (value === undefined) {
      continue;
    }
    const stamp = typeof value === 'string' ? STAMP.exec(value.trim())?.[1] : undefined;
    if (stamp === undefined) {
      const text =
        `platform ${shown(value)} has no stamp (YYYYMMDDTHHMMSSZ) that could be compared with ` +
        `${OLDEST_STAMP}, the first that can host a safe dataset`;
      refuse('platform-unreadable', member, text);
      return;
    }
    if (stamp < OLDEST_STAMP) {
      const text =
        `platform ${stamp} is older than ${OLDEST_STAMP}, the first that can host a safe ` +
        'dataset: update the node or choose another one';
      refuse('platform-too-old', member, text);
      return;
    }
  }
}

/** A value as JSON, cut where it would fill the terminal. */
function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text;
}

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

/** What ZFS compares with its limits, of a dataset and all below it. */
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
  | (Audited & { readonly kind: 'safe' })
  /** Breaks no rule as far as is known, but what it uses of its limits could not be read. */
  | (Audited & { readonly kind: 'unknown' })
  | (Audited & { readonly kind: 'exempt'; readonly why: 'owner' | 'plain' })
  | (Audited & { readonly kind: 'unsafe'; readonly findings: readonly Finding[] });

export interface AuditFacts {
  /** `uname -v` or a build stamp of the node; left out off SmartOS. */
  readonly platform?: string | undefined;
  /** Of the zoneroot's tree, which is what ZFS holds against the limits; undefined: not readable. */
  readonly usage?: Usage | undefined;
  /** The audit of the same VM before this one. */
  readonly last?: Audit | undefined;
}

/** Audits a VM object as vminfod sends it. Undefined: it has no delegated dataset. */
export function auditVm(
  vm: JsonObject,
  policy: SafePolicy,
  { platform, usage, last }: AuditFacts = {},
): Audit | undefined {
  const delegation = delegationOf(vm);
  if (delegation === undefined) {
    return undefined;
  }
  const { datasets, limits, receive } = delegation;
  const use = {
    zfs_snapshot_limit: { limit: limits.get('zfs_snapshot_limit'), used: usage?.snapshots },
    zfs_filesystem_limit: { limit: limits.get('zfs_filesystem_limit'), used: usage?.filesystems },
  };
  const marked = last?.marked === true || receive === 'none' || limits.size > 0;
  const audited = { datasets, use, marked };
  const { plainOwners } = policy;
  if (plainOwners === 'all' ? !marked : isListed(plainOwners, own(vm, 'owner_uuid'))) {
    const why = plainOwners === 'all' ? 'plain' : 'owner';
    return { ...audited, kind: 'exempt', why, signature: `exempt ${why}` };
  }
  const findings = findingsOf(vm, delegation, use, platform);
  if (findings.length === 0) {
    const kind = usage === undefined ? 'unknown' : 'safe';
    return { ...audited, kind, signature: kind };
  }
  const broken = findings.map(({ rule, member, value }) => `${rule} ${member}=${value}`);
  return { ...audited, kind: 'unsafe', findings, signature: `unsafe ${broken.join('; ')}` };
}

function findingsOf(
  vm: JsonObject,
  { zoneroot, outside, receive }: Delegation,
  use: Audited['use'],
  platform: string | undefined,
): readonly Finding[] {
  const findings: Finding[] = [];
  const add = (rule: AuditRule, member: string, text: string, fix: string): void => {
    findings.push({ rule, member, value: shown(own(vm, member)), text, fix });
  };
  checkBrand(vm, (code, member, text) => {
    add(code, member, text, 'destroy the VM and create it without a delegated dataset');
  });
  checkPlatform(vm, platform, (rule, stamp, text) => {
    const member = 'platform_buildstamp';
    const value = shown(stamp === '' ? platform : own(vm, member));
    const fix = 'boot the node with a newer platform, or move the VM to a node that has one';
    findings.push({ rule, member, value, text, fix });
  });
  // ZFS applies the limits of the VM below the zoneroot only.
  if (zoneroot === undefined) {
    const text = 'zfs_filesystem does not name the dataset of the zoneroot, which has the limits';
    const fix = 'find out why the platform does not load the dataset of the zoneroot: vmadm get';
    add('zoneroot-unknown', 'zfs_filesystem', text, fix);
  } else {
    for (const dataset of outside) {
      const text = `${shown(dataset)} is outside ${zoneroot}, so no limit of the VM applies to it`;
      const fix =
        'create the VM without this dataset, or set limits on it by zfs and exempt its owner (datasets.plain_owners)';
      add('dataset-outside', 'datasets', text, fix);
    }
  }
  const list = own(vm, 'limit_priv');
  if (receive === 'malformed') {
    const text = `limit_priv ${shown(list)} is not a list of privileges`;
    const fix = updateWith(vm, { limit_priv: withoutImport(undefined) });
    add('privileges-unreadable', 'limit_priv', text, fix);
  } else if (receive !== 'none') {
    const text = `the zone can receive ZFS streams: ${IMPORT_PRIVILEGE} is not excluded`;
    // A zone's privileges are fixed when it boots.
    const fix = `${updateWith(vm, { limit_priv: withoutImport(list) })}, then reboot the zone`;
    add('receive-granted', 'limit_priv', text, fix);
  }
  for (const name of LIMIT_NAMES) {
    const { limit, used = 0 } = use[name];
    if (limit === undefined) {
      const fix = updateWith(vm, { [name]: Math.max(DEFAULT_LIMITS[name], used) });
      add('limit-missing', name, `${name} is not set`, fix);
    } else if (used > limit) {
      const fix = `have the owner destroy some, or ${updateWith(vm, { [name]: used })}`;
      add('limit-exceeded', name, `${used} are used of ${name} ${limit}`, fix);
    }
  }
  return findings;
}

/** A line for a shell: what goes into it is a uuid, privilege names and numbers, and nothing else. */
function updateWith(vm: JsonObject, update: JsonObject): string {
  const uuid = own(vm, 'uuid');
  const subject = typeof uuid === 'string' && /^[0-9a-f-]{36}$/i.test(uuid) ? uuid : 'UUID';
  return `vmadm update ${subject} <<<'${JSON.stringify(update)}'`;
}
