/*
 * The platform's file lock: an fcntl write lock over a whole file, as its VM tool takes it.
 *
 * POSIX drops all locks that a process has on a file as soon as it closes any descriptor of it, and
 * lets a process lock again what it holds. So one process must never have the same file open twice
 * for a lock: callers of one path wait for each other here, first come first served, and only the first
 * opens the file.
 *
 * A lock that another process holds is asked for again and again (F_SETLK) with growing pauses: to
 * wait in the kernel would take the main thread, or many threads of the pool.
 *
 * The node has such a lock too, which keeps a second agent out.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '../lib/backoff';
import { codeOf, SystemError, systemError } from '../lib/errors';
import { trySetLock } from './libzonecfg';
import type { Paths } from './paths';

/** As the platform opens it: created and emptied; the file never says anything. */
const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC;
const FILE_MODE = 0o644;

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
 * the errno of opening and locking
 */
export async function takeLock(path: string, options: LockOptions): Promise<HeldLock> {
  const key = resolve(path);
  if (!queues.has(key) && options.signal?.aborted !== true) {
    // Nearly always nobody has it, and there is nothing to wait for.
    const { leave } = enterQueue(key);
    const fd = lockAtOnce(key, leave);
    if (fd !== null) {
      return heldLock(fd, leave);
    }
  }
  const wait = new Wait(key, options);
  const { before, leave } = enterQueue(key);
  try {
    await wait.until(before);
    return heldLock(await lockFile(key, wait), leave);
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

/** A descriptor with the lock on it. Null, and the queue is left, where somebody else has it. */
function lockAtOnce(key: string, leave: () => void): number | null {
  let fd = -1;
  try {
    fd = open(key);
    if (trySetLock(fd, key) && isStillAt(fd, key)) {
      return fd;
    }
    closeSync(fd);
    leave();
    return null;
  } catch (err) {
    if (fd !== -1) {
      closeSync(fd);
    }
    leave();
    throw systemError('lock', key, err);
  }
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

/** A descriptor with the lock on it, of the file that the path names. */
async function lockFile(path: string, wait: Wait): Promise<number> {
  const backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  let fd = open(path);
  try {
    for (;;) {
      if (trySetLock(fd, path)) {
        if (isStillAt(fd, path)) {
          return fd;
        }
        // Somebody removed the file that we waited for: the lock that counts is on the new one.
        closeSync(fd);
        fd = -1;
        fd = open(path);
      } else {
        // Jitter, so that waiting processes do not ask in step.
        await wait.until(delay(backoff.next() * (0.5 + Math.random() / 2)));
      }
    }
  } catch (err) {
    if (fd !== -1) {
      closeSync(fd);
    }
    throw systemError('lock', path, err);
  }
}

function open(path: string): number {
  try {
    return openSync(path, OPEN_FLAGS, FILE_MODE);
  } catch (err) {
    throw systemError('open', path, err);
  }
}

function isStillAt(fd: number, path: string): boolean {
  const ours = fstatSync(fd, { bigint: true });
  try {
    const named = statSync(path, { bigint: true });
    return ours.dev === named.dev && ours.ino === named.ino;
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return false;
    }
    throw err;
  }
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
