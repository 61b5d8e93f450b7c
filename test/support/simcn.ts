/*
 * A real simcn for a test: started, waited for, spoken to by its commands, stopped and removed.
 *
 * Every command is a process of its own, as for a person at a terminal. A test that uses this calls
 * `stop` in the end, whatever happened: it ends the node by its process id and removes its root.
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { withCanaries } from './canaries';
import { keepSaid, keepStream } from './said';

export const SIMCN = join(__dirname, '..', '..', 'tools', 'simcn', 'main.js');
const NATIVE = join(__dirname, '..', '..', '..', 'native', 'build', 'Release', 'zexec');

/** Programs of ours that may show no value but the one that they are asked for. */
const NEVER_TELLS_VALUES = /\/tools\/(simcn|mdatactl|zone-events)\/main\.js$/;

/** The user and the group of nobody, as everywhere on Linux. */
const NOBODY = 65534;

/** Coverage is not counted here: an ordinary user's process could not write it down, and would say so. */
const UNCOUNTED = { ...process.env, NODE_V8_COVERAGE: '' };

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface NodeOptions {
  /** VM objects of the node's first zones. */
  readonly vms?: readonly object[];
  /** Whether their maps hold canaries too; false where a test compares whole maps. */
  readonly canaries?: boolean;
  /** More flags of `simcn up`. */
  readonly flags?: readonly string[];
  /** A root to come back to; left out: a fresh one. */
  readonly root?: string;
  /** Runs every process of the node as nobody, an ordinary user. */
  readonly asNobody?: boolean;
}

/** A node needs what `npm run build:native` makes; null where that is there, else why not. */
export function whyNoNode(): string | null {
  return existsSync(NATIVE) ? null : 'the native code is not built';
}

export class SimNode {
  readonly root: string;
  /** The first line of `simcn up`, parsed. */
  readonly ready: { readonly ready: boolean; readonly root: string; readonly zones: number };
  readonly pid: number;
  private readonly child: ChildProcess;
  private readonly prefix: readonly string[];
  private readonly said: Buffer[];

  private constructor(root: string, child: ChildProcess, line: string, more: SimNodeParts) {
    this.root = root;
    this.child = child;
    this.prefix = more.prefix;
    this.said = more.said;
    this.ready = JSON.parse(line) as SimNode['ready'];
    assert(child.pid !== undefined);
    this.pid = child.pid;
  }

  static async start(options: NodeOptions = {}): Promise<SimNode> {
    const root = options.root ?? mkdtempSync(join(tmpdir(), 'cn-'));
    const asNobody = options.asNobody ?? false;
    const prefix = asNobody
      ? ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--']
      : [];
    const flags = [...(options.flags ?? [])];
    if (options.vms !== undefined) {
      const file = `${root}.vms.json`;
      const { vms, canaries = true } = options;
      writeFileSync(file, JSON.stringify(canaries ? vms.map(withCanaries) : vms));
      flags.push('--vms', file);
    }
    if (asNobody) {
      chownSync(root, NOBODY, NOBODY);
    }
    const argv = [...prefix, process.execPath, SIMCN, 'up', '--root', root, ...flags];
    const child = spawn(argv[0] ?? '', argv.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: UNCOUNTED,
    });
    const said: Buffer[] = [];
    const program = `simcn-up-${String(child.pid)}`;
    keepStream(program, child.stdout);
    keepStream(program, child.stderr);
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
    const exited = once(child, 'exit').then(([code]) => {
      throw new Error(`simcn up ended with ${String(code)}: ${Buffer.concat(said).toString()}`);
    });
    // Later it is only the end of the node.
    exited.catch(() => undefined);
    const first = once(createInterface({ input: child.stdout }), 'line') as Promise<[string]>;
    const [line] = await Promise.race([first, exited]);
    return new SimNode(root, child, line, { prefix, said });
  }

  /** What the node itself wrote on stderr. */
  get stderr(): string {
    return Buffer.concat(this.said).toString();
  }

  /** Runs a command of simcn; `--root` is added behind its name. */
  simcn(argv: readonly string[], stdin = ''): Promise<Result> {
    const [name = '', ...rest] = argv;
    return this.run([process.execPath, SIMCN, name, '--root', this.root, ...rest], stdin);
  }

  /** The same, of which success is expected. @returns its stdout */
  async ok(argv: readonly string[], stdin = ''): Promise<string> {
    const result = await this.simcn(argv, stdin);
    assert.strictEqual(result.status, 0, `simcn ${argv.join(' ')}: ${result.stderr}`);
    return result.stdout;
  }

  /** Runs a command in a zone's own view. */
  exec(uuid: string, ...argv: string[]): Promise<Result> {
    return this.simcn(['exec', uuid, '--', ...argv]);
  }

  vmadm(argv: readonly string[], stdin = ''): Promise<Result> {
    return this.run([this.path('/usr/sbin/vmadm'), ...argv], stdin);
  }

  /** Runs any program as the user that the node runs as. */
  run(argv: readonly string[], stdin = ''): Promise<Result> {
    return runProgram([...this.prefix, ...argv], stdin);
  }

  /** A platform path as this machine's. */
  path(platformPath: string): string {
    return join(this.root, platformPath);
  }

  /** The mounts below the root that this machine's kernel has. */
  mounts(): string[] {
    const lines = readFileSync(`/proc/${this.pid}/mounts`, 'utf8').split('\n');
    return lines.flatMap((line) => line.split(' ')[1] ?? []).filter((p) => p.startsWith(this.root));
  }

  /** Sends a signal to the node and waits for its end. @returns its exit code, null for a signal */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.kill(signal);
      await exited;
    }
    return this.child.exitCode;
  }

  /** Ends the node and removes its root. */
  async stop(): Promise<void> {
    await this.end();
    rmSync(this.root, { recursive: true, force: true });
    rmSync(`${this.root}.vms.json`, { force: true });
  }
}

interface SimNodeParts {
  readonly prefix: readonly string[];
  readonly said: Buffer[];
}

/** @param counted its lines count for coverage: for programs whose code runs nowhere else */
export async function runProgram(
  argv: readonly string[],
  stdin = '',
  counted = false,
): Promise<Result> {
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: counted ? process.env : UNCOUNTED,
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  // A program that does not read its input is no fault.
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  const [status] = (await once(child, 'close')) as [number | null];
  const stdout = Buffer.concat(out).toString();
  const stderr = Buffer.concat(err).toString();
  const program = argv.find((word) => NEVER_TELLS_VALUES.test(word));
  if (program !== undefined) {
    keepSaid(basename(dirname(program)), `${stdout}${stderr}`);
  }
  return { status: status ?? -1, stdout, stderr };
}
