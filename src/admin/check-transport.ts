/*
 * The doctor's steps for a zone's transport: of an OS zone the socket's directory, file, listener, mount as the zone
 * sees it, and a round trip; of an HVM zone the serial port, the link to it, and what the guest asked last.
 */
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf, messageOf } from '../lib/errors';
import { missingSafeOptions, type MountEntry } from '../platform/mounts';
import { GuestChannel } from '../transport/guest-channel';
import { portOf } from '../transport/serial-dialer';
import { SerialLink } from '../transport/serial-link';
import { ROOT_ONLY, WITH_READERS } from '../transport/socket-file';
import { ZoneSocket } from '../transport/socket-server';
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
import { counted, inWords, octal } from './format';
import { isHeld } from './health';

/** An operator waits this long for a zone's file system. */
const ANSWER_MS = 2000;
/** A request for a VM that is not known yet is answered after 5 s. */
const ROUND_TRIP_MS = 6000;
const REPAIR_ABOVE = 'repair what is wrong above';
const REPAIR = 'mdatad makes it again within 2 s; if this stays, see its log for the reason';

/** The steps of an OS zone's socket, from its directory to a round trip as a guest would make it. */
export async function checkSocket(target: DoctorTarget): Promise<Step[]> {
  const { readers = [] } = target.context.node.config();
  const modes = readers.length > 0 ? WITH_READERS : ROOT_ONLY;
  return [
    await checkDirectory(target, modes.directory),
    await checkSocketFile(target, modes.socket),
    checkListener(target),
    await checkMount(target),
    await checkRoundTrip(target),
  ];
}

async function checkDirectory({ zone }: DoctorTarget, mode: number): Promise<Step> {
  const step = 'directory';
  const directory = dirname(zone.link.link.path);
  const stats = await statOf(directory);
  if (typeof stats === 'string') {
    return fail(step, `${directory}: ${stats}`, REPAIR);
  }
  if (!stats.isDirectory()) {
    const remedy = 'something else is in its place: move it away, then svcadm restart mdatad';
    return fail(step, `${directory} is not a directory`, remedy);
  }
  return withMode(step, directory, stats, mode);
}

async function checkSocketFile({ zone }: DoctorTarget, mode: number): Promise<Step> {
  const step = 'socket';
  const { link } = zone.link;
  const stats = await statOf(link.path);
  if (typeof stats === 'string') {
    return fail(step, `${link.path}: ${stats}`, REPAIR);
  }
  if (!stats.isSocket()) {
    return fail(step, `${link.path} is not a socket`, REPAIR);
  }
  const ours = link instanceof ZoneSocket ? link.file : null;
  if (ours !== null && (ours.dev !== stats.dev || ours.ino !== stats.ino)) {
    const found = `${link.path} is another's: (dev, ino) is (${stats.dev}, ${stats.ino}), ours is (${ours.dev}, ${ours.ino})`;
    return fail(step, found, `stop who made it (another agent?); ${REPAIR}`);
  }
  return withMode(step, link.path, stats, mode);
}

/** Mode and owner, which decide who may talk. */
function withMode(step: string, path: string, stats: Stats, mode: number): Step {
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
        `mdatactl zone ${zone.zonename} shows its last records; ${REPAIR}`,
      );
}

/** The table's entry, and what the zone itself has at the mount point. */
async function checkMount(target: DoctorTarget): Promise<Step> {
  const step = 'mount';
  const { context, zone } = target;
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
  const { mounts, node } = context;
  if (mounts === null) {
    return warn(step, `${node.paths.mnttab} cannot be read`, `ls -l ${node.paths.mnttab}`);
  }
  const isRunning = zone.state === 'running';
  if (isRunning) {
    // A loss that the table shows is logged by this as well.
    await zone.directory?.check(AbortSignal.timeout(ANSWER_MS));
  }
  const inTable = mountInTable(target, mounts);
  if (inTable.verdict === 'fail' || !isRunning) {
    return inTable;
  }
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
  const missing = missingSafeOptions(entry);
  if (missing.length > 0) {
    const remedy = `${reboot}; if it is back, see /usr/lib/brand/${zone.facts.brand}/platform.xml`;
    return warn(step, `${at} is mounted without ${missing.join(', ')}`, remedy);
  }
  return ok(step, `${at}, ${zone.directory?.state ?? ''}`.replace(/, $/, ''));
}

/** This machine's path, as the table of mounts has it. */
function mountPointOf({ directory }: DoctorTarget['zone']): string {
  return directory instanceof SocketMount ? directory.mountPoint : '';
}

