/*
 * The platform's C libraries, opened through ffi-napi: on SmartOS its own, elsewhere the emulation,
 * which has the same symbols. For sys/ffi* alone; no call about zones goes past `onRoot`.
 *
 * Pointers that C gives us are taken as digits (`uint64`), never as Buffers: two Buffers over one
 * address end the process. Memory that C fills is ours, from `memory`. Whatever
 * can fail with an errno is called synchronously, as errno is lost otherwise.
 */
import assert from 'node:assert';
import { join } from 'node:path';
import { errno, Library } from 'ffi-napi';
import { SystemError } from '../lib/errors';
import { errnoName, onIllumos } from './abi';

/** Next to the addon, and the very file that the addon is linked with: the two share one state. */
const EMULATION_PATH = join(__dirname, '../../../native/build/Release/libzoneemul.so');

function openLibc() {
  return Library(onIllumos ? 'libc.so.1' : null, {
    fcntl: ['int', ['int', 'int', 'pointer']],
    _exit: ['void', ['int']],
  });
}

/** What libc has on the platform, but not elsewhere. Pointers that may be NULL go as numbers. */
function openKernel() {
  return Library(onIllumos ? 'libc.so.1' : EMULATION_PATH, {
    zone_list: ['int', ['pointer', 'pointer']],
    zone_getattr: ['int64', ['int', 'int', 'pointer', 'size_t']],
    getzoneidbyname: ['int', ['string']],
    mount: ['int', ['string', 'string', 'int', 'string', 'uint64', 'int', 'pointer', 'int']],
    umount2: ['int', ['string', 'int']],
    getpeerucred: ['int', ['int', 'pointer']],
    ucred_free: ['void', ['uint64']],
    ucred_getzoneid: ['int', ['uint64']],
    ucred_getpid: ['int', ['uint64']],
    ucred_geteuid: ['uint32', ['uint64']],
  });
}

function openZonecfg() {
  return Library(onIllumos ? 'libzonecfg.so.1' : EMULATION_PATH, {
    zonecfg_set_root: ['void', ['string']],
    zone_get_state: ['int', ['string', 'pointer']],
    zone_get_zonepath: ['int', ['string', 'pointer', 'size_t']],
    zone_get_rootpath: ['int', ['string', 'pointer', 'size_t']],
    zone_get_brand: ['int', ['string', 'pointer', 'size_t']],
  });
}

function openEmulated() {
  return Library(EMULATION_PATH, {
    emul_node_boot: ['int', ['string']],
    emul_zones_configure: ['int', ['string', 'string']],
    emul_zone_index_state: ['int', ['string', 'string', 'uint32']],
    emul_zone_delete: ['int', ['string', 'string']],
    emul_zone_status: ['int', ['string', 'string', 'int', 'int', 'pointer']],
    emul_publish: ['int', ['string', 'string']],
    emul_costs: ['void', ['pointer']],
    emul_unmount_all: ['int', ['string', 'pointer']],
  });
}

/** Opens a library when it is first needed, and once. */
function once<T>(open: () => T): () => T {
  let opened: { readonly library: T } | null = null;
  return () => (opened ??= { library: open() }).library;
}

export const libc = once(openLibc);
const kernel = once(openKernel);
const zonecfg = once(openZonecfg);
/** What only a simulated node has; off illumos. */
export const emulated = once(openEmulated);

/** The root that libzonecfg of this process works on; `/` until it is told another. */
let currentRoot = '/';

/** libzonecfg and the kernel, on this root from now on: a simulated kernel is found below it too. */
export function onRoot(root: string): {
  readonly zonecfg: ReturnType<typeof openZonecfg>;
  readonly kernel: ReturnType<typeof openKernel>;
} {
  const libraries = { zonecfg: zonecfg(), kernel: kernel() };
  if (root !== currentRoot) {
    libraries.zonecfg.zonecfg_set_root(cString(root));
    currentRoot = root;
  }
  return libraries;
}

/** Memory for C to fill: zeroed bytes of ours. */
export type Memory = Parameters<ReturnType<typeof openKernel>['zone_list']>[0];

/** @param bytes how many; all are 0 */
export function memory(bytes: number): Memory {
  const buffer = Buffer.alloc(bytes);
  assert(isMemory(buffer));
  return buffer;
}

/** The binding adds its methods to every Buffer when it is loaded. */
function isMemory(buffer: Buffer): buffer is Memory {
  return 'deref' in buffer;
}

/** A string that C reads whole: one with a NUL in it is our own fault. */
export function cString(text: string): string {
  assert(!text.includes('\0'), 'NUL in a string for C');
  return text;
}

/** What C left in our memory, up to the NUL. */
export function readString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end);
}

/** The error of a call that has just returned -1. Nothing may be called in between. */
export function lastError(call: string, subject: string): SystemError {
  return new SystemError(call, subject, errnoName(errno()));
}
