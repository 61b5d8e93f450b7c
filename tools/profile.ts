/*
 * `npm run profile`: what the agent does with its time or its memory, on a simulated node under load.
 *
 *   cpu    runs the load and leaves a .cpuprofile, a flame graph's input (Chrome's DevTools, speedscope)
 *   heap   runs the load and leaves a .heapsnapshot (Chrome's DevTools, Memory)
 *
 * Prints the functions with the most time of their own and the file's name. Ends all that it started.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Argument, Command, CommanderError, Option } from 'commander';
import { z } from 'zod';
import { messageOf } from '../src/lib/errors';
import { Client, getLine } from './bench/load';
import { BenchNode, KEY } from './bench/node';
import { Processes } from './bench/processes';
import { packageVersion } from '../src/lib/version';

const SHOWN = 25;
const MOST_SOCKETS = 16;
/** A snapshot of thousands of zones takes its time. */
const SNAPSHOT_MS = 120_000;

interface Options {
  readonly zones: string;
  readonly seconds: string;
  readonly mode: 'conn' | 'open';
  readonly depth: string;
  readonly out: string;
}

const profileSchema = z.object({
  nodes: z.array(
    z.object({
      id: z.number(),
      callFrame: z.object({ functionName: z.string(), url: z.string(), lineNumber: z.number() }),
    }),
  ),
  samples: z.array(z.number()),
  timeDeltas: z.array(z.number()),
});

/** Functions by their own time, part of the busy time in percent. */
function hottest(text: string): string[] {
  const { nodes, samples, timeDeltas } = profileSchema.parse(JSON.parse(text));
  const names = new Map<number, string>();
  for (const { id, callFrame } of nodes) {
    const place = callFrame.url.split('/').slice(-2).join('/');
    names.set(
      id,
      `${callFrame.functionName || '(anonymous)'} ${place}:${callFrame.lineNumber + 1}`,
    );
  }
  const times = new Map<string, number>();
  let busy = 0;
  for (const [at, id] of samples.entries()) {
    const name = names.get(id) ?? '?';
    if (!name.startsWith('(idle)')) {
      const delta = timeDeltas[at] ?? 0;
      busy += delta;
      times.set(name, (times.get(name) ?? 0) + delta);
    }
  }
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .slice(0, SHOWN)
    .map(([name, time]) => `${((100 * time) / busy).toFixed(1).padStart(5)} %  ${name}`);
}

async function profile(kind: string, options: Options): Promise<void> {
  const out = resolve(options.out);
  mkdirSync(out, { recursive: true });
  const directory = mkdtempSync(join(tmpdir(), 'pf-'));
  const processes = new Processes();
  const before = new Set(readdirSync(out));
  try {
    const node = new BenchNode(directory, Number(options.zones), processes);
    await node.up();
    const flags =
      kind === 'cpu'
        ? ['--cpu-prof', `--cpu-prof-dir=${out}`]
        : ['--heapsnapshot-signal=SIGUSR2', `--diagnostic-dir=${out}`];
    const { pid } = await node.startAgent({}, flags);
    const client = new Client(directory, processes);
    const sockets = node.agentSockets(Math.min(MOST_SOCKETS, node.zones));
    const { mode } = options;
    const [seconds, depth] = [Number(options.seconds), Number(options.depth)];
    const load = { mode, seconds, depth, connections: MOST_SOCKETS, requests: [getLine(KEY)] };
    const result = await client.run({ ...load, sockets });
    console.log(`${Math.round(result.perSecond)} requests/s, p99 ${result.p99Us} us`);
    const written = (): string | undefined => readdirSync(out).find((name) => !before.has(name));
    if (kind === 'heap') {
      process.kill(pid, 'SIGUSR2');
      const end = performance.now() + SNAPSHOT_MS;
      // It is written while the agent answers nothing: when it answers again, the file is whole.
      while (written() === undefined && performance.now() < end) {
        await pause(50);
      }
      await node.status();
    }
    await node.down();
    const name = written();
    if (name === undefined) {
      throw new Error(`the agent left no profile in ${out}`);
    }
    if (kind === 'cpu') {
      console.log(hottest(readFileSync(join(out, name), 'utf8')).join('\n'));
    }
    console.log(join(out, name));
  } finally {
    await processes.endAll();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const command = new Command('profile')
    .description('shows where the time or the memory of the agent goes')
    .version(packageVersion(), '--version', 'print the version')
    .addArgument(new Argument('[kind]').choices(['cpu', 'heap']).default('cpu'))
    .option('--zones <n>', 'zones of the node', '16')
    .option('--seconds <n>', 'how long the load runs', '5')
    .addOption(
      new Option('--mode <mode>', 'short connections, or open ones')
        .choices(['conn', 'open'])
        .default('open'),
    )
    .option('--depth <n>', 'requests in flight on each open connection', '1')
    .option('--out <dir>', 'where the profile goes', 'dist/profile')
    .exitOverride();
  try {
    command.parse();
    await profile(String(command.processedArgs[0]), command.opts<Options>());
    return 0;
  } catch (err) {
    if (err instanceof CommanderError) {
      return err.exitCode === 0 ? 0 : 2;
    }
    console.error(`profile: ${messageOf(err)}`);
    return 1;
  }
}

void main().then((status) => process.exit(status));
