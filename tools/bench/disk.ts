/*
 * What durable writes take without an agent: the same system calls by as many writers at the same time.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CProgram } from './c-program';
import type { Processes } from './processes';

/** About as long as the metadata.json that the PUTs of the benchmark make. */
const FILE_BYTES = 800;

const resultSchema = z.object({ p50_us: z.number(), p99_us: z.number(), cpu_us: z.number() });

export interface DiskResult {
  readonly p50Us: number;
  readonly p99Us: number;
  /** Processor time of one write. */
  readonly cpuUs: number;
}

/** The C program, as a process of its own for each measurement. */
export class Disk {
  private readonly program: CProgram;

  /** @param directory where the program is built */
  constructor(directory: string, processes: Processes) {
    this.program = new CProgram('disk', directory, processes);
  }

  /**
   * @param directories a writer for each: where each has its file
   * @param rounds how often it is written
   */
  async run(directories: readonly string[], rounds: number): Promise<DiskResult> {
    const printed = await this.program.run([String(rounds), String(FILE_BYTES), ...directories]);
    const { p50_us: p50Us, p99_us: p99Us, cpu_us: cpuUs } = resultSchema.parse(printed);
    return { p50Us, p99Us, cpuUs };
  }

  /** The same in directories of its own, which are gone then. @param on a directory of the file system */
  async runAlone(writers: number, rounds: number, on: string): Promise<DiskResult> {
    const parent = mkdtempSync(join(on, 'disk-'));
    try {
      return await this.run(
        Array.from({ length: writers }, () => mkdtempSync(join(parent, 'd'))),
        rounds,
      );
    } finally {
      rmSync(parent, { recursive: true });
    }
  }
}
