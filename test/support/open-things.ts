/* What the process holds open, by kind: a lifecycle test ends where it began. */
import assert from 'node:assert';
import { mkdtempSync, readdirSync, rmSync, watch } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenUnix } from '../../src/platform/sockets';
import { eventually } from './eventually';

export interface OpenThings {
  readonly descriptors: number;
  readonly resources: string;
}

/** Connections are counted by their descriptors: the standard streams come and go among them. */
const KINDS = ['PipeServerWrap', 'PipeConnectWrap', 'FSEventWrap'];

/** The first socket that is listened on opens a spare descriptor, which serves all later ones: ours, libuv’s. */
function openSpares(): void {
  const directory = mkdtempSync(join(tmpdir(), 'spare-'));
  const refuse = (): void => undefined;
  listenUnix(join(directory, 's'), (stream) => stream.destroy(), refuse).close();
  createServer().listen(join(directory, 'n')).close();
  rmSync(directory, { recursive: true });
}

openSpares();

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

/**
 * Resolves when no more is open than `before`. Less may be: what an earlier test closed was still counted then, where
 * its descriptor was closed a moment later.
 */
export async function nothingLeft(before: OpenThings): Promise<void> {
  await eventually(() => openThings().descriptors <= before.descriptors, 'all closed');
  assert.strictEqual(openThings().resources, before.resources);
}
