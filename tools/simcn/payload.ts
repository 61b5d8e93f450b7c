/*
 * What a payload of `vmadm update` (vmadm-update.ts) changes in a VM, and what `vmadm create` (vm-input.ts) does with a
 * payload alike: types, limits, values, and the form in which a VM keeps them.
 *
 * The steps are the platform's, in its order (smartos-live src/vm/node_modules/VM.js, normalizePayload):
 * numbers and lists given as text get their types, defaults are filled in (applyZoneDefaults,
 * fixPayloadMemory), docker brings what it needs, the tables of properties.ts are consulted (a property
 * that is not for this brand or action is dropped with a warning, a bad value refuses the whole payload),
 * and nics get what they lack (nics.ts). Refusals are in the platform's words. Pure but for the ids that
 * it makes up.
 */
import { randomUUID } from 'node:crypto';

import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import {
  addedNics,
  changedNic,
  checkNics,
  checkRoutes,
  choosePrimary,
  looseBoolean,
  nameInterfaces,
  type Nic,
  nicsOf,
  PayloadError,
  shown,
  updatesOf,
  vmNic,
  wholeMac,
} from './nics';
import { type Action, type BrandName, isBrandName, kindOf, listOf, validate } from './properties';

/** The maps of a VM that have files of their own, and are changed by `set_NAME` and `remove_NAME`. */
export const MAPS = ['customer_metadata', 'internal_metadata', 'tags', 'routes'] as const;
export type MapName = (typeof MAPS)[number];

export const NOBODY = '00000000-0000-0000-0000-000000000000';
const MIN_SWAP_MIB = 256;
export const RECORD_BYTES = 131_072;
/** MiB that the hypervisor itself may use: what is added, and what must be left. */
export const OVERHEAD: ReadonlyMap<string, { added: number; least: number }> = new Map([
  ['bhyve', { added: 1280, least: 256 }],
  ['kvm', { added: 1024, least: 256 }],
]);
const DOCKER_INIT: ReadonlyMap<string, string> = new Map([
  ['joyent-minimal', '/usr/vm/sbin/dockerinit'],
  ['lx', '/native/usr/vm/sbin/dockerinit'],
]);
const VGA_TYPES = ['cirrus', 'std', 'vmware', 'qxl', 'xenfb'];
const GZIP_LEVELS = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((level) => `gzip-${level}`);
const COMPRESSIONS = ['on', 'off', 'gzip', ...GZIP_LEVELS, 'lz4', 'lzjb', 'zle'];

/** Kept in a VM only where they say something else than their default. (VM.js, buildZonecfgUpdate) */
const ABSENT_WHERE_FALSE = ['archive_on_delete', 'do_not_inventory', 'docker'].concat(
  'maintain_resolvers',
);
/** Kept as one text. */
const JOINED = ['limit_priv', 'fs_allowed'];

/** An update takes them without a word, and changes nothing: they have their own ways. */
const IGNORED_BY_UPDATE = ['nics', 'disks', 'filesystems', ...MAPS];

/** A payload on its way: Map, as names come from outside. */
export type Members = Map<string, unknown>;

/** Text that should be a number or a list becomes one; an empty number removes the property. */
export function typed(given: JsonObject): Members {
  const payload: Members = new Map();
  for (const [name, value] of Object.entries(given)) {
    switch (kindOf(name)) {
      case 'integer':
        payload.set(name, typeof value === 'boolean' ? value : integerOf(name, value));
        break;
      case 'list':
        payload.set(name, typeof value === 'string' ? listOf(value) : value);
        break;
      default:
        payload.set(name, value);
    }
  }
  return payload;
}

function integerOf(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null || value === '') {
    return undefined;
  }
  const number = Number(value);
  if (Number.isNaN(number)) {
    // The value is no number any more when the platform tells of it.
    throw new PayloadError(`Invalid value for ${name}: null:number`);
  }
  return number;
}

/**
 * The limits that follow from each other. (VM.js, fixPayloadMemory)
 * @param vm as it is; empty for one that is being made
 */
