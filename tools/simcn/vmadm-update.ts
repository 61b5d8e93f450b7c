/*
 * `vmadm update`: what a payload changes in a VM, and the change made in the platform's order, with its weak
 * points.
 *
 * It holds the VM's lock for as long as it needs, reads the maps from vminfod (not from the files, which
 * may be newer), writes the whole metadata.json, and then waits for vminfod to show what it wrote: for
 * 60 s, after which it fails although the file is written.
 */
import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { tryLock } from '../../src/platform/lock';
import type { JsonObject } from '../../src/metadata/vm-data';
import type { Paths } from '../../src/platform/paths';
import { ask } from './control';
import {
  addedNics,
  changedNic,
  checkNics,
  checkRoutes,
  choosePrimary,
  nameInterfaces,
  type Nic,
  nicsOf,
  PayloadError,
  updatesOf,
  vmNic,
  wholeMac,
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
  objectOf,
  typed,
} from './payload';
import { type BrandName, isBrandName, listOf } from './properties';
import { writeConfigFile } from './store';
import { vmByUuid } from './vmadm-vms';

const VMINFOD_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

/** An update takes them without a word, and changes nothing: they have their own ways. */
const IGNORED_BY_UPDATE = ['nics', 'disks', 'filesystems', ...MAPS];

class UpdateError extends Error {}

/** @returns the warnings: what of the payload was dropped */
export async function updateVm(
  paths: Paths,
  uuid: string,
  payload: JsonObject,
): Promise<readonly string[]> {
  const fd = await lock(paths, uuid);
  try {
    const vm = await vmByUuid(paths, uuid);
    if (vm === undefined) {
      throw new UpdateError(`VM ${uuid} not found`);
    }
    const change = changeOf(payload, vm);
    writeMaps(paths, vm, change);
    if (Object.keys(change.properties).length > 0) {
      await ask(paths.root, 'set', { uuid, properties: change.properties });
    }
    await shown(paths, uuid, change);
    return change.warnings;
  } finally {
    closeSync(fd);
  }
}

/** Waits without limit, as the platform does. */
async function lock(paths: Paths, uuid: string): Promise<number> {
  for (;;) {
    const fd = tryLock(paths.vmConfigLock(uuid));
    if (fd !== null) {
      return fd;
    }
    await delay(POLL_MS);
  }
}

function writeMaps(paths: Paths, vm: JsonObject, change: Change): void {
  const { zonepath } = vm;
  if (typeof zonepath !== 'string') {
    throw new UpdateError(`VM ${String(vm.uuid)} has no zonepath yet`);
  }
  const directory = paths.host(`${zonepath}/config`);
  const now = (name: MapName): unknown => change.maps.get(name) ?? vm[name] ?? {};
  if (change.maps.has('customer_metadata') || change.maps.has('internal_metadata')) {
    writeConfigFile(directory, 'metadata.json', {
      customer_metadata: now('customer_metadata'),
      internal_metadata: now('internal_metadata'),
    });
  }
  for (const name of ['tags', 'routes'] as const) {
    const map = change.maps.get(name);
    if (map !== undefined) {
      writeConfigFile(directory, `${name}.json`, map);
    }
  }
}

/** Waits until vminfod has what was written. */
async function shown(paths: Paths, uuid: string, change: Change): Promise<void> {
  const wanted = new Map<string, unknown>([
    ...change.maps.entries(),
    ...Object.entries(change.properties),
  ]);
  const deadline = Date.now() + VMINFOD_TIMEOUT_MS;
  while (wanted.size > 0) {
    const vm = await vmByUuid(paths, uuid);
    const missing = [...wanted].filter(([name, value]) => {
      return vm === undefined || serial(vm[name] ?? null) !== serial(value);
    });
    if (missing.length === 0) {
      return;
    }
    if (Date.now() > deadline) {
      throw new UpdateError(`timed out waiting for vminfod to show the update of VM ${uuid}`);
    }
    await delay(POLL_MS);
  }
}

/** Maps compare whatever their order: the files and vminfod may differ in it. */
function serial(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => {
    return typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner;
  });
}

/** A change of a VM: the parts that are other than before. A property that is null goes away. */
interface Change {
  readonly maps: ReadonlyMap<MapName, JsonObject>;
  readonly properties: JsonObject;
  readonly warnings: readonly string[];
}

/**
 * What a payload of update changes in a VM. Maps keep their order, new names come last.
 * @throws PayloadError in the platform's words
 */
function changeOf(given: JsonObject, vm: JsonObject): Change {
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
