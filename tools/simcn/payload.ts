/*
 * What `vmadm create` and `vmadm update` make of a payload: a VM, or a change of one.
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
  nicsOf,
  PayloadError,
  shown,
  updatesOf,
  vmNic,
  wholeMac,
  type Nic,
} from './nics';
import {
  hasProperty,
  isBrandName,
  kindOf,
  listOf,
  validate,
  type Action,
  type BrandName,
} from './properties';

/** The maps of a VM that have files of their own, and are changed by `set_NAME` and `remove_NAME`. */
export const MAPS = ['customer_metadata', 'internal_metadata', 'tags', 'routes'] as const;
export type MapName = (typeof MAPS)[number];

const NOBODY = '00000000-0000-0000-0000-000000000000';
const MIN_SWAP_MIB = 256;
const RECORD_BYTES = 131_072;
const HVM_LIMIT_PRIV =
  'default,-file_link_any,-net_access,-proc_fork,-proc_info,-proc_session'.split(',');
/** MiB that the hypervisor itself may use: what is added, and what must be left. */
const OVERHEAD: ReadonlyMap<string, { added: number; least: number }> = new Map([
  ['bhyve', { added: 1280, least: 256 }],
  ['kvm', { added: 1024, least: 256 }],
]);
const DISK_MODELS: ReadonlyMap<string, readonly string[]> = new Map([
  ['bhyve', ['virtio', 'ahci', 'nvme']],
  ['kvm', ['virtio', 'scsi', 'ide']],
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
/** Steer the creation, and are no properties of a VM. */
const NOT_KEPT = ['nowait', 'mdata_exec_timeout', 'delegate_dataset', 'dataset_uuid'].concat(
  ...['zone_dataset_uuid', 'zfs_storage_pool_name', ...MAPS],
);
/** An update takes them without a word, and changes nothing: they have their own ways. */
const IGNORED_BY_UPDATE = ['nics', 'disks', 'filesystems', ...MAPS];

type Members = Map<string, unknown>;

export interface CreatedVm {
  readonly uuid: string;
  readonly zonename: string;
  readonly properties: JsonObject;
  readonly maps: ReadonlyMap<MapName, JsonObject>;
  readonly autoboot: boolean;
  /** `vmadm create` does not wait for the zone to run. */
  readonly nowait: boolean;
  readonly warnings: readonly string[];
}

/**
 * The VM that a payload of create asks for.
 * @param lenient what a node without images and networks cannot know may be missing: the image, an lx
 *     zone's kernel version, a nic's tag and model; a console's password may be too long
 * @throws PayloadError in the platform's words
 */
export function createdVm(given: JsonObject, lenient: boolean): CreatedVm {
  const payload = typed(given);
  const own = new Set(payload.keys());
  const uuid = payload.get('uuid') ?? randomUUID();
  payload.set('uuid', uuid);
  const brand = applyDefaults(payload);
  addDocker(payload, brand, undefined);
  const replaced = payload.get('dataset_uuid') ?? payload.get('zone_dataset_uuid');
  if (replaced !== undefined) {
    setDefault(payload, 'image_uuid', replaced);
  }
  if (lenient) {
    setDefault(payload, 'image_uuid', NOBODY);
    setDefault(payload, 'kernel_version', '');
  }
  const warnings = dropInvalid(payload, brand, 'create', own);
  if (lenient && !own.has('image_uuid') && replaced === undefined) {
    payload.delete('image_uuid');
  }

  const nics = addedNics(payload.get('nics'));
  for (const nic of lenient ? nics : []) {
    nic.nic_tag ??= 'external';
  }
  for (const nic of brand === 'kvm' || brand === 'bhyve' ? nics : []) {
    nic.model ??= payload.get('nic_driver') ?? (lenient ? 'virtio' : undefined);
  }
  makeBooleans(payload);
  checkNics(nics, [], brand);
  const routes = objectOf(payload.get('routes'));
  checkRoutes(routes, routes, nics);
  checkScalars(payload, lenient);
  nameInterfaces(nics, brand);
  const zonename = shown(payload.get('zonename') ?? uuid);
  const maps = new Map(MAPS.map((name) => [name, objectOf(payload.get(name))]));
  return {
    uuid: shown(uuid),
    zonename,
    properties: propertiesOf(payload, { brand, zonename, nics, uuid: shown(uuid), lenient }),
    maps,
    autoboot: payload.get('autoboot') === true,
    nowait: payload.get('nowait') === true,
    warnings,
  };
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

/** Text that should be a number or a list becomes one; an empty number is one that is taken away. */
function typed(given: JsonObject): Members {
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

/** VM.js, applyZoneDefaults. @returns the brand */
function applyDefaults(payload: Members): BrandName {
  setDefault(payload, 'brand', 'joyent');
  const brand = payload.get('brand');
  if (!isBrandName(brand)) {
    throw new PayloadError(`Unsupported brand: ${String(brand)}`);
  }
  const hvm = OVERHEAD.has(brand);
  setDefault(payload, 'owner_uuid', NOBODY);
  setDefault(payload, 'billing_id', NOBODY);
  setDefault(payload, 'autoboot', true);
  setDefault(payload, 'zpool', payload.get('zfs_storage_pool_name') ?? 'zones');
  setDefault(payload, 'cpu_shares', 100);
  payload.set('cpu_shares', Math.min(numberIn(payload, 'cpu_shares') ?? 100, 65_535));
  setDefault(payload, 'zfs_io_priority', 100);
  setDefault(payload, 'max_lwps', 2000);
  setDefault(payload, 'ram', 256);
  if (!hvm) {
    setDefault(payload, 'dns_domain', 'local');
  }
  fitMemory(payload, brand, {});
  if (hasProperty(brand, 'vcpus')) {
    setDefault(payload, 'vcpus', 1);
  }
  setDefault(payload, 'limit_priv', hvm ? HVM_LIMIT_PRIV : ['default']);
  setDefault(payload, 'quota', brand === 'bhyve' ? 1 : 10);
  setDefault(payload, 'firewall_enabled', false);
  return brand;
}

/**
 * The limits that follow from each other. (VM.js, fixPayloadMemory)
 * @param vm as it is; empty for one that is being made
 */
function fitMemory(payload: Members, brand: BrandName, vm: JsonObject): void {
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

/** What `docker: true` brings with it: the namespace, an id, and an init that nobody restarts. */
function addDocker(payload: Members, brand: BrandName, vm: JsonObject | undefined): void {
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
function dropInvalid(
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

function makeBooleans(payload: Members): void {
  for (const [name, value] of payload) {
    if (kindOf(name) === 'boolean') {
      payload.set(name, looseBoolean(value));
    }
  }
}

/** VM.js, checkPayloadProperties, as far as single values go. */
function checkScalars(payload: Members, lenient = false): void {
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

interface Parts {
  readonly brand: BrandName;
  readonly uuid: string;
  readonly zonename: string;
  readonly nics: readonly Nic[];
  readonly lenient: boolean;
}

/** The VM's properties as they are read back after a create. */
function propertiesOf(payload: Members, parts: Parts): JsonObject {
  const { brand, uuid, zonename, nics } = parts;
  const dataset = `zones/${zonename}`;
  const kept: Record<string, unknown> = {};
  for (const [name, value] of payload) {
    const form = NOT_KEPT.includes(name) ? undefined : keptForm(name, value, brand);
    if (form !== undefined) {
      kept[name] = form;
    }
  }
  if (brand === 'bhyve' && kept.com1 === undefined && kept.com2 === undefined) {
    kept.com1 = '/dev/zconsole';
    kept.com2 = 'socket,/tmp/vm.ttyb';
  }
  return {
    zonename,
    ...kept,
    uuid,
    v: 1,
    create_timestamp: new Date().toISOString(),
    zonepath: `/${dataset}`,
    zfs_filesystem: dataset,
    zfs_root_recsize: payload.get('zfs_root_recsize') ?? RECORD_BYTES,
    resolvers: payload.get('resolvers') ?? [],
    nics: nics.map(vmNic),
    ...(OVERHEAD.has(brand) ? { disks: disksOf(payload, parts) } : {}),
    ...(payload.get('delegate_dataset') === true ? { datasets: [`${dataset}/data`] } : {}),
  };
}

/** VM.js, createVolumes and checkPayloadProperties. */
function disksOf(payload: Members, { brand, uuid, lenient }: Parts): JsonObject[] {
  const given = payload.get('disks');
  const disks = Array.isArray(given) ? given.filter(isJsonObject) : [];
  return disks.map((disk, i) => {
    if (disk.path !== undefined && disk.media !== 'cdrom' && looseBoolean(disk.nocreate) !== true) {
      throw new PayloadError('you cannot specify a path for a disk unless you set nocreate=true');
    }
    const model = disk.model ?? payload.get('disk_driver') ?? (lenient ? 'virtio' : undefined);
    if (model === undefined) {
      throw new PayloadError(`missing .model option for disk: ${JSON.stringify(disk)}`);
    }
    const models = DISK_MODELS.get(brand) ?? [];
    if (!models.some((known) => known === model)) {
      const words = `"${shown(model)}" is not a valid disk model for ${brand} brand.`;
      throw new PayloadError(`${words} Valid are: ${models.join(',')}`);
    }
    const dataset = brand === 'bhyve' ? `zones/${uuid}/disk${i}` : `zones/${uuid}-disk${i}`;
    const slot = disk.media === 'cdrom' ? `0:3:${i}` : `0:4:${i}`;
    return {
      path: `/dev/zvol/rdsk/${dataset}`,
      media: 'disk',
      ...disk,
      boot: looseBoolean(disk.boot ?? false),
      model,
      ...(disk.path === undefined ? { zfs_filesystem: dataset, zpool: 'zones' } : {}),
      size: Number(disk.size ?? disk.image_size ?? 0),
      ...(brand === 'bhyve' ? { pci_slot: disk.pci_slot ?? slot } : {}),
      ...(brand === 'bhyve' ? { uuid: disk.uuid ?? randomUUID() } : {}),
    };
  });
}

/** How a property stands in the VM object; undefined where it does not. (VM.js, setAttr) */
function keptForm(name: string, value: unknown, brand: BrandName): unknown {
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

function setDefault(payload: Members, name: string, value: unknown): void {
  if (!payload.has(name)) {
    payload.set(name, value);
  }
}

function numberIn(payload: Members, name: string): number | undefined {
  const value = payload.get(name);
  return typeof value === 'number' ? value : undefined;
}

function objectOf(value: unknown): JsonObject {
  return isJsonObject(value) ? value : {};
}
