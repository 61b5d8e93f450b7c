/*
 * What durable writes take without an agent: the same system calls by as many writers at the same time.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import type { Processes } from './processes';

const SOURCE = resolve(__dirname, '..', '..', '..', 'tools', 'bench', 'disk.c');
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
  private readonly program: string;
  private readonly processes: Processes;

  /** @param directory where the program is built */
  constructor(directory: string, processes: Processes) {
    this.program = join(directory, 'disk');
    this.processes = processes;
    const argv = ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', this.program, SOURCE];
    const { status, stderr } = spawnSync('cc', argv, { encoding: 'utf8' });
    if (status !== 0) {
      throw new Error(`cc could not build ${SOURCE}: ${stderr}`);
    }
  }

  /** @param on a directory of the file system that is measured; nothing is left there */
  async run(writers: number, rounds: number, on: string): Promise<DiskResult> {
    const directory = mkdtempSync(join(on, 'disk-'));
    try {
      const numbers = [writers, rounds, FILE_BYTES].map(String);
      const child = this.processes.start([this.program, ...numbers, directory], 'pipe');
      const said: Buffer[] = [];
      child.stdout?.on('data', (chunk: Buffer) => said.push(chunk));
      await once(child, 'close');
      if (child.exitCode !== 0) {
        throw new Error(`disk ended with ${child.exitCode ?? child.signalCode ?? 'nothing'}`);
      }
      const {
        p50_us: p50Us,
        p99_us: p99Us,
        cpu_us: cpuUs,
      } = resultSchema.parse(JSON.parse(Buffer.concat(said).toString()));
      return { p50Us, p99Us, cpuUs };
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
}
