/*
 * A simulated node that `mdatactl preflight` finds nothing wrong with, and ways to break one thing at a time.
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { PreflightReport } from '../../tools/preflight/check';
import { eventually } from './eventually';
import { FailingCalls } from './failing-calls';
import { runProgram, SimNode, type Result } from './simcn';
import { vmObject, zonenameOf } from './vm-objects';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
export const OS_ZONE = zonenameOf(1);
export const HVM_ZONE = zonenameOf(2);
export const HALTED_ZONE = zonenameOf(3);
export const LX_ZONE = zonenameOf(4);
const VMS = [
  vmObject(OS_ZONE),
  vmObject(HVM_ZONE, { brand: 'bhyve' }),
  vmObject(HALTED_ZONE, { zone_state: 'installed', state: 'stopped' }),
  vmObject(LX_ZONE, { brand: 'lx' }),
];
export const INDEX = '/etc/zones/index';

/** Changes the fields of one zone's line in the index. */
export function lineOf(
  zonename: string,
  change: (fields: string[]) => string[],
): (text: string) => string {
  return (text) => {
    const lines = text.split('\n').map((line) => {
      return line.startsWith(`${zonename}:`) ? change(line.split(':')).join(':') : line;
    });
    return lines.join('\n');
  };
}

/** The methods that break something return how to undo it. */
export class PreflightNode {
  readonly calls = new FailingCalls();
  private readonly node: SimNode;

  private constructor(node: SimNode) {
    this.node = node;
  }

  static async start(): Promise<PreflightNode> {
    const started = new PreflightNode(await SimNode.start({ vms: VMS }));
    for (const zonename of [OS_ZONE, LX_ZONE]) {
      chmodSync(started.path(`/var/zonecontrol/${zonename}`), 0o700);
    }
    for (const { zonename, brand } of VMS) {
      // A node of today has seven fields in its index.
      started.change(
        INDEX,
        lineOf(String(zonename), (fields) => {
          return fields.length > 4 ? fields : [...fields, String(brand), 'excl', ''];
        }),
      );
    }
    await eventually(() => existsSync(started.port), 'the port');
    return started;
  }

  async stop(): Promise<void> {
    await this.node.stop();
    this.calls.remove();
  }

  get root(): string {
    return this.node.root;
  }

  path(path: string): string {
    return this.node.path(path);
  }

  /** Of the OS zone's socket. */
  get directory(): string {
    return this.path(`/var/zonecontrol/${OS_ZONE}`);
  }

  get port(): string {
    return this.path(`/zones/${HVM_ZONE}/root/tmp/vm.ttyb`);
  }

  mounts(): string[] {
    return this.node.mounts();
  }

  run(prefix: readonly string[] = [], flags: readonly string[] = []): Promise<Result> {
    return runProgram([...prefix, ...this.argvOf(flags)], '', true);
  }

  async report(prefix: readonly string[] = [], check = ''): Promise<PreflightReport> {
    const only = check === '' ? [] : ['--check', check];
    const { stdout, stderr } = await this.run(prefix, ['--json', ...only]);
    assert(stdout.startsWith('{'), stderr);
    return JSON.parse(stdout) as PreflightReport;
  }

  /** A run of the lofs check that has its mount and then waits, and what it prints; whoever starts it ends it. */
  async runInMount(): Promise<{ readonly child: ChildProcess; readonly stdout: () => string }> {
    this.calls.delay('connect', 60_000, '/root/at/metadata.sock');
    const [program = '', ...argv] = [
      ...this.calls.prefix,
      ...this.argvOf(['--json', '--check', 'lofs']),
    ];
    const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const out: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    await eventually(() => this.mounts().some((path) => path.includes('.preflight.')), 'mount');
    return { child, stdout: () => Buffer.concat(out).toString() };
  }

  private argvOf(flags: readonly string[]): string[] {
    return [process.execPath, MDATACTL, 'preflight', '--root', this.root, ...flags];
  }

  /** All that a run could leave behind, and what it must not touch. */
  traces(): unknown {
    const zonecontrol = this.path('/var/zonecontrol');
    return {
      zonecontrol: readdirSync(zonecontrol).map((name) => {
        const { mode, uid, ino } = lstatSync(join(zonecontrol, name));
        return [name, mode, uid, ino];
      }),
      run: readdirSync(this.path('/var/run')),
      index: readFileSync(this.path(INDEX), 'utf8'),
      mnttab: readFileSync(this.path('/etc/mnttab'), 'utf8'),
      mounts: this.mounts(),
    };
  }

  replace(path: string, text: string): () => void {
    const at = this.path(path);
    const before = existsSync(at) ? readFileSync(at, 'utf8') : null;
    writeFileSync(`${at}.new`, text);
    renameSync(`${at}.new`, at);
    return () => {
      if (before === null) {
        rmSync(at);
      } else {
        writeFileSync(`${at}.new`, before);
        renameSync(`${at}.new`, at);
      }
    };
  }

  change(path: string, change: (text: string) => string): () => void {
    return this.replace(path, change(readFileSync(this.path(path), 'utf8')));
  }

  /** preflight runs a command of the platform where it is there. */
  command(name: string, body: string): () => void {
    mkdirSync(this.path('/usr/bin'), { recursive: true });
    const undo = this.replace(`/usr/bin/${name}`, `#!/bin/sh\n${body}\n`);
    chmodSync(this.path(`/usr/bin/${name}`), 0o755);
    return undo;
  }

  /** Moves a path away and calls `put`, which may put something else in its place. */
  move(path: string, put: () => void = () => undefined): () => void {
    renameSync(path, `${path}.away`);
    put();
    return () => {
      rmSync(path, { recursive: true, force: true });
      renameSync(`${path}.away`, path);
    };
  }

  async inject(...flags: readonly string[]): Promise<() => Promise<unknown>> {
    await this.node.ok(['fault', ...flags]);
    return () => this.node.ok(['fault', '--clear']);
  }
}
