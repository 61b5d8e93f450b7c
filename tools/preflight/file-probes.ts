/*
 * The probes of preflight by name, and those about files: watch, sync, lock, space, and the threads that
 * wait for them. Each does in a scratch directory what the agent will do, and reports what it saw. Run by
 * child.ts, one a process.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  watch,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { lstat, open as openFile, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { POOL_THREADS } from '../../src/config';
import { settlesWithin } from '../../src/lib/bounded-wait';
import { codeOf, messageOf } from '../../src/lib/errors';
import { replaceDurably } from '../../src/platform/files';
import { run } from '../../src/platform/exec';
import { takeLock } from '../../src/platform/lock';
import { ZoneRoots } from '../../src/platform/zone-root';
import { portOf } from '../../src/transport/serial-dialer';
import {
  isLockFree,
  fail,
  HELPER_MS,
  listed,
  LOCK_MS,
  ok,
  parseHvmZones,
  warn,
  type Finding,
  type Ground,
  type ProbeName,
} from './check';
import { lofs, otherUser, peerCredential, socket } from './socket-probes';
import { globalZone, kernelZones, libzonecfg, structSizes, zoneEvents } from './zone-probes';

type Probe = (ground: Ground) => Promise<Finding>;

const WATCH_MS = 2000;
const PORT_MS = 2000;
const POOL_MS = 4000;
/** What a start and some guests' writes need at least. */
const SPACE_BYTES = 1024 * 1024;
const SCARCE_FRACTION = 0.02;
/** A zone may come or go between two questions: they are asked once more. */
const AGAIN_MS = 500;

export const probes: Readonly<Record<Exclude<ProbeName, 'addon' | 'ffi'>, Probe>> = {
  'global-zone': globalZone,
  'kernel-zones': again(kernelZones),
  libzonecfg: again(libzonecfg),
  'struct-sizes': structSizes,
  'zone-events': zoneEvents,
  socket,
  'peer-credential': peerCredential,
  'other-user': otherUser,
  lofs,
  watch: watchDirectory,
  'directory-sync': directorySync,
  lock,
  'hvm-ports': hvmPorts,
  'free-space': freeSpace,
  'thread-pool': threadPool,
};

function again(probe: Probe): Probe {
  return async (ground) => {
    const first = await probe(ground).catch((err: unknown) => fail(messageOf(err)));
    if (first.verdict === 'ok') {
      return first;
    }
    await delay(AGAIN_MS);
    return probe(ground);
  };
}

/** libuv re-arms an event port after each callback: a change in between is lost there. */
async function watchDirectory({ directory }: Ground): Promise<Finding> {
  const reported = new AbortController();
  const watcher = watch(directory, () => reported.abort());
  const began = performance.now();
  try {
    writeFileSync(join(directory, '.new'), '');
    renameSync(join(directory, '.new'), join(directory, 'new'));
    await delay(WATCH_MS, undefined, { signal: reported.signal });
    return warn(`a rename was not reported within ${WATCH_MS / 1000} s`);
  } catch {
    // The wait was ended by the watch.
    return ok(`a rename was reported after ${Math.round(performance.now() - began)} ms`);
  } finally {
    watcher.close();
  }
}

async function directorySync({ directory }: Ground): Promise<Finding> {
  const path = join(directory, 'metadata.json');
  const began = performance.now();
  await replaceDurably(path, join(directory, '.metadata.json.new'), Buffer.from('{}'));
  const ms = Math.round(performance.now() - began);
  return readFileSync(path, 'utf8') === '{}'
    ? ok(`file and directory synced in ${ms} ms`)
    : fail('the file that was put there is another');
}

async function lock({ lock: path }: Ground): Promise<Finding> {
  const held = await takeLock(path, { timeoutMs: LOCK_MS });
  try {
    if (await isLockFree(path)) {
      return fail('two processes had the lock at once');
    }
  } finally {
    held.release();
  }
  return (await isLockFree(path))
    ? ok('refused to a second process, free after release')
    : fail('still held after it was released');
}

/** Files inside zones may never answer: stat runs in processes of its own, as in the agent. */
async function hvmPorts({ root }: Ground): Promise<Finding> {
  const roots = new ZoneRoots(root);
  const zones = parseHvmZones(readFileSync(0, 'utf8')).flatMap((zone) => {
    const port = portOf(zone.com2);
    return port === null ? [] : [{ ...zone, port }];
  });
  const codes = await Promise.all(
    zones.map(async ({ zonename, zonepath, port }) => {
      try {
        await roots.of(zonepath).find(port, AbortSignal.timeout(PORT_MS));
        return { zonename, code: '' };
      } catch (err) {
        const code = codeOf(err);
        return { zonename, code: code === 'ECANCELED' ? 'no answer' : code };
      }
    }),
  );
  roots.stop();
  const faults = codes.filter(({ code }) => code !== '');
  if (faults.length === 0) {
    return ok(zones.length === 0 ? 'no HVM zone runs' : `${zones.length} of running HVM zones`);
  }
  const seen = listed(faults.map(({ zonename, code }) => `${zonename}: ${code}`));
  // A link or something that is no socket is somebody's doing; a port that is missing may yet come.
  const made = faults.some(({ code }) => ['ELOOP', 'ENOTDIR', 'ENOTSOCK'].includes(code));
  return made
    ? fail(seen, 'do not trust this zone: find out who made it, then reboot it')
    : warn(seen);
}

/** A fraction, since node's statfs gives blocks in a unit that is not illumos' own. */
async function freeSpace({ directory, lock: path }: Ground): Promise<Finding> {
  const seen: string[] = [];
  for (const [name, at] of [
    ['/var/zonecontrol', directory],
    ['/var/run', dirname(path)],
  ] as const) {
    const file = `${at === directory ? join(at, 'space') : path}.space`;
    try {
      const fd = openSync(file, 'w', 0o600);
      try {
        writeSync(fd, Buffer.alloc(SPACE_BYTES));
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    } catch (err) {
      return fail(`1 MiB below ${name}: ${codeOf(err)}`);
    } finally {
      rmSync(file, { force: true });
    }
    const { bavail, blocks } = await statfs(at);
    const fraction = blocks === 0 ? 1 : bavail / blocks;
    seen.push(`${name} ${Math.floor(fraction * 100)} %`);
    if (fraction < SCARCE_FRACTION) {
      return warn(`${name} has ${(fraction * 100).toFixed(1)} % free`);
    }
  }
  return ok(`free: ${seen.join(', ')}`);
}

/** All threads but one wait for a FIFO; with the last one stat of another file must still answer. */
async function threadPool({ directory }: Ground): Promise<Finding> {
  const fifo = join(directory, 'fifo');
  await run(['mkfifo', fifo], { timeoutMs: HELPER_MS });
  const waiting = Array.from({ length: POOL_THREADS - 1 }, () => openFile(fifo, 'r'));
  const free = await settlesWithin(lstat(directory), POOL_MS);
  const writer = openSync(fifo, 'w');
  for (const handle of await Promise.all(waiting)) {
    await handle.close();
  }
  closeSync(writer);
  return free
    ? ok(`${POOL_THREADS} threads`)
    : warn(`fewer than ${POOL_THREADS} threads: UV_THREADPOOL_SIZE is set`);
}
