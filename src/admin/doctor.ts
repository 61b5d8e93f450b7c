/*
 * The doctor: checks the whole chain from the platform to the guest, for one zone or all, and says where it breaks
 * and what to do. It checks what it can for itself (files, mount table, vminfod, a real round trip), believes the
 * agent's own state only where nothing else can be asked, and changes nothing.
 *
 * A step is never better than what the health that status and /healthz show (health.ts) says of its part, so whatever
 * is not healthy is not `ok` here. The doctor finds more than health does.
 */
import { readFile } from 'node:fs/promises';
import { messageOf } from '../lib/errors';
import { aliasOf } from '../metadata/vm-data';
import type { ZoneFacts } from '../platform/libzonecfg';
import { parseMnttab } from '../platform/mounts';
import { phaseOf } from '../zones/events';
import type { Zone } from '../zones/zone';
import { DATA_CHECKS } from './check-data';
import { portChecks, socketChecks } from './check-transport';
import {
  fail,
  ok,
  skip,
  VERDICTS,
  warn,
  type Checks,
  type DoctorContext,
  type Finding,
  type Step,
  type Verdict,
} from './doctor-context';
import { counted, inBytes } from './format';
import { NODE_REASONS, ZONE_REASONS, type HealthMonitor, type Problem } from './health';
import { platformState, type AdminNode } from './node';
import { levelOf } from './tail';

/** Zones that are checked together, which leaves room for guests. */
const ZONES_AT_ONCE = 8;

const REASONS = { ...NODE_REASONS, ...ZONE_REASONS };

export type DoctorReport = Awaited<ReturnType<typeof runDoctor>>;
export type ZoneDoctorReport = Awaited<ReturnType<typeof checkZone>>;

/** Checks the node, and one zone or all. A zone that the agent does not know has one step. */
export async function runDoctor(node: AdminNode, monitor: HealthMonitor, zonename?: string) {
  const health = await monitor.snapshot();
  // That it cannot be read is a step of the node.
  const mnttab = await readFile(node.paths.mnttab, 'utf8').catch(() => null);
  const entries = mnttab === null ? null : parseMnttab(mnttab);
  const mounts = entries && new Map(entries.map((entry) => [entry.mountPoint, entry]));
  const context = { node, monitor, health, mounts };
  const named = zonename === undefined ? undefined : node.zones.get(zonename);
  const zones: ZoneDoctorReport[] = [];
  if (zonename !== undefined && named === undefined) {
    const steps = [
      { step: 'zone', ...checkIndex(node, zonename, null) },
      { step: 'other steps', ...skip('need the zone') },
    ];
    zones.push({ zonename, alias: null, brand: '', state: '', verdict: 'fail', steps });
  } else {
    const left = (named === undefined ? [...node.zones.all()] : [named]).entries();
    const worker = async (): Promise<void> => {
      for (const [i, zone] of left) {
        zones[i] = await checkZone(context, zone);
      }
    };
    await Promise.all(Array.from({ length: ZONES_AT_ONCE }, worker));
  }
  const steps = checkNode(context);
  /** Of the node and all its zones: the worst there is. */
  const verdict = worst([...steps, ...zones]);
  return { verdict, node: steps, zones };
}

function checkNode({ mounts, node, health }: DoctorContext): Step[] {
  const lost = node.lostRecords();
  const { rssBytes, ceilingBytes, loop } = health.self;
  const { verdict, words, remedy } = health.vminfod;
  const { mnttab } = node.paths;
  const findings: Readonly<Record<string, Finding>> = {
    agent: ok(`version ${node.version}, ${node.phase()}`),
    vminfod: { verdict, finding: words, remedy },
    'mount table':
      mounts === null
        ? fail(`${mnttab} cannot be read`, `ls -l ${mnttab}`)
        : ok(counted(mounts.size, 'mount')),
    log: ok(`level ${levelOf(node.log)}, ${lost === 0 ? 'nothing' : `${lost} records`} lost`),
    memory: ok(`${inBytes(rssBytes)} of ${inBytes(ceilingBytes)}`),
    'event loop': ok(`late by ${Math.round(loop.maxMs)} ms at most in the last seconds`),
  };
  const steps = Object.entries(findings).map(([step, finding]) => ({ step, ...finding }));
  return withHealth(steps, health.node);
}

