/*
 * The processes of a benchmark: started, waited for, measured, and ended by their ids, whatever fails.
 *
 * What the kernel knows of a process is read from /proc, so a benchmark runs on Linux.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { ownEnvironment } from '../../src/config';
import { codeOf } from '../../src/lib/errors';

/** A daemon has five seconds to end; what takes longer is killed. */
const END_MS = 8000;

/** The processes of one run: all of them end with it. */
export class Processes {
  private readonly running: ChildProcess[] = [];

  /** @param stdout a descriptor, or `pipe` */
  start(argv: readonly string[], stdout: number | 'pipe'): ChildProcess & { readonly pid: number } {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, { stdio: ['pipe', stdout, 'inherit'], env: environment() });
    this.running.push(child);
    if (!hasPid(child)) {
      throw new Error(`${program} could not be started`);
    }
    return child;
  }

  /** Idempotent. */
  async end(child: ChildProcess): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
      child.kill('SIGTERM');
      await exited;
      clearTimeout(timer);
    }
  }

  /** The last started is the first to end. */
  async endAll(): Promise<void> {
    for (const child of this.running.splice(0).reverse()) {
      await this.end(child);
    }
  }
}

/** Node 20 reads these certificates at each start, which takes it as long again. No service has them. */
function environment(): NodeJS.ProcessEnv {
  const env = ownEnvironment();
  delete env.NODE_EXTRA_CA_CERTS;
  return env;
}

function hasPid(child: ChildProcess): child is ChildProcess & { readonly pid: number } {
  return child.pid !== undefined;
}

/** Processor time of all threads of a process so far, ms. */
export function cpuMs(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1');
      ns += Number(text.split(' ')[0]);
    } catch (err) {
      // A thread that has just ended.
      if (codeOf(err) !== 'ENOENT' && codeOf(err) !== 'ESRCH') {
        throw err;
      }
    }
  }
  return ns / 1e6;
}

/** Descriptors that a process has open. */
export function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** A line of /proc/PID/status as a number: `VmRSS` in KiB, `voluntary_ctxt_switches` ... */
export function statusOf(pid: number, name: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(new RegExp(`^${name}:\\s*([0-9]+)`, 'm').exec(text)?.[1] ?? NaN);
}