/** Asks the socket for a key, once, as a guest would. */
async function checkRoundTrip({ zone }: DoctorTarget): Promise<Step> {
  const step = 'round trip';
  const asked = 'GET sdc:uuid';
  const began = performance.now();
  const limit = AbortSignal.timeout(ROUND_TRIP_MS);
  let channel: GuestChannel | null = null;
  try {
    channel = await GuestChannel.open(zone.link.link.path, limit);
    const outcome = await channel.ask({ kind: 'get', key: Buffer.from('sdc:uuid') }, limit);
    switch (outcome.kind) {
      case 'success': {
        const elapsedMs = Math.round((performance.now() - began) * 100) / 100;
        return ok(step, `${asked} answered in ${elapsedMs} ms`);
      }
      case 'reopen':
        return fail(step, `${asked}: ${outcome.reason}`, REPAIR_ABOVE);
      default: {
        const why = outcome.kind === 'failure' ? `FAILURE ${outcome.text}` : outcome.kind;
        return fail(step, `${asked}: ${why.trim()}`, 'see "VM data" below');
      }
    }
  } catch (err) {
    const reason = limit.aborted ? `no answer within ${ROUND_TRIP_MS / 1000} s` : messageOf(err);
    return fail(step, `${asked}: ${reason}`, REPAIR_ABOVE);
  } finally {
    channel?.close();
  }
}

/** Or why there is none. */
async function statOf(path: string): Promise<Stats | string> {
  try {
    return await lstat(path);
  } catch (err) {
    return codeOf(err) === 'ENOENT' ? 'is not there' : messageOf(err);
  }
}

/** The steps of an HVM zone's port: its file, and the link to it. Skipped while the zone does not run. */
export async function checkPort(target: DoctorTarget): Promise<Step[]> {
  const { context, zone } = target;
  if (zone.state !== 'running') {
    return [skip('port', 'the zone does not run'), skip('link', 'the zone does not run')];
  }
  const facts = context.node.store.facts(zone.zonename);
  if (facts === undefined) {
    return [skip('port', 'its path is not known before the VM data is')];
  }
  const port = portOf(facts.com2);
  if (port === null) {
    return [skip('port', `the VM has no metadata channel: its com2 is ${String(facts.com2)}`)];
  }
  return [await checkPortFile(target, port), checkLink(target), checkGuest(target)];
}

/** Where a hypervisor writes: qemu in its own /tmp, bhyve where zoneadmd sends its console. */
function hypervisorLog({ context, zone }: DoctorTarget): string {
  const { brand, zonepath } = zone.facts;
  return brand === 'bhyve'
    ? context.node.paths.host(`${zonepath}/logs/platform.log`)
    : zone.root.nameOf('/tmp/vm.log');
}

async function checkPortFile(target: DoctorTarget, port: string): Promise<Step> {
  const step = 'port';
  const { zone } = target;
  const { path } = zone.link.link;
  try {
    await zone.root.find(port, AbortSignal.timeout(ANSWER_MS));
    return ok(step, path);
  } catch (err) {
    const hypervisor = `see the hypervisor's log (${hypervisorLog(target)}); vmadm reboot ${zone.zonename}`;
    switch (codeOf(err)) {
      case 'ECANCELED':
        return fail(step, `the file system at ${path} is not answering`, NOT_ANSWERING_REMEDY);
      case 'ENOENT':
        return fail(step, `${path} is not there: the hypervisor has not made it`, hypervisor);
      case 'ELOOP':
      case 'ENOTDIR':
      case 'ENOTSOCK': {
        const remedy = 'do not trust what is there: find out who made it, then reboot the VM';
        return fail(step, messageOf(err), remedy);
      }
      default:
        return fail(step, messageOf(err), hypervisor);
    }
  }
}

function checkLink({ zone }: DoctorTarget): Step {
  const step = 'link';
  const { link } = zone.link;
  const counts = link instanceof SerialLink ? link.counts : null;
  const tried = `${counted(counts?.attempts ?? 0, 'try', 'tries')}, ${counted(counts?.connects ?? 0, 'connection')}`;
  switch (link.state) {
    case 'connected':
      return ok(step, `connected (${tried})`);
    case 'waiting':
    case 'connecting':
      if (link instanceof SerialLink && isHeld(link)) {
        const found = `another program holds the port (${tried}, rejected ${counted(counts?.held ?? 0, 'time')})`;
        const remedy =
          "stop it: the platform's own agent (svcadm disable svc:/system/smartdc/metadata:default) or a console on the port (socat, nc)";
        return fail(step, found, remedy);
      }
      return fail(
        step,
        `nobody accepts the connection (${link.state}; ${tried}): the hypervisor is gone or starting`,
        `vmadm info ${zone.zonename} shows whether it runs; vmadm reboot ${zone.zonename}`,
      );
    case 'loading':
      return fail(step, 'waits for the VM data', 'see "VM data" below');
    default:
      return warn(
        step,
        `is ${link.state} although the zone runs`,
        `mdatactl zone ${zone.zonename} shows its history`,
      );
  }
}

/** A guest that has asked something proves what no check from outside can. */
function checkGuest({ context, zone }: DoctorTarget): Step {
  const step = 'guest';
  const last = context.node.requestLogOf(zone)?.stats.lastRequest ?? null;
  if (last === null) {
    return skip(step, 'has asked nothing yet (mdata-get or cloud-init in the guest would)');
  }
  const { at, verb, key, outcome } = last;
  const ago = inWords(Date.now() - at);
  return ok(step, `last asked ${ago} ago: ${`${verb} ${key}`.trim()}, ${outcome}`);
}
