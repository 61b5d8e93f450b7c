/*
 * `vmadm update`: the change that a payload asks for, made in the platform's order, with its weak points.
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
import { type Change, changeOf, type MapName } from './payload';
import { writeConfigFile } from './store';
import { vmByUuid } from './vmadm-vms';

const VMINFOD_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

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
      throw new Error(`VM ${uuid} not found`);
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
    throw new Error(`VM ${String(vm.uuid)} has no zonepath yet`);
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
      throw new Error(`timed out waiting for vminfod to show the update of VM ${uuid}`);
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
