/*
 * `simcn up`: a node from its boot to its end, in one process in the foreground.
 *
 * Start: the lock that keeps a second node off the same root, what a killed run left mounted, the
 * kernel's table emptied, vminfod, the zones of an earlier run, new zones, the control socket. Then one
 * line on stdout. End, in reverse: zones halted, all unmounted, sockets closed. Between the two it serves
 * the commands of the control socket: arguments parsed, the node asked, an answer made.
 */
import { chmodSync, closeSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { isAbsolute, resolve } from 'node:path';
import { z } from 'zod';

import { describeError, messageOf, RemediedError } from '../../src/lib/errors';
import { tryLock } from '../../src/platform/lock';
import { openEmulation } from './emulation';
import { Paths } from '../../src/platform/paths';
import { installBrands } from './brand';
import { type Args, ControlServer, controlSocket, type Serve } from './control';
import { FaultTable, parseFault } from './faults';
import { Injector } from './injector';
import { Kernel, type Machine, type NodeOptions } from './kernel';
import { Node } from './node';
import { VmStore } from './store';
import { correctMountTable, installProgram, installZoneTools, viewOf } from './view';
import { parseVms } from './vm-input';
import { VminfodService } from './vminfod';

/** sizeof sun_path less its NUL. */
const SOCKET_PATH_BYTES = 107;
/** The longest socket path below a root: a zone's, with a uuid for its name. */
const LONGEST_SOCKET = `/var/zonecontrol/${'u'.repeat(36)}/metadata.sock`;
export const ROOT_BYTES = SOCKET_PATH_BYTES - LONGEST_SOCKET.length;

/** How soon the mount table shows what an operator unmounted by hand. */
const MOUNTS_MS = 2000;

const DIRECTORIES = [
  '/etc/zones',
  '/system/simcn',
  '/tmp',
  '/usr/sbin',
  '/var/run',
  '/var/zonecontrol',
];

export interface UpNode {
  readonly zones: number;
  /** Halts everything and leaves nothing mounted, listening or running. */
  readonly stop: () => Promise<void>;
}

/**
 * @param vmsFile JSON of VM objects to be made, where they are not there yet; null: none
 * @param onDown called when `simcn down` asks for the end
 * @throws Error with a message for the terminal
 */
export async function bringUp(
  givenRoot: string,
  vmsFile: string | null,
  options: NodeOptions,
  onDown: () => void,
): Promise<UpNode> {
  const root = checkRoot(givenRoot);
  const given: unknown = vmsFile === null ? [] : readVms(vmsFile);
  const { vms, warnings } = parseVms(given);
  const paths = new Paths(root);
  for (const directory of DIRECTORIES) {
    mkdirSync(paths.host(directory), { recursive: true, mode: 0o755 });
  }
  // Whatever the umask: the agent's sockets are reached through it.
  chmodSync(paths.zonecontrol, 0o755);

  const lock = tryLock(paths.host('/var/run/simcn.lock'));
  if (lock === null) {
    throw new Error(`a node is up at ${root} already (end it: simcn down --root ${root})`);
  }
  const emulation = openEmulation(root);
  emulation.unmountAll();
  // Made anew from what the node stored of its zones.
  rmSync(paths.host('/etc/zones'), { recursive: true, force: true });
  emulation.nodeBoot();

  const faults = new FaultTable();
  const store = new VmStore(paths);
  const vminfod = new VminfodService(paths.host('/var/run/vminfod.sock'), {
    vms: () => node.vms(),
  });
  const machine: Machine = {
    paths,
    emulation,
    kernel: new Kernel(emulation, faults),
    store,
    feed: vminfod,
    faults,
    options,
    notice: onceEach((text) => process.stderr.write(`simcn: ${text}\n`)),
  };
  warnings.forEach(machine.notice);
  const node = new Node(machine, emulation);
  const injector = new Injector(node, vminfod);
  const control = new ControlServer(serveNode(node, injector, onDown));
  const mounts = setInterval(() => correctMountTable(machine), MOUNTS_MS).unref();
  const stop = () =>
    allOf([
      () => clearInterval(mounts),
      () => injector.clear(),
      () => control.close(),
      () => node.stop(),
      () => vminfod.stop(),
      () => emulation.unmountAll(),
      () => rmSync(controlSocket(root), { force: true }),
      () => closeSync(lock),
    ]);

  try {
    installBrands(paths, options.oldPlatform);
    installZoneTools(paths);
    installProgram(paths.vmadm, 'vmadm.js', paths.root);
    installProgram(paths.zfs, 'zfs.js', paths.root);
    await vminfod.start();
    await node.recover();
    const present = new Set<unknown>(node.all().map((zone) => zone.zonename));
    await node.create(
      vms.filter(({ properties }) => !present.has(properties.zonename)),
      false,
    );
    rmSync(controlSocket(root), { force: true });
    await control.listen(controlSocket(root));
  } catch (err) {
    await stop();
    throw err;
  }
  return { zones: node.size, stop };
}

/** The root as an absolute path, made where it is missing. */
function checkRoot(given: string): string {
  const root = isAbsolute(given) ? resolve(given) : resolve(process.cwd(), given);
  if (root === '/') {
    throw new Error('the root of this machine is no place for a simulated node: give a directory');
  }
  const bytes = Buffer.byteLength(root);
  if (bytes > ROOT_BYTES) {
    throw new RemediedError(
      `the root's path has ${bytes} bytes, and at most ${ROOT_BYTES} leave room for the zones' sockets ` +
        `(a unix socket's path has at most ${SOCKET_PATH_BYTES}): ${root}`,
      'choose a shorter one: --root /tmp/cn',
    );
  }
  try {
    mkdirSync(root, { recursive: true, mode: 0o755 });
    statSync(root);
  } catch (err) {
    throw new Error(`the root ${root} cannot be used: ${describeError(err)}`, { cause: err });
  }
  return root;
}

/** @throws Error that names the file */
function readVms(path: string): unknown {
  const text = readFileSync(path, 'utf8');
  try {
    return JSON.parse(text);
  } catch (err) {
    const remedy = 'it holds a VM object, or an array of them, as vmadm lookup -j prints';
    throw new RemediedError(`${path}: not JSON: ${messageOf(err)}`, remedy);
  }
}

/** Takes every step, whatever became of those before it. @throws the first failure */
async function allOf(steps: readonly (() => unknown)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (err) {
      failures.push(err);
    }
  }
  if (failures.length > 0) {
    throw new Error(failures.map(messageOf).join('\n'));
  }
}

