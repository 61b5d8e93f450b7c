/*
 * What it costs to list all zones of a node: the first snapshot, and a reconcile that finds nothing.
 *
 * Measured in this process, on a node that is files only: half of its zones run. The emulation's libzonecfg
 * costs what the platform's does (native/emul/zonecfg.c), so asking it zone by zone would show here.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { PassThrough } from 'node:stream';
import { ZONE_STATUSES } from '../../src/platform/ffi';
import { openPlatform } from '../../src/platform/libzonecfg';
import { ZoneRoots } from '../../src/platform/zone-root';
import { createLogger, ZoneLog } from '../../src/log';
import { Reconciler } from '../../src/zones/reconciler';
import { listZones } from '../../src/zones/events';
import type { ZoneFacts } from '../../src/platform/libzonecfg';
import { Zone, type SocketLink } from '../../src/zones/zone';
import { openEmulation } from '../simcn/emulation';
import type { Instruments } from './instruments';

const RUNS = 5;
const NEVER_MS = 3_600_000;
const SHARE = { perSecond: 1, burst: 1, bytesPerSecond: 1 };

/** A zone that nobody can connect to. */
const NO_LINK: SocketLink = {
  state: 'listening',
  path: '/dev/null',
  connections: 0,
  file: null,
  history: () => [],
  start: () => Promise.resolve(),
  stop: () => Promise.resolve(),
  remove: () => undefined,
};

/** @param directory where the node's files go */
export async function listingRows(bench: Instruments, directory: string): Promise<void> {
  const count = bench.scale.manyZones;
  const root = join(directory, 'listing');
  const emulation = openEmulation(root);
  emulation.nodeBoot();
  emulation.zonesConfigure(
    Array.from({ length: count }, (_, n) => {
      const name = `z${n}`;
      return { name, brand: 'joyent', zonepath: `/zones/${name}`, uuid: name, state: 'installed' };
    }),
  );
  for (let n = 0; n < count; n += 2) {
    for (const status of ['initialized', 'running'] as const) {
      emulation.zoneStatus(`z${n}`, ZONE_STATUSES.indexOf(status), 0);
    }
  }
  const platform = openPlatform(root);
  const first = await timed(() => listZones(platform));
  bench.addRow(`${count} zones: first snapshot`, 'ms', { most: 150 }, first.ms);

  const log = createLogger('error', new PassThrough());
  const roots = new ZoneRoots(root);
  const reconciler = new Reconciler(
    { platform, log, reconcileMs: NEVER_MS },
    new Map(first.result.zones.map((facts) => [facts.zonename, heldZone(facts, log, roots)])),
    () => Promise.resolve(),
  );
  const { ms, result: differences } = await timed(() => reconciler.run());
  // A healthy node has none.
  bench.addRow(`${count} zones: reconcile`, 'ms', { most: 150 }, differences === 0 ? ms : [NaN]);
}

function heldZone(facts: ZoneFacts, log: ReturnType<typeof createLogger>, roots: ZoneRoots): Zone {
  const zoneLog = new ZoneLog(log, facts.zonename, facts.brand, SHARE, () => undefined);
  const link = { kind: 'socket', link: NO_LINK } as const;
  return new Zone(facts, zoneLog, link, null, roots.of(facts.zonepath));
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number[]; result: T }> {
  const ms: number[] = [];
  for (;;) {
    const before = performance.now();
    const result = await work();
    ms.push(performance.now() - before);
    if (ms.length === RUNS) {
      return { ms, result };
    }
  }
}
