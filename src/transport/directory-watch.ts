/*
 * Watches a directory of the global zone: reports that a name was added, removed or replaced in it, or that the
 * directory itself or its parent was renamed.
 *
 * Reports are hints: the callback checks for itself, and checks periodically besides, since the kernel may drop events
 * and some file systems have none. Used for the directories of zone sockets, which share one parent: that is watched
 * once for all of them.
 */
import { watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { SystemError } from '../lib/errors';
import { oncePerIteration } from '../lib/scheduler';
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
 * @param changed may be called often, for our own changes too
 * @param broken the watch ended by itself; it is closed already
 * @param secondMs from a report to the one that follows it, ms
 * @returns null when the directory cannot be watched
 */
export function watchDirectory(
  directory: string,
  changed: () => void,
  broken: () => void,
  secondMs = SECOND_REPORT_MS,
): DirectoryWatch | null {
  let removeFromParent = (): void => undefined;
  const watched = open(
    directory,
    changed,
    () => {
      removeFromParent();
      broken();
    },
    secondMs,
  );
  if (watched === null) {
    return null;
  }
  removeFromParent = ParentWatch.add(dirname(directory), changed);
  return {
    close: () => {
      removeFromParent();
      watched.close();
    },
  };
}

/**
 * @param changed with the name in the directory, null where that is not known
 * @returns null: not there, or no watch left; the caller checks periodically instead
 */
function open(
  directory: string,
  changed: (name: string | null) => void,
  broken: () => void,
  secondMs = SECOND_REPORT_MS,
): DirectoryWatch | null {
  let again: NodeJS.Timeout | null = null;
  let watcher: FSWatcher;
  try {
    watcher = watch(directory, { persistent: false }, (_event, name) => {
      clearTimeout(again ?? undefined);
      again = setTimeout(() => changed(null), secondMs).unref();
      changed(name);
    });
  } catch {
    return null;
  }
  const close = (): void => {
    clearTimeout(again ?? undefined);
    watcher.close();
  };
  watcher.once('error', () => {
    close();
    broken();
  });
  return { close };
}

/**
 * The watch of a parent directory, for all watched directories in it: reports that the parent was renamed or replaced.
 * The kernel has an event for each name that is added or removed in it; that of its own renaming has its own name
 * (Linux) or none (illumos): then it is checked, once in an iteration of the event loop.
 */
class ParentWatch {
  private static readonly all = new Map<string, ParentWatch>();
  private readonly path: string;
  private readonly members = new Set<() => void>();
  private readonly stat = openStat();
  /** Identity of the directory that the path named last; '' for none. */
  private known = '';
  private watcher: DirectoryWatch | null = null;
  private readonly checkSoon = oncePerIteration(() => {
    if (this.isReplaced()) {
      this.begin();
      // Callbacks may close their watch, and open it again.
      for (const changed of [...this.members]) {
        changed();
      }
    }
  });

  private constructor(path: string) {
    this.path = path;
  }

  /** @returns ends it; idempotent */
  static add(path: string, changed: () => void): () => void {
    const parent = ParentWatch.all.get(path) ?? new ParentWatch(path);
    ParentWatch.all.set(path, parent);
    if (parent.watcher === null) {
      // It was not there before; whoever watches a directory in it has made it.
      parent.begin();
    }
    parent.members.add(changed);
    return () => {
      parent.members.delete(changed);
      if (parent.members.size === 0 && ParentWatch.all.get(path) === parent) {
        ParentWatch.all.delete(path);
        parent.watcher?.close();
      }
    };
  }

  private begin(): void {
    this.watcher?.close();
    this.watcher = open(
      this.path,
      (name) => {
        if (name === null || name === basename(this.path)) {
          this.checkSoon();
        }
      },
      () => {
        this.watcher = null;
      },
    );
    this.isReplaced();
  }

  /** Whether the path names another directory than at the last call. */
  private isReplaced(): boolean {
    try {
      const found = this.stat(this.path);
      const now = found === null ? '' : `${deviceOf(found)}/${inodeOf(found)}`;
      const replaced = now !== this.known;
      this.known = now;
      return replaced;
    } catch (err) {
      if (err instanceof SystemError) {
        return true;
      }
      throw err;
    }
  }
}
