/*
 * `npm run quickstart`: a simulated compute node with a handful of zones, the agent on it, and a tour of
 * what guests and operators see; then it stays up for whoever wants to try. With `--once` it ends after
 * the tour, with a status that says whether every step did what it should. However it ends, the node and
 * the agent end with it: by a signal, by a step that failed, or by a reader who has gone.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/lib/errors';
import { TourFault, tour, type ListedZone, type Step } from './tour';

const TOP = resolve(__dirname, '..', '..');
const SIMCN = join(__dirname, 'simcn', 'main.js');
const MDATAD = join(__dirname, '..', 'src', 'main.js');
const MDATACTL = join(__dirname, 'mdatactl', 'main.js');
const BUNYAN = join(TOP, 'node_modules', '.bin', 'bunyan');
/** On a slow machine; on this kind of node it takes about a second. */
const READY_MS = 60_000;
const EXIT_USAGE = 2;
const USAGE = `Usage: npm run quickstart [-- --once]

A simulated compute node, the agent on it, and a tour. Stays up until Ctrl-C; with --once it ends after the
tour: exit 0 when every step did what it should, else 1.`;

function say(text = ''): void {
  console.log(text);
}

function simcn(root: string, ...args: string[]): { status: number; stdout: string } {
  const [name = '', ...rest] = args;
  const argv = [SIMCN, name, '--root', root, ...rest];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
  return { status: status ?? 1, stdout: `${stdout}${stderr}` };
}

function start(argv: readonly string[], stdout: 'pipe' | number): ChildProcess {
  return spawn(process.execPath, argv, { stdio: ['ignore', stdout, 'inherit'] });
}

/** Resolves with the first line of a program's stdout that says it is ready. */
async function untilSaidReady(child: ChildProcess): Promise<void> {
  const said = async (): Promise<void> => {
    if (child.stdout !== null) {
      for await (const line of createInterface({ input: child.stdout })) {
        if (line.includes('"ready":true')) {
          return;
        }
      }
    }
    throw new TourFault('simcn ended before it was ready');
  };
  await withinBound(said());
}

function withinBound<T>(promise: Promise<T>): Promise<T> {
  return Promise.race([
    promise,
    new Promise<never>((_, reject) => {
      setTimeout(() => reject(new TourFault(`not ready in ${READY_MS} ms`)), READY_MS).unref();
    }),
  ]);
}

