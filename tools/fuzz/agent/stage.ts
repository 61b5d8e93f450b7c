/*
 * A simulated node with the real agent on it, made for one round and removed after it: executes steps.
 * What must hold between them is checked in inspect.ts.
 *
 *   clients, writers ---> agent ---> corrupting vminfod ---> node (simcn)
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HostileClients } from './hostile-clients';
import { CorruptingVminfod } from './corrupting-vminfod';
import { FuzzNode } from './node';
import { Terminal, toldOfChange } from './probe';
import { AgentProcess } from './processes';
import { corruptFile } from './corrupt-file';
import type { Step } from './step';
import { HEALTHY, HEALTHY_GUEST, isGuest, SUFFERING, uuidOf, vmOf } from './zones';
import { Writer } from './writer';

const MDATAD = join(__dirname, '..', '..', '..', 'src', 'main.js');
const SNAPSHOT = 'fuzz';

const USUAL = {
  reconcile_seconds: 2,
  limits: { writes_per_second: 10_000, write_burst: 10_000 },
};
/** Room for healthy zones, and none to spare. */
const TIGHT = {
  connections: 8,
  idle_seconds: 1,
  line_bytes: 4096,
  queued_requests: 1,
  unsent_bytes: 4096,
};
const CONFIGS = {
  usual: JSON.stringify(USUAL),
  tight: JSON.stringify({ ...USUAL, limits: { ...USUAL.limits, ...TIGHT } }),
  broken: '{"limits":{"connections":"many"',
} as const;

export class Stage {
  readonly node = new FuzzNode();
  /** A program in the healthy guest. */
  readonly terminal: Terminal;
  readonly writers: ReadonlyMap<number, Writer>;
  /** Zones whose object vminfod has sent corrupted. */
  readonly corrupted = new Set<number>();
  private readonly vminfod: CorruptingVminfod;
  private readonly clients = new HostileClients();
  /** Zones whose config directory is another one while their disk is full. */
  private readonly full = new Set<number>();
  private changes = 0;
  private config: keyof typeof CONFIGS = 'usual';
  private vminfodDown = false;
  /** Since its start the agent has learnt of the healthy guest's port, which only vminfod knows. */
  private portKnown = false;
  private process: AgentProcess | null = null;
  private stopped = false;

  constructor(
    /** Messages of the agent's records so far: the features that a run has reached. */
    readonly messages: Set<string>,
  ) {
    const { node } = this;
    this.terminal = new Terminal(node.portOf(HEALTHY_GUEST));
    this.vminfod = new CorruptingVminfod(
      `${node.root}/var/run/vminfod.sock`,
      `${node.root}/var/run/mangled.sock`,
    );
    const writing = [...HEALTHY, ...SUFFERING].filter((zone) => !isGuest(zone));
    this.writers = new Map(writing.map((zone) => [zone, new Writer(node.socketOf(zone))]));
  }

  get agent(): AgentProcess {
    if (this.process === null) {
      throw new Error('the stage is not up');
    }
    return this.process;
  }

  /** Whether the healthy guest must be answered. */
  get portDue(): boolean {
    return this.portKnown || !this.vminfodDown;
  }

  /** The healthy guest was answered. */
  portAnswered(): void {
    this.portKnown = true;
  }

  /** @throws NoNode, Broken */
  async start(): Promise<void> {
    await this.node.start();
    await this.vminfod.start();
    this.configure('usual');
    this.process = this.makeAgent();
    await this.agent.ready();
  }

  /** Removes everything, whatever state it is in. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.clients.leave();
    this.terminal.leave();
    this.writers.forEach((writer) => writer.leave());
    await this.process?.end('SIGKILL');
    await this.vminfod.stop();
    await this.node.stop();
  }

  /** Ends all that is wrong with the node, as far as it is not the agent's to put right. */
  async calm(): Promise<void> {
    this.clients.leave();
    await this.clearFaults();
    this.vminfod.seeds.clear();
    this.configure('usual');
    this.agent.signal('SIGHUP');
    for (const zone of SUFFERING) {
      await this.publishChange(zone);
    }
  }

