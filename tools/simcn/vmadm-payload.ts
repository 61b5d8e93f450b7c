/*
 * The payload of `vmadm update`: checked as the platform checks it, and applied to a VM.
 *
 * Pure. A payload either passes as a whole or is refused with the names of all wrong properties.
 * (spec: platform section 4.1)
 */
import { z } from 'zod';

import type { JsonObject } from '../../src/metadata/vm-data';

/** The maps of a VM that are changed by `set_NAME` and `remove_NAME`. */
export const MAPS = ['customer_metadata', 'internal_metadata', 'tags', 'routes'] as const;
export type MapName = (typeof MAPS)[number];

/** Properties that are simply replaced, by the type of value they take. */
const PLAIN: Readonly<Record<string, z.ZodType>> = {
  ...each(
    ['alias', 'hostname', 'dns_domain', 'owner_uuid', 'billing_id', 'package_name'],
    z.string(),
  ),
  ...each(['package_version', 'com1', 'com2', 'limit_priv', 'fs_allowed', 'boot'], z.string()),
  ...each(['ram', 'vcpus', 'quota', 'tmpfs', 'cpu_cap', 'cpu_shares', 'max_lwps'], z.number()),
  ...each(['max_physical_memory', 'max_locked_memory', 'max_swap'], z.number()),
  ...each(['zfs_io_priority', 'zfs_snapshot_limit', 'zfs_filesystem_limit'], z.number()),
  ...each(['autoboot', 'firewall_enabled', 'maintain_resolvers', 'docker'], z.boolean()),
  ...each(['do_not_inventory', 'archive_on_delete'], z.boolean()),
  ...each(['indestructible_zoneroot', 'indestructible_delegated'], z.boolean()),
  ...each(['resolvers', 'internal_metadata_namespaces'], z.array(z.string())),
};

const scalar = z.union([z.string(), z.number(), z.boolean()]);
/** The lists travel as comma lists inside vmadm: an element with a comma is refused. */
const listed = z.union([z.string().regex(/^[^,]*$/), z.number()]);
const nic = z.looseObject({ mac: z.string() });
const SETS: Readonly<Record<string, z.ZodType>> = {
  ...each(
    ['set_customer_metadata', 'set_internal_metadata', 'set_tags'],
    z.record(z.string(), scalar),
  ),
  set_routes: z.record(z.string(), z.string()),
  ...each(
    ['remove_customer_metadata', 'remove_internal_metadata', 'remove_tags', 'remove_routes'],
    z.array(listed),
  ),
  ...each(['add_nics', 'update_nics'], z.array(nic)),
  remove_nics: z.array(z.string()),
};

/** Not changed by update, and no error either: the platform ignores them. */
const IGNORED = ['customer_metadata', 'internal_metadata', 'tags', 'routes'];

class PayloadError extends Error {}

/** @throws PayloadError with the platform's words */
export function parsePayload(text: string): JsonObject {
  let payload: unknown;
  try {
    payload = JSON.parse(text);
  } catch (err) {
    throw new PayloadError(`Invalid JSON payload: ${err instanceof Error ? err.message : ''}`);
  }
  const parsed = z.record(z.string(), z.unknown()).safeParse(payload);
  if (!parsed.success) {
    throw new PayloadError('Invalid JSON payload: not an object');
  }
  const wrong = Object.entries(parsed.data).filter(([name, value]) => !allowed(name, value));
  if (wrong.length > 0) {
    throw new PayloadError(`Invalid value(s) for: ${wrong.map(([name]) => name).join(',')}`);
  }
  return parsed.data;
}

/** The changed VM, and which of its parts are other than before. */
export interface Applied {
  readonly maps: ReadonlyMap<MapName, JsonObject>;
  readonly properties: JsonObject;
}

/** Applies a payload that parsePayload let pass. Maps keep their order, new names come last. */
export function applyPayload(vm: JsonObject, payload: JsonObject): Applied {
  const maps = new Map<MapName, JsonObject>();
  for (const name of MAPS) {
    const before = asObject(vm[name]);
    const after = changeMap(before, payload[`set_${name}`], payload[`remove_${name}`]);
    if (JSON.stringify(before) !== JSON.stringify(after)) {
      maps.set(name, after);
    }
  }
  const properties: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(payload)) {
    if (Object.hasOwn(PLAIN, name) && JSON.stringify(vm[name]) !== JSON.stringify(value)) {
      properties[name] = value;
    }
  }
  const nics = changeNics(vm.nics, payload);
  if (nics !== null) {
    properties.nics = nics;
  }
  return { maps, properties };
}

function changeMap(before: JsonObject, set: unknown, remove: unknown): JsonObject {
  const after = new Map(Object.entries(before));
  for (const name of Array.isArray(remove) ? remove : []) {
    after.delete(String(name));
  }
  for (const [name, value] of Object.entries(asObject(set))) {
    after.set(name, value);
  }
  // Assigned to a plain object, as the platform does it, this name sets nothing.
  after.delete('__proto__');
  return Object.fromEntries(after);
}

function changeNics(before: unknown, payload: JsonObject): unknown[] | null {
  const { add_nics: add, update_nics: update, remove_nics: remove } = payload;
  if (add === undefined && update === undefined && remove === undefined) {
    return null;
  }
  const gone = new Set<unknown>(Array.isArray(remove) ? remove : []);
  const updates = new Map(list(update).map((nic) => [nic.mac, nic]));
  const kept = list(before).filter((nic) => !gone.has(nic.mac));
  return [...kept.map((nic) => ({ ...nic, ...updates.get(nic.mac) })), ...list(add)];
}

function allowed(name: string, value: unknown): boolean {
  const schema = Object.hasOwn(PLAIN, name)
    ? PLAIN[name]
    : Object.hasOwn(SETS, name)
      ? SETS[name]
      : undefined;
  return schema === undefined ? IGNORED.includes(name) : schema.safeParse(value).success;
}

function list(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.map(asObject) : [];
}

function asObject(value: unknown): JsonObject {
  const parsed = z.record(z.string(), z.unknown()).safeParse(value);
  return parsed.success ? parsed.data : {};
}

function each(names: readonly string[], schema: z.ZodType): Record<string, z.ZodType> {
  return Object.fromEntries(names.map((name) => [name, schema]));
}
