/*
 * The rows of the benchmark: what is measured, and what the goal is.
 *
 * A row that has a floor is measured in pairs, floor and agent in turns, so that what else the machine
 * does meets both; its figure is the median of the pairs' ratios. Processor time per request is told
 * beside, since that is the agent's own where a busy machine's clock is not.
 */
import { mkdtempSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Paths } from '../../src/sys/paths';
import { ask } from '../simcn/control';
import { servedAfterCreation } from './events';
import { Client, getLine, putLine, type Load, type LoadResult } from './load';
import { BenchNode, KEY } from './node';
import { cpuMs, statusOf, type Processes } from './processes';
import { rowOf, type Goal, type Row } from './report';

export interface Scale {
  /** Pairs of runs, and how long each side of a pair runs. */
  readonly pairs: number;
  readonly seconds: number;
  readonly manyZones: number;
  readonly idleZones: number;
  /** What the collector does after the start is over by then, and is no idling. */
  readonly settleSeconds: number;
  readonly idleSeconds: number;
  readonly burst: number;
  readonly starts: number;
}

const SOCKETS = 16;
const WRITERS = 20;
/** Pipelined GETs a second that the platform's agent answers, on the machine that README's figures are of. */
const PLATFORM_AGENT_RATE = 33_000;
/** One in flight on each: what waits for a VM's disk goes there together. */
const WRITERS_A_ZONE = 4;
const PUTS = 20;
const MIB = 1024 * 1024;
const NO_LIMITS = { writes_per_second: 10_000, write_burst: 10_000 };

export class Bench {
  private readonly folder = mkdtempSync(join(tmpdir(), 'mb-'));
  private readonly processes: Processes;
  private readonly client: Client;
  private readonly scale: Scale;
  private readonly told: (row: Row) => void;

  constructor(scale: Scale, processes: Processes, told: (row: Row) => void) {
    this.scale = scale;
    this.processes = processes;
    this.told = told;
    this.client = new Client(this.folder, processes);
  }