  async carryOut(step: Step): Promise<void> {
    const { node } = this;
    switch (step.kind) {
      case 'bytes':
        await this.clients.write(this.pathTo(step.zone), step);
        return;
      case 'connect':
        for (let n = 0; n < step.count; n++) {
          this.clients.open(this.pathTo(step.zone));
        }
        return;
      case 'watch':
        this.clients.watch(this.pathTo(step.zone), step);
        return;
      case 'tell':
        await toldOfChange(this.node.socketOf(step.zone), ++this.changes);
        return;
      case 'write':
        this.writers.get(step.zone)?.write(step.count);
        return;
      case 'zone':
        await this.live(step);
        return;
      case 'file':
        corruptFile(node.configOf(step.zone), step);
        this.writers.get(step.zone)?.discard();
        return;
      case 'socket':
        this.disturb(step);
        return;
      case 'object':
        this.corrupted.add(step.zone);
        this.vminfod.seeds.set(uuidOf(step.zone), step.seed);
        await this.publishChange(step.zone);
        return;
      case 'fault':
        await this.fault(step);
        return;
      case 'clear':
        await this.clearFaults();
        return;
      case 'stream':
        this.vminfod.say(Buffer.from(step.bytes, 'latin1'));
        return;
      case 'config':
        this.configure(step.content);
        this.agent.signal('SIGHUP');
        return;
      case 'agent':
        await this.signalAgent(step);
        return;
      case 'pause':
        await delay(step.ms);
        return;
      default:
        throw new Error(`no such step: ${String(step satisfies never)}`);
    }
  }

  private async live({ zone, act }: Extract<Step, { kind: 'zone' }>): Promise<void> {
    const { node } = this;
    const uuid = uuidOf(zone);
    switch (act) {
      case 'create':
        await node.try('create', { vms: [vmOf(zone)], boot: true });
        this.writers.get(zone)?.discard();
        return;
      case 'destroy':
        await node.try('destroy', { uuid });
        this.writers.get(zone)?.discard();
        return;
      case 'reboot':
      case 'reboot-guest':
        await node.try('reboot', { uuid, guest: act === 'reboot-guest' });
        return;
      case 'snapshot':
      case 'rollback':
        await node.try(act, { uuid, name: SNAPSHOT });
        return;
      case 'boot':
      case 'shutdown':
      case 'reprovision':
        await node.try(act, { uuid });
        return;
      default:
        throw new Error(`no such act: ${String(act satisfies never)}`);
    }
  }

  private async fault({ zone, text }: Extract<Step, { kind: 'fault' }>): Promise<void> {
    const ofNode = text.startsWith('vminfod.') && text !== 'vminfod.freeze';
    await this.node.try('fault', { text, zone: ofNode ? null : uuidOf(zone) });
    if (text === 'disk.full') {
      this.full.add(zone);
    } else if (text === 'vminfod.down') {
      this.vminfodDown = true;
    }
  }

  private async clearFaults(): Promise<void> {
    await this.node.ask('clear-faults');
    this.vminfodDown = false;
    for (const zone of this.full) {
      // Files that are changed while the directory is being replaced are lost.
      this.writers.get(zone)?.discard();
    }
    this.full.clear();
  }

  /** Any change makes vminfod publish the zone. */
  private async publishChange(zone: number): Promise<void> {
    await this.node.try('set', { uuid: uuidOf(zone), properties: { quota: 10 } });
  }

  private disturb({ zone, act }: Extract<Step, { kind: 'socket' }>): void {
    const path = this.node.socketOf(zone);
    try {
      rmSync(act === 'directory-gone' ? join(path, '..') : path, { recursive: true, force: true });
      if (act === 'file') {
        writeFileSync(path, '');
      }
    } catch {
      // Mounted, gone, or never there: then it stays as it is.
    }
  }

  private configure(content: keyof typeof CONFIGS): void {
    this.config = content;
    writeFileSync(this.configPath, CONFIGS[content]);
  }

  private get configPath(): string {
    return `${this.node.root}/var/run/fuzz.json`;
  }

  private async signalAgent(step: Extract<Step, { kind: 'agent' }>): Promise<void> {
    if (step.signal === 'SIGHUP') {
      this.agent.signal('SIGHUP');
      return;
    }
    if (this.config === 'broken') {
      // It would rightly not start with it.
      this.configure('usual');
    }
    await this.agent.end(step.signal);
    if (step.againMs > 0) {
      this.process = this.makeAgent();
      await delay(step.againMs);
      await this.agent.end('SIGKILL');
    }
    this.process = this.makeAgent();
    await this.agent.ready();
  }

  private makeAgent(): AgentProcess {
    if (this.stopped) {
      throw new Error('the stage was removed while steps still run');
    }
    this.portKnown = false;
    const argv = [
      MDATAD,
      ...['--root', this.node.root, '--config', this.configPath, '--log-level', 'trace'],
      ...['--vminfod', `unix:${this.node.root}/var/run/mangled.sock`],
    ];
    return new AgentProcess(argv, (message) => this.messages.add(message));
  }

  private pathTo(zone: number): string {
    return isGuest(zone) ? this.node.portOf(zone) : this.node.socketOf(zone);
  }
}
