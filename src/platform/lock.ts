/*
 * The platform's file lock: an fcntl write lock over a whole file, as its VM tool takes it. The node has such a lock
 * too, which keeps a second agent out.
 *
 * POSIX drops all locks that a process has on a file as soon as it closes any descriptor of it, and lets a process
 * lock again what it holds. So a file whose lock this process holds already is never opened: to its other callers that
 * is a lock like another process's. To wait in the kernel would take the main thread, or many threads of the pool.
 */
import { closeSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
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

/** What this process holds, by path. */
const held = new Map<string, HeldLock>();

/**
 * @param path absolute; created where it is missing
 * @throws SystemError with ETIMEDOUT when it is held for too long, ECANCELED when the signal came, or
 * the errno of opening or locking it
 */
export async function takeLock(path: string, options: LockOptions): Promise<HeldLock> {
  const { timeoutMs, signal } = options;
  const deadline = performance.now() + timeoutMs;
  // Jitter, so that waiting processes do not ask in step.
  const backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS, 0.5);
  for (;;) {
    if (signal?.aborted === true) {
      throw new SystemError('lock', path, 'ECANCELED', 'given up');
    }
    const lock = takeFreeLock(path);
    if (lock !== null) {
      return lock;
    }
    const left = deadline - performance.now();
    if (left <= 0) {
      throw new SystemError('lock', path, 'ETIMEDOUT', `still held after ${timeoutMs} ms`);
    }
    // Rejects when the signal comes, which is seen above.
    const pause = delay(Math.min(left, backoff.next()), undefined, signal && { signal });
    await pause.catch(() => undefined);
  }
}

/** The lock where nobody has it, else null. @throws SystemError as takeLock */
export function takeFreeLock(path: string): HeldLock | null {
  const fd = held.has(path) ? null : tryLock(path);
  if (fd === null) {
    return null;
  }
  const lock = {
    release: () => {
      if (held.get(path) === lock) {
        held.delete(path);
        closeSync(fd);
      }
    },
  };
  held.set(path, lock);
  return lock;
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
