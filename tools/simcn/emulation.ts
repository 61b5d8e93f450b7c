/*
 * What happens to zones on a simulated node, through the emulation library (native/emul/emul.h): for simcn
 * and tests. What the agent asks of the same library is in src/platform/libzonecfg.ts.
 */
import { Library } from 'ffi-napi';

import { errnoName, SystemError } from '../../src/lib/errors';
import { cString, EMULATION_PATH, lastError, memory, once, onRoot } from '../../src/platform/ffi';

/** Room for the mount options, which the kernel writes back (sys/mount.h). */
const MAX_MNTOPT_STR = 1024;
const MS_OPTIONSTR = 0x100;

const emulated = once(() =>
  Library(EMULATION_PATH, {
    emul_node_boot: ['int', ['string']],
    emul_zones_configure: ['int', ['string', 'string']],
    emul_zone_index_state: ['int', ['string', 'string', 'uint32']],
    emul_zone_delete: ['int', ['string', 'string']],
    emul_zone_status: ['int', ['string', 'string', 'int', 'int', 'pointer']],
    emul_publish: ['int', ['string', 'string']],
    emul_costs: ['void', ['pointer']],
    emul_unmount: ['int', ['string', 'string']],
    emul_unmount_all: ['int', ['string', 'pointer']],
    mount: ['int', ['string', 'string', 'int', 'string', 'uint64', 'int', 'pointer', 'int']],
  }),
);

/** A zone as the index is to have it. */
export interface ZoneConfiguration {
  readonly name: string;
  readonly brand: string;
  /** Platform path, below the root. */
  readonly zonepath: string;
  readonly uuid: string;
  readonly state: 'configured' | 'incomplete' | 'installed';
}

/** The same numbers as the platform's own library would have. */
export interface LibraryCosts {
  /** Lines of the index that were read. */
  readonly indexLines: number;
  /** XML documents that were parsed. */
  readonly documents: number;
}

/** Every method throws, or rejects with, a SystemError: what was called, on which zone, errno's name. */
export interface Emulation {
  /** Makes the node's files and empties the kernel's table: no zone runs, nothing is mounted. */
  nodeBoot(): void;
  /** All or none, with one write of the index. EEXIST when one of the names is taken. */
  zonesConfigure(zones: readonly ZoneConfiguration[]): void;
  /** @param state 0 configured, 1 incomplete, 2 installed */
  zoneIndexState(zonename: string, state: number): void;
  /** EBUSY while the kernel knows the zone. */
  zoneDelete(zonename: string): void;
  /**
   * @param status the kernel's zone_status_t; 1 gives a fresh id, 10 (free) takes it back, 0 changes nothing
   * @param initpid 0 for none
   * @returns the id that the zone has, or had
   */
  zoneStatus(zonename: string, status: number, initpid: number): number;
  /**
   * Sends the event to every subscriber, off the main thread, in the order of the calls. A stuck subscriber
   * holds this up, as on the platform.
   * @param when nanoseconds since 1970
   */
  publish(
    zonename: string,
    zoneid: number,
    newstate: string,
    oldstate: string,
    when: bigint,
  ): Promise<void>;
  /** What this process has asked libzonecfg for so far, by simcn or the agent. */
  costs(): LibraryCosts;
  /** Unmounts what the mount table has there, whoever uses it. EINVAL where it is not mounted (any more). */
  unmount(mountPoint: string): void;
  /** Unmounts what is mounted below the root. @returns how many */
  unmountAll(): number;
}

/** @param root the root of a simulated node, an absolute path */
export function openEmulation(root: string): Emulation {
  const at = cString(root);
  const library = emulated();
  const channel = new Channel(at);

  return {
    nodeBoot: () => check('emul_node_boot', root, library.emul_node_boot(at)),
    zonesConfigure: (zones) => {
      const lines = cString(zones.map(line).join(''));
      const subject = zones.length === 1 ? (zones[0]?.name ?? '') : `${zones.length} zones`;
      check('emul_zones_configure', subject, library.emul_zones_configure(at, lines));
    },
    zoneIndexState: (zonename, state) => {
      const result = library.emul_zone_index_state(at, cString(zonename), state);
      check('emul_zone_index_state', zonename, result);
    },
    zoneDelete: (zonename) => {
      check('emul_zone_delete', zonename, library.emul_zone_delete(at, cString(zonename)));
    },
    zoneStatus: (zonename, status, initpid) => {
      const zoneid = memory(4);
      const result = library.emul_zone_status(at, cString(zonename), status, initpid, zoneid);
      check('emul_zone_status', zonename, result);
      return zoneid.readInt32LE(0);
    },
    publish: (zonename, zoneid, newstate, oldstate, when) =>
      channel.publish(`${zonename}:${zoneid}:${newstate}:${oldstate}:${when}\n`),
    costs: () => {
      const costs = memory(16);
      library.emul_costs(costs);
      return {
        indexLines: Number(costs.readBigUInt64LE(0)),
        documents: Number(costs.readBigUInt64LE(8)),
      };
    },
    unmount: (mountPoint) => {
      check('emul_unmount', mountPoint, library.emul_unmount(at, cString(mountPoint)));
    },
    unmountAll: () => {
      const count = memory(4);
      check('emul_unmount_all', root, library.emul_unmount_all(at, count));
      return count.readUInt32LE(0);
    },
  };
}

/** A lofs mount as a brand makes it, of host path `special` on host path `dir`. @throws SystemError */
export function mountLofs(root: string, special: string, dir: string, options: string): void {
  const buffer = memory(MAX_MNTOPT_STR);
  buffer.write(cString(options));
  onRoot(root);
  const [from, to] = [cString(special), cString(dir)];
  if (emulated().mount(from, to, MS_OPTIONSTR, 'lofs', 0, 0, buffer, buffer.length) !== 0) {
    throw lastError('mount', dir);
  }
}

function line({ name, state, zonepath, uuid, brand }: ZoneConfiguration): string {
  return `${name}:${state}:${zonepath}:${uuid}:${brand}\n`;
}

/**
 * Sends events in the order that they come in: one call at a time, which takes all that wait. So a stuck
 * subscriber costs one thread of the pool, and a busy caller's events do not queue up one turn each.
 */
class Channel {
  private readonly root: string;
  private waiting: string[] = [];
  /** The call that will take what waits, once the one under way is done. */
  private next: Promise<void> | null = null;
  private last: Promise<unknown> = Promise.resolve();

  constructor(root: string) {
    this.root = root;
  }

  publish(event: string): Promise<void> {
    this.waiting.push(event);
    if (this.next === null) {
      this.next = this.last.then(() => {
        const events = cString(this.waiting.join(''));
        this.waiting = [];
        this.next = null;
        return this.send(events);
      });
      this.last = this.next.catch(() => undefined);
    }
    return this.next;
  }

  private send(events: string): Promise<void> {
    return new Promise((resolve, reject) => {
      emulated().emul_publish.async(this.root, events, (err: unknown, result: number) => {
        try {
          if (err !== null && err !== undefined) {
            throw new SystemError('emul_publish', this.root, 'UNKNOWN', '', err);
          }
          // The errno is the result itself, so it is not lost on the way from the pool's thread.
          check('emul_publish', this.root, result);
          resolve();
        } catch (fault) {
          reject(fault instanceof Error ? fault : new Error(String(fault)));
        }
      });
    });
  }
}

function check(call: string, subject: string, result: number): void {
  if (result !== 0) {
    throw new SystemError(call, subject, errnoName(-result));
  }
}
