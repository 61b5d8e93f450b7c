/*
 * Where the delegated datasets of one zone, and all that is made below them, are kept on the real file
 * system. What may be done with them is the tree's to say (zfs-tree.ts).
 *
 *   <root>/zones/<uuid>/data[/NAME...]             what the datasets hold, as the zone sees it
 *   <root>/system/simcn/zfs/<zonename>/
 *       datasets.json                              which of those directories are datasets, and volumes
 *       snapshots/<dataset, escaped>/<snapshot>    copies, of that dataset without those below it
 *       volumes/<dataset, escaped>/disk            a volume's bytes, a sparse file
 *       zfs.sock                                   the zone's way to ask for changes (zfs-tree.ts)
 *
 * The second directory is the node's: a zone sees it read-only. In the first the guest does as it likes,
 * so no name of it is trusted to be a directory.
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

import { codeOf } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';
import type { Paths } from '../../src/platform/paths';

const datasetSchema = z.object({ name: z.string(), type: z.enum(['filesystem', 'volume']) });
const catalogueSchema = z.array(datasetSchema);

export type Dataset = Readonly<z.infer<typeof datasetSchema>>;

/** What is kept for one zone. Its state is all on the disk: any number of these may look at it. */
export class ZfsStore {
  /** The node's part. */
  readonly directory: string;
  private readonly paths: Paths;
  private readonly delegated: () => readonly string[];

  /** @param delegated the names of the datasets that all others lie below */
  constructor(paths: Paths, zonename: string, delegated: () => readonly string[]) {
    this.paths = paths;
    this.delegated = delegated;
    this.directory = paths.host(`/system/simcn/zfs/${zonename}`);
  }

  /** In the order that they were made. */
  datasets(): readonly Dataset[] {
    try {
      const text = readFileSync(join(this.directory, 'datasets.json'), 'utf8');
      return catalogueSchema.parse(JSON.parse(text));
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  }

  /** Oldest first. */
  snapshotsOf(dataset: string): string[] {
    const directory = join(this.directory, 'snapshots', escaped(dataset));
    try {
      const born = (snap: string): number => statSync(join(directory, snap)).ctimeMs;
      return readdirSync(directory).sort((a, b) => born(a) - born(b));
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  }

  /** Where a snapshot's copy is, below `directory`. */
  copyOf(dataset: string, snap: string): string {
    return join('snapshots', escaped(dataset), snap);
  }

  /** Makes the delegated datasets; what is there already stays. */
  make(): void {
    mkdirSync(join(this.directory, 'snapshots'), { recursive: true, mode: 0o755 });
    const known = this.datasets();
    const wanted = this.delegated().map((name) => ({ name, type: 'filesystem' }) as const);
    for (const dataset of wanted) {
      mkdirSync(this.content(dataset), { recursive: true, mode: 0o755 });
    }
    const missing = wanted.filter(({ name }) => known.every((dataset) => dataset.name !== name));
    if (missing.length > 0) {
      this.save([...known, ...missing]);
    }
  }

  /** Removes all of it. */
  remove(): void {
    for (const name of this.delegated()) {
      rmSync(this.content({ name, type: 'filesystem' }), { recursive: true, force: true });
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /**
   * @param bytes the size of a volume; null: a filesystem
   * @throws Error where something is in its place
   */
  add(name: string, bytes: number | null): void {
    const type = bytes === null ? 'filesystem' : 'volume';
    const content = this.content({ name, type });
    // As ZFS: what a plain directory of that name holds would be hidden, so that is refused.
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

  /** With the snapshots of each. */
  drop(datasets: readonly Dataset[]): void {
    const contents = datasets.map((dataset) => this.content(dataset));
    const names = new Set(datasets.map(({ name }) => name));
    this.save(this.datasets().filter(({ name }) => !names.has(name)));
    for (const content of contents) {
      rmSync(content, { recursive: true, force: true });
    }
    for (const name of names) {
      rmSync(join(this.directory, 'snapshots', escaped(name)), { recursive: true, force: true });
    }
  }

  async addSnapshot(dataset: Dataset, snap: string): Promise<void> {
    const target = join(this.directory, this.copyOf(dataset.name, snap));
    // Under another name until it is whole: a copy that was cut off is no snapshot.
    const partial = join(this.directory, 'new');
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { mode: 0o755 });
    await this.copy(dataset, this.content(dataset), partial);
    await mkdir(dirname(target), { recursive: true });
    await rename(partial, target);
  }

  /** The dataset is as it was then, those below it are as they are. */
  async putBack(dataset: Dataset, snap: string): Promise<void> {
    // The directory itself stays: it is mounted in the zone.
    const content = this.content(dataset);
    for (const entry of await this.entries(dataset, content)) {
      await rm(join(content, entry), { recursive: true, force: true });
    }
    await this.copy(dataset, join(this.directory, this.copyOf(dataset.name, snap)), content);
  }

  dropSnapshot(dataset: string, snap: string): void {
    rmSync(join(this.directory, this.copyOf(dataset, snap)), { recursive: true });
  }

  private save(datasets: readonly Dataset[]): void {
    const file = join(this.directory, 'datasets.json');
    writeFileSync(`${file}.new`, JSON.stringify(datasets));
    renameSync(`${file}.new`, file);
  }

  /**
   * Where a dataset's bytes are.
   * @throws Error where the guest put something else, a link out of the zone even, in a directory's place
   */
  private content({ name, type }: Dataset): string {
    if (type === 'volume') {
      return join(this.directory, 'volumes', escaped(name));
    }
    const top = this.delegated().find((each) => name === each || name.startsWith(`${each}/`));
    let directory = this.paths.host(`/${top ?? name}`);
    for (const part of name.slice((top ?? name).length + 1).split('/')) {
      directory = join(directory, part);
      if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() === false) {
        throw new Error(`mountpoint is busy: ${part} is not a directory`);
      }
    }
    return directory;
  }

  /** What a dataset's directory holds of its own: a dataset below it is a directory there too. */
  private async entries({ name }: Dataset, directory: string): Promise<string[]> {
    const children = new Set(this.datasets().map((dataset) => dataset.name));
    return (await readdir(directory)).filter((entry) => !children.has(`${name}/${entry}`));
  }

  private async copy(dataset: Dataset, from: string, to: string): Promise<void> {
    const entries = (await this.entries(dataset, from)).map((entry) => join(from, entry));
    if (entries.length > 0) {
      await run(['cp', '-a', '--reflink=auto', '--', ...entries, to]);
    }
  }
}

function escaped(dataset: string): string {
  return encodeURIComponent(dataset);
}
