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
import { ROOT_ONLY, WITH_READERS } from '../transport/socket-file';
import type { MountManager, PortLink, SocketLink, Zone } from '../zones/zone';
import {
  fail,
  ok,
  skip,
  warn,
  type Checks,
  type DoctorTarget,
  type Finding,
} from './doctor-context';
import { counted, inWords, octal } from './format';
import { isHeld } from './health';

/** An operator waits this long for a zone's file system. */
const ANSWER_MS = 2000;
/** A request for a VM that is not known yet is answered after 5 s. */
const ROUND_TRIP_MS = 6000;
const REPAIR_ABOVE = 'repair what is wrong above';
const REPAIR = 'mdatad makes it again within 2 s; if this stays, see its log for the reason';
const SEE_MOUNTS =
  'see what the zone mounted below its root (an NFS server of its own?) and whether that answers; reboot the zone. No other zone is affected';

/** Of an OS zone's socket, from its directory to a round trip as a guest would make it. */
export function socketChecks(link: SocketLink, hasReaders: boolean): Checks {
  const modes = hasReaders ? WITH_READERS : ROOT_ONLY;
  return {
    directory: () => checkPath(dirname(link.path), modes.directory, directoryFault),
    socket: () => checkPath(link.path, modes.socket, (stats) => socketFault(link, stats)),
    listener: ({ zone }) => checkListener(zone),
    mount: checkMount,
    'round trip': () => checkRoundTrip(link.path),
  };
}

/** What is there, then its mode and owner, which decide who may talk. */
async function checkPath(
  path: string,
  mode: number,
  faultOf: (stats: Stats, path: string) => Finding | null,
): Promise<Finding> {
  let stats: Stats;
  try {
    stats = await lstat(path);
  } catch (err) {
    const why = codeOf(err) === 'ENOENT' ? 'is not there' : messageOf(err);
    return fail(`${path}: ${why}`, REPAIR);
  }
  const fault = faultOf(stats, path);
  if (fault !== null) {
    return fault;
  }
  const owner = process.geteuid?.() ?? 0;
  const found = `${path} ${octal(stats.mode)}`;
  if ((stats.mode & 0o7777) !== mode) {
    return warn(`${found}, not ${octal(mode)}`, `chmod ${octal(mode)} ${path}`);
  }
  if (stats.uid !== owner) {
    return warn(`${found} belongs to uid ${stats.uid}`, `chown ${owner} ${path}`);
  }
  return ok(found);
}

function directoryFault(stats: Stats, path: string): Finding | null {
  const remedy = 'something else is in its place: move it away, then svcadm restart mdatad';
  return stats.isDirectory() ? null : fail(`${path} is not a directory`, remedy);
}

function socketFault({ path, file }: SocketLink, stats: Stats): Finding | null {
  if (!stats.isSocket()) {
    return fail(`${path} is not a socket`, REPAIR);
  }
  if (file === null || (file.dev === stats.dev && file.ino === stats.ino)) {
    return null;
  }
  const found = `${path} is another's: (dev, ino) is (${stats.dev}, ${stats.ino}), ours is (${file.dev}, ${file.ino})`;
  return fail(found, `stop who made it (another agent?); ${REPAIR}`);
}

function checkListener({ zonename, link: { link } }: Zone): Finding {
  const { state, connections } = link;
  const remedy = `mdatactl zone ${zonename} shows its last records; ${REPAIR}`;
  return state === 'listening'
    ? ok(`listening, ${connections} connected`)
    : fail(`does not listen: ${state}`, remedy);
}

/** The table's entry, and what the zone itself has at the mount point. */
async function checkMount({ node, zone, mounts }: DoctorTarget): Promise<Finding> {
  const { directory } = zone;
  if (zone.state === 'halted' || directory === null) {
    return skip('the zone does not run');
  }
  if (directory.state === 'no mounts on this node') {
    return skip(directory.state);
  }
  if (directory.state === 'none for this brand') {
    return skip(`brand ${zone.facts.brand} has no metadata directory`);
  }
  if (mounts === null) {
    return warn(`${node.paths.mnttab} cannot be read`, `ls -l ${node.paths.mnttab}`);
  }
  const isRunning = zone.state === 'running';
  if (isRunning) {
    // A loss that the table shows is logged by this as well.
    await directory.check(AbortSignal.timeout(ANSWER_MS));
  }
  const inTable = mountInTable(zone, directory, mounts);
  if (inTable.verdict === 'fail' || !isRunning) {
    return inTable;
  }
  const at = directory.mountPoint;
  if (!zone.answers) {
    return warn(`the file system at ${at} is not answering`, SEE_MOUNTS);
  }
  if (zone.mountCheck() === 'another') {
    const found = `the zone has another directory at ${at}: ours was unmounted, or replaced while the zone runs`;
    return fail(found, `vmadm reboot ${zone.zonename}`);
  }
  return inTable;
}

