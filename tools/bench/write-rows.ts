/*
 * What changes cost: until they are on the disk, and in however many pieces they come.
 */
import { mkdirSync, mkdtempSync, rmSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { replaceDurably } from '../../src/platform/files';
import { Paths } from '../../src/platform/paths';
import type { Instruments } from './instruments';
import { getLine, putLine, type LoadResult } from './load';
import type { BenchNode } from './node';
import { cpuMs } from './processes';

/** Zones that are written to at once. */
export const WRITERS = 20;
/** One in flight on each: what waits for a VM's disk goes there together. */
const WRITERS_A_ZONE = 8;
const PUTS = 20;
const MIB = 1024 * 1024;
const NO_LIMITS = { writes_per_second: 10_000, write_burst: 10_000 };

/** What the disk alone takes: 20 files replaced at once, each with its two syncs, again and again. */
async function diskFloor(node: BenchNode): Promise<number> {
  const directory = mkdtempSync(join(node.root, 'floor-'));
  const bytes = Buffer.from('{"customer_metadata":{"k":"v"},"internal_metadata":{}}');
  const times: number[] = [];
  try {
    const writer = async (index: number): Promise<void> => {
      const own = join(directory, String(index));
      mkdirSync(own);
      for (let n = 0; n < PUTS; n++) {
        const began = performance.now();
        const path = join(own, 'metadata.json');
        await replaceDurably({ path, temp: `${path}.new`, bytes, owner: null, mode: 0o644 });
        times.push(performance.now() - began);
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, (_, index) => writer(index)));
  } finally {
    rmSync(directory, { recursive: true });
  }
  return times.sort((a, b) => a - b)[Math.floor(0.99 * times.length)] ?? 0;
}

/** Durable writes. Syncs are counted by the renames between them: two for each. */
export async function putRows(bench: Instruments, node: BenchNode): Promise<void> {
  await node.startAgent(NO_LIMITS);
  let renames = 0;
  const sockets = node.agentSockets(WRITERS);
  const paths = new Paths(node.root);
  const watchers = sockets.map((socket) => {
    const directory = paths.host(`/zones/${zoneOf(socket)}/config`);
    return watch(directory, (event, name) => {
      renames += event === 'rename' && name === 'metadata.json' ? 1 : 0;
    });
  });
  const p99: number[] = [];
  const overFloor: number[] = [];
  let puts = 0;
  for (let run = 0; run < bench.scale.pairs; run++) {
    const put = async (each: number): Promise<LoadResult> => {
      // No two alike: what is stored already needs no write.
      const requests = Array.from({ length: 997 }, (_, n) => putLine(`k${n % 7}`, `${run}.${n}`));
      const load = { mode: 'open', seconds: 20, sockets, requests, most: PUTS } as const;
      return bench.client.run({ ...load, connections: WRITERS * each });
    };
    const floor = await diskFloor(node);
    const putMs = (await put(1)).p99Us / 1000;
    p99.push(putMs);
    overFloor.push(putMs / floor);
    renames = 0;
    puts = (await put(WRITERS_A_ZONE)).requests;
    await pause(100);
  }
  watchers.forEach((watcher) => watcher.close());
  bench.addRow('PUT, durable, 20 zones at once: p99', 'ms', { most: 25 }, p99);
  bench.addRow('PUT p99, 20 zones at once', 'x two syncs of the disk', { most: 1.3 }, overFloor);
  const syncs = [(2 * renames) / puts];
  bench.addRow('syncs per PUT, 160 at once on 20 zones', '', { most: 0.5 }, syncs, `${puts} PUTs`);
}

/** A value of 1 MiB, written and read in bytes of 16 and of 65,536 at once. */
export async function piecesRow(bench: Instruments, node: BenchNode): Promise<void> {
  const { pid } = await node.startAgent(NO_LIMITS);
  const sockets = node.agentSockets(1);
  const costOf = async (piece: number, mark: string): Promise<number> => {
    const before = cpuMs(pid);
    const requests = [putLine('big', mark.padEnd(MIB, 'x')), getLine('big')];
    const load = { mode: 'open', seconds: 30, connections: 1, most: 2 } as const;
    await bench.client.run({ ...load, sockets, requests, piece });
    return cpuMs(pid) - before;
  };
  const ratios: number[] = [];
  await costOf(0, 'warm');
  for (let pair = 0; pair < bench.scale.pairs; pair++) {
    const large = await costOf(65_536, `l${pair}`);
    ratios.push((await costOf(16, `s${pair}`)) / large);
  }
  bench.addRow('1 MiB in 16-byte pieces', 'x cpu of 64 KiB pieces', { most: 20 }, ratios);
}

function zoneOf(socket: string): string {
  return dirname(socket).split('/').at(-1) ?? '';
}
