/*
 * Watches a directory of the global zone: reports that a name was added, removed or replaced in it, or that the
 * directory itself or its parent was renamed.
 *
 * Used for the directories of zone sockets. Reports are hints: the callback checks for itself, and checks periodically
 * besides, since the kernel may drop events and some file systems have none. No event tells that a parent was renamed,
 * so that is found by a stat a second: one for all directories in it.
 */
import { watch } from 'node:fs';
import { dirname } from 'node:path';
import type { PeriodicTimer } from '../lib/periodic-timer';
import { deviceOf, inodeOf, openStat } from '../platform/files';

export interface DirectoryWatch {
  /** Idempotent. */
  close(): void;
}

/**
 * On illumos libuv arms its watch again only after its callback, with no memory of the time before
 * (src/unix/sunos.c, uv__fs_event_read and uv__fs_event_rearm): a change between the two is never reported. So each
 * report is followed by a second one, when the watch is certainly armed again.
 */
const SECOND_REPORT_MS = 1000;

/**
 * Watches a directory.
 * @param changed a function of its own; may be called often, for our own changes too
 * @param broken the watch ended by itself; it is closed already
 * @returns null: not there, or no watch left; the caller checks periodically instead
 */
export function watchDirectory(
  directory: string,
  timer: Pick<PeriodicTimer, 'everySecond'>,
  changed: () => void,
  broken: () => void,
): DirectoryWatch | null {
  let again: NodeJS.Timeout | undefined;
  try {
    const watcher = watch(directory, { persistent: false }, () => {
      clearTimeout(again);
      again = setTimeout(changed, SECOND_REPORT_MS).unref();
      changed();
    });
    const leaveParent = watchParent(dirname(directory), timer, changed);
    const close = (): void => {
      clearTimeout(again);
      leaveParent();
      watcher.close();
    };
    watcher.once('error', () => {
      close();
      broken();
    });
    return { close };
  } catch {
    return null;
  }
}

/** Who is told that a parent directory was renamed or replaced. */
interface Parent {
  readonly members: Set<() => void>;
  readonly end: () => void;
}

const parents = new Map<string, Parent>();

/** @returns ends it; idempotent */
function watchParent(
  path: string,
  timer: Pick<PeriodicTimer, 'everySecond'>,
  changed: () => void,
): () => void {
  const parent = parents.get(path) ?? newParent(path, timer);
  parents.set(path, parent);
  parent.members.add(changed);
  return () => {
    if (parent.members.delete(changed) && parent.members.size === 0) {
      parents.delete(path);
      parent.end();
    }
  };
}

function newParent(path: string, timer: Pick<PeriodicTimer, 'everySecond'>): Parent {
  const stat = openStat();
  const identity = (): string => {
    try {
      const found = stat(path);
      return found === null ? '' : `${deviceOf(found)}/${inodeOf(found)}`;
    } catch {
      // It cannot be seen: whoever is told checks for itself.
      return '';
    }
  };
  const members = new Set<() => void>();
  let known = identity();
  const end = timer.everySecond(() => {
    const now = identity();
    if (now !== known) {
      known = now;
      // Callbacks may close their watch, and open it again.
      [...members].forEach((changed) => changed());
    }
  });
  return { members, end };
}
