/*
 * The VMs as vmadm sees them: read from vminfod, found by filter, listed as a table.
 *
 * Filters, columns, their widths and the order of rows are those of `lookup` and `list` (smartos-live
 * src/vm/sbin/vmadm.js, LIST_FIELDS, outputVMListLine and sortVM; src/vm/node_modules/VM.js, matcher and
 * flatten).
 */
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import { isJsonObject, own, type JsonObject } from '../../src/metadata/vm-data';
import type { Paths } from '../../src/platform/paths';
import { brandOf } from './brand';
import { wholeMac } from './nics';
import { UUID } from './properties';

/** Fields of a list, with the widths of their columns, and the heads of those that are not headed by the name. */
const COLUMNS: ReadonlyMap<string, readonly [width: number, head?: string]> = new Map(
  Object.entries<readonly [width: number, head?: string]>({
    alias: [10],
    autoboot: [8],
    billing_id: [36],
    boot_timestamp: [24],
    brand: [14],
    cpu_cap: [7],
    cpu_shares: [9, 'CPU_SHARE'],
    cpu_type: [8],
    create_timestamp: [24],
    dns_domain: [32, 'DOMAIN'],
    do_not_inventory: [5, 'DNI'],
    docker: [6],
    exit_status: [4, 'EXIT'],
    exit_timestamp: [24],
    firewall_enabled: [16],
    flexible_disk_size: [14, 'FLEX_DISK_SIZE'],
    free_space: [14],
    hostname: [32],
    hvm: [5],
    image_uuid: [36],
    indestructible_delegated: [12, 'INDESTR_DATA'],
    indestructible_zoneroot: [12, 'INDESTR_ROOT'],
    ram: [7],
    max_locked_memory: [10, 'MAX_LOCKED'],
    max_lwps: [7, 'MAX_LWP'],
    max_physical_memory: [8, 'MAX_PHYS'],
    max_swap: [8],
    owner_uuid: [36],
    package_name: [32],
    package_version: [11, 'PACKAGE_VER'],
    pid: [6],
    qemu_extra_opts: [15],
    quota: [5],
    zone_state: [10],
    state: [16],
    tmpfs: [5],
    type: [4],
    uuid: [36],
    vcpus: [5],
    zfs_io_priority: [11, 'IO_PRIORITY'],
    zpool: [12],
    zonename: [12],
    zonepath: [40],
    zoneid: [6],
  }),
);
/** Names of all columns, those of members of lists and maps left out. */
export const FIELD_NAMES: readonly string[] = [...COLUMNS.keys()];
const NESTED_WIDTH = 20;
/** Members of lists and of maps that a column can show: `nics.0.ip`, `tags.role`. */
const IN_LISTS = ['disks', 'nics', 'pci_devices'];
const IN_MAPS = ['customer_metadata', 'internal_metadata', 'routes', 'tags'];
const IN_ARRAYS = ['internal_metadata_namespaces', 'resolvers'];
const FILTERS = [
  /^disks\.[*0-9]*\.(boot|image_name|image_size|image_uuid|size|media|model|zpool)$/,
  /nics\.[*0-9]*\.(dhcp_server|gateway|interface|ip|mac|model|netmask|nic_tag|vlan_id)$/,
  /^(tags|customer_metadata|internal_metadata)\..*/,
];

const vmSchema = z.record(z.string(), z.unknown());

/** Something that vmadm was asked for in the wrong words. */
export class QueryError extends Error {}

class VminfodError extends Error {}

/** A condition on one field: the text of its value, or a regular expression after `~`. */
export interface Filter {
  readonly field: string;
  readonly matches: (value: unknown) => boolean;
}

/**
 * Filters of arguments `field=value` and `field=~regexp`. Of two for one field the last counts.
 * @param what is filtered, for the words of a refusal: `lookup` or `filter`
 */
