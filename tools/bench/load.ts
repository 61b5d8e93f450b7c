/*
 * Runs the C client (client.c), which is built when it is first needed.
 */
import { z } from 'zod';
import { encodeV2 } from '../../src/protocol/client';
import { CProgram } from './c-program';
import type { Processes } from './processes';

export interface Load {
  /** `conn`: connect, NEGOTIATE, one request, close. `open`: connections stay. */
  readonly mode: 'conn' | 'open';
  readonly seconds: number;
  readonly connections: number;
  readonly sockets: readonly string[];
  readonly requests: readonly string[];
  /** In flight on each connection. */
  readonly depth?: number;
  /** Answers on each connection, after which it ends. */
  readonly most?: number;
  /** Bytes written and read at once. */
  readonly piece?: number;
}

const resultSchema = z.object({
  requests: z.number(),
  seconds: z.number(),
  p50_us: z.number(),
  p99_us: z.number(),
  longest_us: z.number(),
  lost: z.number(),
});

export interface LoadResult {
  readonly requests: number;
  readonly perSecond: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly longestUs: number;
}

/** A GET as the client sends it, a whole line. */
export function getLine(key: string): string {
  return encodeV2({ kind: 'get', key: Buffer.from(key) }, 'deadbeef').toString('latin1');
}

/** A PUT as the client sends it, a whole line. */
export function putLine(key: string, value: string): string {
  const command = { kind: 'put', key: Buffer.from(key), value: Buffer.from(value) } as const;
  return encodeV2(command, 'deadbeef').toString('latin1');
}

/** The C client, as a program of its own for each load. */
export class Client {
  private readonly program: CProgram;

  /** @param directory where the program is built */
  constructor(directory: string, processes: Processes) {
    this.program = new CProgram('client', directory, processes);
  }

  /** Rejects when an answer was lost: what is measured then is no service. */
  async run(load: Load): Promise<LoadResult> {
    const { mode, seconds, connections, depth = 1, most = 0, piece = 0 } = load;
    const numbers = [seconds, connections, depth, most, piece].map(String);
    const input = `${load.requests.length}\n${load.requests.join('')}${load.sockets.join('\n')}\n`;
    const result = resultSchema.parse(await this.program.run([mode, ...numbers], input));
    if (result.lost > 0) {
      throw new Error(`${result.lost} connections were closed before their answer came`);
    }
    const { requests, p50_us: p50Us, p99_us: p99Us, longest_us: longestUs } = result;
    return {
      requests,
      perSecond: requests / result.seconds,
      seconds: result.seconds,
      p50Us,
      p99Us,
      longestUs,
    };
  }
}
