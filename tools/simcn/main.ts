#!/usr/bin/env node
/*
 * simcn: a SmartOS compute node played on Linux, for the metadata agent to live on.
 *
 * `simcn up` is the node; every other command talks to it. Exit status: 0 done, 1 refused or failed,
 * 2 wrong usage; `exec` ends as its command did.
 */
import { Command, CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import { ask } from './control';
import { execInZone } from './exec';
import { FAULTS } from './faults';
import { bringUp, ROOT_BYTES } from './up';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const DEFAULT_READY_MS = 20;
/** An agent that mounts the folder itself needs the time that the platform takes here. */
const OLD_PLATFORM_READY_MS = 500;

const HELP = `
A node lives below its root DIR, a path of at most ${ROOT_BYTES} bytes:
  etc/zones/index, etc/mnttab        the zones, and the mounts in force
  zones/UUID/{root,config}           a zone's root, and its metadata.json, tags.json, routes.json
  zones/UUID/data                    what is delegated to it; "delegate_dataset": true or "safe" makes it
  var/zonecontrol/UUID/              the folder of its metadata socket, mounted in the zone
  var/run/vminfod.sock               vminfod's HTTP service        usr/sbin/{vmadm,zfs}
UUID is a zone's uuid or its name. DIR may come from SIMCN_ROOT.

Faults:
  events.drop  events.delay=MS                       state changes that get lost, or come late
  vminfod.down  vminfod.freeze  vminfod.delay=MS  vminfod.garbage
  vmadm.hang=MS  vmadm.fail
  lock.held[=MS]    disk.full                        a zone's config lock and folder   (with --zone)
  ttyb.drop[=ONE_IN]  ttyb.held  ttyb.flap=COUNT     an HVM zone's serial port         (with --zone)

A kvm VM with the property "simcn": {"kernel": PATH, "initrd": PATH, "append"?, "memory"?} is a real
guest: qemu-system-x86_64 boots it, with the serial port as its second one.

Example:
  simcn up --root /tmp/cn --vms vms.json &
  simcn exec --root /tmp/cn UUID -- mdata-get sdc:uuid
  simcn fault --root /tmp/cn events.delay=2000 && simcn reboot --root /tmp/cn UUID
`;

function makeProgram(finish: (status: number) => void): Command {
  const program = new Command('simcn')
    .description('A simulated SmartOS compute node')
    .exitOverride()
    .enablePositionalOptions()
    .showHelpAfterError('(simcn --help lists the commands)')
    .addHelpText('after', HELP);

  const command = (usage: string, description: string) =>
    program
      .command(usage)
      .description(description)
      .option('--root <dir>', 'the root of the node', process.env.SIMCN_ROOT)
      .exitOverride();
  const simple = (usage: string, description: string, name: string, extra: object = {}) =>
    command(usage, description).action(async (uuid: string, options: { root?: string }) => {
      await ask(rootOf(options), name, { uuid, ...extra });
    });

  command('up', 'be the node, in the foreground, until SIGTERM')
    .option('--vms <file>', 'JSON of VM objects, as `vmadm lookup -j` prints')
    .option('--old-platform', 'brands do not mount the socket folder, as before December 2016')
    .option('--ready-ms <n>', 'how long a zone stays ready before it boots')
    .action(async (options: UpFlags) => {
      await runNode(options);
      finish(0);
    });
  command('create', 'make zones of a VM object, or an array of them, on stdin')
    .option('--boot', 'boot them, whatever their zone_state says')
    .action(async (options: { root?: string; boot?: true }) => {
      const vms = parseJson(readFileSync(0, 'utf8'));
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
  snapshot('snapshot', "keep a copy of a zone's root");
  snapshot('rollback', "put a zone's root back; a running zone is halted for it and booted again");
  command('ls', 'list the zones')
    .option('--json', 'as JSON')
    .action(async (options: { root?: string; json?: true }) => {
      printZones(await ask(rootOf(options), 'ls'), options.json === true);
    });
  command('exec <uuid> <command...>', 'run a command in a zone, in its own view')
    .usage('[--root DIR] UUID -- CMD...')
    .action(async (uuid: string, argv: string[], options: { root?: string }) => {
      finish(await execInZone(rootOf(options), uuid, argv));
    });
  command('fault [name]', 'break something; --help of simcn names the faults')
    .usage('NAME[=VALUE] [--zone UUID] | --clear')
    .option('--zone <uuid>', 'only for this zone')
    .option('--clear', 'end all faults')
    .action(async (name: string | undefined, options: FaultFlags) => {
      await fault(name, options);
    });
  return program;
}

interface UpFlags {
  readonly root?: string;
  readonly vms?: string;
  readonly oldPlatform?: true;
  readonly readyMs?: string;
}

interface FaultFlags {
  readonly root?: string;
  readonly zone?: string;
  readonly clear?: true;
}

class UsageError extends Error {}

function rootOf(options: { root?: string }): string {
  if (options.root === undefined || options.root === '') {
    throw new UsageError('the root of the node is needed: --root DIR, or SIMCN_ROOT');
  }
  return resolve(options.root);
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
  // As the platform's daemons have it, whoever starts the node: others than root live in its zones.
  process.umask(0o022);
  // Listened for first: a signal in the middle of the start shall leave nothing behind either.
  const told = new Promise<void>((done) => {
    process.once('SIGTERM', () => done());
    process.once('SIGINT', () => done());
  });
  const node = await bringUp(root, flags.vms ?? null, { oldPlatform, readyMs });
  console.log(JSON.stringify({ ready: true, root, zones: node.zones }));
  await told;
  await node.stop();
}

async function fault(name: string | undefined, flags: FaultFlags): Promise<void> {
  const root = rootOf(flags);
  if (flags.clear === true) {
    await ask(root, 'clear-faults');
    return;
  }
  if (name === undefined) {
    throw new UsageError(`which fault? ${Object.keys(FAULTS).join(', ')}; or --clear`);
  }
  const note = await ask(root, 'fault', { text: name, zone: flags.zone ?? null });
  if (typeof note === 'string' && note !== '') {
    console.error(`simcn: ${note}`);
  }
}

const createdSchema = z.object({ uuids: z.array(z.string()), warnings: z.array(z.string()) });
const zoneLines = z.array(
  z.object({
    zoneid: z.number().nullable(),
    uuid: z.string(),
    brand: z.string(),
    zone_state: z.string(),
    alias: z.string(),
  }),
);

function printZones(listed: unknown, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(listed, null, 2));
    return;
  }
  const rows = zoneLines.parse(listed).map(({ zoneid, uuid, brand, zone_state, alias }) => {
    return [zoneid === null ? '-' : String(zoneid), uuid, brand, zone_state, alias];
  });
  const table = [['ZONEID', 'UUID', 'BRAND', 'STATE', 'ALIAS'], ...rows];
  const widths = [0, 1, 2, 3, 4].map((i) => Math.max(...table.map((row) => row[i]?.length ?? 0)));
  for (const row of table) {
    const cells = row.map((cell, i) => cell.padEnd(widths[i] ?? 0));
    console.log(cells.join('  ').trimEnd());
  }
}

function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch (err) {
    throw new UsageError(`stdin holds no JSON: ${messageOf(err)}`);
  }
}

async function main(): Promise<number> {
  let status = 0;
  const program = makeProgram((wanted) => (status = wanted));
  try {
    await program.parseAsync(process.argv);
  } catch (err) {
    if (err instanceof CommanderError) {
      // It has told already. Asking for help is no mistake.
      return err.exitCode === 0 ? 0 : EXIT_USAGE;
    }
    console.error(`simcn: ${messageOf(err)}`);
    return err instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  }
  return status;
}

void main().then((status) => process.exit(status));
