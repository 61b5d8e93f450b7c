/*
 * `"delegate_dataset": "safe"` in a provisioning payload: what it is turned into, and when it is refused.
 *
 *   "safe"  ->  "delegate_dataset": true
 *               "limit_priv": "default,-sys_fs_import"     (no `zfs recv` in the zone)
 *               "zfs_snapshot_limit": 128, "zfs_filesystem_limit": 32   (where the payload has none)
 *
 * A plain `true` is passed on as it is: operators' own services receive streams. All reasons against a
 * payload are told at once. Members that no rule reads pass through untouched, the order of members stays,
 * and the input is never changed. Called by `mdatactl datasets expand`; datasets/update is the same for a
 * VM that exists. Pure: configuration and platform stamp are handed in.
 */
import { LIMIT_NAMES } from '../metadata/datasets';
import { isJsonObject, own, type JsonObject } from '../metadata/vm-data';
import { outcome, shown, type Expansion, type Reason } from './reason';
import {
  checkBrand,
  checkLimit,
  checkOwner,
  checkPlatform,
  DEFAULT_LIMITS,
  fitPrivileges,
  type Owners,
} from './rules';

/** The part of the configuration that decides here; live. */
export interface SafePolicy {
  /** The feature as a whole. */
  readonly enabled: boolean;
  /** Who may use "safe". An empty list is nobody. */
  readonly safeOwners: Owners;
  /**
   * Whose zones may have a plain delegated dataset. Only the audit reads it. With a list, the zones of
   * these owners are exempt whatever they hold, and nobody else's are; with `all`, every zone is that
   * bears no mark of "safe".
   */
  readonly plainOwners: Owners;
}

export const DEFAULT_POLICY: SafePolicy = { enabled: true, safeOwners: 'all', plainOwners: 'all' };

/** What a payload's `delegate_dataset` asks for; `other` is no business of this policy. */
export type Wish =
  { readonly kind: 'safe' | 'other' } | { readonly kind: 'wrong'; readonly reason: Reason };

/**
 * The payload as the VM tool takes it, or all reasons why not.
 *
 * @param payload whatever JSON gave
 * @param platform `uname -v` or a build stamp of the node; undefined where it is not known, which is
 *     not judged. A `platform_buildstamp` in the payload counts besides it.
 */
export function expandPayload(payload: unknown, policy: SafePolicy, platform?: string): Expansion {
  if (!isJsonObject(payload)) {
    return { kind: 'refused', reasons: [notAnObject(payload)] };
  }
  const wish = readWish(payload);
  switch (wish.kind) {
    case 'wrong':
      return { kind: 'refused', reasons: [wish.reason] };
    case 'other':
      return { kind: 'accepted', payload };
    case 'safe':
      break;
  }
  const privileges = fitPrivileges(own(payload, 'limit_priv'));
  // Own members only: a limit that is there as null was taken away on purpose.
  const limits = LIMIT_NAMES.map((name) => {
    return [name, Object.hasOwn(payload, name) ? payload[name] : DEFAULT_LIMITS[name]] as const;
  });
  const reasons = [
    ...checkUse(payload, policy, platform),
    ...privileges.reasons,
    ...limits.flatMap(([name, limit]) => checkLimit(name, limit)),
  ];
  const expanded = {
    ...payload,
    delegate_dataset: true,
    limit_priv: privileges.value,
    ...Object.fromEntries(limits),
  };
  return outcome(expanded, reasons);
}

/** Whether "safe" may be used at all: the switch, then brand, owner and platform. */
export function checkUse(
  members: JsonObject,
  policy: SafePolicy,
  platform: string | undefined,
): readonly Reason[] {
  const member = 'delegate_dataset';
  if (!policy.enabled) {
    const text = 'safe delegated datasets are switched off in the configuration of this node';
    return [{ code: 'feature-off', member, text }];
  }
  return [
    ...checkBrand(members),
    ...checkOwner(own(members, 'owner_uuid'), policy.safeOwners),
    ...checkPlatform(members, platform),
  ];
}

/**
 * Reads `delegate_dataset`. A word that it does not take is refused and not passed on: were `"Safe"` read
 * as true further down, the zone would get a dataset without any rule.
 */
export function readWish(payload: JsonObject): Wish {
  const member = 'delegate_dataset';
  const value = own(payload, member);
  switch (value) {
    case 'safe':
      return { kind: 'safe' };
    // The VM tool takes the words as it takes the values.
    case 'true':
    case 'false':
    case true:
    case false:
    case null:
    case undefined:
      return { kind: 'other' };
    default: {
      const text = `delegate_dataset is ${shown(value)}: it takes true, false or "safe"`;
      return { kind: 'wrong', reason: { code: 'delegate-dataset-value', member, text } };
    }
  }
}

/** Why a payload is refused that is no object. */
export function notAnObject(value: unknown): Reason {
  const text = `the payload is ${kindOf(value)}, not one JSON object`;
  return { code: 'payload-not-object', member: '', text };
}

function kindOf(value: unknown): string {
  if (value === undefined || value === null) {
    return value === null ? 'null' : 'missing';
  }
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}
