/*
 * A zone's /dev/zfs: the socket over which the zfs command inside asks the node, one change at a time.
 *
 * It is there from ready to down, as the zone's devices are. Whether streams may be received is a
 * privilege of the zone, and fixed when it boots; limits hold as they are at the moment.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

import { delegationOf } from '../../src/metadata/datasets';
import type { Paths } from '../../src/platform/paths';
import { ControlServer, type Args } from './control';
import type { Zone } from './zone';
import { ZfsTree } from './zfs-tree';

export const DOOR_SOCKET = 'zfs.sock';

const named = z.object({ name: z.string() });
const deep = named.extend({ recursive: z.boolean() });
const created = named.extend({ bytes: z.number().int().min(1).nullable() });

/** The door of one zone, open while the zone is up. */
export class ZfsDoor {
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
  static async open(paths: Paths, zone: Zone): Promise<ZfsDoor | null> {
    const tree = new ZfsTree(paths, zone);
    if (tree.delegated.length === 0) {
      return null;
    }
    tree.make();
    const door = new ZfsDoor(tree, delegationOf(zone.properties)?.receive !== 'none');
    const socket = join(tree.directory, DOOR_SOCKET);
    rmSync(socket, { force: true });
    await door.server.listen(socket);
    return door;
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
