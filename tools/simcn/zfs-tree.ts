/*
 * The delegated datasets of one zone, and all that is made below them, on the real file system.
 *
 *   <root>/zones/<uuid>/data[/NAME...]             what the datasets hold, as the zone sees it
 *   <root>/system/simcn/zfs/<zonename>/
 *       datasets.json                              which of those folders are datasets, and volumes
 *       snapshots/<dataset, escaped>/<snapshot>    copies, of that dataset without those below it
 *       volumes/<dataset, escaped>/disk            a volume's bytes, a sparse file
 *       zfs.sock                                   the zone's way to ask for changes (zfs-door.ts)
 *
 * The second folder is the node's: a zone sees it read-only. So the rules hold here as the kernel's do:
 * a limit counts everything below the delegated datasets, themselves left out; what is delegated
 * itself is not destroyed from inside. Errors are in the words of zfs, less what it was called with.
 */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';

import { codeOf } from '../../src/errors';
import { delegatedDatasets, isLimit, own, type LimitName } from '../../src/metadata/datasets';
import { run } from '../../src/sys/exec';
import type { Paths } from '../../src/sys/paths';
import type { Zone } from './zone';

const datasetSchema = z.object({ name: z.string(), type: z.enum(['filesystem', 'volume']) });
const catalogueSchema = z.array(datasetSchema);
type Dataset = Readonly<z.infer<typeof datasetSchema>>;

/** A line of `zfs list`. */
export interface Listed {
  readonly name: string;
  readonly type: 'filesystem' | 'volume' | 'snapshot';
}

/** ZFS's rule for a component of a name. */
const COMPONENT = /^[a-zA-Z0-9][a-zA-Z0-9_.:-]*$/;
/** And for a snapshot's, with vmadm's limit on its length. */
export const SNAPSHOT_NAME = /^[a-zA-Z0-9_.:-]{1,64}$/;

export class ZfsTree {
  readonly folder: string;
  private readonly paths: Paths;
  private readonly zone: Zone;

  constructor(paths: Paths, zone: Zone) {
    this.paths = paths;
    this.zone = zone;
    this.folder = paths.host(`/system/simcn/zfs/${zone.zonename}`);
  }

  /** The delegated datasets that lie in the zone's own part of the pool; others are not ours to make. */
  get delegated(): readonly string[] {
    const ownPart = `${this.zone.zonepath.slice(1)}/`;
    return delegatedDatasets(this.zone.properties).filter((name) => {
      return name.startsWith(ownPart) && name.split('/').every((part) => COMPONENT.test(part));
    });
  }

  /** Makes what is delegated; what is there already stays. */
  make(): void {
    const { delegated } = this;
    if (delegated.length === 0) {
      return;
    }
    mkdirSync(join(this.folder, 'snapshots'), { recursive: true, mode: 0o755 });
    const known = this.datasets();
    const missing = delegated.filter((name) => known.every((dataset) => dataset.name !== name));
    for (const name of delegated) {
      mkdirSync(this.content({ name, type: 'filesystem' }), { recursive: true, mode: 0o755 });
    }
    if (missing.length > 0) {
      this.save([...known, ...missing.map((name) => ({ name, type: 'filesystem' }) as const)]);
    }
  }

