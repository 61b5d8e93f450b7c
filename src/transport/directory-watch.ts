/*
 * Watches a directory of the global zone: reports that a name was added, removed or replaced in it, or that the
 * directory itself or its parent was renamed.
 *
 * Reports are hints: the callback checks for itself, and checks periodically besides, since the kernel may drop events
 * and some file systems have none. Used for the directories of zone sockets, which share one parent: that is watched
 * once for all of them.
 */
import { watch } from 'node:fs';
import { basename, dirname } from 'node:path';
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
 * @returns null when the directory cannot be watched
 */
export function watchDirectory(
  directory: string,
  changed: () => void,
  broken: () => void,
): DirectoryWatch | null {
  const watched = open(directory, changed, () => {
    parent.remove(changed);
    broken();
  });
  if (watched === null) {
    return null;
  }
  const parent = ParentWatch.of(dirname(directory));
  parent.add(changed);
  return {
    close: () => {
      parent.remove(changed);
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
): DirectoryWatch | null {
  let again: NodeJS.Timeout | undefined;
  try {
    const watcher = watch(directory, { persistent: false }, (_event, name) => {
      clearTimeout(again);
      again = setTimeout(() => changed(null), SECOND_REPORT_MS).unref();
      changed(name);
    });
    const close = (): void => {
      clearTimeout(again);
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

/**
 * The watch of a parent directory, for all watched directories in it: reports that the parent was renamed or replaced.
 * The kernel has an event for each name that is added or removed in it; that of its own renaming has its own name
 * (Linux) or none (illumos): then it is checked, once in an iteration of the event loop.
 */
class ParentWatch {
  private static readonly all = new Map<string, ParentWatch>();
  private readonly members = new Set<() => void>();
  private readonly stat = openStat();
  /** Identity of the directory that the path named last; '' for none. */
  private known = '';
  private watcher: DirectoryWatch | null = null;
  private readonly checkSoon = oncePerIteration(() => {
    if (this.isReplaced()) {
      this.begin();
      // Callbacks may close their watch, and open it again.
      [...this.members].forEach((changed) => changed());
    }
  });

  private constructor(private readonly path: string) {}

  static of(path: string): ParentWatch {
    const parent = ParentWatch.all.get(path) ?? new ParentWatch(path);
    ParentWatch.all.set(path, parent);
    return parent;
  }

  add(changed: () => void): void {
    this.members.add(changed);
    if (this.watcher === null) {
      // It was not there before; whoever watches a directory in it has made it.
      this.begin();
    }
  }

  /** Idempotent. */
  remove(changed: () => void): void {
    this.members.delete(changed);
    if (this.members.size === 0 && ParentWatch.all.get(this.path) === this) {
      ParentWatch.all.delete(this.path);
      this.watcher?.close();
    }
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
    } catch {
      // It cannot be seen: whoever is told checks for itself.
      return true;
    }
  }
}
