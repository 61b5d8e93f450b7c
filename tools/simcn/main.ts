#!/usr/bin/env node
/*
 * simcn: a SmartOS compute node simulated on Linux, for the metadata agent to live on.
 *
 * `simcn up` is the node; every other command talks to it. Exit status: 0 done, 1 refused or failed,
 * 2 wrong usage; `exec` ends as its command did.
 */
import { Command, CommanderError, Argument } from 'commander';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isatty } from 'node:tty';
import { z } from 'zod';

import { packageVersion } from '../../src/lib/version';
import { explain, RemediedError } from '../../src/lib/errors';
import { endNode, startInBackground, ask } from './control';
import { printLog, attachConsole } from './console';
import { isJsonObject } from '../../src/metadata/vm-data';
import { completed, type Completed } from '../completed';
import { completionScript, SHELLS, type Shell } from '../completion';
import { execInZone } from './exec';
import { FAULTS, faultSchema, faultText } from './faults';
import { bringUp, ROOT_BYTES } from './up';
import { FIELD_NAMES, forCli, list, QueryError } from './vmadm-vms';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const DEFAULT_READY_MS = 20;
/** An agent that mounts the directory itself needs the time that the platform takes here. */
const OLD_PLATFORM_READY_MS = 500;

const HELP = `
A node lives below its root DIR, a path of at most ${ROOT_BYTES} bytes:
  etc/zones/index, etc/mnttab   the zones, and the mounts in force
  zones/UUID/{root,config}      a zone's root; its metadata.json and other files
  zones/UUID/data               what is delegated to it, by "delegate_dataset"
  var/zonecontrol/UUID/         its metadata socket's directory, mounted in it
  var/run/vminfod.sock          vminfod's HTTP service
  usr/sbin/{vmadm,zfs}          the platform's tools
UUID is a zone's uuid, its alias, or how the uuid begins. MDATAD_ROOT may hold
DIR.

Faults:
  events.drop  events.delay=MS       state changes that get lost, or come late
  events.late-free=MS                a run's last comes so long after the next runs
  vminfod.down  vminfod.freeze  vminfod.delay=MS  vminfod.garbage
  vmadm.hang=MS  vmadm.fail
with --zone UUID:
  lock.held[=MS]  disk.full          a zone's config lock and directory
  ttyb.drop[=ONE_IN]  ttyb.held  ttyb.flap=COUNT    an HVM zone's serial port

A VM's property "simcn" says what it is made of:
  {"rootfs": PATH}                   a zone's root: a directory or a tar archive
  {"disk": PATH, "memory"?: MIB}     a kvm or bhyve guest: a raw or qcow2 disk,
  {"kernel": PATH, "initrd": PATH, "append"?, "memory"?}          or a kernel
QEMU boots the guest; its disk may be a cloud image.

Example:
  simcn up -d --root /tmp/cn --vms vms.json
  simcn exec --root /tmp/cn UUID -- mdata-get sdc:uuid
  simcn fault --root /tmp/cn vminfod.down
  simcn down --root /tmp/cn
`;

