/*
 * A program of the benchmark in C, from a file beside this one: its own work must not be what the numbers measure.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import type { Processes } from './processes';

const SOURCES = resolve(__dirname, '..', '..', '..', 'tools', 'bench');

export class CProgram {
  private readonly program: string;

  /**
   * @param name of the source file, without its ending @param directory where the program is built
   * @throws where it cannot be built
   */
  constructor(
    private readonly name: string,
    directory: string,
    private readonly processes: Processes,
  ) {
    const source = join(SOURCES, `${name}.c`);
    this.program = join(directory, name);
    const argv = ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', this.program, source];
    const { status, stderr } = spawnSync('cc', argv, { encoding: 'utf8' });
    if (status !== 0) {
      throw new Error(`cc could not build ${source}: ${stderr}`);
    }
  }

  /** @returns the JSON that it prints. Rejects where it does not end with 0 */
  async run(argv: readonly string[], input = ''): Promise<unknown> {
    const child = this.processes.start([this.program, ...argv], 'pipe');
    const printed: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => printed.push(chunk));
    child.stdin?.end(input);
    await once(child, 'close');
    if (child.exitCode !== 0) {
      const how = child.exitCode ?? child.signalCode ?? 'nothing';
      throw new Error(`${this.name} ended with ${how}`);
    }
    return JSON.parse(Buffer.concat(printed).toString());
  }
}
