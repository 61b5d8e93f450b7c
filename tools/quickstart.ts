/*
 * `npm run quickstart`: a simulated compute node with a handful of zones, the agent on it, and a tour of
 * what guests and operators see; then it stays up for whoever wants to try. With `--once` it ends after
 * the tour, with a status that says whether every step did what it should.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const TOP = resolve(__dirname, '..', '..');
const SIMCN = join(__dirname, 'simcn', 'main.js');
const MDATAD = join(__dirname, '..', 'src', 'main.js');
const MDATACTL = join(__dirname, 'mdatactl', 'main.js');
const BUNYAN = join(TOP, 'node_modules', '.bin', 'bunyan');
/** On a slow machine; on this kind of node it takes about a second. */
const READY_MS = 60_000;

interface ListedZone {
  readonly uuid: string;
  readonly brand: string;
  readonly alias?: string;
}

interface Step {
  /** Null: the node itself, whose commands are simcn's. */
  readonly zone: ListedZone | null;
  readonly command: readonly string[];
  /** What the step shows, for the reader. */
  readonly about: string;
  readonly status: number;
  /** What its output must hold. */
  readonly shows?: RegExp;
}

class TourFault extends Error {}

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

function step(
  zone: ListedZone | null,
  command: readonly string[],
  about: string,
  shows?: RegExp,
  status = 0,
): Step {
  return { zone, command, about, status, ...(shows === undefined ? {} : { shows }) };
}

function tour(zones: readonly ListedZone[]): Step[] {
  const byBrand = (brand: string): ListedZone => {
    const zone = zones.find((candidate) => candidate.brand === brand);
    if (zone === undefined) {
      throw new TourFault(`the sample node has no zone of brand ${brand}`);
    }
    return zone;
  };
  const native = byBrand('joyent');
  const lx = byBrand('lx');
  return [
    step(
      native,
      ['ls', '-la', '/.zonecontrol'],
      'the folder that the brand mounts',
      /metadata\.sock/,
    ),
    step(native, ['mdata-list'], 'what the guest may know', /user-script/),
    step(native, ['mdata-get', 'user-script'], 'the script that it runs at boot', /#!/),
    step(native, ['mdata-get', 'sdc:nics'], 'its network', /"mac"/),
    step(native, ['mdata-get', 'sdc:routes'], 'its routes, worked out from its nics', /linklocal/),
    step(native, ['mdata-put', 'triton.cns.status', 'up'], 'it tells the node something'),
    step(native, ['mdata-get', 'triton.cns.status'], '... which is there at once', /^up$/m),
    step(native, ['mdata-delete', 'triton.cns.status'], '... and takes it back'),
    step(native, ['mdata-get', 'triton.cns.status'], '... gone: exit status 1', undefined, 1),
    step(native, ['mdata-put', 'sdc:uuid', 'x'], "what is not the guest's: refused", /sdc/, 2),
    ...datasetSteps(native),
    step(lx, ['mdata-get', 'sdc:brand'], 'an lx zone has it in /native/.zonecontrol', /^lx$/m),
  ];
}

/** A zone that manages a dataset of its own, within what "safe" leaves it. */
function datasetSteps(zone: ListedZone): Step[] {
  const data = `zones/${zone.uuid}/data`;
  const send = `zfs send ${data}/db@monday | zfs recv ${data}/copy`;
  return [
    step(zone, ['mdata-get', 'sdc:datasets'], 'the datasets that it manages itself', /data/),
    step(zone, ['mdata-get', 'sdc:delegate_dataset'], '... by the rules of "safe"', /^safe$/m),
    step(zone, ['zfs', 'create', `${data}/db`], 'a filesystem for its database'),
    step(zone, ['zfs', 'snapshot', `${data}/db@monday`], '... and a snapshot of it'),
    step(null, ['reprovision', zone.uuid], 'its root is replaced'),
    step(zone, ['zfs', 'list', '-t', 'all'], '... and its datasets stay', /@monday/),
    step(zone, ['sh', '-c', send], 'streams may hurt the node: refused', /permission denied/, 1),
  ];
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

async function main(): Promise<number> {
  const keepUp = !process.argv.includes('--once');
  const root = mkdtempSync(join(tmpdir(), 'cn-'));
  const log = join(root, 'var/svc/log/site-mdatad:default.log');
  const isRoot = process.getuid?.() === 0;
  let node: ChildProcess | null = null;
  let agent: ChildProcess | null = null;
  const interrupted = once(process, 'SIGINT');
  try {
    say(
      `A simulated compute node below ${root}, ${isRoot ? 'with' : 'as an ordinary user, without'} real mounts.`,
    );
    const up = [SIMCN, 'up', '--root', root, '--vms', join(TOP, 'tools/simcn/sample-node.json')];
    node = start(up, 'pipe');
    await untilSaidReady(node);
    mkdirSync(join(root, 'var/svc/log'), { recursive: true });
    agent = start([MDATAD, '--root', root], openSync(log, 'a'));
    const ready = await untilLogged(agent, log);
    say(
      `mdatad is ready: ${String(ready.zones)} zones, ${String(ready.sockets)} sockets, ${String(ready.hvm)} HVM guests, after ${String(ready.elapsed_ms)} ms.`,
    );
    say(simcn(root, 'ls').stdout);
    const zones = zonesOf(root);
    for (const step of tour(zones)) {
      play(root, step);
    }
    audit(root);
    say('\nWhat the agent wrote about it:\n');
    await showLog(log);
    if (keepUp) {
      tellHowToTry(root, log, zones);
      await interrupted;
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

void main().then((status) => (process.exitCode = status));
