/*
 * What small requests cost, beside the floor: on connections of their own, on open ones, and beside a
 * zone that floods.
 *
 * A row is measured in pairs, floor and agent in turns, so that what else the machine does meets both;
 * its value is the median of the pairs' ratios. Processor time per request is shown beside, since that
 * is the agent's own where a busy machine's clock is not.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Instruments } from './instruments';
import { getLine, type Load, type LoadResult } from './load';
import { KEY, type BenchNode } from './node';
import { cpuMs } from './processes';
import { medianAt, type Goal } from './report';

/** Zones that are asked at once, and connections of the shapes that have many. */
export const SOCKETS = 16;
/** Pipelined GETs a second that the platform's agent answers, on the machine that the README's numbers are of. */
const PLATFORM_AGENT_RATE = 33_000;

/** How requests come in. */
interface Shape {
  readonly name: string;
  readonly mode: Load['mode'];
  /** 16 when it is left out. */
  readonly connections?: number;
  /** Zones that they are of: all sockets when it is left out. */
  readonly zones?: number;
  /** In flight on each connection. */
  readonly depth?: number;
  readonly goal: Goal;
}

/** Requests of each shape. @param agent and @param floor are process ids */
export async function requestRows(
  bench: Instruments,
  node: BenchNode,
  agent: number,
  floor: number,
): Promise<void> {
  const shapes: readonly Shape[] = [
    { name: 'connect, ask, close: 16 at a time', mode: 'conn', goal: { least: 0.95 } },
    {
      name: 'connect, ask, close: one at a time, p50',
      mode: 'conn',
      connections: 1,
      goal: { most: 1.0 },
    },
    { name: '16 connections, one GET in flight each', mode: 'open', goal: { least: 0.6 } },
    {
      name: '16 connections of one zone, one GET in flight each',
      mode: 'open',
      zones: 1,
      goal: { least: 0.6 },
    },
    { name: '16 connections, 16 GETs in flight each', mode: 'open', depth: 16, goal: {} },
    {
      name: '16 connections of one zone, 16 GETs in flight each',
      mode: 'open',
      depth: 16,
      zones: 1,
      goal: {},
    },
  ];
  for (const { name, mode, connections = 16, depth = 1, zones = SOCKETS, goal } of shapes) {
    const latency = connections === 1;
    const ratios: number[] = [];
    const rates: number[] = [];
    const notes: string[] = [];
    // One pair first that does not count: code is compiled when it has run for a while.
    for (let pair = -1; pair < bench.scale.pairs; pair++) {
      const load = { mode, connections, depth, seconds: bench.scale.seconds };
      const below = await measured(bench, floor, { ...load, sockets: node.floorSockets(zones) });
      const ours = await measured(bench, agent, { ...load, sockets: node.agentSockets(zones) });
      if (pair < 0) {
        continue;
      }
      rates.push(ours.perSecond / PLATFORM_AGENT_RATE);
      ratios.push(latency ? ours.p50Us / below.p50Us : ours.perSecond / below.perSecond);
      notes.push(
        `${count(ours.perSecond)}/s of ${count(below.perSecond)}/s, ` +
          (depth === 1 ? `p50 ${ours.p50Us} of ${below.p50Us} us, ` : '') +
          `cpu ${ours.cpuUs.toFixed(1)} of ${below.cpuUs.toFixed(1)} us`,
      );
    }
    const note = notes[medianAt(ratios)] ?? '';
    bench.addRow(name, latency ? 'x floor p50' : 'x floor rate', goal, ratios, note);
    if (depth > 1) {
      bench.addRow(`${name}, the platform's agent`, 'x its rate', { least: 6 }, rates);
    }
  }
}

async function measured(
  bench: Instruments,
  pid: number,
  load: Omit<Load, 'requests'>,
): Promise<LoadResult & { readonly cpuUs: number }> {
  const before = cpuMs(pid);
  const result = await bench.client.run({ ...load, requests: [getLine(KEY)] });
  return { ...result, cpuUs: ((cpuMs(pid) - before) * 1000) / result.requests };
}

/** One zone floods, another asks. */
export async function fairnessRow(bench: Instruments, node: BenchNode): Promise<void> {
  const [flooded = '', other = ''] = node.agentSockets(2);
  const requests = [getLine(KEY)];
  const { seconds } = bench.scale;
  const asking: Load = { mode: 'open', seconds, connections: 1, sockets: [other], requests };
  const ratios: number[] = [];
  const notes: string[] = [];
  for (let pair = 0; pair < bench.scale.pairs; pair++) {
    const calm = await bench.client.run(asking);
    const flood = { ...asking, sockets: [flooded], connections: 32, depth: 64 };
    const flooding = bench.client.run({ ...flood, seconds: seconds + 0.5 });
    await pause(250);
    const pressed = await bench.client.run(asking);
    await flooding;
    ratios.push(pressed.p99Us / calm.p99Us);
    notes.push(`p99 ${pressed.p99Us} us, calm ${calm.p99Us} us`);
  }
  const note = notes[medianAt(ratios)] ?? '';
  bench.addRow('one zone floods, another asks: p99', 'x calm p99', { most: 3 }, ratios, note);
}

/** 16 connections to one zone, as parts of the floor's rate. */
export async function partsOfFloor(
  bench: Instruments,
  node: BenchNode,
): Promise<readonly LoadResult[]> {
  await node.startAgent();
  const results: LoadResult[] = [];
  const load = { mode: 'open', connections: 16, requests: [getLine(KEY)] } as const;
  const floorSockets = node.floorSockets(1);
  await node.startFloor(1);
  for (let run = 0; run < bench.scale.pairs; run++) {
    const { seconds } = bench.scale;
    const below = await bench.client.run({ ...load, seconds, sockets: floorSockets });
    const ours = await bench.client.run({ ...load, seconds, sockets: node.agentSockets(1) });
    results.push({ ...ours, perSecond: ours.perSecond / below.perSecond });
  }
  await node.stopFloor();
  return results;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
