/*
 * Loads the addon and says what is in it (native/addon.c, and the other *_addon.c). No one else loads a
 * `.node` file; each part of it has a file of its own in this directory, through which everyone else uses it.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** The same from every directory that is built into: <top>/dist/src/platform. */
const ADDON_PATH = join(__dirname, '../../../native/build/Release/mdatad.node');

/** With `lost` 0 an event, else nothing but how many were lost. */
export type OnZoneEvent = (
  lost: number,
  zonename: string,
  zoneid: number,
  newstate: string,
  oldstate: string,
  when: bigint,
) => void;

/** What `bind` and `openSockets` return, each another; nothing in it for us to see. */
export type Handle = object;

/** A metadata file's text, by its members' offsets: native/metadata_addon.c. */
export interface NativeText {
  readonly code: number;
  readonly err: number;
  readonly step: number;
  readonly root: Uint32Array;
  readonly members: Uint32Array;
  readonly order: Uint32Array;
  /** Of an event only. */
  readonly ranges: Uint32Array;
  readonly names?: Buffer;
  readonly stat: Uint32Array;
  readonly owner: Uint32Array;
  readonly bytes?: Buffer;
}

/** What the addon exports. */
interface Addon {
  /** @param later calls a function in a later iteration of the event loop: bursts are delivered in batches */
  bind(onEvent: OnZoneEvent, maxEvents: number, later: (f: () => void) => void): Handle;
  enter(handle: Handle): Promise<void>;
  /** @returns 1 where an event came in meanwhile */
  exit(handle: Handle): Promise<number>;
  abort(handle: Handle): Promise<void>;
  close(handle: Handle): Promise<void>;
  /** @param into zone id, process id, user id @returns 0 or the negative errno */
  peer(fd: number, into: Int32Array): number;
  /** @returns the negative errno where there is no such zone */
  zonename(zoneid: number): string | number;
  /** @returns name, status and id of each zone in turn, or the negative errno */
  liveZones(): readonly (string | number)[] | number;
  /** _exit(2): nothing of the process runs any more. */
  exitProcess(code: number): never;
  /** libzonecfg works below it from now on. */
  setRoot(root: string): void;
  /** @param into as native/file_stat.h says @returns 0 or the negative errno */
  stat(path: string, into: Uint32Array): number;
  /** @returns 0, or what failed, as native/files_addon.c says */
  replaceFile(path: string, temp: string, directory: string, bytes: Buffer): Promise<number>;
  syncFile(path: string, directory: string): Promise<number>;
  /** @returns bytes, or the negative errno */
  freeSpace(path: string): Promise<number>;
  /** @returns the descriptor that holds the lock, or the negative errno */
  lockFile(path: string): number;
  /** These nine: native/metadata_addon.c says what they take and return. */
  scanMetadata(bytes: Buffer): NativeText;
  buildMetadata(
    old: Buffer,
    pieces: Uint32Array,
    literals: Buffer,
    members: Uint32Array,
    counts: Uint32Array,
  ): NativeText;
  scanEvent(line: Buffer): Promise<NativeText>;
  /** @param utf8 of a string @returns what it takes as JSON, quotes included */
  jsonBytes(utf8: Buffer): number;
  readMetadata(path: string, bytesMax: number, keepMax: number): Promise<NativeText>;
  readMetadataNow(path: string, bytesMax: number, keepMax: number): NativeText;
  readValue(
    path: string,
    stat: Uint32Array,
    start: number,
    end: number,
    isString: boolean,
  ): Promise<NativeText>;
  readValueNow(
    path: string,
    stat: Uint32Array,
    start: number,
    end: number,
    isString: boolean,
  ): NativeText;
  spliceMetadata(
    path: string,
    temp: string,
    directory: string,
    old: Buffer | null,
    stat: Uint32Array | null,
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
    buffered: Uint32Array,
  ): Handle;
  /** @returns the listener's id, or the negative errno */
  listen(sockets: Handle, path: string, backlog: number): number;
  /** Executes the first `count` commands. */
  execute(sockets: Handle, count: number): void;
  /** Memory for one large write that is filled piece by piece. @returns 0 or the negative errno */
  reserve(sockets: Handle, id: number, bytes: number): number;
  fill(sockets: Handle, id: number, at: number, bytes: Uint8Array): void;
  /** Sends the first `bytes` of it in one write; 0 abandons it. */
  commit(sockets: Handle, id: number, bytes: number): void;
  /** Bytes that the peer has not read, as far as the kernel knows. */
  undelivered(sockets: Handle, id: number): number;
  /** Whether the peer has closed its end. */
  gone(sockets: Handle, id: number): boolean;
  /** @param into filled as native/loop_delay.h says, from now on */
  watchLoop(into: Float64Array): void;
}

let addon: Addon | null = null;

/** The addon, for the other files of this directory. @throws where it was not built, or for another platform */
export function loadAddon(): Addon {
  // It is built and packed with this file: what it exports is written there only.
  addon ??= createRequire(__filename)(ADDON_PATH) as Addon;
  return addon;
}