export function parseFilters(args: readonly string[], what: string): Filter[] {
  const wanted = new Map(
    args.map((text) => {
      const at = text.indexOf('=');
      return at < 0 ? ([text, ''] as const) : ([text.slice(0, at), text.slice(at + 1)] as const);
    }),
  );
  return [...wanted].map(([field, value]) => {
    if (!COLUMNS.has(field) && !FILTERS.some((filter) => filter.test(field))) {
      throw new QueryError(`Invalid ${what} key: "${field}"`);
    }
    return { field, matches: condition(field, value) };
  });
}

function condition(field: string, wanted: string): (value: unknown) => boolean {
  if (wanted.startsWith('~')) {
    const pattern = regularExpression(wanted.slice(1));
    return (value) => isGiven(value) && pattern.test(text(value));
  }
  const exact = /^nics\..*\.mac$/.test(field) ? wholeMac(wanted) : wanted;
  return (value) => isGiven(value) && text(value) === exact;
}

function regularExpression(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'i');
  } catch (err) {
    throw new QueryError(messageOf(err));
  }
}

/** The VMs that all filters match, as `vmadm lookup -j` prints them. */
export function lookup(vms: readonly JsonObject[], filters: readonly Filter[]): JsonObject[] {
  return vms.map(forCli).filter((vm) => {
    return filters.every(({ field, matches }) => {
      const [list = '', star, member = ''] = field.split('.');
      const elements = own(vm, list);
      return star === '*' && IN_LISTS.includes(list) && Array.isArray(elements)
        ? elements.some((element) => isJsonObject(element) && matches(own(element, member)))
        : matches(flat(vm, field));
    });
  });
}

/** VMs with only the named fields, those left out that have none of them. */
export function pick(vms: readonly JsonObject[], fields: readonly string[]): JsonObject[] {
  const picked = vms.map((vm) => {
    return Object.fromEntries(Object.entries(vm).filter(([name]) => fields.includes(name)));
  });
  return picked.filter((vm) => Object.keys(vm).length > 0);
}

/** The two properties that the command line adds to vminfod's object. */
export function forCli(vm: JsonObject): JsonObject {
  const { type, hvm } = brandOf(String(vm.brand));
  const ram = vm.max_physical_memory;
  return { ...vm, type, ...(!hvm && ram !== undefined ? { ram } : {}) };
}

export interface ListOptions {
  readonly fields: readonly string[];
  /** `ram`, `+ram` or `-ram`. */
  readonly sort: readonly string[];
  /** Values between colons, an empty one for none. */
  readonly parsable: boolean;
  readonly header: boolean;
  /** For a person: columns as wide as what they hold, and of a uuid its first eight digits. */
  readonly fitted?: boolean;
}

/** The VMs as `vmadm list` prints them. @throws QueryError for a field that cannot be shown */
export function list(vms: readonly JsonObject[], options: ListOptions): string {
  const { fields, sort, parsable, header, fitted = false } = options;
  for (const [names, what] of [
    [fields, 'order'],
    [sort, 'sort'],
  ] as const) {
    for (const name of names) {
      if (/^[-+]?(disks|filesystems|nics)\.\*/.test(name)) {
        throw new QueryError(`Invalid ${what} key: "${name}"`);
      }
    }
  }
  for (const [names, what] of [
    [sort, 'sort'],
    [fields, 'order'],
  ] as const) {
    for (const name of names) {
      if (widthOf(what === 'sort' ? name.replace(/^[-+]/, '') : name) === undefined) {
        throw new QueryError(`invalid ${what} field: ${name}`);
      }
    }
  }
  const rows = [...vms].sort((a, b) => compare(a, b, sort));
  const heads = fields.map((field) => COLUMNS.get(field)?.[1] ?? field.toUpperCase());
  const cells = rows.map((vm) => {
    return fields.map((field) => {
      const value = flat(vm, field);
      const isThere = value === 0 || Boolean(value);
      const cell = isThere ? text(value) : parsable ? '' : '-';
      return fitted && UUID.test(cell) ? cell.slice(0, 8) : cell;
    });
  });
  const table = header ? [heads, ...cells] : cells;
  const widths = fields.map((field, i) => {
    return fitted ? Math.max(...table.map((row) => row[i]?.length ?? 0)) : (widthOf(field) ?? 0);
  });
  return table
    .map((row) => {
      const padded = row.map((cell, i) => cell.padEnd(widths[i] ?? 0));
      return `${(parsable ? row.join(':') : padded.join('  ')).trimEnd()}\n`;
    })
    .join('');
}

