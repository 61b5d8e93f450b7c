/*
 * A VM object as somebody hands it to `simcn create`, split into what the platform keeps apart.
 *
 * It may be the output of `vmadm lookup -j` of a real node, so it holds much that is only true there
 * and then: zone ids, process ids, time stamps of a boot. That is dropped. Metadata, tags and routes go
 * to files of their own in `<zonepath>/config`; everything else is kept as it was given, known or not.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

import { DEFAULT_POLICY, expandPayload } from '../../src/datasets/policy';
import type { JsonObject } from '../../src/metadata/vm-data';
import { brandOf } from './brand';

/** Where a zone can be told to start, by libzonecfg's name. */
const START_STATES = [
  'configured',
  'incomplete',
  'installed',
  'ready',
  'running',
  'shutting_down',
  'down',
] as const;
export type StartState = (typeof START_STATES)[number];

/** A real kernel for a kvm zone: simcn's own property, taken out of the VM object. */
export interface QemuGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  /** MiB. */
  readonly memory: number;
}

/** The files below `<zonepath>/config`, parsed. */
export interface VmConfig {
  readonly customer_metadata: JsonObject;
  readonly internal_metadata: JsonObject;
  readonly tags: JsonObject;
  readonly routes: JsonObject;
}

export interface VmInput {
  readonly zonename: string;
  readonly uuid: string;
  readonly brand: string;
  readonly zonepath: string;
  readonly start: StartState;
  /** `provisioning`, `failed` and the like: lies over the state that zone_state gives. */
  readonly overlay: string | null;
  readonly qemu: QemuGuest | null;
  readonly properties: JsonObject;
  readonly config: VmConfig;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** libzonecfg's rule; ZONENAME_MAX is 64 with the NUL. */
const ZONENAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/;
const OVERLAYS = ['provisioning', 'failed', 'receiving', 'stopping'];
const DEFAULT_MEMORY_MIB = 128;

const object = z.record(z.string(), z.unknown());
const inputSchema = z.looseObject({
  uuid: z.string().regex(UUID, 'not a uuid in lower case').optional(),
  zonename: z.string().regex(ZONENAME, 'not a zone name').optional(),
  brand: z.string().min(1).default('joyent'),
  zonepath: z
    .string()
    .regex(/^(\/[a-zA-Z0-9_-][a-zA-Z0-9_.-]*)+$/, 'not an absolute, normal path')
    .optional(),
  zone_state: z.enum(START_STATES).default('running'),
  state: z.string().optional(),
  customer_metadata: object.default({}),
  internal_metadata: object.default({}),
  tags: object.default({}),
  routes: object.default({}),
  delegate_dataset: z.union([z.boolean(), z.stringbool(), z.null()]).default(false),
  nics: z.array(z.unknown()).default([]),
  resolvers: z.array(z.unknown()).default([]),
  simcn: z
    .strictObject({
      kernel: z.string().startsWith('/'),
      initrd: z.string().startsWith('/'),
      append: z.string().default('console=ttyS0'),
      memory: z.number().int().min(32).default(DEFAULT_MEMORY_MIB),
    })
    .optional(),
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

/**
 * Parses one VM object, or an array of them. A payload's `delegate_dataset` is carried out: the
 * dataset is named as the platform names it, and "safe" is expanded.
 * @throws Error that names the VM's place in the array and every wrong property
 */
export function parseVms(given: unknown): VmInput[] {
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  return list.map((vm, i) => {
    const expanded = expandPayload(vm, DEFAULT_POLICY);
    if (expanded.kind === 'refused') {
      const reasons = expanded.reasons.map(({ code, text }) => `${code}: ${text}`);
      throw new Error(`VM ${i}: ${reasons.join('; ')}`);
    }
    const parsed = inputSchema.safeParse(expanded.payload);
    if (!parsed.success) {
      const problems = parsed.error.issues.map(
        (issue) => `${issue.path.join('.')}: ${issue.message}`,
      );
      throw new Error(`VM ${i}: ${problems.join('; ')}`);
    }
    return split(parsed.data);
  });
}

function split(given: z.infer<typeof inputSchema>): VmInput {
  const { zone_state, state, simcn, delegate_dataset, ...others } = given;
  const { customer_metadata, internal_metadata, tags, routes, ...rest } = others;
  const uuid = given.uuid ?? given.zonename ?? randomUUID();
  const zonename = given.zonename ?? uuid;
  const zonepath = given.zonepath ?? `/zones/${zonename}`;
  if (simcn !== undefined && given.brand !== 'kvm') {
    throw new Error(`${zonename}: the property "simcn" (a kernel to boot) needs the brand kvm`);
  }
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
    zonename,
    uuid,
    brand: given.brand,
    zonepath,
    start: zone_state,
    overlay: state !== undefined && OVERLAYS.includes(state) ? state : null,
    qemu: simcn ?? null,
    // Last, so that they win over what was given as undefined.
    properties: { ...properties, uuid, zonename, zonepath },
    config: { customer_metadata, internal_metadata, tags, routes },
  };
}
