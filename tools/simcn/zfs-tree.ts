/*
 * The delegated datasets of one zone, and what may be done with them from inside. The store (zfs-store.ts)
 * keeps them; the rules are here.
 *
 * The zone's way to it is ZfsAdapter, its /dev/zfs: a socket over which the zfs command inside asks the
 * node, one change at a time. It is there from ready to down, as the zone's devices are. Whether streams may
 * be received is a privilege of the zone, and fixed when it boots; limits apply as they are at each call.
 *
 * The rules hold as the kernel's do: a limit counts everything below the delegated datasets, themselves left
 * out; what is delegated itself is not destroyed from inside. Errors are in the words of zfs, less what
 * it was called with.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';

import {
  delegatedDatasets,
  delegationOf,
  isLimit,
  type LimitName,
} from '../../src/metadata/datasets';
import { own } from '../../src/metadata/vm-data';
import type { Paths } from '../../src/platform/paths';
import { type Args, ControlServer } from './control';
import { type Dataset, ZfsStore } from './zfs-store';
import type { Zone } from './zone';

/** A line of `zfs list`. */
export interface Listed {
  readonly name: string;
  readonly type: 'filesystem' | 'volume' | 'snapshot';
}

/** ZFS's rule for a component of a name. */
const COMPONENT = /^[a-zA-Z0-9][a-zA-Z0-9_.:-]*$/;
/** And for a snapshot's, with vmadm's limit on its length. */
export const SNAPSHOT_NAME = /^[a-zA-Z0-9_.:%-]{1,64}$/;

/** The datasets of one zone. Its state is all on the disk: any number of these may look at it. */
export class ZfsTree {
  private readonly zone: Zone;
  private readonly store: ZfsStore;

  constructor(paths: Paths, zone: Zone) {
    this.zone = zone;
    this.store = new ZfsStore(paths, zone.zonename, () => this.delegated);
  }

  /** The node's part of what is kept: read-only in the zone. */
  get directory(): string {
    return this.store.directory;
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
    if (this.delegated.length > 0) {
      this.store.make();
    }
  }

  /** The zone is gone, and all this with it. */
  remove(): void {
    this.store.remove();
  }

