/*
 * Tells that something happened in a folder: a name came, went or was replaced, or the folder itself.
 *
 * A hint, no more: whoever is told looks for himself, and whoever must not miss anything looks now and
 * then without being told, since the kernel may drop hints and some file systems give none. Used for
 * the folder of a zone's socket and for the one in which a hypervisor makes its port.
 */
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { dirname } from 'node:path';

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
 * Watches a folder.
 * @param changed may be called often, also for changes of our own
 * @param broken the watch ended by itself; it is closed already
 * @param secondMs from a report to the one that follows it, ms
 * @returns null when the folder cannot be watched
 */
export function watchDirectory(
  folder: string,
  changed: () => void,
  broken: () => void,
  secondMs = SECOND_REPORT_MS,
): DirectoryWatch | null {
  let watcher: FSWatcher;
  try {
    watcher = watch(folder, { persistent: false }, reported);
  } catch {
    // Not there, or no watch left: the caller falls back to looking.
    return null;
  }
  let again: NodeJS.Timeout | null = null;
  function reported(): void {
    clearTimeout(again ?? undefined);
    again = setTimeout(changed, secondMs).unref();
    changed();
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

/** Watches the folder, or the nearest one above it that is there, down to `top`. */
export function watchNearest(
  folder: string,
  top: string,
  changed: () => void,
): DirectoryWatch | null {
  for (let at = folder; at.length >= top.length; at = dirname(at)) {
    const found = watchDirectory(at, changed, changed);
    if (found !== null || at === dirname(at)) {
      return found;
    }
  }
  return null;
}
