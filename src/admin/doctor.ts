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
import { parseMnttab, type MountEntry } from '../platform/mounts';
import { aliasOf } from '../metadata/vm-data';
import { phaseOf } from '../zones/events';
import type { Zone } from '../zones/zone';
import { checkVm, checkWrites } from './check-data';
import { checkPort, checkSocket } from './check-transport';
import {
  fail,
  isWorse,
  ok,
  skip,
  warn,
  worst,
  type DoctorContext,
  type DoctorReport,
  type DoctorTarget,
  type Step,
  type ZoneDoctorReport,
} from './doctor-context';
import { levelOf } from './tail';
import type { AdminNode } from './node';
import { platformState } from './platform-states';
import { NODE_REASONS, ZONE_REASONS, type HealthMonitor, type Problem } from './health';
import type { SelfHealth } from './watchdog';
import { counted, inBytes } from './format';

/** Zones that are checked together. */
const ZONES_AT_ONCE = 8;

const REASONS = { ...NODE_REASONS, ...ZONE_REASONS };

/** Examines zones on demand; one serves the agent. */
export class Doctor {
  constructor(
    private readonly options: {
      readonly node: AdminNode;
      readonly health: HealthMonitor;
      readonly self: () => SelfHealth;
    },
  ) {}

  /** The node and all its zones. */
  async checkAll(): Promise<DoctorReport> {
    const context = await this.makeContext();
    const zones = [...(this.options.node.registry()?.all() ?? [])];
    return concluded(this.checkNode(context), await checkZones(context, zones));
  }

  /** One zone, with its node. A zone that the agent does not know has one step. */
  async checkOne(zonename: string): Promise<DoctorReport> {
    const context = await this.makeContext();
    const zone = this.options.node.registry()?.get(zonename);
    const report =
      zone === undefined ? unknownZone(context, zonename) : await checkZone({ context, zone });
    return concluded(this.checkNode(context), [report]);
  }

  private async makeContext(): Promise<DoctorContext> {
    const { node, health } = this.options;
    const snapshot = await health.snapshot();
    const mounts = await readMounts(node.paths.mnttab);
    return { node, mounts, health: snapshot, monitor: health };
  }

  private checkNode({ mounts, node, health }: DoctorContext): Step[] {
    const lost = node.lostRecords();
    const { rssBytes, ceilingBytes, loop } = this.options.self();
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
}

async function checkZones(
  context: DoctorContext,
  zones: readonly Zone[],
): Promise<ZoneDoctorReport[]> {
  const reports: ZoneDoctorReport[] = [];
  const left = zones.entries();
  const worker = async (): Promise<void> => {
    for (const [i, zone] of left) {
      reports[i] = await checkZone({ context, zone });
    }
  };
  await Promise.all(Array.from({ length: ZONES_AT_ONCE }, worker));
  return reports;
}

/** Never rejects: what goes wrong in a step is a finding. */
async function checkZone(target: DoctorTarget): Promise<ZoneDoctorReport> {
  const { context, zone } = target;
  let steps: Step[] = [checkIndex(target)];
  try {
    steps.push(...(await (zone.link.kind === 'socket' ? checkSocket : checkPort)(target)));
    steps.push(...(await checkVm(target)));
    steps.push(...(await checkWrites(target)));
    steps = withHealth(steps, await context.monitor.ofZone(zone, context.health));
  } catch (err) {
    steps.push(fail('doctor', messageOf(err), 'a bug of the doctor: report it'));
  }
  return {
    zonename: zone.zonename,
    alias: aliasOf(context.node.store.table.vm(zone.zonename)),
    brand: zone.facts.brand,
    state: platformState(zone, context.health.states),
    verdict: worst(steps),
    steps,
  };
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

/** What the platform says of the zone, compared with the agent's own state. */
function checkIndex({ context, zone }: DoctorTarget): Step {
  const step = 'zone';
  const remedy = `mdatactl notify ${zone.zonename} changed; if this happens often, events get lost`;
  try {
    const facts = context.node.platform.zoneFacts(zone.zonename);
    if (facts === undefined) {
      return fail(step, 'is in no zone index, though the agent serves it', remedy);
    }
    const { brand, zonepath, state } = facts;
    const found = `${brand}, ${state}, ${zonepath}`;
    if (brand !== zone.facts.brand || zonepath !== zone.facts.zonepath) {
      const known = `${zone.facts.brand}, ${zone.facts.zonepath}`;
      return fail(step, `${found}; the agent has ${known}`, remedy);
    }
    return phaseOf(state) === zone.state
      ? ok(step, found)
      : warn(
          step,
          `${found}; the agent serves it as ${zone.state === 'halted' ? 'not running' : zone.state}`,
          remedy,
        );
  } catch (err) {
    return fail(step, messageOf(err), 'zoneadm list -cv; ls -l /etc/zones');
  }
}

function unknownZone({ node }: DoctorContext, zonename: string): ZoneDoctorReport {
  let step: Step;
  try {
    const facts = node.platform.zoneFacts(zonename);
    step =
      facts === undefined
        ? fail('zone', 'no such zone on this node', 'vmadm lookup, zoneadm list -cv')
        : fail('zone', 'the agent does not serve it yet', `mdatactl notify ${zonename} created`);
  } catch (err) {
    step = fail('zone', messageOf(err), 'zoneadm list -cv; ls -l /etc/zones');
  }
  const nothing = skip('other steps', 'need the zone');
  return { zonename, alias: null, brand: '', state: '', verdict: 'fail', steps: [step, nothing] };
}

function concluded(node: readonly Step[], zones: readonly ZoneDoctorReport[]): DoctorReport {
  return { verdict: worst([...node, ...zones]), node, zones };
}

async function readMounts(mnttab: string): Promise<Map<string, MountEntry> | null> {
  try {
    const entries = parseMnttab(await readFile(mnttab, 'utf8'));
    return new Map(entries.map((entry) => [entry.mountPoint, entry]));
  } catch {
    // Reported as a step of the node, with the path.
    return null;
  }
}
