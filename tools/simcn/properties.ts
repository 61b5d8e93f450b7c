/*
 * Which properties a payload of vmadm may have, by brand and by what is done, and which values they take.
 *
 * The tables of the platform's proptable.js (smartos-live src/vm/node_modules/proptable.js), as far as
 * create and update go, and the checks of `VM.validate` and `validateProperty` in VM.js beside it.
 * payload.ts fits and applies what passes here. Pure.
 */
import { isIP } from 'node:net';

import { isJsonObject, own, type JsonObject } from '../../src/metadata/vm-data';

export type Action = 'create' | 'update';
export type BrandName = 'bhyve' | 'builder' | 'joyent' | 'joyent-minimal' | 'kvm' | 'lx';
type Kind =
  'boolean' | 'flat-object' | 'integer' | 'list' | 'object-array' | 'string' | 'uuid' | 'zpool';

interface Rule {
  readonly kind: Kind;
  readonly brands: readonly BrandName[];
  /** What it may be given to; of a member of nics and the like, `create` is adding. */
  readonly actions: readonly Action[];
  readonly min?: number;
  readonly max?: number;
  /** Must hold for the text, or for each element of the list. */
  readonly valid?: (value: unknown) => boolean;
}

const OS = ['joyent', 'joyent-minimal', 'builder', 'lx'] as const;
const HVM = ['bhyve', 'kvm'] as const;
const ALL = [...OS, ...HVM];
const NOT_BHYVE = [...OS, 'kvm'] as const;
const BOTH = ['create', 'update'] as const;
const CREATE = ['create'] as const;
const UPDATE = ['update'] as const;

export const UUID = /^[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}$/;
/** The only pool of a simulated node. */
const POOL = 'zones';

type More = Pick<Rule, 'min' | 'max' | 'valid'>;

function each(
  names: string,
  kind: Kind,
  brands: readonly BrandName[],
  actions: readonly Action[],
  more: More = kind === 'integer' ? { min: 0 } : {},
): [string, Rule][] {
  return names.split(' ').map((name) => [name, { kind, brands, actions, ...more }]);
}