export function fitMemory(payload: Members, brand: BrandName, vm: JsonObject): void {
  const before = (name: string): number | undefined => {
    return typeof vm[name] === 'number' ? vm[name] : undefined;
  };
  const overhead = OVERHEAD.get(brand);
  const givenRam = numberIn(payload, 'ram');
  if (givenRam !== undefined && !payload.has('max_physical_memory')) {
    payload.set('max_physical_memory', givenRam + (overhead?.added ?? 0));
  }
  const physical = numberIn(payload, 'max_physical_memory');
  const oldPhysical = before('max_physical_memory');
  if (physical !== undefined) {
    // What a limit was away from the memory it stays away, where there was one.
    const moved = (name: string): number => {
      const old = before(name);
      return old === undefined || oldPhysical === undefined
        ? physical
        : physical + (old - oldPhysical);
    };
    setDefault(payload, 'max_locked_memory', moved('max_locked_memory'));
    const raised = before('max_swap') === MIN_SWAP_MIB && physical >= MIN_SWAP_MIB;
    setDefault(payload, 'max_swap', Math.max(raised ? physical : moved('max_swap'), MIN_SWAP_MIB));
  }
  const tmpfs = numberIn(payload, 'tmpfs');
  if (tmpfs !== undefined) {
    payload.set('tmpfs', Math.min(tmpfs, physical ?? oldPhysical ?? Infinity));
  } else if (physical !== undefined && overhead === undefined && !payload.has('tmpfs')) {
    const oldTmpfs = before('tmpfs');
    const ratio = oldTmpfs === undefined || !oldPhysical ? 1 : oldTmpfs / oldPhysical;
    payload.set('tmpfs', Math.round(ratio * physical));
  }
  if (physical !== undefined) {
    for (const [name, value] of [
      ['max_shm_memory', physical],
      ['max_msg_ids', 4096],
      ['max_sem_ids', 4096],
      ['max_shm_ids', 4096],
    ] as const) {
      if (before(name) === undefined) {
        setDefault(payload, name, value);
      }
    }
  }
  const ram = givenRam ?? before('ram');
  for (const name of ['max_physical_memory', 'max_locked_memory']) {
    const value = numberIn(payload, name) ?? before(name);
    if (overhead !== undefined && ram !== undefined && value !== undefined) {
      const least = ram + overhead.least;
      if (least > value) {
        payload.set(name, least);
      }
    }
  }
  const ceiling = numberIn(payload, 'max_physical_memory') ?? oldPhysical;
  const locked = numberIn(payload, 'max_locked_memory');
  const swap = numberIn(payload, 'max_swap');
  if (ceiling !== undefined && locked !== undefined && locked > ceiling) {
    payload.set('max_locked_memory', ceiling);
  }
  if (ceiling !== undefined && swap !== undefined && swap < ceiling) {
    payload.set('max_swap', ceiling);
  }
}

/** What `docker: true` brings with it: the namespace, an id, and an init that is not restarted. */
export function addDocker(payload: Members, brand: BrandName, vm: JsonObject | undefined): void {
  if (looseBoolean(payload.get('docker')) !== true) {
    return;
  }
  const present = listOf(vm?.internal_metadata_namespaces) ?? [];
  if (!present.includes('docker')) {
    const wanted = listOf(payload.get('internal_metadata_namespaces')) ?? [];
    payload.set('internal_metadata_namespaces', [...new Set([...wanted, 'docker'])]);
  }
  if (vm?.restart_init !== false) {
    payload.set('restart_init', false);
  }
  const init = DOCKER_INIT.get(brand);
  if (vm?.init_name === undefined && !payload.get('init_name') && init !== undefined) {
    payload.set('init_name', init);
  }
  const map = vm === undefined ? 'internal_metadata' : 'set_internal_metadata';
  const uuid = String(vm?.uuid ?? payload.get('uuid'));
  if (objectOf(vm?.internal_metadata)['docker:id'] === undefined) {
    const id = `${uuid}${randomUUID()}`.replaceAll('-', '');
    payload.set(map, { 'docker:id': id, ...objectOf(payload.get(map)) });
  }
}

/**
 * Refuses bad values, and drops what is not for this brand or action.
 * @param own what was given, not filled in: only that is warned of
 */
