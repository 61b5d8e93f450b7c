/* Reads what the probe in an agent (loop-probe.ts) counts, and judges it. */
import assert from 'node:assert';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJsonObject } from '../../src/metadata/vm-data';
import { bestOf, slowness } from './best-of';
import { eventually } from './eventually';

/** What is promised for an iteration of the event loop. */
export const MOST_ITERATION_MS = 20;
const ATTEMPTS = 4;

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

  /**
   * No iteration takes too much CPU time while the agent is pressed, in one of some tries. Each is divided by how slow the
   * machine is then.
   */
  async iterationsAreShort(pid: number, press: () => Promise<unknown>): Promise<void> {
    const reported: string[] = [];
    const measure = async (): Promise<number> => {
      const before = slowness();
      await this.take(pid);
      await press();
      const { maxCpuMs, maxMs, longestGcMs } = await this.take(pid);
      const times = Math.max(before, slowness());
      reported.push(
        `${maxCpuMs.toFixed(1)} ms of CPU (${maxMs.toFixed(0)} ms in all, a collection ${longestGcMs.toFixed(1)} ms) on a machine ${times.toFixed(2)} times as slow`,
      );
      return maxCpuMs / times;
    };
    const longest = await bestOf(MOST_ITERATION_MS, measure, ATTEMPTS);
    assert(longest < MOST_ITERATION_MS, reported.join('; '));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}