/** Never rejects: what goes wrong in a step is a finding. */
async function checkZone(context: DoctorContext, zone: Zone) {
  const { node, health } = context;
  const { zonename, facts, link } = zone;
  const target = { ...context, zone };
  let steps: Step[] = [];
  try {
    const checks: Checks = {
      zone: () => checkIndex(node, zonename, zone),
      ...(link.kind === 'socket'
        ? socketChecks(link.link, (node.config().readers ?? []).length > 0)
        : portChecks(link.link, target)),
      ...DATA_CHECKS,
    };
    for (const [step, check] of Object.entries(checks)) {
      steps.push({ step, ...(await check(target)) });
    }
    steps = withHealth(steps, health.zones.get(zonename) ?? []);
  } catch (err) {
    steps.push({ step: 'doctor', ...fail(messageOf(err), 'a bug of the doctor: report it') });
  }
  const alias = aliasOf(node.store.table.vm(zonename));
  const state: string = platformState(zone, health.states);
  return { zonename, alias, brand: facts.brand, state, verdict: worst(steps), steps };
}

/** Makes each step at least as bad as health judges its part; adds the steps that are missing. */
function withHealth(steps: readonly Step[], problems: readonly Problem[]): Step[] {
  const judged = [...steps];
  for (const { reason, state, text, remedy } of problems) {
    const { step } = REASONS[reason];
    const at = judged.findIndex((each) => each.step === step);
    const found = judged[at];
    const worse = { step, ...(state === 'failed' ? fail(text, remedy) : warn(text, remedy)) };
    if (found === undefined) {
      judged.push(worse);
    } else if (isWorse(worse.verdict, found.verdict)) {
      judged[at] = worse;
    }
  }
  return judged;
}

/** What the platform says of a zone, compared with the agent's own state. @param zone null: the agent has none */
function checkIndex(node: AdminNode, zonename: string, zone: Zone | null): Finding {
  const remedy = `mdatactl notify ${zonename} changed; if this happens often, events get lost`;
  let found: ZoneFacts | undefined;
  try {
    found = node.platform.zoneFacts(zonename);
  } catch (err) {
    return fail(messageOf(err), 'zoneadm list -cv; ls -l /etc/zones');
  }
  if (zone === null) {
    return found === undefined
      ? fail('no such zone on this node', 'vmadm lookup, zoneadm list -cv')
      : fail('the agent does not serve it yet', `mdatactl notify ${zonename} created`);
  }
  if (found === undefined) {
    return fail('is in no zone index, though the agent serves it', remedy);
  }
  const { brand, zonepath, state } = found;
  const finding = `${brand}, ${state}, ${zonepath}`;
  if (brand !== zone.facts.brand || zonepath !== zone.facts.zonepath) {
    const known = `${zone.facts.brand}, ${zone.facts.zonepath}`;
    return fail(`${finding}; the agent has ${known}`, remedy);
  }
  const served = zone.state === 'halted' ? 'not running' : zone.state;
  return phaseOf(state) === zone.state
    ? ok(finding)
    : warn(`${finding}; the agent serves it as ${served}`, remedy);
}

function isWorse(a: Verdict, b: Verdict): boolean {
  return VERDICTS.indexOf(a) > VERDICTS.indexOf(b);
}

/** The verdict of the whole: `ok` where there is nothing but `ok` and `skip`. */
function worst(steps: Iterable<{ readonly verdict: Verdict }>): Verdict {
  return [...steps].reduce<Verdict>((a, { verdict: b }) => (isWorse(b, a) ? b : a), 'ok');
}
