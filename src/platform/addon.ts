/*
 * The door to the addon, and zone state changes through it, as libzonecfg tells them. No one else loads
 * a `.node` file; what else is in the addon has files of its own in this directory.
 *
 * libzonecfg calls the addon on a thread of its own and waits for it, and every zone operation of the
 * node waits with it. So the addon only queues, and hands over here, on the main thread. The queue is
 * bounded: what finds it full is counted, `onLost` tells, and the zones have to be listed anew.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { codeOf, SystemError, systemError } from '../lib/errors';
import { errnoName } from './abi';
import type { PeerCredential } from './libzonecfg';
import { onRoot } from './ffi-library';

/** The same from every directory that is built into: <top>/dist/src/sys. */
const ADDON_PATH = join(__dirname, '../../../native/build/Release/mdatad.node');

/** Two changes for each of 4,096 zones while the main thread is busy: about 1.5 MiB. */
const MAX_QUEUED_EVENTS = 8192;

/** What all calls are on: the event channel of the kernel's zones. */
const CHANNEL = 'com.sun:zones:status';

/** libzonecfg refused, and gives no reason. */
const REFUSED = 'EIO';
/** The bound is EVCH_MAX_SUBSCRIPTIONS (uts/common/os/evchannels.c, evch_chsubscribe). */
const WHY_REFUSED =
  'not root in the global zone, or the channel has its 32 subscribers, which is all that a node may have: end programs that watch zone events and were left running';

/** A state change as the platform publishes it. State names are the kernel's. */
export interface RawZoneEvent {
  readonly zonename: string;
  readonly zoneid: number;
  /** Empty for a deletion. */
  readonly newstate: string;
  /** Empty for a creation. */
  readonly oldstate: string;
  /** Nanoseconds since 1970. */
  readonly when: bigint;
}

/**
 * One subscription. All of its methods may be called at any time; after `close` they reject. Calls are
 * carried out one after the other, and an event that is told after a section was left is told after
 * its promise resolved.
 */
export interface ZoneSubscription {
  /** Holds events back: until `exitCritical` says false, the listing replaces them. */
  enterCritical(): Promise<void>;
  /** True: an event came in meanwhile, list again and call this again; the section is still held. */
  exitCritical(): Promise<boolean>;
  abortCritical(): Promise<void>;
  /** No event is delivered after it was called. Leaves the section. Idempotent. */
  close(): Promise<void>;
}

/** Nothing in it for us to see. */
type Handle = object;

/** With `lost` 0 an event, else nothing but how many were lost. */
type OnItem = (
  lost: number,
  zonename: string,
  zoneid: number,
  newstate: string,
  oldstate: string,
  when: bigint,
) => void;

/** What `openSockets` returns; nothing in it for us to see. */
export type SocketsHandle = object;

/** What `watchLoop` returns. */
export type LoopWatchHandle = object;

/** A metadata file's text, by its members' offsets: native/metadata_addon.c. */
export interface NativeText {
  readonly code: number;
  readonly err: number;
  readonly step: number;
  readonly root: Uint32Array;
  readonly members: Uint32Array;
  /** Of an event only. */
  readonly ranges: Uint32Array;
  readonly names?: Buffer;
  readonly look: Uint32Array;
  readonly owner: Uint32Array;
  readonly bytes?: Buffer;
}

