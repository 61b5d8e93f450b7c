/*
 * Waits for a hypervisor's port to become another file than the one that is known: a new process.
 *
 * It is looked for four times a second, by the processes that go below zones' roots. The kernel's hints are
 * of no use: to ask for them would name a path there. Used by a serial link while it waits longer than it
 * takes to dial, and after a guest's reboot.
 */
import type { ZoneRoot } from '../platform/zone-root';

const LOOK_MS = 250;

/**
 * @param port path inside the zone
 * @param known identity of the file that is no news
 * @param replaced may be called more than once
 * @returns ends it; idempotent
 */
export function watchPort(
  root: ZoneRoot,
  port: string,
  known: string,
  replaced: () => void,
): () => void {
  const ending = new AbortController();
  let looking = false;
  const look = (): void => {
    if (looking) {
      return;
    }
    looking = true;
    const done = (identity: string): void => {
      looking = false;
      if (!ending.signal.aborted && identity !== known) {
        replaced();
      }
    };
    // Not there, or not what it must be: that is no news, and the next dial tells.
    root.find(port, ending.signal).then(
      (file) => done(file.identity),
      () => done(known),
    );
  };
  const timer = setInterval(look, LOOK_MS);
  look();
  return () => {
    clearInterval(timer);
    ending.abort();
  };
}
