/*
 * The simulated node of a round: a simcn with a root of its own, controlled over its socket, and removed
 * with all that it left.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask, ControlError, type Args } from '../../simcn/control';
import { STEP_MS, within } from './bounds';
import { ended, firstLine } from './processes';
import { HEALTHY, HEALTHY_GUEST, SUFFERING, uuidOf, vmOf } from './zones';

const SIMCN = join(__dirname, '..', '..', 'simcn', 'main.js');
/** Coverage is counted of the agent only. */
const ENVIRONMENT = { ...process.env, NODE_V8_COVERAGE: '' };

/** The node cannot be simulated here: no fault of the agent. */
export class NoNode extends Error {}

export class FuzzNode {
  readonly root = mkdtempSync(join(tmpdir(), 'fz-'));
  private child: ChildProcess | null = null;
  private said = '';

  /** @throws NoNode */
  async start(): Promise<void> {
    const vms = [...HEALTHY, HEALTHY_GUEST, ...SUFFERING].map(vmOf);
    writeFileSync(`${this.root}.vms.json`, JSON.stringify(vms));
    const argv = [SIMCN, 'up', '--root', this.root, '--vms', `${this.root}.vms.json`];
    const child = spawn(process.execPath, argv, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: ENVIRONMENT,
    });
    this.child = child;
    child.stderr.on('data', (chunk: Buffer) => (this.said += chunk.toString()));
    try {
      await firstLine(child, (line) => line.includes('"ready":true'));
    } catch (err) {
      throw new NoNode(`simcn ${String(err)} ${this.said}`);
    }
  }

  /** Does the node a thing; what it refuses (to boot what runs, to destroy what is gone) is no fault. */
  async try(command: string, args: Args = {}): Promise<void> {
    try {
      await this.ask(command, args);
    } catch (err) {
      if (!(err instanceof ControlError)) {
        throw err;
      }
    }
  }

  /** @throws NoNode when the node has ended or hangs; ControlError when it refuses */
  async ask(command: string, args: Args = {}): Promise<unknown> {
    const late = (): NoNode => new NoNode(`simcn ${command} hangs: ${this.said}`);
    try {
      return await within(ask(this.root, command, args), STEP_MS, late);
    } catch (err) {
      const status = this.child?.exitCode ?? this.child?.signalCode ?? null;
      if (status !== null) {
        throw new NoNode(`simcn ended with ${String(status)}: ${this.said}`);
      }
      throw err;
    }
  }

  /** Ends it and leaves nothing mounted and no file. */
  async stop(): Promise<void> {
    if (this.child !== null) {
      await ended(this.child, 'SIGTERM');
    }
    // Where it ended of itself, or had to be killed.
    for (const path of mountsBelow(this.root)) {
      spawnSync('umount', ['-l', path]);
    }
    for (const path of [this.root, `${this.root}.vms.json`]) {
      rmSync(path, { recursive: true, force: true });
    }
  }

  /** Of an OS zone, in the global zone. */
  socketOf(zone: number): string {
    return `${this.root}/var/zonecontrol/${uuidOf(zone)}/metadata.sock`;
  }

  /** The guest's end of its serial port. */
  portOf(zone: number): string {
    return `${this.root}/zones/${uuidOf(zone)}/ttyb`;
  }

  configOf(zone: number): string {
    return `${this.root}/zones/${uuidOf(zone)}/config`;
  }
}

/** The last one first: it may lie in another. */
function mountsBelow(root: string): string[] {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n').reverse();
  return lines.flatMap((line) => line.split(' ')[1] ?? []).filter((p) => p.startsWith(`${root}/`));
}
