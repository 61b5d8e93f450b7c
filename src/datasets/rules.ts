/*
 * The rules that make a delegated dataset safe for the node, one function each: where it may be (brand,
 * owner, platform), what the zone may not do (receive a stream) and how much it may make (the limits).
 *
 * Each takes what the payload or the VM object holds, unread, and returns the reasons against it; none
 * means it fits. Called by policy and update. Pure.
 */
import { isLimit, type LimitName } from '../metadata/datasets';
import {
  IMPORT_PRIVILEGE,
  importGrant,
  parsePrivileges,
  withoutImport,
} from '../metadata/privileges';
import { own, type JsonObject } from '../metadata/vm-data';
import { checkStamp, OLDEST_STAMP } from './platform';
import { shown, type Reason } from './reason';

/** What a VM gets where nobody says otherwise. */
export const DEFAULT_LIMITS: Readonly<Record<LimitName, number>> = {
  zfs_snapshot_limit: 128,
  zfs_filesystem_limit: 32,
};

/** Owners by uuid, or every owner. */
export type Owners = 'all' | readonly string[];

/** Guests of these brands own disks, not datasets. */
const HVM_BRANDS: ReadonlySet<unknown> = new Set(['kvm', 'bhyve']);

/** True for a VM object or payload of a hardware-virtualised guest. */
export function isHvm(members: JsonObject): boolean {
  return own(members, 'hvm') === true || HVM_BRANDS.has(own(members, 'brand'));
}

/** True where the owner is named in the list; uuids are caseless. */
export function isListed(owners: readonly string[], owner: unknown): boolean {
  return typeof owner === 'string' && owners.some((o) => o.toLowerCase() === owner.toLowerCase());
}

/** Why the brand can have no "safe" dataset; none for a payload that names no brand. */
export function checkBrand(members: JsonObject): readonly Reason[] {
  const member = 'brand';
  const brand = own(members, member);
  if (brand !== undefined && typeof brand !== 'string') {
    const text = `brand is ${shown(brand)}, not the name of a brand`;
    return [{ code: 'brand-not-text', member, text }];
  }
  if (!isHvm(members)) {
    return [];
  }
  const text = `HVM guests (${brand ?? 'hvm'}) have disks and take no delegated dataset: leave it out`;
  return [{ code: 'hvm-brand', member, text }];
}

/** Why the owner can have no "safe" dataset. Uuids compare whatever their case. */
export function checkOwner(owner: unknown, allowed: Owners): readonly Reason[] {
  if (allowed === 'all' || isListed(allowed, owner)) {
    return [];
  }
  const member = 'owner_uuid';
  if (typeof owner !== 'string') {
    const text = 'owner_uuid is missing, and for now only listed owners may use safe datasets';
    return [{ code: 'owner-missing', member, text }];
  }
  const text = `owner ${shown(owner)} is not on the list of those who may use safe datasets`;
  return [{ code: 'owner-not-allowed', member, text }];
}

/**
 * All stamps that are known must be new enough.
 *
 * @param platform the node's, undefined where it is not known, which is not judged
 * @param members its `platform_buildstamp` is the other one
 */
export function checkPlatform(
  members: JsonObject,
  platform: string | undefined,
): readonly Reason[] {
  const member = 'platform_buildstamp';
  const told = own(members, member);
  const node = platform === undefined ? [] : checkOneStamp(platform, '');
  // The same stamp from both sides is one fault, not two.
  return told === undefined || node.length > 0 ? node : checkOneStamp(told, member);
}

function checkOneStamp(value: unknown, member: string): readonly Reason[] {
  const check = checkStamp(value);
  switch (check.kind) {
    case 'hosts':
      return [];
    case 'too-old': {
      const text =
        `platform ${check.stamp} is older than ${OLDEST_STAMP}, the first that can host a safe ` +
        'dataset: update the node or choose another one';
      return [{ code: 'platform-too-old', member, text }];
    }
    case 'unreadable': {
      const text =
        `platform ${shown(value)} carries no stamp (YYYYMMDDTHHMMSSZ) that could be compared with ` +
        `${OLDEST_STAMP}, the first that can host a safe dataset`;
      return [{ code: 'platform-unreadable', member, text }];
    }
  }
}

/** A privilege list that fits: `value` takes the place of what was given. */
export interface FittedPrivileges {
  readonly value: unknown;
  readonly reasons: readonly Reason[];
}

/**
 * A `limit_priv` that fits: what was written, with the exclusion added where sys_fs_import comes in
 * through `default`. Asking for it by name is refused, as one wish would have to be dropped silently.
 */
export function fitPrivileges(value: unknown): FittedPrivileges {
  const member = 'limit_priv';
  const list = parsePrivileges(value);
  if (list.kind === 'malformed') {
    const text = `limit_priv is no list of privileges: ${list.text}`;
    return { value, reasons: [{ code: 'limit-priv-malformed', member, text }] };
  }
  const grant = importGrant(list.items);
  switch (grant) {
    case 'none':
      return { value, reasons: [] };
    case 'default':
      return { value: withoutImport(value), reasons: [] };
    case 'named': {
      const text =
        `limit_priv ${shown(value)} grants ${IMPORT_PRIVILEGE}, which a safe dataset excludes: ` +
        `take it out of the list`;
      return { value, reasons: [{ code: 'limit-priv-grants-import', member, text }] };
    }
  }
}

/** @param used what the VM has made already, where it is known */
export function checkLimit(name: LimitName, value: unknown, used?: number): readonly Reason[] {
  if (value === null || value === undefined || value === '') {
    const text =
      `${name} is taken away, and a safe dataset has this limit: give a number ` +
      `(${DEFAULT_LIMITS[name]} is usual)`;
    return [{ code: 'limit-removed', member: name, text }];
  }
  if (!isLimit(value)) {
    const text = `${name} is ${shown(value)}, not a whole number from 0 up`;
    return [{ code: 'limit-not-number', member: name, text }];
  }
  if (used !== undefined && value < used) {
    const text =
      `${name} is ${value}, below the ${used} that the VM has: have some destroyed first, ` +
      `or give at least ${used}`;
    return [{ code: 'limit-below-use', member: name, text }];
  }
  return [];
}
