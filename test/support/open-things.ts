/* What the process holds open, by kind: a lifecycle test ends where it began. */
import { readdirSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';

export interface OpenThings {
  readonly descriptors: number;
  readonly resources: string;
}

/** Connections are counted by their descriptors: the standard streams come and go among them. */
const KINDS = ['PipeServerWrap', 'PipeConnectWrap', 'FSEventWrap'];

/** Timers are left out: mocha has its own. */
export function openThings(): OpenThings {
  // The first watch of a process opens a descriptor that serves all later ones.
  watch(tmpdir(), { persistent: false }).close();
  const kinds = process.getActiveResourcesInfo().filter((kind) => KINDS.includes(kind));
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    resources: kinds.sort().join(' '),
  };
}