  /** The zone is gone, and all this with it. */
  remove(): void {
    for (const name of this.delegated) {
      rmSync(this.content({ name, type: 'filesystem' }), { recursive: true, force: true });
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Datasets in the order of their names, each followed by its snapshots. */
  list(): Listed[] {
    const sorted = [...this.datasets()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return sorted.flatMap(({ name, type }) => [
      { name, type },
      ...this.snapshotsOf(name).map((snap) => {
        return { name: `${name}@${snap}`, type: 'snapshot' as const };
      }),
    ]);
  }

  /** @param bytes the size of a volume; null: a filesystem */
  create(name: string, bytes: number | null): void {
    const type = bytes === null ? 'filesystem' : 'volume';
    const parent = this.datasets().find((dataset) => dataset.name === dirname(name));
    if (parent?.type !== 'filesystem') {
      throw new Error(this.isOurs(name) ? 'parent does not exist' : 'permission denied');
    }
    if (!COMPONENT.test(name.slice(parent.name.length + 1))) {
      throw new Error('invalid character in name');
    }
    if (this.datasets().some((dataset) => dataset.name === name)) {
      throw new Error('dataset already exists');
    }
    const made = this.datasets().length - this.delegated.length;
    this.mustFit('zfs_filesystem_limit', made, 1);
    const content = this.content({ name, type });
    // As ZFS: what a plain folder of that name holds would be hidden, so that is refused.
    mkdirSync(content, { recursive: true, mode: 0o755 });
    if (type === 'filesystem' && readdirSync(content).length > 0) {
      throw new Error('mountpoint is not empty');
    }
    if (bytes !== null) {
      writeFileSync(join(content, 'disk'), '');
      truncateSync(join(content, 'disk'), bytes);
    }
    this.save([...this.datasets(), { name, type }]);
  }

  /** All of them or none. @param name DATASET@SNAPSHOT; @param recursive of all datasets below too */
  async snapshot(name: string, recursive: boolean): Promise<void> {
    const [dataset, snap] = splitSnapshot(name);
    const taken = recursive ? this.within(dataset) : [this.find(dataset)];
    if (taken.some((each) => this.snapshotsOf(each.name).includes(snap))) {
      throw new Error('dataset already exists');
    }
    const made = this.list().filter(({ type }) => type === 'snapshot').length;
    this.mustFit('zfs_snapshot_limit', made, taken.length);
    for (const each of taken) {
      const target = this.snapshotFolder(each.name, snap);
      // Under another name until it is whole: a copy that was cut off is no snapshot.
      const partial = join(this.folder, 'new');
      await rm(partial, { recursive: true, force: true });
      await mkdir(partial, { mode: 0o755 });
      await this.copy(each, this.content(each), partial);
      await mkdir(dirname(target), { recursive: true });
      await rename(partial, target);
    }
  }

  /** Puts a dataset back as it was, those below it left alone; later snapshots of it must be gone. */
  async rollback(name: string): Promise<void> {
    const [datasetName, snap] = splitSnapshot(name);
    const dataset = this.find(datasetName);
    const snapshots = this.snapshotsOf(datasetName);
    if (!snapshots.includes(snap)) {
      throw new Error('dataset does not exist');
    }
    if (snapshots.at(-1) !== snap) {
      throw new Error('more recent snapshots exist');
    }
    // The folder itself stays: it is mounted in the zone.
    const content = this.content(dataset);
    for (const entry of await this.entries(dataset, content)) {
      await rm(join(content, entry), { recursive: true, force: true });
    }
    await this.copy(dataset, this.snapshotFolder(datasetName, snap), content);
  }

  /** @param name a dataset or a snapshot; @param recursive with all that lies below it */
  destroy(name: string, recursive: boolean): void {
    if (name.includes('@')) {
      const [dataset, snap] = splitSnapshot(name);
      const having = (recursive ? this.within(dataset) : [this.find(dataset)]).filter((each) =>
        this.snapshotsOf(each.name).includes(snap),
      );
      if (having.length === 0) {
        throw new Error('could not find any snapshots to destroy');
      }
      for (const each of having) {
        rmSync(this.snapshotFolder(each.name, snap), { recursive: true });
      }
      return;
    }
    const doomed = this.within(name);
    if (this.delegated.includes(name)) {
      throw new Error('permission denied');
    }
    if (!recursive && (doomed.length > 1 || this.snapshotsOf(name).length > 0)) {
      throw new Error("dataset has children or snapshots: use '-r' to destroy them as well");
    }
    const contents = doomed.map((each) => this.content(each));
    this.save(this.datasets().filter((each) => !doomed.some((gone) => gone.name === each.name)));
    for (const content of contents) {
      rmSync(content, { recursive: true, force: true });
    }
    for (const each of doomed) {
      rmSync(join(this.folder, 'snapshots', escaped(each.name)), { recursive: true, force: true });
    }
  }

  /** Where a snapshot's copy is, below the tree's own folder. */
  copyOf(name: string): string {
    const [dataset, snap] = splitSnapshot(name);
    if (!this.snapshotsOf(this.find(dataset).name).includes(snap)) {
      throw new Error('dataset does not exist');
    }
    return join('snapshots', escaped(dataset), snap);
  }

  private datasets(): readonly Dataset[] {
    try {
      const text = readFileSync(join(this.folder, 'datasets.json'), 'utf8');
      return catalogueSchema.parse(JSON.parse(text));
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  }

  private save(datasets: readonly Dataset[]): void {
    const file = join(this.folder, 'datasets.json');
    writeFileSync(`${file}.new`, JSON.stringify(datasets));
    renameSync(`${file}.new`, file);
  }

  private find(name: string): Dataset {
    const found = this.datasets().find((dataset) => dataset.name === name);
    if (found === undefined) {
      throw new Error('dataset does not exist');
    }
    return found;
  }

  /** A dataset and all below it. */
  private within(name: string): Dataset[] {
    const first = this.find(name);
    const below = this.datasets().filter((dataset) => dataset.name.startsWith(`${name}/`));
    return [first, ...below];
  }

  private isOurs(name: string): boolean {
    return this.delegated.some((delegated) => name.startsWith(`${delegated}/`));
  }

  /** Oldest first. */
  private snapshotsOf(dataset: string): string[] {
    const folder = join(this.folder, 'snapshots', escaped(dataset));
    try {
      const born = (snap: string): number => statSync(join(folder, snap)).ctimeMs;
      return readdirSync(folder).sort((a, b) => born(a) - born(b));
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  }

  private snapshotFolder(dataset: string, snap: string): string {
    return join(this.folder, 'snapshots', escaped(dataset), snap);
  }

  /**
   * Where a dataset's bytes are.
   * @throws Error where the guest put something else, a link out of the zone even, in a folder's place
   */
  private content({ name, type }: Dataset): string {
    if (type === 'volume') {
      return join(this.folder, 'volumes', escaped(name));
    }
    const top = this.delegated.find((each) => name === each || name.startsWith(`${each}/`));
    let folder = this.paths.host(`/${top ?? name}`);
    for (const part of name.slice((top ?? name).length + 1).split('/')) {
      folder = join(folder, part);
      if (lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === false) {
        throw new Error(`mountpoint is busy: ${part} is no folder`);
      }
    }
    return folder;
  }

  /** What a dataset's folder holds of its own: a dataset below it is a folder there too. */
  private async entries({ name }: Dataset, folder: string): Promise<string[]> {
    const children = new Set(this.datasets().map((dataset) => dataset.name));
    return (await readdir(folder)).filter((entry) => !children.has(`${name}/${entry}`));
  }

  private async copy(dataset: Dataset, from: string, to: string): Promise<void> {
    const entries = (await this.entries(dataset, from)).map((entry) => join(from, entry));
    if (entries.length > 0) {
      await run(['cp', '-a', '--reflink=auto', '--', ...entries, to]);
    }
  }

  private mustFit(name: LimitName, made: number, more: number): void {
    const limit = own(this.zone.properties, name);
    if (isLimit(limit) && made + more > limit) {
      const what = name === 'zfs_snapshot_limit' ? 'snapshots' : 'filesystems';
      throw new Error(`out of space: the limit of ${limit} ${what} is reached`);
    }
  }
}

/** @throws Error for what is no DATASET@SNAPSHOT */
function splitSnapshot(name: string): [dataset: string, snap: string] {
  const [dataset = '', snap = '', ...rest] = name.split('@');
  if (dataset === '' || !SNAPSHOT_NAME.test(snap) || rest.length > 0) {
    throw new Error('invalid snapshot name');
  }
  return [dataset, snap];
}

function escaped(dataset: string): string {
  return encodeURIComponent(dataset);
}