export function dropInvalid(
  payload: Members,
  brand: BrandName,
  action: Action,
  own: ReadonlySet<string>,
): string[] {
  const problems = validate(brand, action, Object.fromEntries(payload));
  if (problems === null) {
    return [];
  }
  const { bad_values, missing_properties, bad_properties } = problems;
  if (bad_values.length > 0) {
    throw new PayloadError(`Invalid value(s) for: ${bad_values.join(',')}`);
  }
  if (missing_properties.length > 0) {
    throw new PayloadError(`Missing required properties: ${missing_properties.join(',')}`);
  }
  for (const name of bad_properties) {
    const [, list = '', member] = /^(\w+)\.\*\.(.*)$/.exec(name) ?? [];
    if (member === undefined) {
      payload.delete(name);
      continue;
    }
    for (const prefix of ['', 'add_', 'update_']) {
      const elements = payload.get(`${prefix}${list}`);
      if (Array.isArray(elements)) {
        payload.set(`${prefix}${list}`, elements.filter(isJsonObject).map(without(member)));
      }
    }
  }
  return bad_properties
    .filter((name) => own.has(name) || name.includes('.'))
    .map((name) => `Warning, invalid ${action} property: [${name}] removing from payload.`);
}

function without(member: string): (object: JsonObject) => JsonObject {
  return (object) => {
    return Object.fromEntries(Object.entries(object).filter(([name]) => name !== member));
  };
}

export function makeBooleans(payload: Members): void {
  for (const [name, value] of payload) {
    if (kindOf(name) === 'boolean') {
      payload.set(name, looseBoolean(value));
    }
  }
}

/** VM.js, checkPayloadProperties, as far as single values go. */
export function checkScalars(payload: Members, lenient = false): void {
  const vga = payload.get('vga');
  if (vga !== undefined && !VGA_TYPES.some((type) => type === vga)) {
    throw new PayloadError(
      `Invalid VGA type: "${shown(vga)}", supported types are: ${VGA_TYPES.join(',')}`,
    );
  }
  if (!lenient && shown(payload.get('vnc_password') ?? '').length > 8) {
    throw new PayloadError('VNC password is too long, maximum length is 8 characters.');
  }
  for (const name of ['zfs_root_recsize', 'zfs_data_recsize']) {
    const size = payload.get(name);
    if (payload.has(name) && (size === 0 || size === undefined)) {
      payload.set(name, RECORD_BYTES);
    } else if (size !== undefined && !isRecordSize(Number(size))) {
      const words = `invalid ${name} (${shown(size)}), must be 512-131072 and a power of 2.`;
      throw new PayloadError(`${words} (0 to disable)`);
    }
  }
  for (const name of ['zfs_root_compression', 'zfs_data_compression']) {
    const type = payload.get(name);
    if (payload.has(name) && !COMPRESSIONS.some((known) => known === type)) {
      const words = `invalid compression type for ${String(type)}, must be one of: `;
      throw new PayloadError(words + COMPRESSIONS.join(', '));
    }
  }
}

function isRecordSize(bytes: number): boolean {
  return bytes >= 512 && bytes <= RECORD_BYTES && Number.isInteger(Math.log2(bytes));
}

/** How a property stands in the VM object; undefined where it does not. (VM.js, setAttr) */
export function keptForm(name: string, value: unknown, brand: BrandName): unknown {
  if (ABSENT_WHERE_FALSE.includes(name)) {
    return value === true ? true : undefined;
  }
  switch (name) {
    case 'firewall_enabled':
      return value === true;
    case 'restart_init':
      return value === false ? false : undefined;
    case 'autoboot':
      return value !== false && value !== '';
    case 'ram':
      return OVERHEAD.has(brand) ? value : undefined;
    case 'tmpfs':
    case 'quota':
    case 'zfs_snapshot_limit':
    case 'zfs_filesystem_limit':
      return value ?? undefined;
    case 'resolvers':
      return value ?? [];
    default:
      if (JOINED.includes(name) && Array.isArray(value)) {
        return value.length === 0 ? undefined : value.join(',');
      }
      if (Array.isArray(value) && kindOf(name) === 'list') {
        return value.length === 0 ? undefined : value;
      }
      return value === null || value === '' || value === 0 ? undefined : value;
  }
}

export function setDefault(payload: Members, name: string, value: unknown): void {
  if (!payload.has(name)) {
    payload.set(name, value);
  }
}