function mountInTable(
  { zonename, link, facts }: Zone,
  { mountPoint: at, state }: MountManager,
  mounts: ReadonlyMap<string, MountEntry>,
): Finding {
  const reboot = `vmadm reboot ${zonename}`;
  const entry = mounts.get(at);
  if (entry === undefined) {
    return fail(`nothing is mounted at ${at}: the zone cannot reach its socket`, reboot);
  }
  const ours = dirname(link.link.path);
  if (entry.special !== ours) {
    return fail(`${at} shows ${entry.special}, not ${ours}`, reboot);
  }
  const missing = missingSafeOptions(entry);
  if (missing.length > 0) {
    const remedy = `${reboot}; if it is back, see /usr/lib/brand/${facts.brand}/platform.xml`;
    return warn(`${at} is mounted without ${missing.join(', ')}`, remedy);
  }
  return ok(`${at}, ${state}`);
}

/** Asks the socket for a key, once, as a guest would. */
async function checkRoundTrip(path: string): Promise<Finding> {
  const asked = 'GET sdc:uuid';
  const began = performance.now();
  const limit = AbortSignal.timeout(ROUND_TRIP_MS);
  let channel: GuestChannel | null = null;
  try {
    channel = await GuestChannel.open(path, limit);
    const outcome = await channel.ask({ kind: 'get', key: Buffer.from('sdc:uuid') }, limit);
    switch (outcome.kind) {
      case 'success': {
        const elapsedMs = Math.round((performance.now() - began) * 100) / 100;
        return ok(`${asked} answered in ${elapsedMs} ms`);
      }
      case 'reopen':
        return fail(`${asked}: ${outcome.reason}`, REPAIR_ABOVE);
      default: {
        const why = outcome.kind === 'failure' ? `FAILURE ${outcome.text}` : outcome.kind;
        return fail(`${asked}: ${why.trim()}`, 'see "VM data" below');
      }
    }
  } catch (err) {
    const reason = limit.aborted ? `no answer within ${ROUND_TRIP_MS / 1000} s` : messageOf(err);
    return fail(`${asked}: ${reason}`, REPAIR_ABOVE);
  } finally {
    channel?.close();
  }
}

/** Of an HVM zone's port: its file, the link to it, and the guest. Skipped while the zone does not run. */
export function portChecks(link: PortLink, { node, zone }: DoctorTarget): Checks {
  if (zone.state !== 'running') {
    const halted = (): Finding => skip('the zone does not run');
    return { port: halted, link: halted };
  }
  const facts = node.store.facts(zone.zonename);
  if (facts === undefined) {
    return { port: () => skip('its path is not known before the VM data is') };
  }
  const port = portOf(facts.com2);
  if (port === null) {
    const com2 = String(facts.com2);
    return { port: () => skip(`the VM has no metadata channel: its com2 is ${com2}`) };
  }
  return {
    port: (target) => checkPortFile(target, port),
    link: () => checkLink(zone.zonename, link),
    guest: checkGuest,
  };
}

async function checkPortFile({ node, zone }: DoctorTarget, port: string): Promise<Finding> {
  const { path } = zone.link.link;
  try {
    await zone.root.find(port, AbortSignal.timeout(ANSWER_MS));
    return ok(path);
  } catch (err) {
    const { brand, zonepath } = zone.facts;
    // qemu writes in its own /tmp, bhyve where zoneadmd sends its console.
    const log =
      brand === 'bhyve'
        ? node.paths.host(`${zonepath}/logs/platform.log`)
        : zone.root.nameOf('/tmp/vm.log');
    const hypervisor = `see the hypervisor's log (${log}); vmadm reboot ${zone.zonename}`;
    switch (codeOf(err)) {
      case 'ECANCELED':
        return fail(`the file system at ${path} is not answering`, SEE_MOUNTS);
      case 'ENOENT':
        return fail(`${path} is not there: the hypervisor has not made it`, hypervisor);
      case 'ELOOP':
      case 'ENOTDIR':
      case 'ENOTSOCK': {
        const remedy = 'do not trust what is there: find out who made it, then reboot the VM';
        return fail(messageOf(err), remedy);
      }
      default:
        return fail(messageOf(err), hypervisor);
    }
  }
}

function checkLink(zonename: string, link: PortLink): Finding {
  const { attempts, connects, held } = link.counts;
  const tried = `${counted(attempts, 'try', 'tries')}, ${counted(connects, 'connection')}`;
  switch (link.state) {
    case 'connected':
      return ok(`connected (${tried})`);
    case 'waiting':
    case 'connecting':
      return isHeld(link)
        ? fail(
            `another program holds the port (${tried}, rejected ${counted(held, 'time')})`,
            "stop it: the platform's own agent (svcadm disable svc:/system/smartdc/metadata:default) or a console on the port (socat, nc)",
          )
        : fail(
            `nobody accepts the connection (${link.state}; ${tried}): the hypervisor is gone or starting`,
            `vmadm info ${zonename} shows whether it runs; vmadm reboot ${zonename}`,
          );
    case 'loading':
      return fail('waits for the VM data', 'see "VM data" below');
    default: {
      const remedy = `mdatactl zone ${zonename} shows its history`;
      return warn(`is ${link.state} although the zone runs`, remedy);
    }
  }
}

/** A guest that has asked something proves what no check from outside can. */
function checkGuest({ node, zone }: DoctorTarget): Finding {
  const last = node.requestLogOf(zone)?.stats.lastRequest ?? null;
  if (last === null) {
    return skip('has asked nothing yet (mdata-get or cloud-init in the guest would)');
  }
  const { at, verb, key, outcome } = last;
  return ok(`last asked ${inWords(Date.now() - at)} ago: ${`${verb} ${key}`.trim()}, ${outcome}`);
}
