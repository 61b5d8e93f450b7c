/*
 * What is measured: a simulated node with the agent on it, and beside it the floor on as many sockets.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { ChildProcess } from 'node:child_process';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { buildFrame } from '../../src/protocol/frame';
import { Paths } from '../../src/platform/paths';
import { Client as AdminClient } from '../mdatactl/client';
import { cpuMs, type Processes } from './processes';

const DIST = resolve(__dirname, '..', '..');
const SIMCN = join(DIST, 'tools', 'simcn', 'main.js');
const MDATAD = join(DIST, 'src', 'bundle', 'mdatad.js');
const FLOOR = join(__dirname, 'floor.js');
const READY_MS = 120_000;
const POLL_MS = 5;
const SERVED_POLL_MS = 2;

export const KEY = 'sixteen';
/** What the floor says has the size of what the agent says. */
export const VALUE = '0123456789abcdef';

type Child = ChildProcess & { readonly pid: number };

/** A VM object about as long as a small real one. */
export function makeVm(number: number): object {
  const uuid = randomUUID();
  const ip = `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
  return {
    uuid,
    zonename: uuid,
    brand: 'joyent',
    alias: `bench-${number}`,
    owner_uuid: randomUUID(),
    image_uuid: randomUUID(),
    zone_state: 'running',
    max_physical_memory: 1024,
    quota: 10,
    cpu_shares: 100,
    dns_domain: 'local',
    resolvers: ['192.0.2.1', '192.0.2.2'],
    nics: [{ interface: 'net0', mac: '02:00:00:00:00:01', nic_tag: 'external', ip, primary: true }],
    customer_metadata: { [KEY]: VALUE, 'user-script': '#!/bin/sh\n'.padEnd(300, 'true\n') },
    internal_metadata: {},
    tags: { role: 'bench' },
    routes: {},
  };
}

const isRoot = process.getuid?.() === 0;

export interface Started {
  readonly pid: number;
  /** From the start of the process to the record "ready", and to all VM objects. */
  readonly readyMs: number;
  readonly loadedMs: number;
  /** Until the first of its zones answered a GET, and the processor time that the process had taken then. */
  readonly servedMs: number;
  readonly servedCpuMs: number;
}

/** One simulated node. The agent and the floor come and go on it. */
export class BenchNode {
  readonly root: string;
  readonly zones: number;
  private readonly processes: Processes;
  private readonly directory: string;
  private readonly names: readonly string[];
  private simcn: Child | null = null;
  private agent: Child | null = null;
  private floor: Child | null = null;

  constructor(parent: string, zones: number, processes: Processes) {
    this.directory = mkdtempSync(join(parent, 'n'));
    this.root = join(this.directory, 'cn');
    this.zones = zones;
    this.processes = processes;
    const vms = Array.from({ length: zones }, (_, number) => makeVm(number));
    this.names = vms.map((vm) => String(Reflect.get(vm, 'uuid')));
    writeFileSync(join(this.directory, 'vms.json'), JSON.stringify(vms));
  }

  async up(): Promise<void> {
    mkdirSync(this.root);
    const argv = [SIMCN, 'up', '--root', this.root, '--vms', join(this.directory, 'vms.json')];
    // Its mounts go with it, also where it is killed.
    const apart = isRoot ? ['unshare', '-m', '--propagation', 'private'] : [];
    this.simcn = this.processes.start([...apart, process.execPath, ...argv], 'pipe');
    await said(this.simcn);
  }

  /**
   * A fresh agent, logging at info to a file. Another one that runs is ended.
   * @param flags for the runtime: profiles and the like
   */
  async startAgent(
    limits: Readonly<Record<string, number>> = {},
    flags: readonly string[] = [],
  ): Promise<Started> {
    await this.stopAgent();
    const log = this.logFile;
    const config = join(this.directory, 'mdatad.json');
    writeFileSync(config, JSON.stringify({ limits }));
    const fd = openSync(log, 'w');
    const start = performance.now();
    const argv = [process.execPath, ...flags, MDATAD, '--root', this.root, '--config', config];
    this.agent = this.processes.start([...this.inside(), ...argv], fd);
    closeSync(fd);
    const { pid } = this.agent;
    const [socket = ''] = this.agentSockets(1);
    // An agent before this one left its socket, where nobody listens.
    await until(() => answers(socket), SERVED_POLL_MS);
    const servedMs = performance.now() - start;
    const servedCpuMs = cpuMs(pid);
    const logged = async (msg: string): Promise<number> => {
      await until(() => readFileSync(log, 'utf8').includes(`"msg":"${msg}"`));
      return performance.now() - start;
    };
    const readyMs = await logged('ready');
    // Not by its status, which judges the health of all zones before it answers.
    const loadedMs = await logged('following vminfod');
    return { pid, readyMs, loadedMs, servedMs, servedCpuMs };
  }

  /** Node, started as the agent is, with an empty program. @returns until it has ended, ms */
  async startNothing(): Promise<number> {
    const start = performance.now();
    const child = this.processes.start([...this.inside(), process.execPath, '-e', ''], 'pipe');
    await once(child, 'exit');
    return performance.now() - start;
  }

  async stopAgent(): Promise<void> {
    if (this.agent !== null) {
      await this.processes.end(this.agent);
      this.agent = null;
    }
  }

  status() {
    return this.adminClient.ask('status', { path: '/status' });
  }

  /** How many series a scrape of the agent's metrics gives. */
  async metricSeries(): Promise<number> {
    const text = await this.adminClient.text({ path: '/metrics' });
    return text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
  }

  /** Bytes that the agent has logged since it was started. */
  get loggedBytes(): number {
    return statSync(this.logFile).size;
  }

  /** @returns its process id */
  async startFloor(sockets: number): Promise<number> {
    await this.stopFloor();
    const child = this.processes.start([process.execPath, FLOOR], 'pipe');
    const answer = buildFrame('deadbeef', 'SUCCESS', VALUE).toString('latin1').trimEnd();
    child.stdin?.end([answer, ...this.floorSockets(sockets), ''].join('\n'));
    await said(child);
    this.floor = child;
    return child.pid;
  }

  async stopFloor(): Promise<void> {
    if (this.floor !== null) {
      await this.processes.end(this.floor);
      this.floor = null;
      rmSync(this.floorDirectory, { recursive: true, force: true });
    }
  }

  /** The agent's sockets of the first zones. */
  agentSockets(count: number): string[] {
    const paths = new Paths(this.root);
    return this.names.slice(0, count).map((name) => paths.zoneSocket(name));
  }

  /** The directories of the zones' metadata files. */
  get configDirectories(): string[] {
    const paths = new Paths(this.root);
    return this.names.map((name) => paths.host(`/zones/${name}/config`));
  }

  floorSockets(count: number): string[] {
    mkdirSync(this.floorDirectory, { recursive: true });
    return Array.from({ length: count }, (_, number) => join(this.floorDirectory, String(number)));
  }

  /** Ends all and removes the node. */
  async down(): Promise<void> {
    await this.stopAgent();
    await this.stopFloor();
    if (this.simcn !== null) {
      await this.processes.end(this.simcn);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Where the agent sees the mounts of the zones. */
  private inside(): string[] {
    return isRoot && this.simcn !== null ? ['nsenter', '-m', '-t', String(this.simcn.pid)] : [];
  }

  private get adminClient(): AdminClient {
    return new AdminClient(new Paths(this.root).adminSocket);
  }

  private get logFile(): string {
    return join(this.directory, 'mdatad.log');
  }

  private get floorDirectory(): string {
    return join(this.directory, 'floor');
  }
}

/** Waits for the first line of a program. */
async function said(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit').then(() => {
    throw new Error('a process of the benchmark ended before it was ready');
  });
  ended.catch(() => undefined);
  const bound = AbortSignal.timeout(READY_MS);
  if (child.stdout !== null) {
    await Promise.race([once(child.stdout, 'data', { signal: bound }), ended]);
    child.stdout.resume();
  }
}

/** Whether a GET on a zone's socket is answered; false where nobody listens. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
    socket.on('data', () => {
      resolve(true);
      socket.destroy();
    });
    socket.write(`GET ${KEY}\n`);
  });
}

async function until(condition: () => boolean | Promise<boolean>, pollMs = POLL_MS): Promise<void> {
  const end = performance.now() + READY_MS;
  while (!(await condition())) {
    if (performance.now() > end) {
      throw new Error('the agent was not ready in time');
    }
    await pause(pollMs);
  }
}