  /** Datasets in the order of their names, each followed by its snapshots. */
  list(): Listed[] {
    const sorted = [...this.store.datasets()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return sorted.flatMap(({ name, type }) => [
      { name, type },
      ...this.store.snapshotsOf(name).map((snap) => {
        return { name: `${name}@${snap}`, type: 'snapshot' as const };
      }),
    ]);
  }

  /** @param bytes the size of a volume; null: a filesystem */
  create(name: string, bytes: number | null): void {
    const datasets = this.store.datasets();
    const parent = datasets.find((dataset) => dataset.name === dirname(name));
    if (parent?.type !== 'filesystem') {
      throw new Error(this.isOurs(name) ? 'parent does not exist' : 'permission denied');
    }
    if (!COMPONENT.test(name.slice(parent.name.length + 1))) {
      throw new Error('invalid character in name');
    }
    if (datasets.some((dataset) => dataset.name === name)) {
      throw new Error('dataset already exists');
    }
    this.mustFit('zfs_filesystem_limit', datasets.length - this.delegated.length, 1);
    this.store.add(name, bytes);
  }

  /** All of them or none. @param name DATASET@SNAPSHOT; @param recursive of all datasets below too */
  async snapshot(name: string, recursive: boolean): Promise<void> {
    const [dataset, snap] = splitSnapshot(name);
    const chosen = recursive ? this.within(dataset) : [this.find(dataset)];
    if (chosen.some((each) => this.store.snapshotsOf(each.name).includes(snap))) {
      throw new Error('dataset already exists');
    }
    const made = this.list().filter(({ type }) => type === 'snapshot').length;
    this.mustFit('zfs_snapshot_limit', made, chosen.length);
    for (const each of chosen) {
      await this.store.addSnapshot(each, snap);
    }
  }

  /** Puts a dataset back as it was, those below it left alone; later snapshots of it must be gone. */
  async rollback(name: string): Promise<void> {
    const [datasetName, snap] = splitSnapshot(name);
    const dataset = this.find(datasetName);
    const snapshots = this.store.snapshotsOf(datasetName);
    if (!snapshots.includes(snap)) {
      throw new Error('dataset does not exist');
    }
    if (snapshots.at(-1) !== snap) {
      throw new Error('more recent snapshots exist');
    }
    await this.store.putBack(dataset, snap);
  }

  /** @param name a dataset or a snapshot; @param recursive with all that lies below it */
  destroy(name: string, recursive: boolean): void {
    if (name.includes('@')) {
      const [dataset, snap] = splitSnapshot(name);
      const having = (recursive ? this.within(dataset) : [this.find(dataset)]).filter((each) =>
        this.store.snapshotsOf(each.name).includes(snap),
      );
      if (having.length === 0) {
        throw new Error('could not find any snapshots to destroy');
      }
      for (const each of having) {
        this.store.dropSnapshot(each.name, snap);
      }
      return;
    }
    const doomed = this.within(name);
    if (this.delegated.includes(name)) {
      throw new Error('permission denied');
    }
    if (!recursive && (doomed.length > 1 || this.store.snapshotsOf(name).length > 0)) {
      throw new Error("dataset has children or snapshots: use '-r' to destroy them as well");
    }
    this.store.drop(doomed);
  }

  /** Where a snapshot's copy is, below the tree's own directory. */
  copyOf(name: string): string {
    const [dataset, snap] = splitSnapshot(name);
    if (!this.store.snapshotsOf(this.find(dataset).name).includes(snap)) {
      throw new Error('dataset does not exist');
    }
    return this.store.copyOf(dataset, snap);
  }

  private find(name: string): Dataset {
    const found = this.store.datasets().find((dataset) => dataset.name === name);
    if (found === undefined) {
      throw new Error('dataset does not exist');
    }
    return found;
  }

  /** A dataset and all below it. */
  private within(name: string): Dataset[] {
    const first = this.find(name);
    const below = this.store.datasets().filter((dataset) => dataset.name.startsWith(`${name}/`));
    return [first, ...below];
  }

  private isOurs(name: string): boolean {
    return this.delegated.some((delegated) => name.startsWith(`${delegated}/`));
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

export const ADAPTER_SOCKET = 'zfs.sock';

const named = z.object({ name: z.string() });
const deep = named.extend({ recursive: z.boolean() });
const created = named.extend({ bytes: z.number().int().min(1).nullable() });

/** The /dev/zfs of one zone, open while the zone is up. */
export class ZfsAdapter {
  private readonly server: ControlServer;
  private readonly tree: ZfsTree;
  private readonly receives: boolean;
  private tail: Promise<unknown> = Promise.resolve();

  private constructor(tree: ZfsTree, receives: boolean) {
    this.tree = tree;
    this.receives = receives;
    this.server = new ControlServer((command, args) =>
      this.inTurn(() => this.serve(command, args)),
    );
  }

  /** Null for a zone without delegated datasets: it has no such device. */
  static async open(paths: Paths, zone: Zone): Promise<ZfsAdapter | null> {
    const tree = new ZfsTree(paths, zone);
    if (tree.delegated.length === 0) {
      return null;
    }
    tree.make();
    const adapter = new ZfsAdapter(tree, delegationOf(zone.properties)?.receive !== 'none');
    const socket = join(tree.directory, ADAPTER_SOCKET);
    rmSync(socket, { force: true });
    await adapter.server.listen(socket);
    return adapter;
  }

  /** Resolves when what was under way is done. */
  async close(): Promise<void> {
    await this.server.close();
    await this.tail;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work);
    // The caller has the rejection; here it only marks the end.
    this.tail = result.catch(() => undefined);
    return result;
  }

  private async serve(command: string, args: Args): Promise<unknown> {
    const { tree } = this;
    switch (command) {
      case 'list':
        return tree.list();
      case 'create': {
        const { name, bytes } = created.parse(args);
        tree.create(name, bytes);
        return null;
      }
      case 'snapshot': {
        const { name, recursive } = deep.parse(args);
        await tree.snapshot(name, recursive);
        return null;
      }
      case 'rollback':
        await tree.rollback(named.parse(args).name);
        return null;
      case 'destroy': {
        const { name, recursive } = deep.parse(args);
        tree.destroy(name, recursive);
        return null;
      }
      case 'send':
        return tree.copyOf(named.parse(args).name);
      case 'receive':
        if (!this.receives) {
          throw new Error('permission denied');
        }
        tree.create(named.parse(args).name, null);
        return null;
      default:
        throw new Error(`no such command: ${command}`);
    }
  }
}
