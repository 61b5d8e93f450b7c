/*
 * Tells that something happened to a directory of the global zone: a name came, went or was replaced in it,
 * or the directory itself, or the one that it is in, has another name now.
 *
 * A hint, no more: whoever is told looks for himself, and whoever must not miss anything looks now and then
 * without being told, since the kernel may drop hints and some file systems give none. Used for the
 * directories of zones' sockets, which all are in one: that one is watched once for all of them.
 */
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { SystemError } from '../lib/errors';
import { deviceOf, inodeOf, openStat } from '../platform/files';

export interface DirectoryWatch {
  /** Idempotent. */
  close(): void;
}

/**
 * On illumos libuv arms its watch again only after its callback, with no memory of the time before
 * (src/unix/sunos.c, uv__fs_event_read and uv__fs_event_rearm): a change between the two is never reported.
 * So each report is followed by a second one, when the watch is surely armed again.
 */
const SECOND_REPORT_MS = 1000;

/**
 * Watches a directory.
 * @param changed may be called often, also for changes of our own
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
  let leave = (): void => undefined;
  const watched = open(
    directory,
    changed,
    () => {
      leave();
      broken();
    },
    secondMs,
  );
  if (watched === null) {
    return null;
  }
  leave = ParentWatch.join(dirname(directory), changed);
  return {
    close: () => {
      leave();
      watched.close();
    },
  };
}

/**
 * @param changed with the name in the directory, null where that is not known
 * @returns null: not there, or no watch left; the caller falls back to looking
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
 * Tells all who have a directory in it that a directory was renamed or replaced. Its own watch brings an event
 * for each name that comes or goes in it, and of its own renaming one with its own name (Linux) or none
 * (illumos): then it is looked at, once in a turn of the event loop.
 */
class ParentWatch {
  private static readonly all = new Map<string, ParentWatch>();
  private readonly path: string;
  private readonly members = new Set<() => void>();
  private readonly stat = openStat();
  /** Which directory the path named last; '' for none. */
  private known = '';
  private watcher: DirectoryWatch | null = null;
  private scheduled = false;

  private constructor(path: string) {
    this.path = path;
  }

  /** @returns ends it; idempotent */
  static join(path: string, changed: () => void): () => void {
    const parent = ParentWatch.all.get(path) ?? new ParentWatch(path);
    ParentWatch.all.set(path, parent);
    if (parent.watcher === null) {
      // It was not there when it was looked for last; whoever comes has made it.
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
          this.look();
        }
      },
      () => {
        this.watcher = null;
      },
    );
    this.isSame();
  }

  private look(): void {
    if (this.scheduled) {
      return;
    }
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      if (!this.isSame()) {
        this.begin();
        // Who is told may leave, and join anew.
        for (const changed of [...this.members]) {
          changed();
        }
      }
    });
  }

  /** Whether the path names the directory that it named before; from now on that is the one that it names. */
  private isSame(): boolean {
    try {
      const found = this.stat(this.path);
      const now = found === null ? '' : `${deviceOf(found)}/${inodeOf(found)}`;
      const same = now === this.known;
      this.known = now;
      return same;
    } catch (err) {
      if (err instanceof SystemError) {
        return false;
      }
      throw err;
    }
  }
}
