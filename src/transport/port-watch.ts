/*
 * Waits for a hypervisor's port to become another file than the one that is known: a new process.
 *
 * The folder is watched, and looked at four times a second as well: a file system that is mounted over
 * it is not told, and a folder that is not there yet can only be watched from above. Used by a serial
 * link while it waits longer than it takes to try.
 */
import { dirname, join } from 'node:path';
import { watchNearest } from './directory-watch';
import { findPort } from './port-file';

const LOOK_MS = 250;

/**
 * @param zoneroot host path of the zone's root; nothing above it is watched
 * @param port path inside the zone
 * @param known identity of the file that is no news
 * @param replaced may be called more than once
 * @returns ends it; idempotent
 */
export function watchPort(
  zoneroot: string,
  port: string,
  known: string,
  replaced: () => void,
): () => void {
  let ended = false;
  let looking = false;
  const look = (): void => {
    if (looking || ended) {
      return;
    }
    looking = true;
    const done = (identity: string): void => {
      looking = false;
      if (!ended && identity !== known) {
        replaced();
      }
    };
    // Not there, or not what it must be: that is no news, and the next try tells.
    findPort(zoneroot, port).then(
      (file) => done(file.identity),
      () => done(known),
    );
  };
  const timer = setInterval(look, LOOK_MS);
  const watch = watchNearest(dirname(join(zoneroot, port)), zoneroot, look);
  look();
  return () => {
    ended = true;
    clearInterval(timer);
    watch?.close();
  };
}