/** The command line. @param finish is called with the exit status where it is not 0 */
export function makeProgram(finish: (status: number) => void): Command {
  const program = new Command('simcn')
    .description('A simulated SmartOS compute node')
    .version(packageVersion(), '--version', 'print the version')
    .exitOverride()
    .enablePositionalOptions()
    .showHelpAfterError('(simcn --help lists the commands)')
    .addHelpText('after', HELP);

  const command = (usage: string, description: string) =>
    program
      .command(usage)
      .description(description)
      .option('--root <dir>', 'the root of the node', process.env.MDATAD_ROOT)
      .version(packageVersion(), '--version', 'print the version')
      .exitOverride();
  const simple = (usage: string, description: string, name: string, extra: object = {}) =>
    command(usage, description).action(async (uuid: string, options: { root?: string }) => {
      await ask(rootOf(options), name, { uuid, ...extra });
    });

  command('up', 'be the node, in the foreground, until SIGTERM')
    .option('--vms <file>', 'JSON of VM objects, as `vmadm lookup -j` prints')
    .option('--old-platform', 'brands do not mount the socket directory, as before December 2016')
    .option('--ready-ms <n>', 'how long a zone stays ready before it boots')
    .option('--services', 'native zones run operator-script and user-script when they boot')
    .option('-d, --detach', 'in the background: ends when the node is ready, which goes on')
    .action(async (options: UpFlags) => {
      await (options.detach === true ? runDetached(options) : runNode(options));
      finish(0);
    });
  command('down', 'end the node, and wait until it is gone').action(
    async (options: { root?: string }) => {
      await endNode(rootOf(options));
    },
  );
  command('logs [uuid]', "the log of a node in the background, or a real guest's console")
    .option('-f, --follow', 'go on until interrupted')
    .action(async (uuid: string | undefined, options: { root?: string; follow?: true }) => {
      finish(await printLog(rootOf(options), uuid ?? null, options.follow === true));
    });
  command('console <uuid>', 'the console of a real guest; Ctrl-] leaves it').action(
    async (uuid: string, options: { root?: string }) => {
      await attachConsole(rootOf(options), uuid);
    },
  );
  command('top [option...]', 'the busiest zones, live: mdatactl top, with its options')
    .passThroughOptions()
    .allowUnknownOption()
    .action(async (given: string[], options: { root?: string }) => {
      finish(await runTop(rootOf(options), given));
    });
  command('create', 'make zones of payloads or VM objects on stdin: one, or an array')
    .option('--boot', 'boot them, whatever their zone_state says')
    .option('--rootfs <image>', "a directory or tar archive that zones' roots are made of")
    .option('--disk <image>', 'a raw or qcow2 disk that kvm and bhyve guests boot from')
    .action(async (options: CreateFlags) => {
      const vms = withImages(parseJson(readFileSync(0, 'utf8')), options);
      const made = createdSchema.parse(
        await ask(rootOf(options), 'create', { vms, boot: options.boot === true }),
      );
      made.warnings.forEach((text) => console.error(`simcn: ${text}`));
      made.uuids.forEach((uuid) => console.log(uuid));
    });
  simple('boot <uuid>', 'boot a zone', 'boot');
  simple('shutdown <uuid>', 'halt a zone', 'shutdown');
  command('reboot <uuid>', 'halt and boot a zone')
    .option('--guest', 'the guest reboots by itself: an HVM zone is not halted for it')
    .action(async (uuid: string, options: { root?: string; guest?: true }) => {
      await ask(rootOf(options), 'reboot', { uuid, guest: options.guest === true });
    });
  simple('destroy <uuid>', 'halt, uninstall and remove a zone', 'destroy');
  simple('reprovision <uuid>', "replace a zone's root; its delegated data stays", 'reprovision');
  const snapshot = (name: string, description: string) =>
    command(`${name} <uuid> <name>`, description).action(
      async (uuid: string, snap: string, options: { root?: string }) => {
        await ask(rootOf(options), name, { uuid, name: snap });
      },
    );
  snapshot('snapshot', "keep a copy of a zone's root and config");
  snapshot(
    'rollback',
    "put a zone's root and config back; a running zone is halted for it and booted again",
  );
  command('ls', 'list the zones')
    .option('--json', 'as JSON')
    .option('-H', 'without the header')
    .option('-p', 'for scripts: values between colons, and no header')
    .option('-o <fields>', 'these columns, any that vmadm list has')
    .option('-s <fields>', 'sorted by these, a - before one for the other way')
    .action(async (options: ListFlags) => {
      printZones(await ask(rootOf(options), 'ls'), options);
    });
  command('exec <uuid> <command...>', 'run a command in a zone, in its own view')
    .usage('[--root DIR] UUID -- CMD...')
    .action(async (uuid: string, argv: string[], options: { root?: string }) => {
      finish(await execInZone(rootOf(options), uuid, argv));
    });
  command(
    'fault [name]',
    'break something, or list what is broken; --help of simcn names the faults',
  )
    .usage('[NAME[=VALUE] [--zone UUID] | --clear]')
    .option('--zone <uuid>', 'only for this zone')
    .option('--clear', 'end all faults')
    .action(async (name: string | undefined, options: FaultFlags) => {
      await fault(name, options);
    });
  // It may stand before the command, too; behind it, it counts more.
  program
    .option('--root <dir>', 'the root of the node; default: MDATAD_ROOT')
    .hook('preAction', (_program, action) => {
      const { root } = program.opts<{ root?: string }>();
      if (root !== undefined && action.getOptionValueSource('root') !== 'cli') {
        action.setOptionValue('root', root);
      }
    });
  program
    .command('completion')
    .version(packageVersion(), '--version', 'print the version')
    .description('print the completion of simcn for a shell')
    .addArgument(
      new Argument('<shell>', 'source it: source <(simcn completion bash)').choices(SHELLS),
    )
    .exitOverride()
    .action((shell: Shell) => {
      process.stdout.write(completionScript([completedSimcn(program)], shell));
    });
  return program;
}

