/*
 * The doctor: checks the whole chain from the platform to the guest, for one zone or all, and says where it breaks
 * and what to do.
 *
 * The health that status and /healthz show (health.ts) is in it: a step is never better than what health says of its
 * part, so whatever is not healthy is not `ok` here. The doctor finds more than health does.
 *
 * It checks what it can for itself (files, mount table, vminfod, a real round trip) and believes the agent's own state
 * only where nothing else can be asked. It changes nothing. Zones are checked a few at a time, which leaves room for
 * guests.
 */
import { readFile } from 'node:fs/promises';
import { messageOf } from '../lib/errors';
import { aliasOf } from '../metadata/vm-data';
import type { ZoneFacts } from '../platform/libzonecfg';
import { parseMnttab } from '../platform/mounts';
import { phaseOf } from '../zones/events';
import type { Zone } from '../zones/zone';
import { checkData } from './check-data';
import { checkPort, checkSocket } from './check-transport';
import {
  fail,
  ok,
  skip,
  warn,
  type DoctorContext,
  VERDICTS,
  type Step,
  type Verdict,
} from './doctor-context';
import { counted, inBytes } from './format';
import { NODE_REASONS, ZONE_REASONS, type HealthMonitor, type Problem } from './health';
import { platformState, type AdminNode } from './node';
import { levelOf } from './tail';
import type { SelfHealth } from './watchdog';

/** Zones that are checked together. */
const ZONES_AT_ONCE = 8;

const REASONS = { ...NODE_REASONS, ...ZONE_REASONS };

export type DoctorReport = Awaited<ReturnType<typeof runDoctor>>;
export type ZoneDoctorReport = Awaited<ReturnType<typeof checkZone>>;

/** Checks the node, and one zone or all. A zone that the agent does not know has one step. */
export async function runDoctor(
  node: AdminNode,
  monitor: HealthMonitor,
  self: SelfHealth,
  zonename?: string,
) {
  const health = await monitor.snapshot();
  // That it cannot be read is a step of the node.
  const mnttab = await readFile(node.paths.mnttab, 'utf8').catch(() => null);
  const entries = mnttab === null ? null : parseMnttab(mnttab);
  const mounts = entries && new Map(entries.map((entry) => [entry.mountPoint, entry]));
  const context = { node, monitor, health, mounts };
  const named = zonename === undefined ? undefined : node.zones.get(zonename);
  const zones =
    zonename !== undefined && named === undefined
      ? [unknownZone(context, zonename)]
      : await checkZones(context, named === undefined ? [...node.zones.all()] : [named]);
  const steps = checkNode(context, self);
  /** Of the node and all its zones: the worst there is. */
  const verdict = worst([...steps, ...zones]);
  return { verdict, node: steps, zones };
}

function checkNode({ mounts, node, health }: DoctorContext, self: SelfHealth): Step[] {
  const lost = node.lostRecords();
  const { rssBytes, ceilingBytes, loop } = self;
  const { verdict, words, remedy } = health.vminfod;
  const steps = [
    ok('agent', `version ${node.version}, ${node.phase()}`),
    { step: 'vminfod', verdict, finding: words, remedy },
    mounts === null
      ? fail('mount table', `${node.paths.mnttab} cannot be read`, `ls -l ${node.paths.mnttab}`)
      : ok('mount table', counted(mounts.size, 'mount')),
    ok('log', `level ${levelOf(node.log)}, ${lost === 0 ? 'nothing' : `${lost} records`} lost`),
    ok('memory', `${inBytes(rssBytes)} of ${inBytes(ceilingBytes)}`),
    ok('event loop', `late by ${Math.round(loop.maxMs)} ms at most in the last seconds`),
  ];
  return withHealth(steps, health.node);
}