const RULES: ReadonlyMap<string, Rule> = new Map([
  ...each('alias billing_id hostname owner_uuid zfs_root_compression', 'string', ALL, BOTH),
  ...each('archive_on_delete autoboot do_not_inventory firewall_enabled', 'boolean', ALL, BOTH),
  ...each('indestructible_delegated indestructible_zoneroot', 'boolean', ALL, BOTH),
  ...each('cpu_cap cpu_shares max_locked_memory max_lwps max_msg_ids', 'integer', ALL, BOTH),
  ...each('max_physical_memory max_sem_ids max_shm_ids max_shm_memory', 'integer', ALL, BOTH),
  ...each('quota ram zfs_filesystem_limit zfs_io_priority', 'integer', ALL, BOTH),
  ...each('zfs_root_recsize zfs_snapshot_limit', 'integer', ALL, BOTH),
  ...each('max_swap', 'integer', ALL, BOTH, { min: 256 }),
  ...each('internal_metadata_namespaces', 'list', ALL, BOTH, { valid: isAttribute }),
  ...each('limit_priv', 'list', ALL, BOTH),
  ...each('resolvers', 'list', ALL, BOTH, { valid: (value) => isIP(String(value)) !== 0 }),
  ...each('brand zonename', 'string', ALL, CREATE),
  ...each('uuid image_uuid', 'uuid', ALL, CREATE),
  ...each('customer_metadata internal_metadata routes tags', 'flat-object', ALL, CREATE),
  ...each('nics', 'object-array', ALL, CREATE),
  ...each('zpool', 'zpool', ALL, CREATE),
  ...each('zfs_storage_pool_name', 'zpool', NOT_BHYVE, CREATE),
  ...each('remove_customer_metadata remove_internal_metadata', 'list', ALL, UPDATE),
  ...each('remove_filesystems remove_nics remove_routes remove_tags', 'list', ALL, UPDATE),
  ...each('set_customer_metadata set_internal_metadata', 'flat-object', ALL, UPDATE),
  ...each('set_routes set_tags', 'flat-object', ALL, UPDATE),
  ...each('add_nics update_nics', 'object-array', ALL, UPDATE),

  ...each('dns_domain init_name zfs_data_compression', 'string', OS, BOTH),
  ...each('maintain_resolvers restart_init', 'boolean', OS, BOTH),
  ...each('tmpfs zfs_data_recsize zlog_max_size', 'integer', OS, BOTH),
  ...each('fs_allowed', 'list', OS, BOTH),
  ...each('delegate_dataset nowait', 'boolean', OS, CREATE),
  ...each('mdata_exec_timeout', 'integer', OS, CREATE),
  ...each('filesystems', 'object-array', OS, CREATE),
  ...each('dataset_uuid', 'uuid', OS, CREATE),
  ...each('docker', 'boolean', ['lx', 'joyent-minimal'], BOTH),
  ...each('kernel_version', 'string', ['lx'], BOTH),
  ...each('package_name package_version', 'string', NOT_BHYVE, BOTH),
  ...each('add_filesystems update_filesystems', 'object-array', NOT_BHYVE, UPDATE),

  ...each('boot disk_driver nic_driver vnc_password', 'string', HVM, BOTH),
  ...each('vcpus', 'integer', HVM, BOTH, { min: 1 }),
  ...each('vnc_port', 'integer', HVM, BOTH, { min: -1 }),
  ...each('disks', 'object-array', HVM, CREATE),
  ...each('zone_dataset_uuid', 'uuid', HVM, CREATE),
  ...each('add_disks update_disks', 'object-array', HVM, UPDATE),
  ...each('remove_disks', 'list', HVM, UPDATE),
  ...each('bhyve_extra_opts bootrom com1 com2', 'string', ['bhyve'], BOTH),
  ...each('flexible_disk_size', 'integer', ['bhyve'], BOTH),
  ...each('pci_devices add_pci_devices', 'object-array', ['bhyve'], BOTH),
  ...each('update_pci_devices', 'object-array', ['bhyve'], UPDATE),
  ...each('remove_pci_devices', 'list', ['bhyve'], UPDATE),
  ...each('cpu_type qemu_extra_opts qemu_opts spice_opts', 'string', ['kvm'], BOTH),
  ...each('spice_password vga', 'string', ['kvm'], BOTH),
  ...each('spice_port', 'integer', ['kvm'], BOTH, { min: -1 }),
  ...each('virtio_txburst virtio_txtimer', 'integer', ['kvm'], BOTH),

  // Known, and never to be given: `vmadm receive` has them.
  ...each('create_only', 'boolean', [], []),
  ...each('create_timestamp zfs_filesystem', 'string', [], []),
  ...each('datasets', 'list', [], []),
  ...each('transition', 'flat-object', [], []),
  ...each('v', 'integer', [], []),

  ...each('nics.*.allow_dhcp_spoofing nics.*.allow_ip_spoofing', 'boolean', ALL, BOTH),
  ...each('nics.*.allow_mac_spoofing nics.*.allow_restricted_traffic', 'boolean', ALL, BOTH),
  ...each('nics.*.dhcp_server nics.*.primary', 'boolean', ALL, BOTH),
  ...each('nics.*.allow_unfiltered_promisc', 'boolean', HVM, BOTH),
  ...each('nics.*.allowed_ips nics.*.blocked_outgoing_ports', 'list', ALL, BOTH),
  ...each('nics.*.gateways nics.*.ips', 'list', ALL, BOTH),
  ...each('nics.*.allowed_dhcp_cids', 'list', NOT_BHYVE, BOTH, { valid: isClientId }),
  ...each('nics.*.gateway nics.*.interface nics.*.ip nics.*.netmask', 'string', ALL, BOTH),
  ...each('nics.*.nic_tag nics.*.vrrp_primary_ip', 'string', ALL, BOTH),
  ...each('nics.*.mac', 'string', ALL, BOTH, { valid: isMac }),
  ...each('nics.*.model', 'string', HVM, BOTH),
  ...each('nics.*.mtu', 'integer', ALL, BOTH, { min: 576, max: 9000 }),
  ...each('nics.*.vlan_id', 'integer', ALL, BOTH, { min: 0, max: 4095 }),
  ...each('nics.*.vrrp_vrid', 'integer', ALL, BOTH, { min: 0, max: 255 }),
  ...each('nics.*.network_uuid', 'uuid', ALL, BOTH),

  ...each('disks.*.block_size disks.*.image_size', 'integer', HVM, CREATE),
  ...each('disks.*.refreservation disks.*.size', 'integer', HVM, BOTH),
  ...each('disks.*.boot', 'boolean', HVM, BOTH),
  ...each('disks.*.nocreate', 'boolean', HVM, CREATE),
  ...each('disks.*.notrim', 'boolean', ['bhyve'], BOTH),
  ...each('disks.*.dangerous_allow_shrink', 'boolean', ['bhyve'], UPDATE),
  ...each('disks.*.compression disks.*.media disks.*.model disks.*.path', 'string', HVM, BOTH),
  ...each('disks.*.guest_block_size disks.*.pci_slot', 'string', ['bhyve'], BOTH),
  ...each('disks.*.image_name', 'string', ['kvm'], BOTH),
  ...each('disks.*.zpool', 'string', HVM, CREATE),
  ...each('disks.*.image_uuid', 'uuid', HVM, CREATE),
  ...each('disks.*.uuid', 'uuid', ['bhyve'], BOTH),
  ...each('filesystems.*.options', 'list', OS, BOTH),
  ...each('filesystems.*.raw filesystems.*.source', 'string', OS, BOTH),
  ...each('filesystems.*.target filesystems.*.type', 'string', OS, BOTH),
  ...each('pci_devices.*.path pci_devices.*.pci_slot', 'string', ['bhyve'], BOTH),
]);