/** What the shells complete of it. */
export function completedSimcn(program: Command): Completed {
  const words = { 'fault name': Object.keys(FAULTS) };
  return completed(program, words, { 'ls -o': FIELD_NAMES, 'ls -s': FIELD_NAMES });
}

interface CreateFlags {
  readonly root?: string;
  readonly boot?: true;
  readonly rootfs?: string;
  readonly disk?: string;
}

interface UpFlags {
  readonly root?: string;
  readonly vms?: string;
  readonly oldPlatform?: true;
  readonly readyMs?: string;
  readonly services?: true;
  readonly detach?: true;
}

interface FaultFlags {
  readonly root?: string;
  readonly zone?: string;
  readonly clear?: true;
}

interface ListFlags {
  readonly root?: string;
  readonly json?: true;
  readonly H?: true;
  readonly p?: true;
  readonly o?: string;
  readonly s?: string;
}

class UsageError extends Error {}

function rootOf(options: { root?: string }): string {
  if (options.root === undefined || options.root === '') {
    throw new UsageError('the root of the node is needed: --root DIR, or MDATAD_ROOT');
  }
  return resolve(options.root);
}

/**
 * Gives each VM that says nothing of its own the image of the flags: hypervisors the disk, others the root.
 * @throws Error for an image that is not there, or is a directory where a disk is needed
 */
function withImages(given: unknown, { rootfs, disk }: CreateFlags): unknown {
  const one = (vm: unknown): unknown => {
    if (!isJsonObject(vm)) {
      return vm;
    }
    const isHvm = vm.brand === 'kvm' || vm.brand === 'bhyve';
    const image = isHvm ? disk : rootfs;
    if (image === undefined) {
      return vm;
    }
    if (statSync(image).isDirectory() && isHvm) {
      throw new RemediedError(`${image} is a directory`, 'name the file of a raw or qcow2 disk');
    }
    return { simcn: { [isHvm ? 'disk' : 'rootfs']: resolve(image) }, ...vm };
  };
  return Array.isArray(given) ? given.map(one) : one(given);
}

/** mdatactl's own screen, of the agent on this node. */
async function runTop(root: string, given: readonly string[]): Promise<number> {
  const program = join(__dirname, '..', 'mdatactl', 'main.js');
  const argv = [program, 'top', '--root', root, ...given];
  const child = spawn(process.execPath, argv, { stdio: 'inherit' });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status ?? EXIT_FAILED;
}

/** The node's whole life. */
async function runNode(flags: UpFlags): Promise<void> {
  const root = rootOf(flags);
  const oldPlatform = flags.oldPlatform === true;
  const standard = oldPlatform ? OLD_PLATFORM_READY_MS : DEFAULT_READY_MS;
  const readyMs = flags.readyMs === undefined ? standard : Number(flags.readyMs);
  if (!Number.isFinite(readyMs) || readyMs < 0) {
    throw new UsageError(
      `--ready-ms: a number of milliseconds is needed, not ${flags.readyMs ?? ''}`,
    );
  }
  // As the platform's daemons have it, whatever the caller's is: others than root live in its zones.
  process.umask(0o022);
  // Listened for first: a signal in the middle of the start must leave nothing behind either.
  let end = (): void => undefined;
  const ended = new Promise<void>((done) => {
    end = done;
    process.once('SIGTERM', () => done());
    process.once('SIGINT', () => done());
  });
  const node = await bringUp(
    root,
    flags.vms ?? null,
    { oldPlatform, readyMs, services: flags.services === true },
    () => end(),
  );
  console.log(JSON.stringify({ ready: true, root, zones: node.zones }));
  await ended;
  await node.stop();
}

