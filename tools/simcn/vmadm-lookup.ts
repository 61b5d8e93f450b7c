/*
 * `vmadm lookup`, `get` and `list`: VM objects from vminfod, filtered and cut to what was asked for.
 */
import type { JsonObject } from '../../src/metadata/vm-data';
import { brandOf } from './brand';

/** Fields that a lookup can filter on, besides whatever is below tags, nics and the metadata maps. */
const FILTERS = new Set([
  ...['alias', 'autoboot', 'billing_id', 'brand', 'cpu_cap', 'cpu_shares', 'create_timestamp'],
  ...['dns_domain', 'docker', 'do_not_inventory', 'firewall_enabled', 'hostname', 'hvm'],
  ...['image_uuid', 'max_physical_memory', 'owner_uuid', 'package_name', 'package_version', 'pid'],
  ...['quota', 'ram', 'server_uuid', 'state', 'tmpfs', 'transition_to', 'type', 'uuid', 'vcpus'],
  ...['zfs_io_priority', 'zoneid', 'zonename', 'zonepath', 'zone_state', 'zpool'],
]);
const NESTED = /^(tags|customer_metadata|internal_metadata|nics|disks)\./;

/** A filter that cannot be understood. */
export class LookupError extends Error {}

/** A condition on one field: the literal text of its value, or a regular expression after `~`. */
export interface Filter {
  readonly field: string;
  readonly matches: (value: unknown) => boolean;
}

/** @param text `field=value` or `field=~regexp` */
export function parseFilter(text: string): Filter {
  const at = text.indexOf('=');
  const field = text.slice(0, at);
  if (at < 1 || !(FILTERS.has(field) || NESTED.test(field))) {
    throw new LookupError(`Invalid lookup filter: ${text}`);
  }
  const wanted = text.slice(at + 1);
  if (!wanted.startsWith('~')) {
    return { field, matches: (value) => shown(value) === wanted };
  }
  try {
    const pattern = new RegExp(wanted.slice(1));
    return { field, matches: (value) => value !== undefined && pattern.test(shown(value)) };
  } catch {
    throw new LookupError(`Invalid regular expression: ${wanted.slice(1)}`);
  }
}

/** The VMs that all filters match, as `vmadm lookup -j` prints them. */
export function lookup(vms: readonly JsonObject[], filters: readonly Filter[]): JsonObject[] {
  return vms.map(forCli).filter((vm) => {
    return filters.every(({ field, matches }) => valuesAt(vm, field.split('.')).some(matches));
  });
}

/** The named fields of a VM, in the order they were named. */
export function pick(vm: JsonObject, fields: readonly string[]): JsonObject {
  const picked = fields.filter((name) => Object.hasOwn(vm, name)).map((name) => [name, vm[name]]);
  return Object.fromEntries(picked) as JsonObject;
}

/** The two properties that the command line adds to vminfod's object. */
export function forCli(vm: JsonObject): JsonObject {
  const { type, hvm } = brandOf(String(vm.brand));
  const ram = vm.max_physical_memory;
  return { ...vm, type, ...(!hvm && ram !== undefined ? { ram } : {}) };
}

/** The VMs as `vmadm list` prints them. */
export function table(vms: readonly JsonObject[]): string {
  const columns = ['uuid', 'type', 'ram', 'state', 'alias'];
  const rows = vms.map((vm) => columns.map((column) => shown(vm[column] ?? '-')));
  const lines = [columns.map((column) => column.toUpperCase()), ...rows].map((cells) => {
    return cells
      .map((cell, i) => cell.padEnd(i === 0 ? 36 : 8))
      .join('  ')
      .trimEnd();
  });
  return `${lines.join('\n')}\n`;
}

/** A value as a filter and a table know it. */
function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** What a path leads to; `*` and a missing index mean every element of an array. */
function valuesAt(value: unknown, path: readonly string[]): unknown[] {
  const [name, ...rest] = path;
  if (name === undefined) {
    return [value];
  }
  if (Array.isArray(value)) {
    return name === '*'
      ? value.flatMap((element) => valuesAt(element, rest))
      : value.flatMap((element) => valuesAt(element, path));
  }
  if (typeof value === 'object' && value !== null && Object.hasOwn(value, name)) {
    return valuesAt(Object.entries(value).find(([key]) => key === name)?.[1], rest);
  }
  return [undefined];
}
