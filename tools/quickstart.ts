/*
 * `npm run quickstart`: a simulated compute node with a handful of zones, the agent on it, and a tour of what
 * guests and operators see; then it stays up to be tried. With `--once` it ends after the tour, with a status that
 * says whether every step did what it should. However it ends, by a signal, by a step that failed or because
 * nobody reads its output any more, the node and the agent end with it.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/lib/errors';
import { packageVersion } from '../src/lib/version';
import { recordLine } from './mdatactl/records';
import { screenOf } from './screen';
import { ROOT_BYTES } from './simcn/up';
import { TourError, tour, type ListedZone, type Step } from './tour';

const TOP = resolve(__dirname, '..', '..');
const SIMCN = join(__dirname, 'simcn', 'main.js');
const MDATAD = join(__dirname, '..', 'src', 'bundle', 'mdatad.js');
const MDATACTL = join(__dirname, 'mdatactl', 'main.js');
/** On a slow machine; on this kind of node it takes about a second. */
const READY_MS = 60_000;
/** A guest's question while `tail` is shown; the first may come before `tail` is there. */
const ASK_EVERY_MS = 500;
const EXIT_USAGE = 2;
const INDENT = '  ';
const USAGE = `Usage: npm run quickstart [-- --once]

A simulated compute node, the agent on it, and a tour. Stays up until Ctrl-C; with --once it ends after the
tour: exit 0 when every step did what it should, else 1.`;

function say(text = ''): void {
  console.log(text);
}

const PROGRAMS: Readonly<Record<string, string>> = { simcn: SIMCN, mdatactl: MDATACTL };

/** Runs `simcn` or `mdatactl` to its end. */
function run(root: string, [name = '', ...args]: readonly string[]): Result {
  const argv = [PROGRAMS[name] ?? name, ...args];
  // What they print is shown behind an indent, on the terminal that we have.
  const { isTTY, columns } = process.stdout;
  const width = isTTY ? { COLUMNS: String(columns - INDENT.length) } : {};
  const env = { ...process.env, ...width, MDATAD_ROOT: root };
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8', env });
  return { status: status ?? 1, output: `${stdout}${stderr}` };
}

interface Result {
  readonly status: number;
  readonly output: string;
}

/** A new directory for the node. Unix sockets bound the length of its path: a long TMPDIR is passed over. */
function makeRoot(): string {
  const template = (base: string): string => join(base, 'cn-');
  const bases = [tmpdir(), '/tmp'];
  const base = bases.find((each) => template(each).length + 6 <= ROOT_BYTES) ?? '/tmp';
  if (base !== tmpdir()) {
    say(`${tmpdir()} is too long a path for the zones' sockets: ${base} is used.`);
  }
  return mkdtempSync(template(base));
}

function start(argv: readonly string[], stdout: 'pipe' | number): ChildProcess {
  return spawn(process.execPath, argv, { stdio: ['ignore', stdout, 'inherit'] });
}

/** Resolves with the first line of a program's stdout that matches. */
async function firstLine({ stdout }: ChildProcess, pattern: RegExp): Promise<string> {
  if (stdout !== null) {
    for await (const line of createInterface({ input: stdout })) {
      if (pattern.test(line)) {
        return line;
      }
    }
  }
  throw new TourError(`a program ended before it printed ${String(pattern)}`);
}

