/*
 * A VM's delegated datasets as its VM object describes them: read for the guest (`sdc:datasets`,
 * `sdc:delegate_dataset`) and, by datasets/, for the audit.
 *
 * "safe" is not a property of a VM: provisioning turns it into a privilege list and two limits. A VM is safe while
 * it has these and they hold for all its datasets; one that lost one of them reads `true`.
 */
import { own, ownString, type JsonObject } from './vm-data';

/** The limits of the platform on what a zone may make below its dataset. */
export const LIMIT_NAMES = ['zfs_snapshot_limit', 'zfs_filesystem_limit'] as const;
export type LimitName = (typeof LIMIT_NAMES)[number];

/** What a VM with at least one delegated dataset may do with it. */
export interface Delegation {
  /** Names as ZFS has them, `zones/<uuid>/data`, in the order of the VM object. */
  readonly datasets: readonly string[];
  /** The zoneroot's dataset; undefined where the VM object does not name it. */
  readonly zoneroot: string | undefined;
  /** Those of the datasets that no limit of the VM applies to: they are outside the zoneroot's tree. */
  readonly outside: readonly string[];
  /** Why `zfs recv` works in the zone. */
  readonly receive: ImportGrant['kind'];
  /** The limits that are set, in snapshots and filesystems. */
  readonly limits: ReadonlyMap<LimitName, number>;
}

/** The names of the delegated datasets; empty where there are none. */
export function delegatedDatasets(vm: JsonObject): readonly string[] {
  const names = own(vm, 'datasets');
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}

/** The dataset of the zoneroot, `zones/<uuid>`; undefined where the VM object does not name it. */
export function zonerootOf(vm: JsonObject): string | undefined {
  const name = ownString(vm, 'zfs_filesystem');
  return name === '' ? undefined : name;
}

/**
 * Undefined for a VM without a delegated dataset.
 *
 * vmadm sets both limits on the zoneroot's dataset only (smartos-live VM.js, createZpoolDataset and VM.update), and ZFS
 * applies a limit to the dataset that has it and to all below it (illumos dsl_dir.c, dsl_fs_ss_limit_check).
 */
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
  const { kind: receive } = importGrant(own(vm, 'limit_priv'));
  const zoneroot = zonerootOf(vm);
  const outside = datasets.filter((name) => {
    return zoneroot === undefined || !`${name}/`.startsWith(`${zoneroot}/`);
  });
  return { datasets, zoneroot, outside, receive, limits };
}

/**
 * What `sdc:delegate_dataset` says; undefined is NOTFOUND. Safe: the zone cannot receive a stream, and both limits are
 * set and apply to all its datasets.
 */
export function delegateDatasetWord(vm: JsonObject): 'safe' | 'true' | undefined {
  const delegation = delegationOf(vm);
  if (delegation === undefined) {
    return undefined;
  }
  const { receive, limits, outside } = delegation;
  const isSafe = receive === 'none' && limits.size === LIMIT_NAMES.length && outside.length === 0;
  return isSafe ? 'safe' : 'true';
}

/** A number that ZFS takes as a limit. Zero is one: none may be made. */
export function isLimit(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** The privilege that `zfs recv` needs. */
export const IMPORT_PRIVILEGE = 'sys_fs_import';
/** What a list without a word on anything stands for, with the one exclusion that matters. */
const DEFAULT_WITHOUT_IMPORT = `default,-${IMPORT_PRIVILEGE}`;
/** All that holds sys_fs_import. `zone` is read in the global zone, where it is every privilege. */
const HOLDS_IMPORT: ReadonlySet<string> = new Set([IMPORT_PRIVILEGE, 'default', 'all', 'zone']);
/** Sets and names alike; digits occur in no privilege today but cost nothing. */
const NAME = /^[a-z][a-z0-9_]*$/;

/**
 * How a list grants sys_fs_import: not at all, only because it starts from `default`, or by name
 * (its own, or that of a set other than `default`). `text` says what is wrong with one that is no list.
 */
export type ImportGrant =
  | { readonly kind: 'none' | 'default' | 'named' }
  | { readonly kind: 'malformed'; readonly text: string };

/**
 * Reads a `limit_priv` member for one question: may the zone receive a ZFS stream? It is text, or an array of texts, as
 * the VM tool takes both; a missing, null or empty one is read as `default`, as on the platform.
 *
 * A list is written as zonecfg's limitpriv: names with commas between, `!name` or `-name` removes a privilege, and
 * `default`, `basic`, `all` and `zone` stand for whole sets. The last item on a privilege wins. Names are caseless and
 * may carry the prefix `priv_`: a reader that misses it lets a refused list through. Which other names exist is the
 * platform's to check.
 */
export function importGrant(value: unknown): ImportGrant {
  const text = isTexts(value) ? value.join(',') : (value ?? '');
  if (typeof text !== 'string') {
    return { kind: 'malformed', text: 'it is neither a text nor a list of texts' };
  }
  // A list that opens with a removal names nothing to remove from: it is read as starting from `default` too, the
  // reading that errs to the safe side.
  let kind: 'none' | 'default' | 'named' = 'default';
  let isFirst = true;
  for (const item of text.split(',').map((part) => part.trim())) {
    if (item === '') {
      continue;
    }
    const removed = item.startsWith('!') || item.startsWith('-');
    const name = (removed ? item.slice(1) : item).toLowerCase().replace(/^priv_/, '');
    if (!NAME.test(name)) {
      const shown = JSON.stringify(item.length > 64 ? `${item.slice(0, 64)}...` : item);
      return { kind: 'malformed', text: `${shown} is no privilege` };
    }
    if (isFirst && !removed) {
      kind = 'none';
    }
    isFirst = false;
    if (!HOLDS_IMPORT.has(name)) {
      continue;
    }
    if (removed) {
      kind = 'none';
    } else if (name !== 'default') {
      kind = 'named';
    } else if (kind === 'none') {
      kind = 'default';
    }
  }
  return { kind };
}

/**
 * The same `limit_priv` with sys_fs_import taken out at its end; what was written stays as it was written.
 *
 * @param value one that is not malformed
 */
export function withoutImport(value: unknown): string | readonly string[] {
  if (isTexts(value)) {
    return value.length === 0 ? DEFAULT_WITHOUT_IMPORT : [...value, `-${IMPORT_PRIVILEGE}`];
  }
  const kept = typeof value === 'string' ? value.replace(/[\s,]+$/, '') : '';
  return kept === '' ? DEFAULT_WITHOUT_IMPORT : `${kept},-${IMPORT_PRIVILEGE}`;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
