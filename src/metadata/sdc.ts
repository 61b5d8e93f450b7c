/*
 * The `sdc:` names: what a guest may know of its VM. Looked up in this order: names that no guest may read, names that
 * are computed, names that point into an array or a map with dots, properties of the VM object.
 *
 * Only own properties are read, and null is absence. Metadata, tags and routes come from the files, as the VM object's
 * copies may be old.
 */
import type { GetReply } from '../protocol/reply';
import { delegatedDatasets, delegateDatasetWord } from './datasets';
import { isJsonObject, own, type JsonObject, type MetadataMap, type VmData } from './vm-data';

const NOTFOUND: GetReply = { kind: 'notfound' };
/** An object or an array has no text that a guest could be given: FAILURE without a reason. */
const NO_TEXT: GetReply = { kind: 'failure', text: '' };

/** The host's secrets and options, which the platform's agent lets guests read. */
export const DENIED: ReadonlySet<string> = new Set([
  'internal_metadata',
  'vnc_password',
  'spice_password',
  'spice_opts',
  'qemu_opts',
  'qemu_extra_opts',
  'bhyve_extra_opts',
]);

/** Names with an answer of their own. A new one is a row here. */
const SPECIAL = new Map<string, (vm: JsonObject, data: VmData) => GetReply>([
  ['nics', (vm) => renderJson(property(vm, 'nics'))],
  ['resolvers', (vm) => renderJson(property(vm, 'resolvers'))],
  ['tmpfs', (vm) => renderJson(property(vm, 'tmpfs'))],
  ['routes', (vm, data) => renderJson(routesOf(data.routes(), property(vm, 'nics')))],
  ['operator-script', (_vm, data) => render(data.metadata().internal.get('operator-script'))],
  ['volumes', (_vm, data) => render(data.metadata().internal.get('sdc:volumes'))],
  ['metadata_bytes', (_vm, data) => render(data.use().bytes)],
  ['metadata_limit', (_vm, data) => render(data.use().bytesMax)],
  [
    'datasets',
    (vm) =>
      Array.isArray(property(vm, 'datasets')) ? renderJson(delegatedDatasets(vm)) : NOTFOUND,
  ],
  ['delegate_dataset', (vm) => render(delegateDatasetWord(vm))],
]);
/** The names that GETALL gives, as far as the VM has them: what images and tools ask for. */
export const WELL_KNOWN_NAMES: readonly string[] = [
  ...['uuid', 'image_uuid', 'server_uuid', 'datacenter_name', 'owner_uuid', 'alias', 'hostname'],
  ...['dns_domain', 'nics', 'resolvers', 'routes', 'operator-script', 'volumes', 'tmpfs'],
  ...['maintain_resolvers', 'quota', 'brand', 'create_timestamp', 'cpu_cap'],
  ...['max_physical_memory', 'package_name', 'package_version'],
];
/** `NAME.KEY` points into these maps. */
const MAPS: ReadonlyMap<string, (data: VmData) => MetadataMap> = new Map([
  ['customer_metadata', (data: VmData) => data.metadata().customer],
  ['routes', (data: VmData) => data.routes()],
  ['tags', (data: VmData) => data.tags()],
]);
/** What special names read of the metadata: the value of a key, or names only. */
const NEEDS: ReadonlyMap<string, string | null> = new Map([
  ['operator-script', 'operator-script'],
  ['volumes', 'sdc:volumes'],
  ['metadata_bytes', null],
  ['metadata_limit', null],
]);
const CUSTOMER_PREFIX = 'customer_metadata.';
/** `NAME.INDEX` points into these arrays. */
const ARRAYS: ReadonlySet<string> = new Set(['internal_metadata_namespaces', 'resolvers']);
/** `NAME.INDEX.PROPERTY` points into the objects in these arrays. */
const ARRAYS_OF_OBJECTS: ReadonlySet<string> = new Set(['disks', 'nics', 'pci_devices']);

/** The answer to GET of `sdc:` and `name`. */
export function sdcValue(name: string, vm: JsonObject, data: VmData): GetReply {
  if (DENIED.has(name) || name.startsWith('internal_metadata.')) {
    return NOTFOUND;
  }
  const special = SPECIAL.get(name);
  if (special !== undefined) {
    return special(vm, data);
  }
  if (name.startsWith('tags.')) {
    // What follows is a tag's name, dots included.
    return render(data.tags().get(name.slice('tags.'.length)));
  }
  if (MAPS.has(name)) {
    return NO_TEXT;
  }
  return render(flattened(name, vm, data));
}

