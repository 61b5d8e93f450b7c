/*
 * The input of `simcn create`, `vmadm create` and `simcn up --vms`: payloads of vmadm create,
 * and VM objects as `vmadm get` and `vmadm lookup -j` print them.
 *
 * A payload becomes a VM as the platform's create makes one, with its defaults (payload.ts). A VM object is kept as it is,
 * known properties or not: it holds what only the platform can have put there, and that is how the two
 * differ. Of what is only true there and then (zone ids, process ids, time stamps of a boot)
 * it is freed. Metadata, tags and routes go to files of their own in `<zonepath>/config`.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

import { DEFAULT_POLICY, expandPayload } from '../../src/datasets/policy';
import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { ZONE_STATES } from '../../src/platform/ffi';
import { brandOf } from './brand';
import {
  addedNics,
  checkNics,
  checkRoutes,
  looseBoolean,
  nameInterfaces,
  type Nic,
  PayloadError,
  shown,
  vmNic,
} from './nics';
import {
  addDocker,
  checkScalars,
  dropInvalid,
  fitMemory,
  keptForm,
  makeBooleans,
  type MapName,
  MAPS,
  type Members,
  NOBODY,
  numberIn,
  objectOf,
  OVERHEAD,
  RECORD_BYTES,
  setDefault,
  typed,
} from './payload';
import { type BrandName, hasProperty, isBrandName, UUID } from './properties';
import { type Image, imageSchema, type VmConfig } from './store';

/** The states in which a zone can start. */
const startState = z.enum(ZONE_STATES).exclude(['mounted']);
export type StartState = z.infer<typeof startState>;

export interface VmInput {
  readonly start: StartState;
  /** Whoever creates it does not wait for it to run. */
  readonly nowait: boolean;
  /** `provisioning`, `failed` and the like: lies over the state that zone_state gives. */
  readonly overlay: string | null;
  readonly image: Image | null;
  readonly properties: JsonObject;
  readonly config: VmConfig;
}

/** libzonecfg's rule; ZONENAME_MAX is 64 with the NUL. */
const ZONENAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/;
const HVM_LIMIT_PRIV =
  'default,-file_link_any,-net_access,-proc_fork,-proc_info,-proc_session'.split(',');
const DISK_MODELS: ReadonlyMap<string, readonly string[]> = new Map([
  ['bhyve', ['virtio', 'ahci', 'nvme']],
  ['kvm', ['virtio', 'scsi', 'ide']],
]);
/** Steer the creation, and are no properties of a VM. */
const NOT_KEPT = ['nowait', 'mdata_exec_timeout', 'delegate_dataset', 'dataset_uuid'].concat(
  ...['zone_dataset_uuid', 'zfs_storage_pool_name', ...MAPS],
);
const OVERLAYS = ['provisioning', 'failed', 'receiving', 'stopping'];

const object = z.record(z.string(), z.unknown());
const inputSchema = z.looseObject({
  uuid: z.string().regex(UUID, 'not a uuid in lower case').optional(),
  zonename: z.string().regex(ZONENAME, 'not a zone name').optional(),
  brand: z.string().min(1).default('joyent'),
  zonepath: z
    .string()
    .regex(/^(\/[a-zA-Z0-9_-][a-zA-Z0-9_.-]*)+$/, 'not an absolute, normal path')
    .optional(),
  zone_state: startState.default('running'),
  state: z.string().optional(),
  customer_metadata: object.default({}),
  internal_metadata: object.default({}),
  tags: object.default({}),
  routes: object.default({}),
  delegate_dataset: z.union([z.boolean(), z.stringbool(), z.null()]).default(false),
  nics: z.array(z.unknown()).default([]),
  resolvers: z.array(z.unknown()).default([]),
  simcn: imageSchema.optional(),
});

/** Properties that are true of a running zone only, or that only the CLI adds. */
const TRANSIENT = [
  'zoneid',
  'pid',
  'init_restarts',
  'boot_timestamp',
  'exit_timestamp',
  'last_modified',
  'type',
  'snapshots',
  'hvm',
  'device',
];

/** Only the platform puts these into a VM object: no payload of create may have them. */
const PLATFORMS_OWN = [
  ...TRANSIENT,
  ...['zone_state', 'state', 'zonepath', 'zfs_filesystem', 'datasets', 'create_timestamp', 'v'],
  ...['server_uuid', 'datacenter_name', 'headnode_id', 'platform_buildstamp', 'exit_status'],
];

export interface ParsedVms {
  readonly vms: readonly VmInput[];
  /** What was dropped, in the platform's words. */
  readonly warnings: readonly string[];
}