function widthOf(field: string): number | undefined {
  const [first = '', ...rest] = field.split('.');
  const isNested =
    (rest.length === 2 && IN_LISTS.includes(first)) ||
    (rest.length === 1 && IN_MAPS.includes(first));
  return COLUMNS.get(field)?.[0] ?? (isNested ? NESTED_WIDTH : undefined);
}

/** What has no value comes last, whatever the field's own order. */
function compare(a: JsonObject, b: JsonObject, sort: readonly string[]): number {
  for (const given of sort) {
    const direction = given.startsWith('-') ? -1 : 1;
    const field = given.replace(/^[-+]/, '');
    const [left, right] = [flat(a, field), flat(b, field)];
    if (left === right) {
      continue;
    }
    if (!isGiven(left) || !isGiven(right)) {
      return isGiven(left) ? -direction : direction;
    }
    const isLess =
      typeof left === 'number' && typeof right === 'number'
        ? left < right
        : text(left) < text(right);
    return isLess ? -direction : direction;
  }
  return 0;
}

/** The value that a field's name leads to: `alias`, `nics.0.ip`, `tags.role`, `resolvers.1`. */
function flat(vm: JsonObject, field: string): unknown {
  const tokens = field.split('.');
  const [first = '', second = '', third = ''] = tokens;
  const value = own(vm, first);
  if (tokens.length === 3 && IN_LISTS.includes(first)) {
    const element: unknown = Array.isArray(value) ? value[Number(second)] : undefined;
    return isJsonObject(element) ? own(element, third) : undefined;
  }
  if (tokens.length === 2 && IN_MAPS.includes(first)) {
    return isJsonObject(value) ? own(value, second) : undefined;
  }
  if (tokens.length === 2 && IN_ARRAYS.includes(first)) {
    return Array.isArray(value) ? value[Number(second)] : undefined;
  }
  return own(vm, field);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** A value as JavaScript puts it into text: a list with commas. */
function text(value: unknown): string {
  if (Array.isArray(value)) {
    return value.map(text).join(',');
  }
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
    case 'boolean':
      return String(value);
    default:
      return '[object Object]';
  }
}

/** All VMs as vminfod knows them. */
export async function allVms(paths: Paths): Promise<JsonObject[]> {
  return z.array(vmSchema).parse(await bodyOf(await request(paths, '/vms')));
}

/** @returns undefined for a VM that vminfod does not know */
export async function vmByUuid(paths: Paths, uuid: string): Promise<JsonObject | undefined> {
  const response = await request(paths, `/vms/${uuid}`, 404);
  if (response.statusCode === 200) {
    return vmSchema.parse(await bodyOf(response));
  }
  response.resume();
  // It knows them by zonename, which commonly, but not always, is the uuid.
  return (await allVms(paths)).find((vm) => vm.uuid === uuid);
}

/** vminfod's event stream, from its first line on. */
export function eventStream(paths: Paths): Promise<IncomingMessage> {
  return request(paths, '/events');
}

async function request(paths: Paths, path: string, also = 200): Promise<IncomingMessage> {
  const socketPath = paths.host('/var/run/vminfod.sock');
  const agent = `vmadm - simcn/${process.pid} (vmadm)`;
  const pending = get({ socketPath, path, headers: { 'User-Agent': agent } });
  try {
    const [response] = (await once(pending, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200 && response.statusCode !== also) {
      response.resume();
      throw new Error(`status ${response.statusCode ?? 0}`);
    }
    return response;
  } catch (err) {
    throw new VminfodError(`vminfod: GET ${path}: ${messageOf(err)}`);
  }
}

async function bodyOf(response: IncomingMessage): Promise<unknown> {
  return json(response).catch((err: unknown) => {
    throw new VminfodError(`vminfod: ${messageOf(err)}`);
  });
}
