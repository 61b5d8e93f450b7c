/*
 * The doctor's steps for a zone's transport: of an OS zone the socket's directory, file, listener, mount as the zone
 * sees it, and a round trip; of an HVM zone the serial port, the link to it, and what the guest asked last.
 */
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf, messageOf } from '../lib/errors';
import { missingSafeOptions } from '../platform/mounts';
import { GuestChannel } from '../transport/guest-channel';
import { portOf } from '../transport/serial-dialer';
import { ROOT_ONLY, WITH_READERS } from '../transport/socket-file';
import type { PortLink, SocketLink } from '../zones/zone';
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
  const { path } = link;
  return {
    directory: () =>
      checkPath(dirname(path), modes.directory, (stats) => {
        const remedy = 'something else is in its place: move it away, then svcadm restart mdatad';
        return stats.isDirectory() ? null : ['is not a directory', remedy];
      }),
    socket: () =>
      checkPath(path, modes.socket, (stats) => {
        if (!stats.isSocket()) {
          return ['is not a socket', REPAIR];
        }
        const { dev, ino } = link.file ?? stats;
        const found = `is another's: (dev, ino) is (${stats.dev}, ${stats.ino}), ours is (${dev}, ${ino})`;
        return dev === stats.dev && ino === stats.ino
          ? null
          : [found, `stop who made it (another agent?); ${REPAIR}`];
      }),
    listener: checkListener,
    mount: checkMount,
    'round trip': () => checkRoundTrip(path),
  };
}

/** What is there, then its mode and owner, which decide who may talk. */
async function checkPath(
  path: string,
  mode: number,
  faultOf: (stats: Stats) => readonly [fault: string, remedy: string] | null,
): Promise<Finding> {
  const stats = await lstat(path).catch((err: unknown) => {
    return codeOf(err) === 'ENOENT' ? 'is not there' : messageOf(err);
  });
  if (typeof stats === 'string') {
    return fail(`${path}: ${stats}`, REPAIR);
  }
  const fault = faultOf(stats);
  if (fault !== null) {
    const [what, remedy] = fault;
    return fail(`${path} ${what}`, remedy);
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

function checkListener({ zone }: DoctorTarget): Finding {
  const { state, connections } = zone.link.link;
  const remedy = `mdatactl zone ${zone.zonename} shows its last records; ${REPAIR}`;
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
  const at = directory.mountPoint;
  const ours = dirname(zone.link.link.path);
  const reboot = `vmadm reboot ${zone.zonename}`;
  const entry = mounts.get(at);
  if (entry === undefined) {
    return fail(`nothing is mounted at ${at}: the zone cannot reach its socket`, reboot);
  }
  if (entry.special !== ours) {
    return fail(`${at} shows ${entry.special}, not ${ours}`, reboot);
  }
  if (isRunning && !zone.answers) {
    return warn(`the file system at ${at} is not answering`, SEE_MOUNTS);
  }
  if (isRunning && zone.mountCheck() === 'another') {
    const found = `the zone has another directory at ${at}: ours was unmounted, or replaced while the zone runs`;
    return fail(found, reboot);
  }
  const missing = missingSafeOptions(entry);
  if (missing.length > 0) {
    const remedy = `${reboot}; if it is back, see /usr/lib/brand/${zone.facts.brand}/platform.xml`;
    return warn(`${at} is mounted without ${missing.join(', ')}`, remedy);
  }
  return ok(`${at}, ${directory.state}`);
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
  const skipped = (why: string) => (): Finding => skip(why);
  if (zone.state !== 'running') {
    return { port: skipped('the zone does not run'), link: skipped('the zone does not run') };
  }
  const facts = node.store.facts(zone.zonename);
  if (facts === undefined) {
    return { port: skipped('its path is not known before the VM data is') };
  }
  const port = portOf(facts.com2);
  if (port === null) {
    return { port: skipped(`the VM has no metadata channel: its com2 is ${String(facts.com2)}`) };
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
      case 'ENOTSOCK':
        return fail(
          messageOf(err),
          'do not trust what is there: find out who made it, then reboot the VM',
        );
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
