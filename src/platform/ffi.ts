/*
 * The platform's C libraries, opened through ffi-napi, and the numbers of their interface: on SmartOS its own, elsewhere
 * the emulation, which has the same symbols and speaks the same ABI (64-bit, little endian).
 *
 * For libzonecfg.ts and the probes of preflight; no call about zones goes past `onRoot`. Whatever can fail with an
 * errno is called synchronously, as errno is lost otherwise.
 */
import assert from 'node:assert';
import { join } from 'node:path';
import { errno, Library } from 'ffi-napi';
import { errnoName, SystemError } from '../lib/errors';
import { loadAddon } from './addon';

const onIllumos = process.platform === 'sunos';

/** Longest zone name with its NUL. */
export const ZONENAME_MAX = 64;
/** Longest path with its NUL. */
export const MAXPATHLEN = 1024;

export const ZONE_ATTR_STATUS = 3;
export const ZONE_ATTR_BRAND = 11;
export const Z_OK = 0;

/** libzonecfg's zone_state_t, by number. */
export const ZONE_STATES = [
  'configured',
  'incomplete',
  'installed',
  'ready',
  'running',
  'shutting_down',
  'down',
  'mounted',
] as const;

/** The kernel's zone_status_t, by number; `free` is seen in events only. */
export const ZONE_STATUSES = [
  'uninitialized',
  'initialized',
  'ready',
  'booting',
  'running',
  'shutting_down',
  'empty',
  'down',
  'dying',
  'dead',
] as const;

const Z_NAMES: ReadonlyMap<number, string> = new Map([
  [11, 'Z_NOMEM'],
  [12, 'Z_INVAL'],
  [13, 'Z_ACCES'],
  [16, 'Z_NO_ZONE'],
  [21, 'Z_BAD_ZONE_STATE'],
  [22, 'Z_INVALID_DOCUMENT'],
  [28, 'Z_SYSTEM'],
]);

/** The name of a libzonecfg code: `Z_NO_ZONE`; `Z_25` for one whose name is not known here. */
export function zonecfgCode(code: number): string {
  return Z_NAMES.get(code) ?? `Z_${code}`;
}

/** Next to the addon, and the very file that the addon is linked with: the two share one state. */
export const EMULATION_PATH = join(__dirname, '../../../native/build/Release/libzoneemul.so');

/** Opens a library when it is first needed, and once. */
export function once<T>(open: () => T): () => T {
  let library: T | undefined;
  return () => (library ??= open());
}

/** What libc has on the platform, but not elsewhere. */
const kernel = once(() =>
  Library(onIllumos ? 'libc.so.1' : EMULATION_PATH, {
    zone_list: ['int', ['pointer', 'pointer']],
    zone_getattr: ['int64', ['int', 'int', 'pointer', 'size_t']],
    getzoneidbyname: ['int', ['string']],
  }),
);

const zonecfg = once(() =>
  Library(onIllumos ? 'libzonecfg.so.1' : EMULATION_PATH, {
    zone_get_state: ['int', ['string', 'pointer']],
    zone_get_zonepath: ['int', ['string', 'pointer', 'size_t']],
    zone_get_rootpath: ['int', ['string', 'pointer', 'size_t']],
    zone_get_brand: ['int', ['string', 'pointer', 'size_t']],
  }),
);

/** The root that libzonecfg of this process works on. */
let currentRoot = '/';

const libraries = {
  get zonecfg() {
    return zonecfg();
  },
  get kernel() {
    return kernel();
  },
};

/**
 * libzonecfg and the kernel, on this root from now on: a simulated kernel is found below it too. Each is opened when it
 * is first asked for: to load ffi-napi takes 10 ms, and the first guests need nothing of it.
 */
export function onRoot(root: string): typeof libraries {
  if (root !== currentRoot) {
    loadAddon().setRoot(cString(root));
    currentRoot = root;
  }
  return libraries;
}

/** Opens all that a running agent may call: later there may be no descriptor for it. */
export function openLibraries(): void {
  kernel();
  zonecfg();
}

/** Memory for C to fill: bytes of ours. */
export type Memory = Parameters<ReturnType<typeof kernel>['zone_list']>[0];

/** @param bytes how many; all are 0 */
export function memory(bytes: number): Memory {
  // Loads the binding, which adds its methods to every Buffer.
  kernel();
  const buffer = Buffer.alloc(bytes);
  assert(isMemory(buffer));
  return buffer;
}

function isMemory(buffer: Buffer): buffer is Memory {
  return 'deref' in buffer;
}

/** A string that C reads whole: one with a NUL in it is our own fault. */
export function cString(text: string): string {
  assert(!text.includes('\0'), 'NUL in a string for C');
  return text;
}

/** What C left in our memory, up to the NUL that ends it. */
export function readString(bytes: Buffer): string {
  return bytes.toString('utf8', 0, bytes.indexOf(0));
}

/** The error of a call that has just returned -1. Nothing may be called in between. */
export function lastError(call: string, subject: string): SystemError {
  return new SystemError(call, subject, errnoName(errno()));
}