function withinBound<T>(promise: Promise<T>): Promise<T> {
  return Promise.race([
    promise,
    new Promise<never>((_, reject) => {
      setTimeout(() => reject(new TourError(`not ready in ${READY_MS} ms`)), READY_MS).unref();
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
  throw new TourError(`mdatad did not become ready, see ${log}`);
}

function zonesOf(root: string): ListedZone[] {
  return JSON.parse(run(root, ['simcn', 'ls', '--json']).output) as ListedZone[];
}

function announce(about: string, where: ListedZone | null, command: readonly string[]): void {
  const prompt = where === null ? 'global zone' : (where.alias ?? where.uuid);
  const words = command.map((word) => (/[|;&$ ]/.test(word) ? `'${word}'` : word));
  say(`\n  # ${about}\n  [${prompt}]$ ${words.join(' ')}`);
}

/** Runs a step and prints it. @throws TourError where it does not do what it should */
function take(root: string, step: Step): void {
  const { zone, command } = step;
  announce(step.about, zone, command);
  const argv = zone === null ? command : ['simcn', 'exec', zone.uuid, '--', ...command];
  const { status, output } = run(root, argv);
  if (output !== '') {
    say(output.trimEnd().replaceAll(/^/gm, INDENT));
  }
  if (status !== step.status) {
    throw new TourError(`exit status ${status}, expected ${step.status}`);
  }
  if (step.shows !== undefined && !step.shows.test(output)) {
    throw new TourError(`the output does not show ${String(step.shows)}`);
  }
}

/** `mdatactl tail` while the guest asks for something: prints the first record that it shows. */
async function takeTail(root: string, zone: ListedZone): Promise<void> {
  announce('what does this guest ask for, as it happens?', null, ['mdatactl', 'tail', zone.uuid]);
  const tail = start([MDATACTL, '--root', root, 'tail', zone.uuid], 'pipe');
  const asking = setInterval(() => {
    run(root, ['simcn', 'exec', zone.uuid, '--', 'mdata-get', 'sdc:alias']);
  }, ASK_EVERY_MS);
  try {
    say(`  ${await withinBound(firstLine(tail, /sdc:alias/))}`);
  } finally {
    clearInterval(asking);
    await end(tail);
  }
}

/** What the agent wrote so far, one record a line. */
function showLog(log: string): void {
  const screen = screenOf(process.stdout, process.env);
  for (const record of logLines(log)) {
    say(recordLine(record, screen));
  }
}

async function end(child: ChildProcess | null): Promise<void> {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

function sayWhatToTry(root: string, zones: readonly ListedZone[]): void {
  const uuid = zones.find(({ brand }) => brand === 'joyent')?.uuid ?? 'UUID';
  say(`
The node is up below ${root}. To try in another terminal:

  cd ${TOP}
  export MDATAD_ROOT=${root}
  npx --no simcn ls
  npx --no simcn exec ${uuid} -- mdata-list
  npx --no simcn exec ${uuid} -- bash
  npx --no simcn reboot ${uuid}
  npx --no simcn fault vminfod.down       # then status and doctor; --clear ends it
  npx --no mdatactl status
  npx --no mdatactl doctor
  npx --no mdatactl tail
  npx --no mdatactl top
  npx --no zone-events
  ${root}/usr/sbin/vmadm get ${uuid}

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

/** Handles signals between two steps, which block everything else. */
async function checkEnding(ending: AbortSignal): Promise<void> {
  await nextTurn();
  if (ending.aborted) {
    throw new TourError('stopped in the middle of the tour');
  }
}

async function quickstart(keepUp: boolean): Promise<number> {
  const ending = endings();
  const root = makeRoot();
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
    await withinBound(firstLine(node, /"ready":true/));
    await checkEnding(ending);
    mkdirSync(join(root, 'var/svc/log'), { recursive: true });
    agent = start([MDATAD, '--root', root], openSync(log, 'a'));
    const ready = await untilLogged(agent, log);
    say(
      `mdatad is ready: ${String(ready.zones)} zones, ${String(ready.sockets)} sockets, ${String(ready.hvm)} HVM guests, after ${String(ready.elapsed_ms)} ms.`,
    );
    say(run(root, ['simcn', 'ls']).output);
    const zones = zonesOf(root);
    for (const step of tour(zones)) {
      await checkEnding(ending);
      take(root, step);
    }
    const [first] = zones.filter(({ brand }) => brand === 'joyent');
    if (first !== undefined) {
      await checkEnding(ending);
      await takeTail(root, first);
    }
    say('\nThe log that the agent wrote meanwhile:\n');
    showLog(log);
    if (keepUp) {
      sayWhatToTry(root, zones);
      if (!ending.aborted) {
        await once(ending, 'abort');
      }
    }
    return 0;
  } catch (err) {
    if (!(err instanceof TourError)) {
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
  let version: boolean | undefined;
  try {
    const options = {
      help: { type: 'boolean', short: 'h' },
      once: { type: 'boolean' },
      version: { type: 'boolean' },
    } as const;
    ({ help, once: onlyOnce, version } = parseArgs({ options }).values);
  } catch (err) {
    console.error(`quickstart: ${messageOf(err)}\n${USAGE}`);
    return EXIT_USAGE;
  }
  if (version === true) {
    say(packageVersion());
    return 0;
  }
  if (help === true) {
    say(USAGE);
    return 0;
  }
  return quickstart(onlyOnce !== true);
}

void main().then((status) => (process.exitCode = status));
