/* Reads what the probe in an agent (loop-probe.ts) counts. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJsonObject } from '../../src/metadata/vm-data';
import { eventually } from './eventually';

export interface LoopCounts {
  /** CPU time of the iteration that took most of it. */
  readonly maxCpuMs: number;
  /** How long the longest iteration lasted, whoever had the processor. */
  readonly maxMs: number;
  /** The longest collection of garbage, in all. */
  readonly longestGcMs: number;
}

export class LoopProbe {
  private readonly directory = mkdtempSync(join(tmpdir(), 'lp-'));
  private readonly path = join(this.directory, 'counts.json');

  /** A command that runs an agent with the probe. */
  get prefix(): readonly string[] {
    const probe = join(__dirname, 'loop-probe.js');
    return ['env', `LOOP_PROBE=${this.path}`, `NODE_OPTIONS=--require ${probe}`];
  }

  /** What was since the last call. */
  async take(pid: number): Promise<LoopCounts> {
    rmSync(this.path, { force: true });
    process.kill(pid, 'SIGUSR2');
    await eventually(() => existsSync(this.path), 'the probe has written');
    const counts = parseJsonObject(readFileSync(this.path, 'utf8'));
    const of = (name: string): number => Number(counts?.[name]);
    return { maxCpuMs: of('maxCpuMs'), maxMs: of('maxMs'), longestGcMs: of('longestGcMs') };
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}
