/*
 * A zone's mounts. Those of the brand: the socket directory is visible inside from ready to down. And the
 * zone's view, as data: what has to be bound where for a program to run "in the zone".
 *
 * The view is made by the node (it knows the zone) and used by `simcn exec` (exec.ts passes it to zexec).
 * The zone shares the host's programs read-only; its root, its delegated datasets and /tmp are its own.
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  readdirSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { z } from 'zod';

import { codeOf } from '../../src/lib/errors';
import type { Paths } from '../../src/platform/paths';
import { mountLofs } from './emulation';
import { MOUNT_OPTIONS } from './brand';
import { ZoneDisk } from './disk';
import type { Machine } from './kernel';
import { ZfsTree } from './zfs-tree';
import type { Zone } from './zone';
import { hostDirectories, makeMountPoints, TOOLS, PROJECT } from './zoneroot';

const MDATA_TOOLS = ['get', 'put', 'list', 'delete', 'watch', 'dump'] as const;

const bindSchema = z.object({ source: z.string(), target: z.string(), writable: z.boolean() });
export type Bind = z.infer<typeof bindSchema>;

export const viewSchema = z.object({
  zonename: z.string(),
  zoneroot: z.string(),
  /** The node's process: its mount namespace has the zone's mounts. */
  nodePid: z.number(),
  /** The node could not mount the socket directory: the maker of the view has to bind it. */
  mounted: z.boolean(),
  /** Host path of the directory, and where it belongs in the zone (null: this brand has none). */
  socketDirectory: z.string(),
  mountPoint: z.string().nullable(),
  binds: z.array(bindSchema),
  path: z.string(),
  toolsDirectory: z.string(),
  /** What runs the machine's Node where an image has libraries of its own; '' for nothing. */
  loader: z.string(),
  /** The node's root, and the directory of the zone's way to ZFS (null: nothing is delegated). */
  root: z.string(),
  zfsDirectory: z.string().nullable(),
});
export type View = z.infer<typeof viewSchema>;

/**
 * The view of a running zone, with its mount points made.
 * @throws Error for a zone that nothing can run in
 */
export function viewOf(machine: Machine, zone: Zone): View {
  if (zone.brand.hvm) {
    throw new Error(
      `zone ${zone.zonename} is a ${zone.brand.name} guest with a kernel of its own: nothing can be run in it`,
    );
  }
  if (zone.status !== 'running') {
    throw new Error(
      `zone ${zone.zonename} is not running (it is ${zone.zoneState}; start it: simcn boot)`,
    );
  }
  const { paths } = machine;
  const disk = new ZoneDisk(paths, zone);
  const { mountPoint } = zone.brand;
  const host = hostDirectories(disk.zoneroot).filter((directory) => directory.link === null);
  const tools = toolsDirectory(paths);
  const zfsDirectory = zone.zfs === null ? null : new ZfsTree(paths, zone).directory;
  const libraries = zone.image === null ? [] : libraryDirectories();
  const binds = [
    ...host.map(({ path }) => ({ source: path, target: path, writable: false })),
    { source: '/dev', target: '/dev', writable: true },
    { source: '/proc', target: '/proc', writable: true },
    { source: tools, target: `${TOOLS}/bin`, writable: false },
    { source: dirname(process.execPath), target: `${TOOLS}/node`, writable: false },
    { source: PROJECT, target: `${TOOLS}/project`, writable: false },
    ...libraries.map((source, i) => ({ source, target: `${TOOLS}/lib/${i}`, writable: false })),
    ...(zfsDirectory === null
      ? []
      : [{ source: zfsDirectory, target: `${TOOLS}/zfs`, writable: false }]),
    ...disk.datasets.map((source) => {
      return { source, target: source.slice(paths.root.length), writable: true };
    }),
  ];
  makeMountPoints(
    disk.zoneroot,
    binds.map((bind) => bind.target),
  );
  return {
    zonename: zone.zonename,
    zoneroot: disk.zoneroot,
    nodePid: process.pid,
    mounted: mountPoint !== null && mountsBelow(machine, disk.zoneroot).length > 0,
    socketDirectory: paths.zoneDirectory(zone.zonename),
    mountPoint,
    binds,
    path: `${TOOLS}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    toolsDirectory: tools,
    loader: libraries.length === 0 ? '' : loaderOf(libraries),
    root: paths.root,
    zfsDirectory,
  };
}

/** The commands of a zone that are the node's, one small script each, for all zones together. */
export function installZoneTools(paths: Paths): void {
  const directory = toolsDirectory(paths);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const tools = new Map([
    ...MDATA_TOOLS.map((tool) => [`mdata-${tool}`, join('..', 'mdata', `${tool}.js`)] as const),
    ['zfs', 'zfs.js'],
    ['json', 'json.js'],
  ]);
  const node = `"\${SIMCN_NODE:-${TOOLS}/node/${basename(process.execPath)}}"`;
  installScript(directory, 'zonename', 'echo "$SIMCN_ZONENAME"');
  // Every command has a host name of its own, made from this file (zexec): it is the file that is changed.
  const nodename = '"$SIMCN_ZONEROOT/etc/nodename"';
  installScript(
    directory,
    'hostname',
    `if [ $# -gt 0 ]; then echo "$1" > ${nodename}; else cat ${nodename}; fi`,
  );
  for (const name of ['mdata-services', 'svcs', 'svcadm']) {
    copyFileSync(join(PROJECT, 'tools', 'simcn', 'mdata-services.sh'), join(directory, name));
    chmodSync(join(directory, name), 0o755);
  }
  for (const [name, file] of tools) {
    const built = relative(PROJECT, join(__dirname, file));
    const program = `"\${SIMCN_PROJECT:-${TOOLS}/project}/${built}"`;
    installScript(directory, name, `exec $SIMCN_LOADER ${node} ${program} "$@"`);
  }
}

/** Where the shared libraries of this process lie, its dynamic loader's directory among them. */
function libraryDirectories(): string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const files = [...maps.matchAll(/ (\/\S+\.so(?:\.[\d.]+)?)$/gm)].map((match) => match[1] ?? '');
  return [
    ...new Set(files.filter((file) => !file.startsWith(PROJECT)).map((file) => dirname(file))),
  ];
}