  async run(): Promise<void> {
    try {
      await this.measure();
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  private async measure(): Promise<void> {
    await this.onNode(WRITERS, async (node) => {
      const { pid } = await node.startAgent();
      const floor = await node.startFloor(SOCKETS);
      await this.requests(node, pid, floor);
      await this.fairness(node);
      await node.stopFloor();
      await this.writes(node);
      await this.pieces(node);
    });
    const calm = await this.onNode(1, (node) => this.rate(node));
    await this.onNode(this.scale.manyZones, (node) => this.many(node, calm));
    await this.onNode(this.scale.idleZones, (node) => this.idleAndEvents(node));
  }

  private async onNode<T>(zones: number, work: (node: BenchNode) => Promise<T>): Promise<T> {
    const node = new BenchNode(this.folder, zones, this.processes);
    try {
      await node.up();
      return await work(node);
    } finally {
      await node.down();
    }
  }

  private tell(name: string, unit: string, goal: Goal, values: readonly number[], note = ''): void {
    this.told(rowOf(name, unit, goal, values, note));
  }

  private async requests(node: BenchNode, agent: number, floor: number): Promise<void> {
    const shapes = [
      { name: 'connect, ask, close: 16 at a time', mode: 'conn', connections: 16, depth: 1 },
      { name: 'connect, ask, close: one at a time, p50', mode: 'conn', connections: 1, depth: 1 },
      { name: '16 connections, one GET in flight each', mode: 'open', connections: 16, depth: 1 },
      { name: '16 connections, 16 GETs in flight each', mode: 'open', connections: 16, depth: 16 },
    ] as const;
    const goals: readonly Goal[] = [{ least: 0.85 }, { most: 1.2 }, { least: 0.6 }, {}];
    for (const [at, { name, mode, connections, depth }] of shapes.entries()) {
      const latency = connections === 1;
      const ratios: number[] = [];
      const rates: number[] = [];
      const notes: string[] = [];
      // One pair first that does not count: code is compiled when it has run for a while.
      for (let pair = -1; pair < this.scale.pairs; pair++) {
        const load = { mode, connections, depth, seconds: this.scale.seconds };
        const below = await this.measured(floor, { ...load, sockets: node.floorSockets(SOCKETS) });
        const ours = await this.measured(agent, { ...load, sockets: node.agentSockets(SOCKETS) });
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
      this.tell(name, latency ? 'x floor p50' : 'x floor rate', goals[at] ?? {}, ratios, note);
      if (depth > 1) {
        this.tell(`${name}, the platform's agent`, 'x its rate', { least: 6 }, rates);
      }
    }
  }

  private async measured(
    pid: number,
    load: Omit<Load, 'requests'>,
  ): Promise<LoadResult & { readonly cpuUs: number }> {
    const before = cpuMs(pid);
    const result = await this.client.run({ ...load, requests: [getLine(KEY)] });
    return { ...result, cpuUs: ((cpuMs(pid) - before) * 1000) / result.requests };
  }

  private async fairness(node: BenchNode): Promise<void> {
    const [flooded = '', other = ''] = node.agentSockets(2);
    const requests = [getLine(KEY)];
    const { seconds } = this.scale;
    const asking: Load = { mode: 'open', seconds, connections: 1, sockets: [other], requests };
    const ratios: number[] = [];
    const notes: string[] = [];
    for (let pair = 0; pair < this.scale.pairs; pair++) {
      const calm = await this.client.run(asking);
      const flood = { ...asking, sockets: [flooded], connections: 32, depth: 64 };
      const flooding = this.client.run({ ...flood, seconds: seconds + 0.5 });
      await pause(250);
      const pressed = await this.client.run(asking);
      await flooding;
      ratios.push(pressed.p99Us / calm.p99Us);
      notes.push(`p99 ${pressed.p99Us} us, calm ${calm.p99Us} us`);
    }
    const note = notes[medianAt(ratios)] ?? '';
    this.tell('one zone floods, another asks: p99', 'x calm p99', { most: 3 }, ratios, note);
  }

  /** Syncs are told by the renames that they stand around: two for each. */
  private async writes(node: BenchNode): Promise<void> {
    await node.startAgent(NO_LIMITS);
    let renames = 0;
    const sockets = node.agentSockets(WRITERS);
    const paths = new Paths(node.root);
    const watchers = sockets.map((socket) => {
      const folder = paths.host(`/zones/${zoneOf(socket)}/config`);
      return watch(folder, (event, name) => {
        renames += event === 'rename' && name === 'metadata.json' ? 1 : 0;
      });
    });
    const p99: number[] = [];
    let puts = 0;
    for (let run = 0; run < this.scale.pairs; run++) {
      const put = async (each: number): Promise<LoadResult> => {
        // No two alike: what is stored already needs no write.
        const requests = Array.from({ length: 997 }, (_, n) => putLine(`k${n % 7}`, `${run}.${n}`));
        const load = { mode: 'open', seconds: 20, sockets, requests, most: PUTS } as const;
        return this.client.run({ ...load, connections: WRITERS * each });
      };
      p99.push((await put(1)).p99Us / 1000);
      renames = 0;
      puts = (await put(WRITERS_A_ZONE)).requests;
      await pause(100);
    }
    watchers.forEach((watcher) => watcher.close());
    this.tell('PUT, durable, 20 zones at once: p99', 'ms', { most: 25 }, p99);
    const syncs = [(2 * renames) / puts];
    this.tell('syncs per PUT, 80 at once on 20 zones', '', { most: 1 }, syncs, `${puts} PUTs`);
  }

  /** A value of 1 MiB, written and read in octets of 16 and of 65,536 at once. */
  private async pieces(node: BenchNode): Promise<void> {
    const { pid } = await node.startAgent(NO_LIMITS);
    const sockets = node.agentSockets(1);
    const costOf = async (piece: number, mark: string): Promise<number> => {
      const before = cpuMs(pid);
      const requests = [putLine('big', mark.padEnd(MIB, 'x')), getLine('big')];
      const load = { mode: 'open', seconds: 30, connections: 1, most: 2 } as const;
      await this.client.run({ ...load, sockets, requests, piece });
      return cpuMs(pid) - before;
    };
    const ratios: number[] = [];
    await costOf(0, 'warm');
    for (let pair = 0; pair < this.scale.pairs; pair++) {
      const large = await costOf(65_536, `l${pair}`);
      ratios.push((await costOf(16, `s${pair}`)) / large);
    }
    this.tell('1 MiB in 16-octet pieces', 'x cpu of 64 KiB pieces', { most: 20 }, ratios);
  }

  /** 16 connections to one zone, as parts of the floor's rate. */
  private async rate(node: BenchNode): Promise<readonly LoadResult[]> {
    await node.startAgent();
    const results: LoadResult[] = [];
    const load = { mode: 'open', connections: 16, requests: [getLine(KEY)] } as const;
    const floorSockets = node.floorSockets(1);
    await node.startFloor(1);
    for (let run = 0; run < this.scale.pairs; run++) {
      const { seconds } = this.scale;
      const below = await this.client.run({ ...load, seconds, sockets: floorSockets });
      const ours = await this.client.run({ ...load, seconds, sockets: node.agentSockets(1) });
      results.push({ ...ours, perSecond: ours.perSecond / below.perSecond });
    }
    await node.stopFloor();
    return results;
  }

  private async many(node: BenchNode, calm: readonly LoadResult[]): Promise<void> {
    const { zones } = node;
    const ready: number[] = [];
    const memory: number[] = [];
    for (let run = 0; run < this.scale.starts; run++) {
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
    this.tell(`${zones} zones: start to ready, VM data loaded`, 's', { most: 1.2 }, ready);
    this.tell(`${zones} zones: memory above the floor`, 'KiB a zone', { most: 15 }, memory);
    await this.anew(node);
    const crowd = await this.rate(node);
    const growth = crowd.map(({ perSecond }, at) => perSecond / (calm[at]?.perSecond ?? NaN));
    this.tell(`requests/s at ${zones} zones`, 'x that at 1 zone', { least: 0.9 }, growth);
  }

  /** vminfod comes back and tells of all VMs again, while one guest asks. */
  private async anew(node: BenchNode): Promise<void> {
    await node.startAgent();
    const longest: number[] = [];
    for (let run = 0; run < this.scale.starts; run++) {
      // Time enough to come back, and to read.
      const seconds = 3 + node.zones / 2000;
      const load: Load = {
        ...{ mode: 'open', seconds, connections: 1 },
        ...{ sockets: node.agentSockets(1), requests: [getLine(KEY)] },
      };
      const asking = this.client.run(load);
      await ask(node.root, 'fault', { text: 'vminfod.down', zone: null });
      await ask(node.root, 'clear-faults');
      longest.push((await asking).longestUs / 1000);
    }
    const name = `${node.zones} VMs told anew: longest wait of one who asks`;
    this.tell(name, 'ms', { most: 50 }, longest);
  }

  private async idleAndEvents(node: BenchNode): Promise<void> {
    const { pid } = await node.startAgent();
    await pause(this.scale.settleSeconds * 1000);
    const before = { cpu: cpuMs(pid), woken: statusOf(pid, 'voluntary_ctxt_switches') };
    await pause(this.scale.idleSeconds * 1000);
    const part = (100 * (cpuMs(pid) - before.cpu)) / (this.scale.idleSeconds * 1000);
    const woken = statusOf(pid, 'voluntary_ctxt_switches') - before.woken;
    const note = `${(woken / this.scale.idleSeconds).toFixed(1)} wake-ups a second`;
    this.tell(`idle, ${node.zones} zones`, '% of a core', { most: 0.1 }, [part], note);
    const { singlesMs, burstSeconds, burst } = await servedAfterCreation(node, this.scale.burst);
    const at99 = singlesMs[Math.floor((singlesMs.length - 1) * 0.99)] ?? NaN;
    const zones = `${singlesMs.length} zones`;
    this.tell('zone created to socket: p99', 'ms', { most: 10 }, [at99], zones);
    this.tell(`${burst} zones in a burst, all served`, 's', { most: 2 }, [burstSeconds]);
  }
}

function zoneOf(socket: string): string {
  return dirname(socket).split('/').at(-1) ?? '';
}

/** Where the median of the values is. */
function medianAt(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return values.indexOf(sorted[Math.floor(sorted.length / 2)] ?? NaN);
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