/** Must be given to create. An image is none that this node has, so `simcn create` asks for none. */
const REQUIRED: ReadonlyMap<string, readonly BrandName[]> = new Map<string, readonly BrandName[]>([
  ['brand', NOT_BHYVE],
  ['image_uuid', OS],
  ['kernel_version', ['lx']],
]);

/** What `vmadm validate` prints of a payload that does not pass. */
export interface Problems {
  readonly bad_values: string[];
  readonly bad_properties: string[];
  readonly missing_properties: string[];
}

export function isBrandName(name: unknown): name is BrandName {
  return ALL.some((known) => known === name);
}

/** Whether a property of the table is for VMs of this brand at all. */
export function hasProperty(brand: BrandName, name: string): boolean {
  return RULES.get(name)?.brands.includes(brand) === true;
}

/** The kind of a property, `nics.*.mtu` for a member of a nic; undefined for one that is not known. */
export function kindOf(name: string): Kind | undefined {
  return RULES.get(name)?.kind;
}

/**
 * Checks a payload as `VM.validate` does: all problems at once.
 * @returns null where there are none
 */
export function validate(brand: BrandName, action: Action, payload: JsonObject): Problems | null {
  const problems: Problems = { bad_values: [], bad_properties: [], missing_properties: [] };
  for (const [name, value] of Object.entries(payload)) {
    check(brand, action, name, value, problems);
    if (RULES.get(name)?.kind === 'object-array' && Array.isArray(value)) {
      const [, verb, plural = name] = /^(add|update)_(.*)$/.exec(name) ?? [];
      const done = verb === 'update' ? 'update' : 'create';
      for (const member of value) {
        for (const [inner, innerValue] of Object.entries(isJsonObject(member) ? member : {})) {
          check(brand, done, `${plural}.*.${inner}`, innerValue, problems);
        }
      }
    }
  }
  checkDisks(brand, payload, problems);
  for (const [name, brands] of action === 'create' ? REQUIRED : []) {
    if (brands.includes(brand) && !Object.hasOwn(payload, name)) {
      problems.missing_properties.push(name);
    }
  }
  return Object.values(problems).every((list: string[]) => list.length === 0) ? null : problems;
}

