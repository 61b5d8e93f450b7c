/*
 * A zone's folders below its zonepath: made, copied, put back, removed.
 *
 *   <zonepath>/root                     the zone's root, made from a template
 *   <zonepath>/config                   metadata.json, tags.json, routes.json
 *   <zonepath>/logs                     a real guest's console
 *   <zonepath>/data (and others)        delegated datasets (zfs-tree.ts)
 *   <zonepath>/.zfs/snapshot/<name>     copies of root
 *
 * A snapshot is of the root only: config, and what is delegated, stay out of a rollback, and so does
 * the socket folder, which lies outside the zonepath.
 */
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { run } from '../../src/platform/exec';
import type { Paths } from '../../src/platform/paths';
import { SNAPSHOT_NAME, ZfsTree } from './zfs-tree';
import type { Zone } from './zone';
import { makeZoneroot, type ZonerootFacts } from './zoneroot';

/** One zone's part of the disk. */
export class ZoneDisk {
  readonly zonepath: string;
  readonly zoneroot: string;
  readonly config: string;
  readonly logs: string;
  readonly datasets: readonly string[];
  private readonly tree: ZfsTree;
  private readonly snapshotFolder: string;
  private readonly facts: ZonerootFacts;
  private readonly limit: number | null;

  constructor(paths: Paths, zone: Zone) {
    this.zonepath = paths.host(zone.zonepath);
    this.zoneroot = join(this.zonepath, 'root');
    this.config = join(this.zonepath, 'config');
    this.logs = join(this.zonepath, 'logs');
    this.snapshotFolder = join(this.zonepath, '.zfs', 'snapshot');
    this.tree = new ZfsTree(paths, zone);
    this.datasets = this.tree.delegated.map((name) => paths.host(`/${name}`));
    this.facts = factsOf(zone);
    const limit = zone.properties.zfs_snapshot_limit;
    this.limit = typeof limit === 'number' ? limit : null;
  }

  /** Installs: makes all folders. What is there already stays. */
  make(): void {
    for (const folder of [this.zoneroot, this.config]) {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
    }
    this.tree.make();
    makeZoneroot(this.zoneroot, this.facts);
  }

  remove(): void {
    this.tree.remove();
    rmSync(this.zonepath, { recursive: true, force: true });
  }

  async snapshots(): Promise<string[]> {
    await mkdir(this.snapshotFolder, { recursive: true });
    return (await readdir(this.snapshotFolder)).sort();
  }

  /** @throws Error for a bad or taken name, or one more than zfs_snapshot_limit allows */
  async snapshot(name: string): Promise<void> {
    if (!SNAPSHOT_NAME.test(name)) {
      throw new Error(`invalid snapshot name: ${name}`);
    }
    const existing = await this.snapshots();
    if (existing.includes(name)) {
      throw new Error(`snapshot ${name} exists already`);
    }
    if (this.limit !== null && existing.length >= this.limit) {
      throw new Error(`out of space: the limit of ${this.limit} snapshots is reached`);
    }
    // Under another name until it is whole: a copy that was cut off is no snapshot.
    const partial = join(this.zonepath, '.zfs', 'new');
    await rm(partial, { recursive: true, force: true });
    await copyTree(this.zoneroot, partial);
    await rename(partial, join(this.snapshotFolder, name));
  }

  /** Puts the root back as it was. ZFS drops later snapshots on the way, and so does this. */
  async rollback(name: string): Promise<void> {
    const existing = await this.snapshots();
    if (!existing.includes(name)) {
      throw new Error(`no snapshot named ${name}`);
    }
    const source = join(this.snapshotFolder, name);
    const made = statSync(source).ctimeMs;
    await rm(this.zoneroot, { recursive: true, force: true });
    await copyTree(source, this.zoneroot);
    for (const other of existing) {
      const folder = join(this.snapshotFolder, other);
      if (statSync(folder).ctimeMs > made) {
        await rm(folder, { recursive: true, force: true });
      }
    }
  }

  async destroySnapshot(name: string): Promise<void> {
    await rm(join(this.snapshotFolder, name), { recursive: true, force: true });
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

async function copyTree(from: string, to: string): Promise<void> {
  await run(['cp', '-a', '--reflink=auto', '--', from, to]);
}
