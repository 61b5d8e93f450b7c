/*
 * The doctor's steps for an OS zone's socket: directory, file, listener, the mount as the zone sees it, a round trip.
 */
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Config } from '../config';
import { codeOf, messageOf } from '../lib/errors';
import { ROOT_ONLY, WITH_READERS, type SocketModes } from '../transport/socket-file';
import { ZoneSocket } from '../transport/socket-server';
import type { MountEntry } from '../platform/mounts';
import { SocketMount } from '../zones/socket-mount';
import {
  fail,
  NOT_ANSWERING_REMEDY,
  ok,
  skip,
  warn,
  type DoctorTarget,
  type Step,
} from './doctor-context';
import { roundTrip } from './round-trip';
import { octal } from './format';

/** What must be in force; each by any of the names that tables use. */
const MOUNT_OPTIONS: readonly (readonly string[])[] = [
  ['ro'],
  ['nodevices', 'nodev'],
  ['nosetuid', 'nosuid'],
  ['noexec'],
];

/** The steps of an OS zone's socket, from its directory to a round trip as a guest would make it. */
export async function checkSocket(patient: DoctorTarget): Promise<Step[]> {
  return [
    await checkDirectory(patient),
    await checkFile(patient),
    checkListener(patient),
    await checkMount(patient),
    await checkRoundTrip(patient),
  ];
}

function modesOf({ readers = [] }: Config): SocketModes {
  return readers.length > 0 ? WITH_READERS : ROOT_ONLY;
}

const REPAIR = 'mdatad makes it anew within 2 s; if this stays, look at its log for the reason';

async function checkDirectory({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'directory';
  const directory = dirname(zone.link.link.path);
  const stats = await look(directory);
  if (typeof stats === 'string') {
    return fail(step, `${directory}: ${stats}`, REPAIR);
  }
  if (!stats.isDirectory()) {
    const remedy = `something else is in its place: move it away, then svcadm restart mdatad`;
    return fail(step, `${directory} is not a directory`, remedy);
  }
  return guarded(step, directory, stats, modesOf(visit.node.config()).directory);
}

async function checkFile({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'socket';
  const { link } = zone.link;
  const stats = await look(link.path);
  if (typeof stats === 'string') {
    return fail(step, `${link.path}: ${stats}`, REPAIR);
  }
  if (!stats.isSocket()) {
    return fail(step, `${link.path} is no socket`, REPAIR);
  }
  const ours = link instanceof ZoneSocket ? link.file : null;
  if (ours !== null && (ours.dev !== stats.dev || ours.ino !== stats.ino)) {
    const found = `${link.path} is another's: (dev, ino) is (${stats.dev}, ${stats.ino}), ours is (${ours.dev}, ${ours.ino})`;
    return fail(step, found, `stop who made it (another agent?); ${REPAIR}`);
  }
  return guarded(step, link.path, stats, modesOf(visit.node.config()).socket);
}

/** Mode and owner, which decide who may talk. */
function guarded(step: string, path: string, stats: Stats, mode: number): Step {
  const owner = process.geteuid?.() ?? 0;
  const found = `${path} ${octal(stats.mode)}`;
  if ((stats.mode & 0o7777) !== mode) {
    return warn(step, `${found}, not ${octal(mode)}`, `chmod ${octal(mode)} ${path}`);
  }
  if (stats.uid !== owner) {
    return warn(step, `${found} belongs to uid ${stats.uid}`, `chown ${owner} ${path}`);
  }
  return ok(step, found);
}

function checkListener({ zone }: DoctorTarget): Step {
  const { state, connections } = zone.link.link;
  return state === 'listening'
    ? ok('listener', `listening, ${connections} connected`)
    : fail(
        'listener',
        `does not listen: ${state}`,
        'mdatactl zone tells its last records; ' + REPAIR,
      );
}

/** What an operator waits for a zone's file system. */
const ANSWER_MS = 2000;

/** The table's entry, and what the zone itself has at the mount point. */
async function checkMount(target: DoctorTarget): Promise<Step> {
  const step = 'mount';
  const { visit, zone } = target;
  if (zone.state === 'halted') {
    return skip(step, 'the zone does not run');
  }
  const state = zone.directory?.state;
  if (state === 'no mounts on this node') {
    return skip(step, state);
  }
  if (state === 'none for this brand') {
    return skip(step, `brand ${zone.facts.brand} has no metadata directory`);
  }
  const { mounts, node } = visit;
  if (mounts === null) {
    return warn(step, `${node.paths.mnttab} cannot be read`, `ls -l ${node.paths.mnttab}`);
  }
  const inTable = mountInTable(target, mounts);
  if (inTable.verdict === 'fail' || zone.state !== 'running') {
    return inTable;
  }
  await zone.directory?.check(AbortSignal.timeout(ANSWER_MS));
  const at = mountPointOf(zone);
  if (!zone.answers) {
    return warn(step, `the file system at ${at} is not answering`, NOT_ANSWERING_REMEDY);
  }
  if (zone.mountCheck() === 'another') {
    const found = `the zone has another directory at ${at}: ours was unmounted, or replaced while the zone runs`;
    return fail(step, found, `vmadm reboot ${zone.zonename}`);
  }
  return inTable;
}

function mountInTable({ zone }: DoctorTarget, mounts: ReadonlyMap<string, MountEntry>): Step {
  const step = 'mount';
  const at = mountPointOf(zone);
  const reboot = `vmadm reboot ${zone.zonename}`;
  const entry = mounts.get(at);
  if (entry === undefined) {
    return fail(step, `nothing is mounted at ${at}: the zone cannot reach its socket`, reboot);
  }
  const directory = dirname(zone.link.link.path);
  if (entry.special !== directory) {
    return fail(step, `${at} shows ${entry.special}, not ${directory}`, reboot);
  }
  const missing = MOUNT_OPTIONS.filter((names) => !names.some((n) => entry.options.includes(n)));
  if (missing.length > 0) {
    const names = missing.map(([name]) => name).join(', ');
    const remedy = `${reboot}; if it is back, look at /usr/lib/brand/${zone.facts.brand}/platform.xml`;
    return warn(step, `${at} is mounted without ${names}`, remedy);
  }
  return ok(step, `${at}, ${zone.directory?.state ?? ''}`.replace(/, $/, ''));
}

/** This machine's path, as the table of mounts has it. */
function mountPointOf({ directory }: DoctorTarget['zone']): string {
  return directory instanceof SocketMount ? directory.mountPoint : '';
}

async function checkRoundTrip({ zone }: DoctorTarget): Promise<Step> {
  const step = 'round trip';
  const asked = 'GET sdc:uuid';
  const result = await roundTrip(zone.link.link.path, 'sdc:uuid');
  if (result.kind === 'failed') {
    return fail(step, `${asked}: ${result.reason}`, 'mend what is wrong above');
  }
  const { outcome, elapsedMs } = result;
  if (outcome.kind === 'success') {
    return ok(step, `${asked} answered in ${elapsedMs} ms`);
  }
  const why = outcome.kind === 'failure' ? `FAILURE ${outcome.text}` : outcome.kind;
  return fail(step, `${asked}: ${why.trim()}`, 'see "VM data" below');
}

/** Why it could not be looked at, in words. */
async function look(path: string): Promise<Stats | string> {
  try {
    return await lstat(path);
  } catch (err) {
    return codeOf(err) === 'ENOENT' ? 'is not there' : messageOf(err);
  }
}