/** The key that the answer to a name reads of the metadata; null for names only, undefined for nothing. */
export function metadataNeedOf(name: string): string | null | undefined {
  return name.startsWith(CUSTOMER_PREFIX) ? name.slice(CUSTOMER_PREFIX.length) : NEEDS.get(name);
}

/** A value as text. Numbers and booleans as JavaScript writes them; false is a value. */
export function render(value: unknown): GetReply {
  switch (typeof value) {
    case 'string':
      return { kind: 'success', text: value };
    case 'number':
    case 'boolean':
      return { kind: 'success', text: String(value) };
    case 'object':
      return value === null ? NOTFOUND : NO_TEXT;
    default:
      return NOTFOUND;
  }
}

/** Compact JSON, which some names promise whatever the value is. */
function renderJson(value: unknown): GetReply {
  return value === undefined || value === null
    ? NOTFOUND
    : { kind: 'success', text: JSON.stringify(value) };
}

function flattened(name: string, vm: JsonObject, data: VmData): unknown {
  const tokens = name.split('.', 4);
  const [first = '', second = '', third = ''] = tokens;
  if (tokens.length === 3 && ARRAYS_OF_OBJECTS.has(first)) {
    return property(element(property(vm, first), second), third);
  }
  if (tokens.length === 2 && ARRAYS.has(first)) {
    return element(property(vm, first), second);
  }
  const map = tokens.length === 2 ? MAPS.get(first) : undefined;
  return map === undefined ? property(vm, name) : map(data).get(second);
}

function element(array: unknown, index: string): unknown {
  return Array.isArray(array) && /^(?:0|[1-9][0-9]*)$/.test(index)
    ? array[Number(index)]
    : undefined;
}

/** An array's own `length` is nobody's property either. */
function property(object: unknown, name: string): unknown {
  return isJsonObject(object) ? own(object, name) : undefined;
}

/** One route of `sdc:routes`, its properties in the order in which guests see them. */
export interface Route {
  readonly linklocal: boolean;
  readonly dst: string;
  readonly gateway: string;
}

/**
 * `sdc:routes`: the VM's static routes, with references to its own interfaces turned into addresses.
 *
 *     {"10.2.2.0/24": "10.2.1.1"}         -> {"linklocal": false, "dst", "gateway": "10.2.1.1"}
 *     {"10.3.0.1": "nics[2]"}             -> {"linklocal": true,  "dst", "gateway": ip of that nic}
 *     {"10.4.0.0/16": "macs[90:b8:...]"}  -> the same, by MAC address
 *
 * A reference that leads nowhere, or to a nic without a fixed address, leaves its route out, as does a gateway that is
 * not a string: a boot script is better off without a route than with one that it cannot parse.
 */
export function routesOf(routes: ReadonlyMap<string, unknown>, nics: unknown): Route[] {
  const list: readonly unknown[] = Array.isArray(nics) ? nics : [];
  return [...routes].flatMap(([dst, gateway]): Route[] => {
    if (typeof gateway !== 'string') {
      return [];
    }
    const [, mac, index] = /^(?:macs\[(.+)\]|nics\[([0-9]+)\])$/.exec(gateway) ?? [];
    if (mac === undefined && index === undefined) {
      return [{ linklocal: false, dst, gateway }];
    }
    const wanted = macNumber(mac);
    const nic =
      wanted === null
        ? list[Number(index)]
        : list.find((each) => macNumber(property(each, 'mac')) === wanted);
    const ip = property(nic, 'ip');
    return typeof ip !== 'string' || ip === '' || ip === 'dhcp'
      ? []
      : [{ linklocal: true, dst, gateway: ip }];
  });
}

/**
 * A MAC as the 48-bit number that it is, as it may be written `90:B8:D0:B:0:1`, `90-b8-d0-0b-00-01` or
 * `90b8d00b0001`. Null when it is none.
 */
function macNumber(text: unknown): number | null {
  if (typeof text !== 'string') {
    return null;
  }
  if (/^[0-9a-f]{12}$/i.test(text)) {
    return parseInt(text, 16);
  }
  if (!/^[0-9a-f]{1,2}(?:(?::[0-9a-f]{1,2}){5}|(?:-[0-9a-f]{1,2}){5})$/i.test(text)) {
    return null;
  }
  return text.split(/[:-]/).reduce((sum, byte) => sum * 256 + parseInt(byte, 16), 0);
}