export function numberIn(payload: Members, name: string): number | undefined {
  const value = payload.get(name);
  return typeof value === 'number' ? value : undefined;
}

export function objectOf(value: unknown): JsonObject {
  return isJsonObject(value) ? value : {};
}

/** A change of a VM: the parts that are other than before. A property that is null goes away. */
export interface Change {
  readonly maps: ReadonlyMap<MapName, JsonObject>;
  readonly properties: JsonObject;
  readonly warnings: readonly string[];
}

/**
 * What a payload of update changes in a VM. Maps keep their order, new names come last.
 * @throws PayloadError in the platform's words
 */
export function changeOf(given: JsonObject, vm: JsonObject): Change {
  const { brand } = vm;
  if (!isBrandName(brand)) {
    throw new PayloadError(`Unsupported brand: ${String(brand)}`);
  }
  const payload = typed(given);
  const own = new Set(payload.keys());
  if (payload.has('quota') && payload.get('quota') === undefined) {
    payload.set('quota', 0);
  }
  fitMemory(payload, brand, vm);
  addDocker(payload, brand, vm);
  const warnings = dropInvalid(payload, brand, 'update', own);
  const nics = nicsAfter(payload, vm, brand);
  makeBooleans(payload);
  const maps = new Map<MapName, JsonObject>();
  const routesAfter = changedMap(vm.routes, payload, 'routes');
  checkRoutes(routesAfter, objectOf(payload.get('set_routes')), nics ?? nicsOf(vm.nics));
  checkScalars(payload);
  for (const name of MAPS) {
    const after = name === 'routes' ? routesAfter : changedMap(vm[name], payload, name);
    if (JSON.stringify(objectOf(vm[name])) !== JSON.stringify(after)) {
      maps.set(name, after);
    }
  }
  const properties: Record<string, unknown> = {};
  for (const [name, value] of payload) {
    if (/^(add|update|remove|set)_/.test(name) || IGNORED_BY_UPDATE.includes(name)) {
      continue;
    }
    const kept = keptForm(name, value, brand) ?? null;
    if (JSON.stringify(vm[name] ?? null) !== JSON.stringify(kept)) {
      properties[name] = kept;
    }
  }
  if (nics !== null) {
    properties.nics = nics.map(vmNic);
  }
  return { maps, properties, warnings };
}

/** The nics after an update; null where it names none. */
function nicsAfter(payload: Members, vm: JsonObject, brand: BrandName): Nic[] | null {
  const lists = ['add_nics', 'update_nics', 'remove_nics'].map((name) => payload.get(name));
  if (lists.every((list) => list === undefined)) {
    return null;
  }
  const present = nicsOf(vm.nics);
  const updates = updatesOf(payload.get('update_nics'), present);
  const added = addedNics(payload.get('add_nics'));
  for (const nic of added) {
    nic.model ??= brand === 'kvm' || brand === 'bhyve' ? present[0]?.model : undefined;
    if (nic.model === undefined) {
      delete nic.model;
    }
  }
  const gone = new Set((listOf(payload.get('remove_nics')) ?? []).map(wholeMac));
  const changed = present
    .map((nic) => {
      const update = updates.find(({ mac }) => mac === nic.mac);
      return update === undefined ? nic : changedNic(nic, update);
    })
    .filter((nic) => !gone.has(String(nic.mac)));
  checkNics(added, changed, brand);
  const nics = [...changed, ...added];
  nameInterfaces(nics, brand);
  const chosen = [...added, ...updates].find(({ primary }) => primary === true)?.mac;
  const lost = present.some((nic) => nic.primary === true && gone.has(String(nic.mac)));
  choosePrimary(nics, chosen, lost);
  return nics;
}

function changedMap(before: unknown, payload: Members, name: MapName): JsonObject {
  const after = new Map(Object.entries(objectOf(before)));
  for (const key of listOf(payload.get(`remove_${name}`)) ?? []) {
    after.delete(String(key));
  }
  for (const [key, value] of Object.entries(objectOf(payload.get(`set_${name}`)))) {
    after.set(key, value);
  }
  // Assigned to a plain object, as the platform does it, this name sets nothing.
  after.delete('__proto__');
  return Object.fromEntries(after);
}