function onceEach(print: (text: string) => void): (text: string) => void {
  const printed = new Set<string>();
  return (text) => {
    if (!printed.has(text)) {
      printed.add(text);
      print(text);
    }
  };
}

const id = z.object({ uuid: z.string() });
const named = id.extend({ name: z.string() });
const schemas = {
  create: z.object({ vms: z.unknown(), boot: z.boolean(), strict: z.boolean().default(false) }),
  reboot: id.extend({ guest: z.boolean() }),
  set: id.extend({ properties: z.record(z.string(), z.unknown()) }),
  rollback: named.extend({ start: z.boolean().default(false) }),
  fault: z.object({ text: z.string(), zone: z.string().nullable() }),
};

/**
 * Carries out what the control socket is asked. What it throws is sent back as a message.
 * @param end called when a command asks the node to end
 */
export function serveNode(node: Node, injector: Injector, end: () => void): Serve {
  return async (command: string, args: Args, caller: Socket): Promise<unknown> => {
    switch (command) {
      case 'create': {
        const { vms: given, boot, strict } = schemas.create.parse(args);
        const { vms, warnings } = parseVms(given, strict);
        const zones = await node.create(vms, boot, strict);
        return { uuids: zones.map((zone) => zone.uuid), warnings };
      }
      case 'boot':
        return node.boot(id.parse(args).uuid);
      case 'shutdown':
        return node.shutdown(id.parse(args).uuid);
      case 'reboot': {
        const { uuid, guest } = schemas.reboot.parse(args);
        return node.reboot(uuid, guest);
      }
      case 'destroy': {
        const { uuid } = id.parse(args);
        const zone = node.find(uuid);
        await injector.release(zone);
        await node.destroy(zone.zonename);
        node.machine.faults.remove(zone.zonename);
        return null;
      }
      case 'reprovision':
        return node.reprovision(id.parse(args).uuid);
      case 'snapshot': {
        const { uuid, name } = named.parse(args);
        return node.snapshot(uuid, name);
      }
      case 'rollback': {
        const { uuid, name, start } = schemas.rollback.parse(args);
        return node.rollback(uuid, name, start);
      }
      case 'delete-snapshot': {
        const { uuid, name } = named.parse(args);
        return node.deleteSnapshot(uuid, name);
      }
      case 'snapshots':
        return node.find(id.parse(args).uuid).snapshots.map(({ name }) => name);
      case 'zfs-list':
        return node.pool();
      case 'down':
        // After the answer: the asker waits for this process to be gone.
        setImmediate(end);
        return process.pid;
      case 'vm':
        return node.find(id.parse(args).uuid).vm();
      case 'ls':
        return node.vms();
      case 'enter':
        return enter(node, id.parse(args).uuid, caller);
      case 'set': {
        const { uuid, properties } = schemas.set.parse(args);
        return node.setProperties(uuid, properties);
      }
      case 'fault': {
        const { text, zone } = schemas.fault.parse(args);
        const zonename = zone === null ? null : node.find(zone).zonename;
        return injector.inject(parseFault(text, zonename));
      }
      case 'faults':
        return node.machine.faults.all();
      case 'clear-faults':
        return injector.clear();
      default:
        throw new Error(`no such command: ${command}`);
    }
  };
}

/** A session in a zone lasts as long as the caller stays, and no longer than the zone runs. */
function enter(node: Node, uuid: string, caller: Socket): unknown {
  const zone = node.find(uuid);
  const view = viewOf(node.machine, zone);
  const over = new Promise((resolve) => caller.once('close', resolve));
  // Who hears the end kills what he runs, and only then hangs up.
  zone.enter({ end: () => caller.end(), over });
  return view;
}