async function checkZones(
  context: DoctorContext,
  zones: readonly Zone[],
): Promise<ZoneDoctorReport[]> {
  const reports: ZoneDoctorReport[] = [];
  const left = zones.entries();
  const worker = async (): Promise<void> => {
    for (const [i, zone] of left) {
      reports[i] = await checkZone(context, zone);
    }
  };
  await Promise.all(Array.from({ length: ZONES_AT_ONCE }, worker));
  return reports;
}

/** Never rejects: what goes wrong in a step is a finding. */
async function checkZone(context: DoctorContext, zone: Zone) {
  const { zonename, facts } = zone;
  const target = { context, zone };
  let steps: Step[] = [checkIndex(context, zonename, zone)];
  try {
    steps.push(...(await (zone.link.kind === 'socket' ? checkSocket : checkPort)(target)));
    steps.push(...(await checkData(target)));
    steps = withHealth(steps, context.health.zones.get(zonename) ?? []);
  } catch (err) {
    steps.push(fail('doctor', messageOf(err), 'a bug of the doctor: report it'));
  }
  const alias = aliasOf(context.node.store.table.vm(zonename));
  const state: string = platformState(zone, context.health.states);
  return { zonename, alias, brand: facts.brand, state, verdict: worst(steps), steps };
}

function unknownZone(context: DoctorContext, zonename: string): ZoneDoctorReport {
  const steps = [checkIndex(context, zonename, null), skip('other steps', 'need the zone')];
  return { zonename, alias: null, brand: '', state: '', verdict: 'fail', steps };
}

/** Makes each step at least as bad as health judges its part; adds the steps that are missing. */
function withHealth(steps: readonly Step[], problems: readonly Problem[]): Step[] {
  const judged = [...steps];
  for (const { reason, state, text, remedy } of problems) {
    const { step } = REASONS[reason];
    const at = judged.findIndex((each) => each.step === step);
    const found = judged[at];
    const worse = state === 'failed' ? fail(step, text, remedy) : warn(step, text, remedy);
    if (found === undefined) {
      judged.push(worse);
    } else if (isWorse(worse.verdict, found.verdict)) {
      judged[at] = worse;
    }
  }
  return judged;
}

/** What the platform says of a zone, compared with the agent's own state. @param zone null: the agent has none */
function checkIndex({ node }: DoctorContext, zonename: string, zone: Zone | null): Step {
  const step = 'zone';
  const remedy = `mdatactl notify ${zonename} changed; if this happens often, events get lost`;
  let found: ZoneFacts | undefined;
  try {
    found = node.platform.zoneFacts(zonename);
  } catch (err) {
    return fail(step, messageOf(err), 'zoneadm list -cv; ls -l /etc/zones');
  }
  if (zone === null) {
    return found === undefined
      ? fail(step, 'no such zone on this node', 'vmadm lookup, zoneadm list -cv')
      : fail(step, 'the agent does not serve it yet', `mdatactl notify ${zonename} created`);
  }
  if (found === undefined) {
    return fail(step, 'is in no zone index, though the agent serves it', remedy);
  }
  const { brand, zonepath, state } = found;
  const finding = `${brand}, ${state}, ${zonepath}`;
  if (brand !== zone.facts.brand || zonepath !== zone.facts.zonepath) {
    const known = `${zone.facts.brand}, ${zone.facts.zonepath}`;
    return fail(step, `${finding}; the agent has ${known}`, remedy);
  }
  const served = zone.state === 'halted' ? 'not running' : zone.state;
  return phaseOf(state) === zone.state
    ? ok(step, finding)
    : warn(step, `${finding}; the agent serves it as ${served}`, remedy);
}

function isWorse(a: Verdict, b: Verdict): boolean {
  return VERDICTS.indexOf(a) > VERDICTS.indexOf(b);
}

/** The verdict of the whole: `ok` where there is nothing but `ok` and `skip`. */
function worst(steps: Iterable<{ readonly verdict: Verdict }>): Verdict {
  return [...steps].reduce<Verdict>((a, { verdict: b }) => (isWorse(b, a) ? b : a), 'ok');
}
