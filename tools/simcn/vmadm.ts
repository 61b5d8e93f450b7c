/*
 * The node's vmadm, as far as a metadata agent and its tests go: lookup, get, list, update, events, and
 * the commands that make and move VMs. Its words, its streams and its exit statuses are the platform's.
 *
 * A process of its own, started through <root>/usr/sbin/vmadm. It knows VMs from vminfod only, and
 * changes a VM through its files, its lock and, for what zonecfg would do, the node.
 */
import { readFileSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { parseArgs } from 'node:util';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import { openPlatform } from '../../src/platform/libzonecfg';
import { Paths } from '../../src/platform/paths';
import { ask } from './control';
import { forCli, lookup, LookupError, parseFilter, pick, table } from './vmadm-lookup';
import { parsePayload } from './vmadm-payload';
import { updateVm } from './vmadm-update';
import { allVms, eventStream, vmByUuid } from './vmadm-vminfod';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const USAGE = `Usage: vmadm <command> [options]

get|json <uuid>
lookup [-j] [-o <field,...>] [<field>=<value> | <field>=~<regexp>]...
list
update <uuid> [-f <file>] [<property>=<value>]...
events -j -r [<uuid>]
create [-f <file>]   start|stop|reboot|delete|reprovision <uuid>
create-snapshot|rollback-snapshot <uuid> <name>
`;

class UsageError extends Error {}

async function main(argv: readonly string[]): Promise<void> {
  const paths = new Paths(process.env.SIMCN_ROOT ?? '/');
  mustOwn(paths);
  const [command = '', ...args] = argv;
  await misbehave(paths, args);
  switch (command) {
    case 'lookup':
      return lookupVms(paths, args);
    case 'get':
    case 'json': {
      const uuid = uuidOf(args);
      const vm = await vmByUuid(paths, uuid);
      if (vm === undefined) {
        throw new Error(`zoneadm: ${uuid}: No such zone configured`);
      }
      print(forCli(vm));
      return;
    }
    case 'list':
      process.stdout.write(table((await allVms(paths)).map(forCli)));
      return;
    case 'update': {
      const uuid = uuidOf(args);
      const payload = parsePayload(payloadText(args.slice(1)));
      await updateVm(paths, openPlatform(paths.root), uuid, payload);
      done('updated', uuid);
      return;
    }
    case 'events':
      return events(paths, args);
    case 'create': {
      const vms: unknown = JSON.parse(payloadText(args));
      const made = await ask(paths.root, 'create', { vms, boot: false });
      done('created', String(made));
      return;
    }
    default:
      return moveVm(paths, command, args);
  }
}

/** Commands that the node carries out as they are. */
async function moveVm(paths: Paths, command: string, args: readonly string[]): Promise<void> {
  const name = args[1] ?? '';
  const moves = new Map<string, readonly [command: string, past: string, extra: object]>([
    ['start', ['boot', 'started', {}]],
    ['stop', ['shutdown', 'stopped', {}]],
    ['reboot', ['reboot', 'rebooted', { guest: false }]],
    ['delete', ['destroy', 'deleted', {}]],
    ['destroy', ['destroy', 'deleted', {}]],
    ['reprovision', ['reprovision', 'reprovisioned', {}]],
    ['create-snapshot', ['snapshot', 'created snapshot of', { name }]],
    ['rollback-snapshot', ['rollback', 'rolled back', { name }]],
  ]);
  const move = moves.get(command);
  if (move === undefined) {
    throw new UsageError(command === '' ? 'no command given' : `Invalid command: '${command}'.`);
  }
  const uuid = uuidOf(args);
  const [asked, past, extra] = move;
  await ask(paths.root, asked, { uuid, ...extra });
  done(past, uuid);
}

async function lookupVms(paths: Paths, args: readonly string[]): Promise<void> {
  const { values, positionals } = flags(args, {
    json: { type: 'boolean', short: 'j' },
    output: { type: 'string', short: 'o' },
  });
  const fields = typeof values.output === 'string' ? values.output.split(',') : null;
  if (fields !== null && values.json !== true) {
    throw new UsageError('Cannot specify -o without -j.');
  }
  const found = lookup(await allVms(paths), positionals.map(parseFilter));
  if (values.json === true) {
    print(fields === null ? found : found.map((vm) => pick(vm, fields)));
    return;
  }
  process.stdout.write(found.map((vm) => `${String(vm.uuid)}\n`).join(''));
}

/** Lines of vminfod's stream; the first one's `vms` is told as an object here. */
async function events(paths: Paths, args: readonly string[]): Promise<void> {
  const { values, positionals } = flags(args, {
    json: { type: 'boolean', short: 'j' },
    ready: { type: 'boolean', short: 'r' },
  });
  if (values.json !== true) {
    throw new UsageError('events: only -j is known here');
  }
  const only = positionals[0];
  for await (const line of createInterface({ input: await eventStream(paths) })) {
    const event = z.looseObject({ type: z.string() }).parse(JSON.parse(line));
    if (event.type === 'ready') {
      if (values.ready === true) {
        const vms = z.array(z.looseObject({ zonename: z.string() }));
        const list = vms.parse(JSON.parse(String(event.vms)));
        const byName = Object.fromEntries(list.map((vm) => [vm.zonename, vm]));
        process.stdout.write(`${JSON.stringify({ ...event, vms: byName })}\n`);
      }
    } else if (only === undefined || event.uuid === only) {
      process.stdout.write(`${line}\n`);
    }
  }
  throw new Error('vminfod: the stream of events ended');
}

/** The faults that a test gave vmadm. Without a node there are none, and vminfod will be missed soon. */
async function misbehave(paths: Paths, args: readonly string[]): Promise<void> {
  const fault = z.object({ name: z.string(), value: z.number(), zonename: z.string().nullable() });
  let faults: z.infer<typeof fault>[];
  try {
    faults = z.array(fault).parse(await ask(paths.root, 'faults'));
  } catch (err) {
    throw new Error(`vminfod cannot be reached: ${messageOf(err)}`, { cause: err });
  }
  const mine = faults.filter((f) => f.zonename === null || args.includes(f.zonename));
  const hang = mine.find((f) => f.name === 'vmadm.hang');
  if (hang !== undefined) {
    await delay(hang.value);
  }
  if (mine.some((f) => f.name === 'vmadm.fail')) {
    throw new Error('failed as it was told to (fault vmadm.fail)');
  }
}

/** Root of this node is whoever owns it: root, or the ordinary user who keeps one. */
function mustOwn(paths: Paths): void {
  if (process.geteuid?.() !== statSync(paths.root).uid) {
    throw new UsageError('FATAL: cannot run because: not root in the global zone');
  }
}

function uuidOf(args: readonly string[]): string {
  const [uuid] = args;
  if (uuid === undefined || !UUID.test(uuid)) {
    throw new UsageError(`Invalid or missing UUID${uuid === undefined ? '' : `: ${uuid}`}.`);
  }
  return uuid.toLowerCase();
}

/** JSON of a file, of stdin, or made of `property=value` arguments. */
function payloadText(args: readonly string[]): string {
  const { values, positionals } = flags(args, { file: { type: 'string', short: 'f' } });
  const file = values.file;
  if (positionals.length > 0) {
    return JSON.stringify(Object.fromEntries(positionals.map(assignment)));
  }
  if (typeof file === 'string' && file !== '-') {
    return readFileSync(file, 'utf8');
  }
  if (isatty(0)) {
    throw new UsageError('Will not read from a tty.');
  }
  return readFileSync(0, 'utf8');
}

function assignment(text: string): [string, unknown] {
  const at = text.indexOf('=');
  if (at < 1) {
    throw new UsageError(`Not a property and its value: ${text}`);
  }
  const [name, value] = [text.slice(0, at), text.slice(at + 1)];
  const typed = value === 'true' ? true : value === 'false' ? false : value;
  return [name, typeof typed === 'string' && /^\d+$/.test(typed) ? Number(typed) : typed];
}

type Flags = Readonly<Record<string, { type: 'boolean' | 'string'; short: string }>>;

function flags(args: readonly string[], options: Flags) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (err) {
    throw new UsageError(messageOf(err));
  }
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

function done(past: string, uuid: string): void {
  process.stderr.write(`Successfully ${past} VM ${uuid}\n`);
}

main(process.argv.slice(2)).then(
  () => undefined,
  (err: unknown) => {
    process.stderr.write(`${messageOf(err)}\n`);
    const usage = err instanceof UsageError || err instanceof LookupError;
    if (usage) {
      process.stderr.write(USAGE);
    }
    process.exitCode = usage ? EXIT_USAGE : EXIT_FAILED;
  },
);