function check(
  brand: BrandName,
  action: Action,
  name: string,
  value: unknown,
  problems: Problems,
): void {
  const rule = RULES.get(name);
  if (rule === undefined || !rule.brands.includes(brand) || !rule.actions.includes(action)) {
    addOnce(problems.bad_properties, name);
  }
  if (rule !== undefined && !isGood(rule, value)) {
    addOnce(problems.bad_values, name);
  }
}

/** A disk is made of an image or by its size. (VM.js, validateDiskSource) */
function checkDisks(brand: BrandName, payload: JsonObject, problems: Problems): void {
  if (brand !== 'bhyve' && brand !== 'kvm') {
    return;
  }
  for (const list of ['disks', 'add_disks']) {
    const disks = own(payload, list);
    for (const [i, disk] of (Array.isArray(disks) ? disks : []).entries()) {
      const media = isJsonObject(disk) ? own(disk, 'media') : 'none';
      if (!isJsonObject(disk) || (media !== undefined && media !== 'disk')) {
        continue;
      }
      const wanted = Object.hasOwn(disk, 'image_uuid') ? 'image_size' : 'size';
      if (!Object.hasOwn(disk, wanted)) {
        problems.missing_properties.push(`${list}.${i}.${wanted}`);
      }
    }
  }
}

function isGood(rule: Rule, value: unknown): boolean {
  switch (rule.kind) {
    case 'uuid':
      return typeof value === 'string' && UUID.test(value);
    case 'boolean':
      return typeof value === 'boolean' || ['true', 'false', '1', 1].some((word) => word === value);
    case 'string':
      return isUnset(value) || (typeof value === 'string' && (rule.valid?.(value) ?? true));
    case 'integer':
      return isUnset(value) || (typeof value !== 'boolean' && isInRange(rule, Number(value)));
    case 'zpool':
      return value === POOL;
    case 'flat-object':
      return (
        typeof value === 'object' &&
        Object.values(value ?? {}).every((inner) => {
          return ['string', 'number', 'boolean'].includes(typeof inner);
        })
      );
    case 'list':
      return listOf(value)?.every((element) => isElement(rule, element)) ?? false;
    case 'object-array':
      return Array.isArray(value) && value.every((element) => typeof element === 'object');
  }
}

/** An empty value is how update removes a property. */
function isUnset(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'string' && !value.trim());
}

function isInRange({ min = -Infinity, max = Infinity }: Rule, value: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}

/** The lists travel as comma lists inside vmadm: an element with a comma would come out as two. */
function isElement(rule: Rule, element: unknown): boolean {
  return (
    (typeof element === 'string' || typeof element === 'number') &&
    !String(element).includes(',') &&
    (rule.valid?.(element) ?? true)
  );
}

/** A list that was given as one, or as text with commas; undefined for anything else. */
export function listOf(value: unknown): unknown[] | undefined {
  return typeof value === 'string'
    ? value.split(',').filter((element) => element !== '')
    : Array.isArray(value)
      ? value
      : undefined;
}

function isAttribute(value: unknown): boolean {
  return /^[a-zA-Z0-9._-]+$/.test(String(value));
}

function isMac(value: unknown): boolean {
  return /^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$/.test(String(value));
}

function isClientId(value: unknown): boolean {
  const text = String(value);
  return /^0x([0-9a-fA-F]{2})+$/.test(text) && text.length <= 512;
}

function addOnce(names: string[], name: string): void {
  if (!names.includes(name)) {
    names.push(name);
  }
}
