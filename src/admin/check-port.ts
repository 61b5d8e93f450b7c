/*
 * The doctor's steps for an HVM zone's serial port: where it is, who has it, and what came of it.
 */
import { codeOf, messageOf } from '../lib/errors';
import { portOf } from '../transport/serial-dialer';
import { SerialLink } from '../transport/serial-link';
import {
  fail,
  NOT_ANSWERING_REMEDY,
  ok,
  skip,
  warn,
  type DoctorTarget,
  type Step,
} from './doctor-context';
import { isHeld } from './health';
import { counted, inWords } from './format';

/** What an operator waits for a zone's file system. */
const ANSWER_MS = 2000;

/** The steps of an HVM zone's port: its file, and the link to it. Skipped while the zone does not run. */
export async function checkPort(patient: DoctorTarget): Promise<Step[]> {
  const { visit, zone } = patient;
  if (zone.state !== 'running') {
    return [skip('port', 'the zone does not run'), skip('link', 'the zone does not run')];
  }
  const facts = visit.node.store.facts(zone.zonename);
  if (facts === undefined) {
    return [skip('port', 'its place is not known before the VM data is')];
  }
  const port = portOf(facts.com2);
  if (port === null) {
    return [skip('port', `the VM has no metadata channel: its com2 is ${String(facts.com2)}`)];
  }
  return [await checkFile(patient, port), checkLink(patient), checkGuest(patient)];
}

/** Where a hypervisor writes: qemu in its own /tmp, bhyve where zoneadmd sends its console. */
function hypervisorLog({ visit, zone }: DoctorTarget): string {
  const { brand, zonepath } = zone.facts;
  return brand === 'bhyve'
    ? visit.node.paths.host(`${zonepath}/logs/platform.log`)
    : zone.root.nameOf('/tmp/vm.log');
}

async function checkFile(target: DoctorTarget, port: string): Promise<Step> {
  const step = 'port';
  const { zone } = target;
  const { path } = zone.link.link;
  try {
    await zone.root.find(port, AbortSignal.timeout(ANSWER_MS));
    return ok(step, path);
  } catch (err) {
    const hypervisor = `look at the hypervisor's log (${hypervisorLog(target)}); vmadm reboot ${zone.zonename}`;
    switch (codeOf(err)) {
      case 'ECANCELED':
        return fail(step, `the file system at ${path} is not answering`, NOT_ANSWERING_REMEDY);
      case 'ENOENT':
        return fail(step, `${path} is not there: the hypervisor has not made it`, hypervisor);
      case 'ELOOP':
      case 'ENOTDIR':
      case 'ENOTSOCK': {
        const remedy = 'nothing here may be trusted: look who made it, then reboot the VM';
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
        const found = `another program holds the port (${tried}, turned away ${counted(counts?.held ?? 0, 'time')})`;
        const remedy =
          "stop it: the platform's own agent (svcadm disable svc:/system/smartdc/metadata:default) or a console on the port (socat, nc)";
        return fail(step, found, remedy);
      }
      return fail(
        step,
        `nobody takes the connection (${link.state}; ${tried}): the hypervisor is gone or starting`,
        `vmadm info ${zone.zonename} tells whether it lives; vmadm reboot ${zone.zonename}`,
      );
    case 'loading':
      return fail(step, 'waits for the VM data', 'see "VM data" below');
    default:
      return warn(
        step,
        `is ${link.state} although the zone runs`,
        'mdatactl zone tells its history',
      );
  }
}

/** Whether a guest has ever spoken says what no look from outside can. */
function checkGuest({ visit, zone }: DoctorTarget): Step {
  const step = 'guest';
  const last = visit.node.journalOf(zone)?.stats.lastRequest ?? null;
  if (last === null) {
    return skip(step, 'has asked nothing yet (mdata-get or cloud-init in the guest would)');
  }
  const { at, verb, key, outcome } = last;
  const ago = inWords(Date.now() - at);
  return ok(step, `last asked ${ago} ago: ${`${verb} ${key}`.trim()}, ${outcome}`);
}
