/*
 * The platform's file lock: an fcntl write lock over a whole file, as its VM tool takes it.
 *
 * POSIX drops all locks that a process has on a file as soon as it closes any descriptor of it, and
 * lets a process lock again what it holds. So one process must never have the same file open twice
 * for a lock: callers of one path wait for each other here, first come first served, and only the first
 * opens the file.
 *
 * A lock that another process holds is asked for again and again with growing pauses: to wait in the kernel would
 * take the main thread, or many threads of the pool. To ask is one call of the addon (native/file_lock.c), which takes
 * microseconds.
 *
 * The node has such a lock too, which keeps a second agent out.
 */
import { closeSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '../lib/backoff';
import { codeOf, errnoName, SystemError, systemError } from '../lib/errors';
import { loadAddon } from './addon';
import type { Paths } from './paths';

/** Pauses between attempts: a lock is mostly held for a file write, sometimes for seconds. */
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 50;

/** An agent that is being replaced has this long to end. */
const OTHER_AGENT_MS = 2000;
/** The mode of the admin socket in the agent's directory keeps nobody out on illumos (transport/socket-file.ts). */
const RUN_DIR_MODE = 0o700;

export interface LockOptions {
  /** How long to wait at most, for our own callers and for other processes together. */
  readonly timeoutMs: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}

export interface HeldLock {
  /** Idempotent. */
  release(): void;
}

/** The end of each path's queue; a path is here only while somebody holds it or waits. */
const queues = new Map<string, Promise<void>>();

/**
 * @param path created where it is missing
 * @throws SystemError with ETIMEDOUT when it is held for too long, ECANCELED when the signal came, or
 * the errno of opening or locking it
 */
export async function takeLock(path: string, options: LockOptions): Promise<HeldLock> {
  const key = resolve(path);
  if (!queues.has(key) && options.signal?.aborted !== true) {
    // Nearly always nobody has it, and there is nothing to wait for.
    const fd = tryLock(key);
    if (fd !== null) {
      return heldLock(fd, enterQueue(key).leave);
    }
  }
  const wait = new Wait(key, options);
  const { before, leave } = enterQueue(key);
  try {
    await wait.until(before);
    return heldLock(await waitForLock(key, wait), leave);
  } catch (err) {
    leave();
    throw err;
  } finally {
    wait.end();
  }
}

function heldLock(fd: number, leave: () => void): HeldLock {
  let held = true;
  return {
    release: () => {
      if (held) {
        held = false;
        closeSync(fd);
        leave();
      }
    },
  };
}

/**
 * Takes the node for this process: a node is there below the root, and no other agent serves it. The kernel releases
 * the lock with the process, however that ends.
 *
 * @throws SystemError with ENOENT where no node is, EBUSY where another agent serves it, or another errno
 */
export async function lockNode({ runDir, agentLock, zoneIndex }: Paths): Promise<HeldLock> {
  try {
    statSync(zoneIndex);
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      throw systemError('stat', zoneIndex, err);
    }
    const detail = 'no compute node is there (off SmartOS `simcn up --root DIR` makes one)';
    throw new SystemError('stat', zoneIndex, 'ENOENT', detail, err);
  }
  // A boot of the node empties /var/run. In two steps: with `recursive` node:fs loses the errno.
  mkdirSync(dirname(runDir), { recursive: true });
  try {
    mkdirSync(runDir, { mode: RUN_DIR_MODE });
  } catch (err) {
    if (codeOf(err) !== 'EEXIST') {
      throw systemError('mkdir', runDir, err);
    }
  }
  try {
    return await takeLock(agentLock, { timeoutMs: OTHER_AGENT_MS });
  } catch (err) {
    if (codeOf(err) !== 'ETIMEDOUT') {
      throw err;
    }
    const detail = 'another mdatad serves this node: stop it first';
    throw new SystemError('lock', agentLock, 'EBUSY', detail, err);
  }
}

/** `before` resolves when all before have left. Whoever leaves earlier lets the next one in only then. */
function enterQueue(key: string): { readonly before: Promise<void>; readonly leave: () => void } {
  const before = queues.get(key) ?? Promise.resolve();
  let leave: () => void = () => undefined;
  const left = new Promise<void>((done) => {
    leave = done;
  });
  const tail = before.then(() => left);
  queues.set(key, tail);
  void tail.then(() => {
    if (queues.get(key) === tail) {
      queues.delete(key);
    }
  });
  return { before, leave };
}

/** A descriptor with the lock on it. */
async function waitForLock(path: string, wait: Wait): Promise<number> {
  const backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  for (;;) {
    const fd = tryLock(path);
    if (fd !== null) {
      return fd;
    }
    // Jitter, so that waiting processes do not ask in step.
    await wait.until(delay(backoff.next() * (0.5 + Math.random() / 2)));
  }
}

/**
 * A descriptor that holds the lock until it is closed; null where another process has it. Only for a caller of which
 * no other in this process takes the same lock.
 *
 * @param path created where it is missing, and emptied, as the platform does it: the file never says anything
 * @throws SystemError
 */
export function tryLock(path: string): number | null {
  const fd = loadAddon().lockFile(path);
  if (fd >= 0) {
    return fd;
  }
  const code = errnoName(-fd);
  if (code === 'EAGAIN') {
    return null;
  }
  throw new SystemError('lock', path, code);
}

/** One caller's deadline and signal: a promise that only ever rejects, at the deadline or at the signal. */
class Wait {
  private readonly over: Promise<never>;
  /** Releases the timer and the signal. */
  readonly end: () => void;

  constructor(path: string, { timeoutMs, signal }: LockOptions) {
    let giveUp: (err: SystemError) => void = () => undefined;
    this.over = new Promise<never>((_, reject) => {
      giveUp = reject;
    });
    // Nobody may be waiting when it comes.
    this.over.catch(() => undefined);
    const onAbort = () => giveUp(new SystemError('lock', path, 'ECANCELED', 'given up'));
    const timer = setTimeout(() => {
      giveUp(new SystemError('lock', path, 'ETIMEDOUT', `still held after ${timeoutMs} ms`));
    }, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) {
      onAbort();
    }
    this.end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
  }

  /** Waits for it, but not past the deadline. */
  async until(event: Promise<void>): Promise<void> {
    await Promise.race([this.over, event]);
  }
}
