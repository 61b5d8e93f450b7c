/*
 * The other face of the emulation library: what happens to zones on a simulated node. For simcn and
 * tests; the daemon never calls it. (native/emul/emul.h)
 */
import { WorldError } from '../errors';
import { errnoName } from './abi';
import { cString, emulated, memory } from './ffi-library';

/** A zone as the index is to have it. */
export interface ZoneConfiguration {
  readonly name: string;
  readonly brand: string;
  /** Platform path, below the root. */
  readonly zonepath: string;
  readonly uuid: string;
  readonly state: 'configured' | 'incomplete' | 'installed';
}

/** Every method throws, or rejects with, a WorldError: what was called, on which zone, errno's name. */
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
   * @param status the kernel's zone_status_t; 1 gives a fresh id, 10 (free) takes it back
   * @param initpid 0 for none
   * @returns the id that the zone has, or had
   */
  zoneStatus(zonename: string, status: number, initpid: number): number;
  /**
   * Tells every subscriber, off the main thread: a stuck one holds this up, as on the platform. Of one
   * caller the events go out in the order of the calls.
   * @param when nanoseconds since 1970
   */
  publish(
    zonename: string,
    zoneid: number,
    newstate: string,
    oldstate: string,
    when: bigint,
  ): Promise<void>;
  /** Unmounts what is mounted below the root. @returns how many */
  unmountAll(): number;
}

/** @param root the root of a simulated node, an absolute path */
export function openEmulation(root: string): Emulation {
  const at = cString(root);
  const library = emulated();
  let last: Promise<unknown> = Promise.resolve();

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
    publish: (zonename, zoneid, newstate, oldstate, when) => {
      // One at a time: events keep their order, and a stuck subscriber costs one thread of the pool.
      const sent = last.then(() => publish(at, zonename, zoneid, newstate, oldstate, when));
      last = sent.catch(() => undefined);
      return sent;
    },
    unmountAll: () => {
      const count = memory(4);
      check('emul_unmount_all', root, library.emul_unmount_all(at, count));
      return count.readUInt32LE(0);
    },
  };
}

function line({ name, state, zonepath, uuid, brand }: ZoneConfiguration): string {
  return `${name}:${state}:${zonepath}:${uuid}:${brand}\n`;
}

function publish(
  root: string,
  zonename: string,
  zoneid: number,
  newstate: string,
  oldstate: string,
  when: bigint,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const [name, to, from] = [cString(zonename), cString(newstate), cString(oldstate)];
    const done = (err: unknown, result: number) => {
      try {
        if (err !== null && err !== undefined) {
          throw new WorldError('emul_publish', zonename, 'UNKNOWN', '', err);
        }
        // The errno is the result itself, so it is not lost on the way from the pool's thread.
        check('emul_publish', zonename, result);
        resolve();
      } catch (fault) {
        reject(fault instanceof Error ? fault : new Error(String(fault)));
      }
    };
    emulated().emul_publish.async(root, name, zoneid, to, from, when.toString(), done);
  });
}

function check(call: string, subject: string, result: number): void {
  if (result !== 0) {
    throw new WorldError(call, subject, errnoName(-result));
  }
}