/** The addon's own face (native/addon.c, and the other *_addon.c). */
interface Addon {
  /** @param later has a function called in a later turn of the loop: bursts are told in slices */
  bind(onItem: OnItem, maxEvents: number, later: (f: () => void) => void): Handle;
  enter(handle: Handle): Promise<number>;
  exit(handle: Handle): Promise<number>;
  abort(handle: Handle): Promise<number>;
  close(handle: Handle): Promise<number>;
  /** @param into zone id, process id, user id @returns 0 or the negative errno */
  peer(fd: number, into: Int32Array): number;
  /** @returns the negative errno where there is no such zone */
  zonename(zoneid: number): string | number;
  /** @returns name and status of each zone in turn, or the negative errno */
  liveZones(): readonly (string | number)[] | number;
  /** @param into as native/file_look.h says @returns 0 or the negative errno */
  look(path: string, into: Uint32Array): number;
  /** @param look filled when done @returns 0, or what failed, as native/files_addon.c says */
  replaceFile(
    path: string,
    temp: string,
    directory: string,
    bytes: Buffer,
    uid: number,
    gid: number,
    mode: number,
    look: Uint32Array,
  ): Promise<number>;
  syncFile(path: string, directory: string): Promise<number>;
  /** @returns bytes, or the negative errno */
  freeSpace(path: string): Promise<number>;
  /** These six: native/metadata_addon.c says what they take and tell. */
  scanMetadata(bytes: Buffer): NativeText;
  buildMetadata(
    old: Buffer,
    pieces: Uint32Array,
    literals: Buffer,
    members: Uint32Array,
    counts: Uint32Array,
  ): NativeText;
  scanEvent(line: Buffer): Promise<NativeText>;
  readMetadata(path: string, bytesMax: number, keepMax: number): Promise<NativeText>;
  readValue(
    path: string,
    look: Uint32Array,
    start: number,
    end: number,
    isString: boolean,
  ): Promise<NativeText>;
  spliceMetadata(
    path: string,
    temp: string,
    directory: string,
    old: Buffer | null,
    look: Uint32Array | null,
    pieces: Uint32Array,
    literals: Buffer,
    members: Uint32Array,
    counts: Uint32Array,
    owner: Int32Array,
    keepMax: number,
  ): Promise<NativeText>;
  /** What the numbers in the arrays mean, native/sockets.h says. @param deliver how many events */
  openSockets(
    deliver: (count: number) => void,
    events: Int32Array,
    inbox: Uint8Array,
    commands: Int32Array,
    outbox: Uint8Array,
    unsent: Uint32Array,
  ): SocketsHandle;
  /** @returns the listener's id, or the negative errno */
  listen(sockets: SocketsHandle, path: string, backlog: number): number;
  /** Carries out the first `count` commands. */
  carryOut(sockets: SocketsHandle, count: number): void;
  /** For what is larger than the outbox. */
  write(sockets: SocketsHandle, id: number, bytes: Uint8Array): void;
  /** Memory for one large write that is filled piece by piece. @returns 0 or the negative errno */
  reserve(sockets: SocketsHandle, id: number, bytes: number): number;
  fill(sockets: SocketsHandle, id: number, at: number, bytes: Uint8Array): void;
  /** Sends the first `bytes` of it in one write; 0 abandons it. */
  commit(sockets: SocketsHandle, id: number, bytes: number): void;
  /** Bytes that the peer has not read, as far as the kernel tells. */
  undelivered(sockets: SocketsHandle, id: number): number;
  /** Whether the peer has closed its end. */
  gone(sockets: SocketsHandle, id: number): boolean;
  /** @param into filled as native/loop_delay.h says, from now on */
  watchLoop(into: Float64Array): LoopWatchHandle;
  unwatchLoop(watch: LoopWatchHandle): void;
}

const MEMBERS = [
  'bind',
  'enter',
  'exit',
  'abort',
  'close',
  'peer',
  'zonename',
  'look',
  'replaceFile',
  'syncFile',
  'freeSpace',
  'liveZones',
  'scanMetadata',
  'buildMetadata',
  'scanEvent',
  'readMetadata',
  'readValue',
  'spliceMetadata',
  'openSockets',
  'listen',
  'carryOut',
  'write',
  'reserve',
  'fill',
  'commit',
  'undelivered',
  'gone',
  'watchLoop',
  'unwatchLoop',
] as const satisfies readonly (keyof Addon)[];

let addon: Addon | null = null;

function isAddon(loaded: unknown): loaded is Addon {
  return typeof loaded === 'object' && loaded !== null && MEMBERS.every((name) => name in loaded);
}

