/*
 * The node's vmadm: lookup, get, list, update, validate, events, and the commands that make and move VMs.
 * Its words, its streams and its exit statuses are the platform's (smartos-live src/vm/sbin/vmadm.js;
 * src/vm/node_modules/VM.js for what each command refuses). What the platform only writes to its log, a
 * property that is dropped, stands on stderr here.
 *
 * A process of its own, started through <root>/usr/sbin/vmadm. It knows VMs from vminfod only, and
 * changes a VM through its files, its lock and, for what zonecfg would do, the node.
 */
import { statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import type { JsonObject } from '../../src/metadata/vm-data';
import { Paths } from '../../src/platform/paths';
import { ask } from './control';
import { faultSchema } from './faults';
import { isBrandName, validate } from './properties';
import { done, FILE, flags, payloadOf, print, UsageError, uuidOf, warn } from './vmadm-args';
import { updateVm } from './vmadm-update';
import {
  allVms,
  eventStream,
  forCli,
  list,
  lookup,
  parseFilters,
  pick,
  vmByUuid,
} from './vmadm-vms';
import { SNAPSHOT_NAME } from './zfs-tree';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const DEFAULT_FIELDS = 'uuid,type,ram,state,alias';
const DEFAULT_SORT = 'ram,uuid';
const USAGE = `Usage: vmadm <command> [options]

create [-f <file>]                     validate create [-f <file>]
update <uuid> [-f <file>]              validate update <brand> [-f <file>]
update <uuid> <property>=<value>...    get|json <uuid>
list [-p] [-H] [-o <field>,...] [-s <field>,...] [<field>=<value>]...
lookup [-j|-1] [-o <field>,...] [<field>=<value> | <field>=~<regexp>]...
start|boot <uuid>    stop|halt [-F] [-t <seconds>] <uuid>    reboot [-F] <uuid>
delete|destroy <uuid>    reprovision <uuid> [-f <file>]    events -j [-r] [<uuid>]
create-snapshot|rollback-snapshot|delete-snapshot <uuid> <name>
`;
/** Commands of the platform's that a simulated node has no use for. */
const NOT_SIMULATED = ['console', 'info', 'install', 'kill', 'receive', 'recv', 'send', 'sysrq'];

async function main(argv: readonly string[]): Promise<void> {
  const paths = new Paths(process.env.MDATAD_ROOT ?? '/');
  mustOwn(paths);
  const [command = '', ...args] = argv;
  if (['help', '-h', '-?'].includes(command)) {
    process.stdout.write(USAGE);
    return;
  }
  await misbehave(paths, args);
  switch (command) {
    case 'lookup':
      return lookupVms(paths, args);
    case 'get':
    case 'json': {
      const { uuid } = uuidOf(command, args);
      const vm = await vmByUuid(paths, uuid);
      if (vm === undefined) {
        throw new Error(`zoneadm: ${uuid}: No such zone configured`);
      }
      print(forCli(vm));
      return;
    }
    case 'list':
      return listVms(paths, args);
    case 'update': {
      const { uuid, rest } = uuidOf(command, args);
      const payload = payloadOf(command, rest, true);
      warn(await updateVm(paths, uuid, payload));
      done(`Successfully updated VM ${uuid}`);
      return;
    }
    case 'validate':
      validatePayload(args);
      return;
    case 'events':
      return events(paths, args);
    case 'create': {
      const vms = payloadOf(command, args, false);
      const made = createdSchema.parse(
        await ask(paths.root, 'create', { vms, boot: false, strict: true }),
      );
      warn(made.warnings);
      done(`Successfully created VM ${made.uuids.join(' ')}`);
      return;
    }
    case 'start':
    case 'boot':
      return start(paths, command, args);
    case 'stop':
    case 'halt':
      return stop(paths, args);
    case 'reboot':
      return reboot(paths, args);
    case 'delete':
    case 'destroy': {
      const { uuid } = uuidOf(command, args);
      return prefixed(`Failed to delete VM ${uuid}: `, async () => {
        const vm = await vmOrNotFound(paths, uuid);
        for (const name of ['indestructible_zoneroot', 'indestructible_delegated']) {
          if (vm[name] === true) {
            throw new Error(`${name} is set, cannot delete`);
          }
        }
        await ask(paths.root, 'destroy', { uuid });
        done(`Successfully deleted VM ${uuid}`);
      });
    }
    case 'reprovision':
      return reprovision(paths, args);
    case 'create-snapshot':
    case 'rollback-snapshot':
    case 'delete-snapshot':
      return snapshot(paths, command, args);
    default:
      if (NOT_SIMULATED.includes(command)) {
        throw new Error(`vmadm ${command} does nothing on a simulated node`);
      }
      throw new UsageError(command === '' ? '' : `Invalid command: "${command}".`);
  }
}

const createdSchema = z.object({ uuids: z.array(z.string()), warnings: z.array(z.string()) });

async function lookupVms(paths: Paths, args: readonly string[]): Promise<void> {
  const { values, positionals } = flags(args, {
    json: { type: 'boolean', short: 'j' },
    output: { type: 'string', short: 'o' },
    unique: { type: 'boolean', short: '1' },
    // For list; of no consequence here, and no error either.
    header: { type: 'boolean', short: 'H' },
    parsable: { type: 'boolean', short: 'p' },
  });
  const fields = typeof values.output === 'string' ? values.output.split(',') : null;
  if (fields !== null && values.json !== true) {
    throw new Error('Cannot specify -o without -j');
  }
  const filters = parseFilters(positionals, 'lookup');
  const found = lookup(await allVms(paths), filters);
  if (values.unique === true && found.length !== 1) {
    throw new Error(`Requested unique lookup but found ${found.length} results.`);
  }
  if (values.json === true) {
    print(fields === null ? found : pick(found, fields));
    return;
  }
  process.stdout.write(found.map((vm) => `${String(vm.uuid)}\n`).join(''));
}

async function listVms(paths: Paths, args: readonly string[]): Promise<void> {
  const { values, positionals } = flags(args, {
    order: { type: 'string', short: 'o' },
    sortby: { type: 'string', short: 's' },
    parsable: { type: 'boolean', short: 'p' },
    'no-header': { type: 'boolean', short: 'H' },
    header: { type: 'boolean', short: 'h' },
  });
  const parsable = values.parsable === true;
  const hidden = parsable || values['no-header'] === true;
  const split = (given: unknown, usual: string): string[] => {
    return (typeof given === 'string' ? given : usual).split(',');
  };
  const filters = parseFilters(positionals, 'filter');
  process.stdout.write(
    list(lookup(await allVms(paths), filters), {
      fields: split(values.order, DEFAULT_FIELDS),
      sort: split(values.sortby, DEFAULT_SORT),
      parsable,
      header: !hidden || values.header === true,
    }),
  );
}

function validatePayload(args: readonly string[]): void {
  const { positionals } = flags(args, FILE);
  const [action, named] = positionals;
  if (action !== 'create' && action !== 'update') {
    throw new UsageError('Will not validate without a valid action.');
  }
  if (action === 'update' && positionals.length !== 2) {
    throw new UsageError('Will not validate without a valid action and brand.');
  }
  const payload = payloadOf('validate', args, false);
  const brand = action === 'update' ? named : payload.brand;
  const problems = isBrandName(brand)
    ? validate(brand, action, payload)
    : { bad_brand: brand === undefined || brand === '' ? 'undefined' : brand };
  if (problems !== null) {
    throw new Error(JSON.stringify(problems, null, 2));
  }
  done(`VALID '${action}' payload for ${String(brand)} brand VMs.`);
}

/** A VM that runs already is not an error. */
async function start(paths: Paths, command: string, args: readonly string[]): Promise<void> {
  const { uuid, rest } = uuidOf(command, args);
  for (const option of rest) {
    const [name = ''] = option.split('=');
    if (!['order', 'disk', 'cdrom'].includes(name)) {
      throw new UsageError(`Invalid argument to start: ${name}`);
    }
  }
  const vm = await vmByUuid(paths, uuid);
  if (vm?.state === 'running') {
    done(`VM ${uuid} is already 'running'`);
    return;
  }
  await prefixed(`Unable to start VM ${uuid}: `, async () => {
    if (vm === undefined) {
      throw new Error('bad statusCode: 404');
    }
    if (vm.state !== 'stopped') {
      throw new Error(`Cannot start vm from state "${String(vm.state)}", must be "stopped".`);
    }
    await ask(paths.root, 'set', { uuid, properties: { autoboot: true } });
    await ask(paths.root, 'boot', { uuid });
    done(`Successfully started VM ${uuid}`);
  });
}

/** A VM that does not run stays down over a reboot of the node, too. */
async function stop(paths: Paths, args: readonly string[]): Promise<void> {
  const { positionals } = flags(args, {
    force: { type: 'boolean', short: 'F' },
    timeout: { type: 'string', short: 't' },
  });
  const { uuid } = uuidOf('stop', positionals);
  const vm = await vmOrNotFound(paths, uuid);
  await ask(paths.root, 'set', { uuid, properties: { autoboot: false } });
  if (vm.state !== 'running') {
    done(`VM ${uuid} is already not 'running' (currently: ${String(vm.state)})`);
    return;
  }
  await ask(paths.root, 'shutdown', { uuid });
  done(`Successfully completed stop for VM ${uuid}`);
}

async function reboot(paths: Paths, args: readonly string[]): Promise<void> {
  const { positionals } = flags(args, { force: { type: 'boolean', short: 'F' } });
  const { uuid } = uuidOf('reboot', positionals);
  const vm = await vmByUuid(paths, uuid);
  if (vm === undefined) {
    throw new Error('bad statusCode: 404');
  }
  if (vm.docker === true && vm.state === 'stopped') {
    await ask(paths.root, 'boot', { uuid });
  } else if (vm.state === 'running') {
    await ask(paths.root, 'reboot', { uuid, guest: false });
  } else {
    throw new Error(`Cannot reboot vm from state "${String(vm.state)}", must be "running"`);
  }
  done(`Successfully completed reboot for VM ${uuid}`);
}

/** The image itself is none that this node has: the zone's root comes from the template. */
async function reprovision(paths: Paths, args: readonly string[]): Promise<void> {
  const { uuid, rest } = uuidOf('reprovision', args);
  const payload = payloadOf('reprovision', rest, false);
  await prefixed(`Failed to reprovision VM ${uuid}: `, async () => {
    const vm = await vmOrNotFound(paths, uuid);
    const datasets = Array.isArray(vm.datasets) ? vm.datasets.map(String) : [];
    if (vm.brand === 'kvm') {
      throw new Error('brand "kvm" does not yet support reprovision');
    }
    if (payload.image_uuid === undefined) {
      throw new Error('payload is missing image_uuid');
    }
    if (vm.indestructible_zoneroot === true) {
      throw new Error('indestructible_zoneroot is set, cannot reprovision');
    }
    if (datasets.length > 1) {
      throw new Error('cannot support reprovision with multiple delegated datasets');
    }
    const [dataset] = datasets;
    if (dataset !== undefined && dataset !== `${String(vm.zfs_filesystem)}/data`) {
      throw new Error(`cannot support reprovision with non-standard "${dataset}" dataset`);
    }
    await ask(paths.root, 'set', { uuid, properties: { image_uuid: payload.image_uuid } });
    await ask(paths.root, 'reprovision', { uuid });
    done(`Successfully reprovisioned VM ${uuid}`);
  });
}

async function snapshot(paths: Paths, command: string, args: readonly string[]): Promise<void> {
  const { uuid, rest } = uuidOf(command, args);
  const [name, ...more] = rest;
  if (name === undefined || more.length > 0) {
    throw new UsageError(`Wrong number of parameters to "${command}"`);
  }
  if (!SNAPSHOT_NAME.test(name)) {
    throw new Error('Invalid snapshot name');
  }
  const found = await vmByUuid(paths, uuid);
  if (found === undefined) {
    throw new Error(
      command === 'rollback-snapshot' ? 'bad statusCode: 404' : `VM ${uuid} not found`,
    );
  }
  if (found.brand === 'kvm') {
    throw new Error('snapshots for kvm VMs currently unsupported');
  }
  const snapshots = z.array(z.object({ name: z.string() })).parse(found.snapshots ?? []);
  const exists = snapshots.some((each) => each.name === name);
  if (command === 'create-snapshot') {
    if (Array.isArray(found.datasets) && found.datasets.length > 0) {
      throw new Error('Cannot currently snapshot zones that have datasets');
    }
    if (exists) {
      throw new Error(`snapshot with name "${name}" already exists.`);
    }
    await ask(paths.root, 'snapshot', { uuid, name });
    done(`Created snapshot ${name} for VM ${uuid}`);
    return;
  }
  if (!exists) {
    throw new Error(`No snapshot named "${name}" for ${uuid}`);
  }
  if (command === 'delete-snapshot') {
    await ask(paths.root, 'delete-snapshot', { uuid, name });
    done(`Deleted snapshot ${name} for VM ${uuid}`);
    return;
  }
  await ask(paths.root, 'rollback', { uuid, name, start: true });
  done(`Rolled back snapshot ${name} for VM ${uuid}`);
}

/** Lines of vminfod's stream; the first one's `vms` is printed as an object here. */
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
        const all = vms.parse(JSON.parse(String(event.vms)));
        const byName = Object.fromEntries(all.map((vm) => [vm.zonename, vm]));
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
  let faults: z.infer<typeof faultSchema>[];
  try {
    faults = z.array(faultSchema).parse(await ask(paths.root, 'faults'));
  } catch (err) {
    throw new Error(`vminfod cannot be reached: ${messageOf(err)}`, { cause: err });
  }
  const mine = faults.filter((f) => f.zonename === null || args.includes(f.zonename));
  const hang = mine.find((f) => f.name === 'vmadm.hang');
  if (hang !== undefined) {
    await delay(hang.value);
  }
  if (mine.some((f) => f.name === 'vmadm.fail')) {
    throw new Error('failed as the fault vmadm.fail asks');
  }
}

/** Root of this node is its owner: root, or the ordinary user who keeps one. */
function mustOwn(paths: Paths): void {
  if (process.geteuid?.() !== statSync(paths.root).uid) {
    throw new UsageError('FATAL: cannot run because: not root in the global zone');
  }
}

async function vmOrNotFound(paths: Paths, uuid: string): Promise<JsonObject> {
  const vm = await vmByUuid(paths, uuid);
  if (vm === undefined) {
    throw new Error(`VM ${uuid} not found`);
  }
  return vm;
}

/** Puts these words before the message of whatever fails. */
async function prefixed(words: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (err) {
    throw new Error(`${words}${messageOf(err)}`, { cause: err });
  }
}

main(process.argv.slice(2)).then(
  () => undefined,
  (err: unknown) => {
    const text = messageOf(err);
    process.stderr.write(text === '' ? '' : `${text}\n`);
    if (err instanceof UsageError) {
      process.stderr.write(USAGE);
    }
    process.exitCode = err instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  },
);