async function runDetached(flags: UpFlags): Promise<void> {
  const root = rootOf(flags);
  const argv = [
    ...['up', '--root', root],
    ...(flags.vms === undefined ? [] : ['--vms', resolve(flags.vms)]),
    ...(flags.oldPlatform === true ? ['--old-platform'] : []),
    ...(flags.readyMs === undefined ? [] : ['--ready-ms', flags.readyMs]),
    ...(flags.services === true ? ['--services'] : []),
  ];
  const zones = await startInBackground(root, argv);
  console.log(JSON.stringify({ ready: true, root, zones }));
}

async function fault(name: string | undefined, flags: FaultFlags): Promise<void> {
  const root = rootOf(flags);
  if (flags.clear === true) {
    await ask(root, 'clear-faults');
    return;
  }
  if (name === undefined) {
    listFaults(await ask(root, 'faults'));
    return;
  }
  const note = await ask(root, 'fault', { text: name, zone: flags.zone ?? null });
  if (typeof note === 'string' && note !== '') {
    console.error(`simcn: ${note}`);
  }
}

const createdSchema = z.object({ uuids: z.array(z.string()), warnings: z.array(z.string()) });
const vmsSchema = z.array(z.record(z.string(), z.unknown()));
const DEFAULT_FIELDS = 'zoneid,uuid,brand,zone_state,alias';
/** What `--json` shows of each. */
const JSON_FIELDS = ['uuid', 'zonename', 'brand', 'zone_state', 'zoneid', 'alias'];

function printZones(listed: unknown, flags: ListFlags): void {
  const vms = vmsSchema.parse(listed).map(forCli);
  if (flags.json === true) {
    const chosen = vms.map((vm) => {
      return Object.fromEntries(JSON_FIELDS.map((name) => [name, vm[name] ?? fallback(name)]));
    });
    console.log(JSON.stringify(chosen, null, 2));
    return;
  }
  const parsable = flags.p === true;
  process.stdout.write(
    list(vms, {
      fields: (flags.o ?? DEFAULT_FIELDS).split(','),
      sort: flags.s?.split(',') ?? [],
      parsable,
      header: !parsable && flags.H !== true,
      fitted: isatty(1) && !parsable,
    }),
  );
}

function fallback(name: string): string | null {
  return name === 'alias' ? '' : null;
}

/** One a line, as they can be given again. */
function listFaults(active: unknown): void {
  const faults = z.array(faultSchema).parse(active);
  if (faults.length === 0) {
    console.error('simcn: no fault is active');
  }
  for (const each of faults) {
    console.log(faultText(each));
  }
}

function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    // The parser's message quotes the text around the fault: a payload has passwords in it.
    throw new UsageError("stdin holds no JSON: give a VM's payload, as vmadm create takes it");
  }
}

async function main(): Promise<number> {
  let status = 0;
  const program = makeProgram((wanted) => (status = wanted));
  try {
    await program.parseAsync(process.argv);
  } catch (err) {
    if (err instanceof CommanderError) {
      // Commander has printed it already. Asking for help is not a mistake.
      return err.exitCode === 0 ? 0 : EXIT_USAGE;
    }
    process.stderr.write(explain('simcn', err));
    if (err instanceof QueryError) {
      console.error(`  the columns are ${FIELD_NAMES.join(', ')}, and members as nics.0.ip`);
      return EXIT_USAGE;
    }
    return err instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  }
  return status;
}

if (require.main === module) {
  void main().then((status) => process.exit(status));
}
