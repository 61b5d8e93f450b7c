/*
 * `simcn up`: a node from its boot to its end, in one process in the foreground.
 *
 * Start: the lock that keeps a second node off the same root, what a killed run left mounted, the
 * kernel's table emptied, vminfod, the zones of an earlier run, new zones, the control socket. Then one
 * line on stdout. End, in reverse: zones halted, all unmounted, sockets closed.
 */
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';

import { messageOf, describeError } from '../../src/lib/errors';
import { openPlatform, trySetLock } from '../../src/platform/libzonecfg';
import { RemediedError } from '../../src/lib/explain';
import { openEmulation } from './emulation';
import { Paths } from '../../src/platform/paths';
import { serveNode } from './commands';
import { installBrands } from './brand';
import { ControlServer, controlSocket } from './control';
import { FaultTable } from './faults';
import { Injector } from './injector';
import { Kernel } from './kernel';
import type { Machine, NodeOptions } from './machine';
import { Node } from './node';
import { VmStore } from './store';
import { installProgram, installZoneTools } from './view';
import { VminfodService } from './vminfod';
import { parseVms } from './vm-input';

/** sizeof sun_path less its NUL. */
const SOCKET_PATH_BYTES = 107;
/** The longest socket path below a root: a zone's, with a uuid for its name. */
const LONGEST_SOCKET = `/var/zonecontrol/${'u'.repeat(36)}/metadata.sock`;
export const ROOT_BYTES = SOCKET_PATH_BYTES - LONGEST_SOCKET.length;

const FOLDERS = [
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
 * @throws Error in words for the person at the terminal
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
  for (const directory of FOLDERS) {
    mkdirSync(paths.host(directory), { recursive: true, mode: 0o755 });
  }
  // Whatever the umask: the agent's sockets are reached through it.
  chmodSync(paths.zonecontrol, 0o755);

  const platform = openPlatform(root);
  const lock = openSync(paths.host('/var/run/simcn.lock'), 'w');
  if (!trySetLock(lock)) {
    closeSync(lock);
    throw new Error(`a node is up at ${root} already`);
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
    platform,
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
  const stop = () =>
    allOf([
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
    const present = new Set(node.all().map((zone) => zone.zonename));
    await node.create(
      vms.filter((vm) => !present.has(vm.zonename)),
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

function onceEach(tell: (text: string) => void): (text: string) => void {
  const told = new Set<string>();
  return (text) => {
    if (!told.has(text)) {
      told.add(text);
      tell(text);
    }
  };
}
