/*
 * A simulated node with the agent on it, for tests of the whole: its zones by number, their sockets and
 * files, and what the agent's process takes of the machine.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask } from '../../tools/simcn/control';
import { isJsonObject, own, type JsonObject } from '../../src/metadata/vm-data';
import { AgentProcess } from './guest-agent';
import { canary } from './canaries';
import { GuestSession } from './guest-session';
import { needs } from './pending';
import { SimNode, whyNoNode } from './simcn';

const MIB = 1024 * 1024;

export interface SimulatedNodeOptions {
  readonly vms: readonly JsonObject[];
  /** False where a test compares whole maps of metadata. */
  readonly canaries?: boolean;
  /** The agent's configuration. */
  readonly config?: JsonObject;
  /** More flags of the agent. */
  readonly flags?: readonly string[];
  /** Runs the node and the agent as an ordinary user. */
  readonly asNobody?: boolean;
  /** A command that runs the agent. */
  readonly prefix?: readonly string[];
}

const AS_NOBODY = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];

/** The uuid of a test's zone by its number. */
export function uuidOf(index: number): string {
  return `5f3c8d8a-6f2b-4d0e-9a57-${index.toString(16).padStart(12, '0')}`;
}

export function osZone(index: number, more: JsonObject = {}): JsonObject {
  const host = { vnc_password: canary() };
  return { uuid: uuidOf(index), brand: 'joyent', alias: `zone${index}`, ...host, ...more };
}

/** Where the agent's configuration is: beside the root, so that nothing of the node replaces it. */
function configOf({ root }: SimNode): string {
  return `${root}.config.json`;
}

export class SimulatedNode {
  readonly node: SimNode;
  agent: AgentProcess;
  private readonly flags: readonly string[];
  private readonly prefix: readonly string[];

  private constructor(node: SimNode, agent: AgentProcess, flags: string[], prefix: string[]) {
    this.node = node;
    this.agent = agent;
    this.flags = flags;
    this.prefix = prefix;
  }

  /** Skips the suite where no node can be simulated. */
  static async start(
    context: Mocha.Context,
    options: SimulatedNodeOptions,
  ): Promise<SimulatedNode> {
    needs(context, whyNoNode());
    const { vms, canaries = true, asNobody = false } = options;
    const node = await SimNode.start({ vms, canaries, asNobody });
    const flags = [...(options.flags ?? [])];
    const prefix = [...(options.prefix ?? []), ...(asNobody ? AS_NOBODY : [])];
    try {
      if (options.config !== undefined) {
        const path = configOf(node);
        writeFileSync(path, JSON.stringify(options.config));
        flags.push('--config', path);
      }
      const agent = await AgentProcess.start(node.root, flags, prefix);
      return new SimulatedNode(node, agent, flags, prefix);
    } catch (err) {
      await node.stop();
      throw err;
    }
  }

  get root(): string {
    return this.node.root;
  }

  /** A new agent in the place of the one that was stopped or killed. */
  async startAgent(): Promise<void> {
    this.agent = await AgentProcess.start(this.root, this.flags, this.prefix);
  }

  /** @throws when the agent did not live to its end, or did not end well */
  async stop(): Promise<void> {
    try {
      await this.agent.stop();
    } finally {
      await this.node.stop();
      rmSync(configOf(this.node), { force: true });
    }
  }

  socket(index: number): string {
    return this.node.path(`/var/zonecontrol/${uuidOf(index)}/metadata.sock`);
  }

  open(index: number): Promise<GuestSession> {
    return GuestSession.open(this.socket(index));
  }

  /** Whether a zone of the node answers with its own uuid. */
  async answers(index: number): Promise<boolean> {
    const session = await this.open(index).catch(() => null);
    if (session === null) {
      return false;
    }
    const answer = await session.get('sdc:uuid').catch(() => null);
    session.close();
    return answer?.text === uuidOf(index);
  }

  config(index: number, file = ''): string {
    return join(this.node.path(`/zones/${uuidOf(index)}/config`), file);
  }

  metadata(index: number): { customer: JsonObject; internal: JsonObject } {
    const file: unknown = JSON.parse(readFileSync(this.config(index, 'metadata.json'), 'utf8'));
    assert(isJsonObject(file));
    const [customer, internal] = ['customer_metadata', 'internal_metadata'].map((name) => {
      const map = own(file, name);
      return isJsonObject(map) ? map : {};
    });
    return { customer: customer ?? {}, internal: internal ?? {} };
  }

  /** As the platform's tools do: whole, or not at all. */
  replaceConfig(index: number, file: string, content: string | Buffer): void {
    writeFileSync(this.config(index, `.${file}.new`), content);
    renameSync(this.config(index, `.${file}.new`), this.config(index, file));
  }

  control(command: string, args: JsonObject = {}): Promise<unknown> {
    return ask(this.root, command, args);
  }

  /** @param text NAME or NAME=VALUE; @param index the zone, all of them when it is left out */
  async fault(text: string, index?: number): Promise<void> {
    await this.control('fault', { text, zone: index === undefined ? null : uuidOf(index) });
  }

  async clearFaults(): Promise<void> {
    await this.control('clear-faults');
  }

  /** Log records with this message. */
  records(msg: string): readonly JsonObject[] {
    return this.agent.records.filter((record) => record.msg === msg);
  }

  /** Memory of the agent's process that is in use, MiB. */
  get rssMib(): number {
    const status = readFileSync(`/proc/${this.agent.pid}/status`, 'utf8');
    return (Number(/VmRSS:\s+([0-9]+)/.exec(status)?.[1] ?? 0) * 1024) / MIB;
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.agent.pid}/fd`).length;
  }

  /** CPU time that the agent's process has used, ms. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.agent.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // utime and stime, in hundredths of a second.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }
}