/** The addon, for its doors in this directory. @throws SystemError when it was not built with this */
export function loadAddon(): Addon {
  if (addon === null) {
    const loaded: unknown = createRequire(__filename)(ADDON_PATH);
    if (!isAddon(loaded)) {
      throw new SystemError(
        'load',
        ADDON_PATH,
        'UNKNOWN',
        'not the addon that was built with this',
      );
    }
    addon = loaded;
  }
  return addon;
}

/**
 * Subscribes to the state changes of all zones of the node. An open subscription keeps the process
 * alive, as a listening socket does; one that nobody holds any more is closed by the collector.
 *
 * @param onEvent called on the main thread, in the order of the events
 * @param onLost called where `count` events are missing; all zones must be listed again
 * @param options.root the node, where the process has more than one: else the last that was opened
 * @param options.maxQueued events that wait for the main thread, at most
 * @throws SystemError when libzonecfg refuses (not in the global zone, not permitted, no node there)
 */
export function bindZoneEvents(
  onEvent: (event: RawZoneEvent) => void,
  onLost: (count: number) => void,
  options: { readonly root?: string; readonly maxQueued?: number } = {},
): ZoneSubscription {
  const native = loadAddon();
  if (options.root !== undefined) {
    onRoot(options.root);
  }
  let handle: Handle;
  try {
    handle = native.bind(
      deliverTo(onEvent, onLost),
      options.maxQueued ?? MAX_QUEUED_EVENTS,
      setImmediate,
    );
  } catch (err) {
    if (codeOf(err) === REFUSED) {
      throw new SystemError('zonecfg_notify_bind', CHANNEL, REFUSED, WHY_REFUSED, err);
    }
    throw systemError('zonecfg_notify_bind', CHANNEL, err);
  }

  let closed: Promise<void> | null = null;
  return {
    enterCritical: async () => {
      await carryOut('zonecfg_notify_critical_enter', native.enter(handle));
    },
    exitCritical: async () => {
      return (await carryOut('zonecfg_notify_critical_exit', native.exit(handle))) === 1;
    },
    abortCritical: async () => {
      await carryOut('zonecfg_notify_critical_abort', native.abort(handle));
    },
    close: () => {
      closed ??= carryOut('zonecfg_notify_unbind', native.close(handle)).then(() => undefined);
      return closed;
    },
  };
}

/** Apart, so that what the addon holds for ever does not hold the handle: it could never be collected. */
function deliverTo(
  onEvent: (event: RawZoneEvent) => void,
  onLost: (count: number) => void,
): OnItem {
  return (lost, zonename, zoneid, newstate, oldstate, when) => {
    if (lost > 0) {
      onLost(lost);
    } else {
      onEvent({ zonename, zoneid, newstate, oldstate, when });
    }
  };
}

async function carryOut(call: string, command: Promise<number>): Promise<number> {
  try {
    return await command;
  } catch (err) {
    throw systemError(call, CHANNEL, err);
  }
}

/** Who connects, as `Platform` tells it too, but at a price that every connection can pay. */
export interface Peers {
  /** @param fd a connected socket @throws SystemError, ENOTCONN when the peer is gone */
  peer(fd: number): PeerCredential;
  /** @throws SystemError for a zone that the kernel does not know */
  zoneName(zoneid: number): string;
}

/** @param root the node, as for `openPlatform` */
export function openPeers(root: string): Peers {
  const native = loadAddon();
  const into = new Int32Array(3);
  return {
    peer: (fd) => {
      onRoot(root);
      const err = native.peer(fd, into);
      if (err !== 0) {
        throw new SystemError('getpeerucred', `descriptor ${fd}`, errnoName(-err));
      }
      const [zoneid = -1, pid = -1, uid = -1] = into;
      return { zoneid, pid, uid: uid >>> 0 };
    },
    zoneName: (zoneid) => {
      onRoot(root);
      const name = native.zonename(zoneid);
      if (typeof name === 'number') {
        throw new SystemError('getzonenamebyid', String(zoneid), errnoName(-name));
      }
      return name;
    },
  };
}
