/*
 * A zone's directories below its zonepath: made, copied, put back, removed.
 *
 *   <zonepath>/root                     the zone's root, made from a template
 *   <zonepath>/config                   metadata.json, tags.json, routes.json
 *   <zonepath>/logs                     a real guest's console
 *   <zonepath>/data (and others)        delegated datasets (zfs-tree.ts)
 *   <zonepath>/.zfs/snapshot/<name>     copies of root and config
 *
 * A snapshot is of the zone's own dataset, as on the platform: root and config lie in it, so a rollback
 * brings back the metadata, tags and routes of that day with the root. (The platform's own test of it:
 * smartos-live src/vm/tests/test-snapshots.js.) What is delegated is a dataset of its own and stays as it
 * is, and so does the directory of the zone's socket, which lies outside the zonepath.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { run } from '../../src/platform/exec';
import type { Paths } from '../../src/platform/paths';
import { SNAPSHOT_NAME, ZfsTree } from './zfs-tree';
import type { Zone } from './zone';
import { makeZoneroot, type ZonerootFacts } from './zoneroot';

export interface Snapshot {
  readonly name: string;
  readonly createdMs: number;
}

/** One zone's part of the disk. */
export class ZoneDisk {
  readonly zonepath: string;
  readonly zoneroot: string;
  readonly config: string;
  readonly logs: string;
  readonly datasets: readonly string[];
  private readonly tree: ZfsTree;
  private readonly snapshotDirectory: string;
  private readonly facts: ZonerootFacts;
  private readonly limit: number | null;

  constructor(paths: Paths, zone: Zone) {
    this.zonepath = paths.host(zone.zonepath);
    this.zoneroot = join(this.zonepath, 'root');
    this.config = join(this.zonepath, 'config');
    this.logs = join(this.zonepath, 'logs');
    this.snapshotDirectory = join(this.zonepath, '.zfs', 'snapshot');
    this.tree = new ZfsTree(paths, zone);
    this.datasets = this.tree.delegated.map((name) => paths.host(`/${name}`));
    this.facts = factsOf(zone);
    const limit = zone.properties.zfs_snapshot_limit;
    this.limit = typeof limit === 'number' ? limit : null;
  }

  /** Installs: makes all directories. What is there already stays. */
  make(): void {
    for (const directory of [this.zoneroot, this.config]) {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
    }
    this.tree.make();
    makeZoneroot(this.zoneroot, this.facts);
  }

  remove(): void {
    this.tree.remove();
    rmSync(this.zonepath, { recursive: true, force: true });
  }

  /** In the order of their names. */
  snapshots(): Snapshot[] {
    mkdirSync(this.snapshotDirectory, { recursive: true });
    return readdirSync(this.snapshotDirectory)
      .sort()
      .map((name) => ({ name, createdMs: statSync(join(this.snapshotDirectory, name)).ctimeMs }));
  }

  private has(name: string): boolean {
    return this.snapshots().some((snapshot) => snapshot.name === name);
  }

  /** @throws Error for a bad or taken name, or one more than zfs_snapshot_limit allows */
  async snapshot(name: string): Promise<void> {
    if (!SNAPSHOT_NAME.test(name)) {
      throw new Error(`invalid snapshot name: ${name}`);
    }
    if (this.has(name)) {
      throw new Error(`snapshot with name "${name}" already exists.`);
    }
    if (this.limit !== null && this.snapshots().length >= this.limit) {
      throw new Error(`out of space: the limit of ${this.limit} snapshots is reached`);
    }
    // Under another name until it is whole: a copy that was cut off is no snapshot.
    const partial = join(this.zonepath, '.zfs', 'new');
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    await copyTree([this.zoneroot, this.config], partial);
    await rename(partial, join(this.snapshotDirectory, name));
  }

  /** Puts root and config back as they were. ZFS drops later snapshots on the way, and so does this. */
  async rollback(name: string): Promise<void> {
    const existing = this.snapshots();
    const found = existing.find((snapshot) => snapshot.name === name);
    if (found === undefined) {
      throw new Error(`No snapshot named "${name}" for this zone`);
    }
    const source = join(this.snapshotDirectory, name);
    await rm(this.zoneroot, { recursive: true, force: true });
    await copyTree([join(source, 'root')], this.zonepath);
    // The directory itself stays: it is watched.
    for (const entry of await readdir(this.config)) {
      await rm(join(this.config, entry), { recursive: true, force: true });
    }
    await copyTree([join(source, 'config')], this.zonepath);
    for (const later of existing.filter(({ createdMs }) => createdMs > found.createdMs)) {
      await rm(join(this.snapshotDirectory, later.name), { recursive: true, force: true });
    }
  }

  async destroySnapshot(name: string): Promise<void> {
    if (!this.has(name)) {
      throw new Error(`No snapshot named "${name}" for this zone`);
    }
    await rm(join(this.snapshotDirectory, name), { recursive: true, force: true });
  }

  /** A fresh root from the template; delegated datasets stay. */
  async reprovision(): Promise<void> {
    await rm(this.zoneroot, { recursive: true, force: true });
    this.make();
  }
}

function factsOf(zone: Zone): ZonerootFacts {
  const { hostname, alias } = zone.properties;
  const named = [hostname, alias, zone.zonename].find((name) => typeof name === 'string');
  return {
    hostname: String(named),
    mountPoint: zone.brand.mountPoint,
    hvm: zone.brand.hvm,
  };
}

/** @param into a directory that is there */
async function copyTree(from: readonly string[], into: string): Promise<void> {
  await run(['cp', '-a', '--reflink=auto', '--', ...from, into]);
}
