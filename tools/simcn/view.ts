/*
 * A zone's own view, as data: what has to be bound where for a program to run "in the zone".
 *
 * Made by the node (it knows the zone), used by `simcn exec` (exec.ts hands it to the zexec program).
 * The zone shares the host's programs read-only; its root, its delegated datasets and /tmp are its own.
 */
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { z } from 'zod';

import type { Paths } from '../../src/platform/paths';
import { ZoneDisk } from './disk';
import { mountsBelow } from './mounts';
import type { Machine } from './machine';
import type { Zone } from './zone';
import { ZfsTree } from './zfs-tree';
import { hostDirectories, makeMountPoints, TOOLS } from './zoneroot';

/** The checkout, seen from the built file. */
export const PROJECT = join(__dirname, '..', '..', '..');
const MDATA_TOOLS = ['get', 'put', 'list', 'delete', 'watch', 'dump'] as const;

const bindSchema = z.object({ source: z.string(), target: z.string(), writable: z.boolean() });
export type Bind = z.infer<typeof bindSchema>;

export const viewSchema = z.object({
  zonename: z.string(),
  zoneroot: z.string(),
  /** The node's process: its mount namespace has the zone's mounts. */
  nodePid: z.number(),
  /** The node could not mount the socket directory: whoever makes the view has to bind it. */
  mounted: z.boolean(),
  /** Host path of the directory, and where it belongs in the zone (null: this brand has none). */
  socketDirectory: z.string(),
  mountPoint: z.string().nullable(),
  binds: z.array(bindSchema),
  path: z.string(),
  toolsDirectory: z.string(),
  /** The node's root, and the directory of the zone's door to ZFS (null: nothing is delegated). */
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
    throw new Error(`zone ${zone.zonename} is not running (it is ${zone.zoneState})`);
  }
  const { paths } = machine;
  const disk = new ZoneDisk(paths, zone);
  const { mountPoint } = zone.brand;
  const host = hostDirectories().filter((directory) => directory.link === null);
  const tools = toolsDirectory(paths);
  const zfsDirectory = zone.zfs === null ? null : new ZfsTree(paths, zone).directory;
  const binds = [
    ...host.map(({ path }) => ({ source: path, target: path, writable: false })),
    { source: '/dev', target: '/dev', writable: true },
    { source: '/proc', target: '/proc', writable: true },
    { source: tools, target: `${TOOLS}/bin`, writable: false },
    { source: dirname(process.execPath), target: `${TOOLS}/node`, writable: false },
    { source: PROJECT, target: `${TOOLS}/project`, writable: false },
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
  ]);
  const node = `"\${SIMCN_NODE:-${TOOLS}/node/${basename(process.execPath)}}"`;
  // What of the zone's identity is the kernel's on the platform; a zone here shares its machine's kernel.
  installScript(directory, 'zonename', 'echo "$SIMCN_ZONENAME"');
  installScript(directory, 'hostname', 'cat "$SIMCN_ZONEROOT/etc/nodename"');
  for (const name of ['mdata-services', 'svcs', 'svcadm']) {
    copyFileSync(join(PROJECT, 'tools', 'simcn', 'mdata-services.sh'), join(directory, name));
    chmodSync(join(directory, name), 0o755);
  }
  for (const [name, file] of tools) {
    const built = relative(PROJECT, join(__dirname, file));
    const program = `"\${SIMCN_PROJECT:-${TOOLS}/project}/${built}"`;
    installScript(directory, name, `exec ${node} ${program} "$@"`);
  }
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
    `#!/bin/sh\nSIMCN_ROOT=${quoted(root)}\nexport SIMCN_ROOT\nexec ${words} "$@"\n`,
  );
  chmodSync(path, 0o755);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function toolsDirectory(paths: Paths): string {
  return paths.host('/system/simcn/bin');
}