/**
 * Parses one payload or VM object, or an array of them. A `delegate_dataset` of "safe" is expanded.
 * @param strict as vmadm create: one payload, of which nothing may be missing
 * @throws Error that tells every wrong property, and the VM's place in the array
 */
export function parseVms(given: unknown, strict = false): ParsedVms {
  const list: readonly unknown[] = Array.isArray(given) && !strict ? given : [given];
  const warnings: string[] = [];
  const vms = list.map((vm, i) => {
    const labelled = (text: string): string => (strict ? text : `VM ${i}: ${text}`);
    const expanded = expandPayload(vm, DEFAULT_POLICY);
    if (expanded.kind === 'refused') {
      const reasons = expanded.reasons.map(({ code, text }) => `${code}: ${text}`);
      throw new Error(labelled(reasons.join('; ')));
    }
    const { payload } = expanded;
    if (!strict && PLATFORMS_OWN.some((name) => Object.hasOwn(payload, name))) {
      const parsed = inputSchema.safeParse(payload);
      if (!parsed.success) {
        const problems = parsed.error.issues.map(
          (issue) => `${issue.path.join('.')}: ${issue.message}`,
        );
        throw new Error(labelled(problems.join('; ')));
      }
      return split(parsed.data);
    }
    try {
      const made = fromPayload(payload, !strict);
      warnings.push(...made.warnings.map(labelled));
      return made.vm;
    } catch (err) {
      throw err instanceof PayloadError ? new Error(labelled(err.message)) : err;
    }
  });
  return { vms, warnings };
}

/**
 * The VM that a payload of create asks for.
 * @param lenient what a node without images and networks cannot know may be missing: the image, an lx
 *     zone's kernel version, a nic's tag and model; a console's password may be too long
 * @throws PayloadError in the platform's words
 */
function fromPayload(
  { simcn, ...given }: JsonObject,
  lenient: boolean,
): { readonly vm: VmInput; readonly warnings: readonly string[] } {
  const image = imageSchema.optional().safeParse(simcn);
  if (!image.success) {
    throw new PayloadError(`simcn: ${image.error.issues.map(({ message }) => message).join('; ')}`);
  }
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
  const properties = propertiesOf(payload, { brand, zonename, nics, uuid: shown(uuid), lenient });
  if (!ZONENAME.test(zonename)) {
    throw new PayloadError('Invalid value(s) for: zonename');
  }
  const of = (name: MapName): JsonObject => objectOf(payload.get(name));
  const vm: VmInput = {
    start: payload.get('autoboot') === true ? 'running' : 'installed',
    nowait: payload.get('nowait') === true,
    overlay: null,
    image: imageOf(image.data, brand, zonename),
    properties: { ...properties, hvm: brandOf(brand).hvm },
    config: {
      customer_metadata: of('customer_metadata'),
      internal_metadata: of('internal_metadata'),
      tags: of('tags'),
      routes,
    },
  };
  return { vm, warnings };
}

function imageOf(given: Image | undefined, brand: string, zonename: string): Image | null {
  if (given === undefined) {
    return null;
  }
  const forHvm = !('rootfs' in given);
  if (brandOf(brand).hvm !== forHvm) {
    const needed = forHvm ? 'brand kvm or bhyve' : 'brand of a zone without a kernel of its own';
    throw new PayloadError(
      `${zonename}: this property "simcn" (${Object.keys(given)[0] ?? ''}) needs a ${needed}`,
    );
  }
  return given;
}

function split(given: z.infer<typeof inputSchema>): VmInput {
  const { zone_state, state, simcn, delegate_dataset, ...others } = given;
  const { customer_metadata, internal_metadata, tags, routes, ...rest } = others;
  const uuid = given.uuid ?? given.zonename ?? randomUUID();
  const zonename = given.zonename ?? uuid;
  const zonepath = given.zonepath ?? `/zones/${zonename}`;
  const kept = Object.entries(rest).filter(([name]) => !TRANSIENT.includes(name));
  const properties: Record<string, unknown> = {
    zonename,
    uuid,
    brand: given.brand,
    hvm: brandOf(given.brand).hvm,
    zonepath,
    autoboot: true,
    firewall_enabled: false,
    v: 1,
    create_timestamp: new Date().toISOString(),
    zfs_filesystem: zonepath.slice(1),
    zpool: 'zones',
    ...(delegate_dataset === true ? { datasets: [`${zonepath.slice(1)}/data`] } : {}),
    ...Object.fromEntries(kept),
  };
  return {
    start: zone_state,
    overlay: state !== undefined && OVERLAYS.includes(state) ? state : null,
    nowait: false,
    image: imageOf(simcn, given.brand, zonename),
    // Last, so that they win over what was given as undefined.
    properties: { ...properties, uuid, zonename, zonepath },
    config: { customer_metadata, internal_metadata, tags, routes },
  };
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