function logLines(path: string): Record<string, unknown>[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function untilLogged(child: ChildProcess, log: string): Promise<Record<string, unknown>> {
  const end = Date.now() + READY_MS;
  while (Date.now() < end && child.exitCode === null) {
    const ready = logLines(log).find((record) => record.msg === 'ready');
    if (ready !== undefined) {
      return ready;
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new TourFault(`mdatad did not become ready, see ${log}`);
}

function zonesOf(root: string): ListedZone[] {
  return JSON.parse(simcn(root, 'ls', '--json').stdout) as ListedZone[];
}

function play(root: string, step: Step): void {
  say(`\n  # ${step.about}`);
  const { zone, command } = step;
  const place = zone === null ? 'global zone' : (zone.alias ?? zone.uuid);
  say(`  [${place}]$ ${zone === null ? 'simcn ' : ''}${command.join(' ')}`);
  const argv = zone === null ? command : ['exec', zone.uuid, '--', ...command];
  const { status, stdout } = simcn(root, ...argv);
  check(stdout, status, step);
}

/** The operator's look at the same. */
function audit(root: string): void {
  say('\n  # what the node says of the delegated datasets, and how much of them is used');
  say('  [global zone]$ mdatactl datasets');
  const argv = [MDATACTL, '--root', root, 'datasets'];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
  check(`${stdout}${stderr}`, status ?? 1, { status: 0, shows: /1\/8/ });
}

function check(stdout: string, status: number, step: Pick<Step, 'status' | 'shows'>): void {
  for (const line of stdout.trimEnd().split('\n')) {
    say(`  ${line}`);
  }
  if (status !== step.status) {
    throw new TourFault(`exit status ${status}, expected ${step.status}`);
  }
  if (step.shows !== undefined && !step.shows.test(stdout)) {
    throw new TourFault(`the output does not show ${String(step.shows)}`);
  }
}

/** The agent's own story, through bunyan's pretty printer. */
async function showLog(log: string): Promise<void> {
  const printer = spawn(BUNYAN, ['-o', 'short'], { stdio: ['pipe', 'inherit', 'inherit'] });
  createReadStream(log).pipe(printer.stdin);
  await once(printer, 'exit');
}

async function end(child: ChildProcess | null): Promise<void> {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

function tellHowToTry(root: string, log: string, zones: readonly ListedZone[]): void {
  const [first] = zones.filter((zone) => zone.brand === 'joyent');
  const uuid = first?.uuid ?? 'UUID';
  say(`
The node is up below ${root}. In another terminal:

  export SIMCN_ROOT=${root}
  npx simcn ls
  npx simcn exec ${uuid} -- mdata-list
  npx simcn exec ${uuid} -- bash
  npx simcn reboot ${uuid}
  npx simcn reprovision ${uuid}     # its datasets stay
  npx mdatactl datasets --root ${root}
  npx simcn fault vminfod.down            # and --clear
  ${root}/usr/sbin/vmadm get ${uuid}
  npx zone-events --root ${root}
  tail -f ${log} | npx bunyan -o short

Ctrl-C ends it.`);
}

/** Aborted by whatever ends it before its time. */
function endings(): AbortSignal {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => ending.abort());
  }
  process.stdout.on('error', () => ending.abort());
  return ending.signal;
}

/** Lets signals be heard between two steps, which hold up all else. */
async function goOn(ending: AbortSignal): Promise<void> {
  await nextTurn();
  if (ending.aborted) {
    throw new TourFault('stopped in the middle of the tour');
  }
}

async function quickstart(keepUp: boolean): Promise<number> {
  const ending = endings();
  const root = mkdtempSync(join(tmpdir(), 'cn-'));
  const log = join(root, 'var/svc/log/site-mdatad:default.log');
  const isRoot = process.getuid?.() === 0;
  let node: ChildProcess | null = null;
  let agent: ChildProcess | null = null;
  try {
    say(
      `A simulated compute node below ${root}, ${isRoot ? 'with' : 'as an ordinary user, without'} real mounts.`,
    );
    const up = [SIMCN, 'up', '--root', root, '--vms', join(TOP, 'tools/simcn/sample-node.json')];
    node = start(up, 'pipe');
    await untilSaidReady(node);
    await goOn(ending);
    mkdirSync(join(root, 'var/svc/log'), { recursive: true });
    agent = start([MDATAD, '--root', root], openSync(log, 'a'));
    const ready = await untilLogged(agent, log);
    say(
      `mdatad is ready: ${String(ready.zones)} zones, ${String(ready.sockets)} sockets, ${String(ready.hvm)} HVM guests, after ${String(ready.elapsed_ms)} ms.`,
    );
    say(simcn(root, 'ls').stdout);
    const zones = zonesOf(root);
    for (const step of tour(zones)) {
      await goOn(ending);
      play(root, step);
    }
    await goOn(ending);
    audit(root);
    say('\nWhat the agent wrote about it:\n');
    await showLog(log);
    if (keepUp) {
      tellHowToTry(root, log, zones);
      if (!ending.aborted) {
        await once(ending, 'abort');
      }
    }
    return 0;
  } catch (err) {
    if (!(err instanceof TourFault)) {
      throw err;
    }
    console.error(`quickstart: ${err.message}`);
    return 1;
  } finally {
    await end(agent);
    await end(node);
    rmSync(root, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  let help: boolean | undefined;
  let onlyOnce: boolean | undefined;
  try {
    const options = { help: { type: 'boolean', short: 'h' }, once: { type: 'boolean' } } as const;
    ({ help, once: onlyOnce } = parseArgs({ options }).values);
  } catch (err) {
    console.error(`quickstart: ${messageOf(err)}\n${USAGE}`);
    return EXIT_USAGE;
  }
  if (help === true) {
    say(USAGE);
    return 0;
  }
  return quickstart(onlyOnce !== true);
}

void main().then((status) => (process.exitCode = status));
