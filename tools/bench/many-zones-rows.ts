/*
 * What many zones cost: at the start, in memory, when vminfod sends them again, idle, and when they are created.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ask } from '../simcn/control';
import { servedAfterCreation } from './events';
import type { Instruments } from './instruments';
import { getLine, type Load, type LoadResult } from './load';
import { KEY, type BenchNode } from './node';
import { cpuMs, descriptorsOf, statusOf } from './processes';
import { partsOfFloor } from './request-rows';
import { kernelSeconds } from './start-rows';

/** Zones that ask for the rows of costs, and what each asks: less than one may log at once. */
const LOGGED_ZONES = 16;
const LOGGED_REQUESTS = 400;

/** The start, the memory and the rate with all of a node's zones. @param calm the rates with one zone */
export async function manyZonesRows(
  bench: Instruments,
  node: BenchNode,
  calm: readonly LoadResult[],
): Promise<void> {
  const { zones } = node;
  const ready: number[] = [];
  const memory: number[] = [];
  for (let run = 0; run < bench.scale.starts; run++) {
    const agent = await node.startAgent();
    ready.push(Math.max(agent.readyMs, agent.loadedMs) / 1000);
    await pause(1000);
    const ours = statusOf(agent.pid, 'VmRSS');
    await node.stopAgent();
    const floor = await node.startFloor(zones);
    await pause(200);
    memory.push((ours - statusOf(floor, 'VmRSS')) / zones);
    await node.stopFloor();
  }
  const kernel = await kernelSeconds(node.root, zones);
  const note = `${kernel.toFixed(2)} s are the kernel's to bind, chmod and rename as many sockets`;
  bench.addRow(`${zones} zones: start to ready, VM data loaded`, 's', { most: 1.2 }, ready, note);
  bench.addRow(`${zones} zones: memory above the floor`, 'KiB a zone', { most: 15 }, memory);
  await anewRow(bench, node);
  await costRows(bench, node);
  const many = await partsOfFloor(bench, node);
  const growth = many.map(({ perSecond }, at) => perSecond / (calm[at]?.perSecond ?? NaN));
  bench.addRow(`requests/s at ${zones} zones`, 'x that at 1 zone', { least: 0.9 }, growth);
}

/** What one zone more and one request more cost a node: the slopes of the README's table. */
async function costRows(bench: Instruments, node: BenchNode): Promise<void> {
  const { pid } = await node.startAgent();
  const { zones } = node;
  bench.addRow('descriptors', 'a zone', {}, [descriptorsOf(pid) / zones]);
  const series = await node.metricSeries();
  bench.addRow('metrics series', 'a node', {}, [series], `${zones} zones, none of them has asked`);
  const sockets = node.agentSockets(LOGGED_ZONES);
  const load = { mode: 'open', seconds: 30, requests: [getLine(KEY)], sockets } as const;
  const before = { cpu: cpuMs(pid), logged: node.loggedBytes };
  // No more than a zone may log at once.
  const most = { connections: LOGGED_ZONES, most: LOGGED_REQUESTS };
  const { requests } = await bench.client.run({ ...load, ...most });
  await pause(500);
  const more = (await node.metricSeries()) - series;
  bench.addRow('metrics series', 'a zone that has asked', {}, [more / sockets.length]);
  const logged = (node.loggedBytes - before.logged) / requests;
  bench.addRow('log', 'bytes a GET', {}, [logged], `${requests} GETs`);
  const cpu = (cpuMs(pid) - before.cpu) / requests;
  bench.addRow('cpu of logged GETs', 'ms for 1,000', {}, [cpu * 1000], 'each has a record');
}

/** vminfod comes back and tells of all VMs again, while one guest asks. */
async function anewRow(bench: Instruments, node: BenchNode): Promise<void> {
  await node.startAgent();
  const longest: number[] = [];
  for (let run = 0; run < bench.scale.starts; run++) {
    // Time enough to come back, and to read.
    const seconds = 3 + node.zones / 2000;
    const load: Load = {
      ...{ mode: 'open', seconds, connections: 1 },
      ...{ sockets: node.agentSockets(1), requests: [getLine(KEY)] },
    };
    const asking = bench.client.run(load);
    await ask(node.root, 'fault', { text: 'vminfod.down', zone: null });
    await ask(node.root, 'clear-faults');
    longest.push((await asking).longestUs / 1000);
  }
  const name = `${node.zones} VMs sent again by vminfod: longest wait of a client`;
  bench.addRow(name, 'ms', { most: 50 }, longest);
}

/** An agent that nobody asks. */
export async function idleRow(bench: Instruments, node: BenchNode): Promise<void> {
  const { pid } = await node.startAgent();
  await pause(bench.scale.settleSeconds * 1000);
  const before = { cpu: cpuMs(pid), woken: statusOf(pid, 'voluntary_ctxt_switches') };
  await pause(bench.scale.idleSeconds * 1000);
  const part = (100 * (cpuMs(pid) - before.cpu)) / (bench.scale.idleSeconds * 1000);
  const woken = statusOf(pid, 'voluntary_ctxt_switches') - before.woken;
  const note = `${(woken / bench.scale.idleSeconds).toFixed(1)} wake-ups a second`;
  bench.addRow(`idle, ${node.zones} zones`, '% of a core', { most: 0.1 }, [part], note);
}

/** Zones that come one by one, and all at once. */
export async function arrivalRows(bench: Instruments, node: BenchNode): Promise<void> {
  const { singlesMs, burstSeconds, burst } = await servedAfterCreation(node, bench.scale.burst);
  const at99 = singlesMs[Math.floor((singlesMs.length - 1) * 0.99)] ?? NaN;
  const zones = `${singlesMs.length} zones`;
  bench.addRow('zone created to socket: p99', 'ms', { most: 10 }, [at99], zones);
  bench.addRow(`${burst} zones in a burst, all served`, 's', { most: 2 }, [burstSeconds]);
}