/** The command that runs a program with the machine's loader and libraries, as the zone sees them. */
function loaderOf(libraries: readonly string[]): string {
  for (const [i, directory] of libraries.entries()) {
    const loader = readdirSync(directory).find((name) => /^ld-(linux|musl).*\.so/.test(name));
    if (loader !== undefined) {
      const path = libraries.map((_, at) => `${TOOLS}/lib/${at}`).join(':');
      return `${TOOLS}/lib/${i}/${loader} --library-path ${path}`;
    }
  }
  return '';
}

function installScript(directory: string, name: string, line: string): void {
  const script = join(directory, name);
  writeFileSync(script, `#!/bin/sh\n${line}\n`);
  chmodSync(script, 0o755);
}

/**
 * Puts a program of the node where the platform has it: a small script that names this build and this root.
 * @param path where the platform has it
 * @param program the file of this directory that it runs, compiled: `vmadm.js`
 * @param root the node that it works on
 */
export function installProgram(path: string, program: string, root: string): void {
  const words = [process.execPath, join(__dirname, program)].map(quoted).join(' ');
  writeFileSync(
    path,
    `#!/bin/sh\nMDATAD_ROOT=${quoted(root)}\nexport MDATAD_ROOT\nexec ${words} "$@"\n`,
  );
  chmodSync(path, 0o755);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function toolsDirectory(paths: Paths): string {
  return paths.host('/system/simcn/bin');
}

/** The brand's pre-ready hook: `mkdir -m755 -p`, which leaves an existing directory as it is. */
export function makeSocketDirectory(machine: Machine, zone: Zone): void {
  mkdirSync(machine.paths.zoneDirectory(zone.zonename), { recursive: true, mode: 0o755 });
}

/**
 * Mounts the socket directory as the brand's platform.xml says. An ordinary user may not mount: the zone
 * goes on without, as the rest of the node is of use all the same.
 */
export function mountSocketDirectory(machine: Machine, zone: Zone, zoneroot: string): void {
  if (machine.options.oldPlatform || zone.brand.mountPoint === null) {
    return;
  }
  const target = join(zoneroot, zone.brand.mountPoint);
  mkdirSync(target, { recursive: true, mode: 0o755 });
  try {
    const { root } = machine.paths;
    mountLofs(root, machine.paths.zoneDirectory(zone.zonename), target, MOUNT_OPTIONS);
  } catch (err) {
    if (!['EPERM', 'EACCES'].includes(codeOf(err))) {
      throw err;
    }
    machine.notice(
      'mounts are refused to this user: zones run without their socket directory mounted',
    );
  }
}

/** Unmounts all that is mounted in the zone, the agent's mounts too, as zoneadmd does at a halt. No user holds it up. */
export function unmountZone(machine: Machine, zoneroot: string): void {
  unmount(machine, mountsBelow(machine, zoneroot).reverse());
}

/**
 * Takes out of the mount table what somebody unmounted past the node: illumos' own table would not show it any more.
 * Only root's node has mounts that all its processes see.
 */
export function correctMountTable(machine: Machine): void {
  const listed = mountsBelow(machine, machine.paths.root);
  if (listed.length === 0 || process.geteuid?.() !== 0) {
    return;
  }
  const inForce = new Set(
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, byOctal)),
  );
  // The kernel has the paths that the root's links lead to.
  const { root } = machine.paths;
  const real = realpathSync(root);
  unmount(
    machine,
    listed.filter((dir) => !inForce.has(`${real}${dir.slice(root.length)}`)),
  );
}

function byOctal(_escape: string, digits: string): string {
  return String.fromCharCode(parseInt(digits, 8));
}

function unmount(machine: Machine, mountPoints: readonly string[]): void {
  for (const dir of mountPoints) {
    try {
      machine.emulation.unmount(dir);
    } catch (err) {
      // The agent unmounts what it mounted, and it or an operator may have been quicker.
      if (!['EINVAL', 'ENOENT'].includes(codeOf(err))) {
        throw err;
      }
    }
  }
}

/** Mount points of the mount table at or below the directory, in the order they were mounted. */
export function mountsBelow(machine: Machine, directory: string): string[] {
  let table;
  try {
    table = readFileSync(machine.paths.mnttab, 'utf8');
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return [];
    }
    throw err;
  }
  const points = table.split('\n').flatMap((line) => line.split('\t')[1] ?? []);
  // On a real node the table has the node's own paths; below another root it may have either.
  return points
    .map((point) =>
      point.startsWith(`${machine.paths.root}/`) ? point : machine.paths.host(point),
    )
    .filter((point) => point.startsWith(`${directory}/`));
}
