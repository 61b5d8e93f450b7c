/*
 * What changes cost: until they are on the disk, and in however many pieces they come.
 */
import { watch } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Instruments } from './instruments';
import { getLine, putLine, type LoadResult } from './load';
import type { BenchNode } from './node';
import { cpuMs } from './processes';
import { medianAt } from './report';

/** Zones that are written to at once. */
export const WRITERS = 20;
/** One in flight on each: what waits for a VM's disk goes there together. */
const WRITERS_A_ZONE = 8;
const PUTS = 50;
const MIB = 1024 * 1024;
const NO_LIMITS = { writes_per_second: 10_000, write_burst: 10_000 };

/**
 * Durable writes, in turns with the same system calls by as many writers without an agent: with nothing else there, and
 * on a node where vminfod sees each write as it sees the agent's. Syncs are counted by the renames between them: two
 * for each.
 *
 * @param bare a node without an agent
 */
export async function putRows(bench: Instruments, node: BenchNode, bare: BenchNode): Promise<void> {
  const { pid } = await node.startAgent(NO_LIMITS);
  let renames = 0;
  const sockets = node.agentSockets(WRITERS);
  const watchers = node.configDirectories.map((directory) => {
    return watch(directory, (event, name) => {
      renames += event === 'rename' && name === 'metadata.json' ? 1 : 0;
    });
  });
  const put = async (zones: number, each: number, mark: string): Promise<LoadResult> => {
    // No two alike: what is stored already needs no write.
    const requests = Array.from({ length: 997 }, (_, n) => putLine(`k${n % 7}`, `${mark}.${n}`));
    const load = { mode: 'open', seconds: 20, requests, most: PUTS } as const;
    const connections = zones * each;
    return bench.client.run({ ...load, sockets: sockets.slice(0, zones), connections });
  };
  const p99: number[] = [];
  const overDisk: number[] = [];
  const overNode: number[] = [];
  const notes: string[] = [];
  const alone: number[] = [];
  let puts = 0;
  // One run first that does not count: code is compiled when it has run for a while.
  for (let run = -1; run < bench.scale.pairs; run++) {
    const diskAlone = await bench.disk.runAlone(1, PUTS, node.root);
    const putAlone = await put(1, 1, `${run}.one`);
    const disk = await bench.disk.runAlone(WRITERS, PUTS, node.root);
    const cpuBefore = cpuMs(pid);
    const ours = await put(WRITERS, 1, `${run}.all`);
    const cpuUs = ((cpuMs(pid) - cpuBefore) * 1000) / ours.requests;
    const onNode = await bench.disk.run(bare.configDirectories, PUTS);
    renames = 0;
    puts = (await put(WRITERS, WRITERS_A_ZONE, `${run}.many`)).requests;
    await pause(100);
    if (run >= 0) {
      alone.push(putAlone.p50Us / diskAlone.p50Us);
      p99.push(ours.p99Us / 1000);
      overDisk.push(ours.p99Us / disk.p99Us);
      overNode.push(ours.p99Us / onNode.p99Us);
      notes.push(
        `p99 ${inMs(ours.p99Us)} of ${inMs(disk.p99Us)} ms (with vminfod ${inMs(onNode.p99Us)}), ` +
          `p50 ${inMs(ours.p50Us)} of ${inMs(disk.p50Us)} ms (${inMs(onNode.p50Us)}), ` +
          `cpu ${cpuUs.toFixed(0)} of ${disk.cpuUs.toFixed(0)} us`,
      );
    }
  }
  watchers.forEach((watcher) => watcher.close());
  const note = notes[medianAt(overDisk)] ?? '';
  bench.addRow('PUT, durable, 20 zones at once: p99', 'ms', { most: 25 }, p99);
  bench.addRow('PUT p99, 20 zones at once', 'x the disk alone', { most: 1.3 }, overDisk, note);
  bench.addRow('PUT p99, where vminfod sees both', 'x such writes, no agent', {}, overNode);
  bench.addRow('PUT p50, one zone', 'x the disk alone', {}, alone);
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

function inMs(us: number): string {
  return (us / 1000).toFixed(1);
}
