/*
 * What a start costs: how long the guests of a node wait for an agent that has just been started, and what of that
 * is Node's and the kernel's.
 */
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { Instruments } from './instruments';
import type { BenchNode } from './node';

export const START_ZONES = 200;

/** The agent and the floor, which is Node itself with nothing to do, are started in turns. */
export async function startRows(bench: Instruments, node: BenchNode): Promise<void> {
  const served: number[] = [];
  const cpu: number[] = [];
  const floor: number[] = [];
  for (let run = 0; run < bench.scale.pairs; run++) {
    floor.push(await node.startNothing());
    const agent = await node.startAgent();
    served.push(agent.servedMs);
    cpu.push(agent.servedCpuMs);
    await node.stopAgent();
  }
  const name = `first zone of ${node.zones} served`;
  bench.addRow(`${name}: from the start of the process`, 'ms', { most: 100 }, served);
  bench.addRow(`${name}: processor time until then`, 'ms', {}, cpu);
  bench.addRow('Node starts, does nothing and ends', 'ms', {}, floor, 'the floor of the two above');
}

/** What the kernel takes for as many sockets as the agent makes at its start, in s of processor time. */
export async function kernelSeconds(parent: string, count: number): Promise<number> {
  const directory = mkdtempSync(join(parent, 'k'));
  const servers: Server[] = [];
  const before = process.resourceUsage().systemCPUTime;
  for (let number = 0; number < count; number++) {
    const place = join(directory, String(number));
    mkdirSync(place, { mode: 0o700 });
    const own = join(place, 'new');
    // Bound and listening when the call returns.
    servers.push(createServer().listen(own));
    chmodSync(own, 0o600);
    renameSync(own, join(place, 'metadata.sock'));
  }
  const spent = process.resourceUsage().systemCPUTime - before;
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  rmSync(directory, { recursive: true });
  return spent / 1e6;
}
