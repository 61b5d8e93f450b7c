/*
 * A zone's directories below its zonepath: made, copied, put back, removed, and its config files watched.
 *
 *   <zonepath>/root                     the zone's root, made from a template
 *   <zonepath>/config                   metadata.json, tags.json, routes.json
 *   <zonepath>/logs, disk0              a real guest's console, and its disk
 *   <zonepath>/data (and others)        delegated datasets (zfs-tree.ts)
 *   <zonepath>/.zfs/snapshot/<name>     copies of root and config
 *
 * A snapshot is of the zone's own dataset, as on the platform: root and config lie in it, so a rollback
 * brings back the metadata, tags and routes of that day with the root. (The platform's own test of it:
 * smartos-live src/vm/tests/test-snapshots.js.) What is delegated is a dataset of its own and stays as it
 * is, and so does the directory of the zone's socket, which lies outside the zonepath.
 *
 * The config files are written by the agent, by vmadm and by hand, none of which notifies the node. Their
 * directory is watched as vminfod does it; after a notice, and when a watch begins, the files are read and
 * compared.
 */
import {
  existsSync,
  type FSWatcher,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  watch,
} from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { describeError } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';
import type { Paths } from '../../src/platform/paths';
import { CONFIG_FILE_NAMES, readConfig, type ConfigFileName, type Image } from './store';
import { SNAPSHOT_NAME, ZfsTree } from './zfs-tree';
import type { Snapshot, Zone } from './zone';
import { makeZoneroot, type ZonerootFacts } from './zoneroot';

/** One zone's part of the disk. */
export class ZoneDisk {
  readonly zonepath: string;
  readonly zoneroot: string;
  readonly config: string;
  readonly logs: string;
  /** A real guest's first disk, where it has one. */
  readonly disk: string;
  readonly datasets: readonly string[];
  private readonly tree: ZfsTree;
  private readonly snapshotDirectory: string;
  private readonly facts: ZonerootFacts;
  private readonly image: Image | null;
  private readonly limit: number | null;

  constructor(paths: Paths, zone: Zone) {
    this.zonepath = paths.host(zone.zonepath);
    this.zoneroot = join(this.zonepath, 'root');
    this.config = join(this.zonepath, 'config');
    this.logs = join(this.zonepath, 'logs');
    this.disk = join(this.zonepath, 'disk0');
    this.image = zone.image;
    this.snapshotDirectory = join(this.zonepath, '.zfs', 'snapshot');
    this.tree = new ZfsTree(paths, zone);
    this.datasets = this.tree.delegated.map((name) => paths.host(`/${name}`));
    this.facts = factsOf(zone);
    const limit = zone.properties.zfs_snapshot_limit;
    this.limit = typeof limit === 'number' ? limit : null;
  }

  /**
   * Installs: makes all directories, the root and the disk of the zone's image.
   * @throws SystemError where the image cannot be copied
   */
  async make(): Promise<void> {
    for (const directory of [this.zoneroot, this.config]) {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
    }
    this.tree.make();
    const { image } = this;
    if (image !== null && 'rootfs' in image) {
      await unpack(image.rootfs, this.zoneroot);
    } else if (image !== null && 'disk' in image) {
      await run(['cp', '--reflink=auto', '--sparse=always', '--', image.disk, this.disk], {
        timeoutMs: IMAGE_TIMEOUT_MS,
      });
    }
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

  /** @throws Error for a bad name or one in use, or one more than zfs_snapshot_limit allows */
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

  /** A fresh root and disk, from the image or the template; delegated datasets stay. */
  async reprovision(): Promise<void> {
    await rm(this.zoneroot, { recursive: true, force: true });
    await rm(this.disk, { force: true });
    await this.make();
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

/**
 * Copies a directory's content, or a tar archive's, whatever it is compressed with.
 * @throws Error that names the image, and says what is wrong with it
 */
async function unpack(rootfs: string, zoneroot: string): Promise<void> {
  const argv = statSync(rootfs).isDirectory()
    ? ['cp', '-a', '--reflink=auto', '--', `${rootfs}/.`, zoneroot]
    : ['tar', '-x', '--numeric-owner', '-f', rootfs, '-C', zoneroot];
  try {
    await run(argv, { timeoutMs: IMAGE_TIMEOUT_MS });
  } catch (err) {
    const message = `cannot make the zone's root of ${rootfs}: ${describeError(err)}`;
    throw new Error(message, { cause: err });
  }
}

/** @param into a directory that is there */
async function copyTree(from: readonly string[], into: string): Promise<void> {
  await run(['cp', '-a', '--reflink=auto', '--', ...from, into]);
}

/** Some gigabytes, on a busy machine. */
const IMAGE_TIMEOUT_MS = 600_000;
/** A rename over a file comes as several notices; the files are read once. */
const SETTLE_MS = 2;

interface DirectoryWatch {
  readonly watcher: FSWatcher;
  /** The files that may have changed since they were read. */
  readonly names: Set<ConfigFileName>;
  timer: NodeJS.Timeout | null;
}

/** Watches the config files of all zones, as vminfod does. */
export class ConfigWatch {
  private readonly paths: Paths;
  private readonly changed: (zone: Zone) => void;
  private readonly watches = new Map<string, DirectoryWatch>();

  /** @param changed called after the zone's config was replaced by what the files say now */
  constructor(paths: Paths, changed: (zone: Zone) => void) {
    this.paths = paths;
    this.changed = changed;
  }

  /** Watches the zone's directory from now on, anew where it was watched: it may be another one. */
  open(zone: Zone): void {
    this.close(zone);
    const { config } = new ZoneDisk(this.paths, zone);
    if (!existsSync(config)) {
      return;
    }
    const watcher = watch(config, (_event, changed) => {
      const names = CONFIG_FILE_NAMES.filter((name) => changed === null || changed === name);
      names.forEach((name) => entry.names.add(name));
      if (names.length > 0) {
        entry.timer ??= setTimeout(() => this.read(zone, config, entry), SETTLE_MS);
      }
    });
    // The directory goes away under it only with its zone, and that closes this.
    watcher.on('error', () => undefined);
    // What changed before the watch began.
    const entry: DirectoryWatch = { watcher, names: new Set(CONFIG_FILE_NAMES), timer: null };
    this.watches.set(zone.zonename, entry);
    this.read(zone, config, entry);
  }

  /** Idempotent. */
  close(zone: Zone): void {
    const entry = this.watches.get(zone.zonename);
    if (entry !== undefined) {
      this.watches.delete(zone.zonename);
      entry.watcher.close();
      clearTimeout(entry.timer ?? undefined);
    }
  }

  private read(zone: Zone, directory: string, entry: DirectoryWatch): void {
    entry.timer = null;
    const config = readConfig(directory, entry.names, zone.config);
    entry.names.clear();
    if (JSON.stringify(config) !== JSON.stringify(zone.config)) {
      zone.config = config;
      zone.lastModified = new Date().toISOString();
      this.changed(zone);
    }
  }
}
