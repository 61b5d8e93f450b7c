/*
 * The doctor: walks the whole chain from the platform to the guest, for one zone or all, and says
 * where it breaks and what to do.
 *
 * It looks for itself at what it can (files, mount table, vminfod, a real round trip) and believes the
 * agent's own state only where nothing else can be asked. It changes nothing. Zones are visited a few
 * at a time: a visit of all leaves room for guests.
 */
import { readFile } from 'node:fs/promises';
import * as vasync from 'vasync';
import { messageOf } from '../lib/errors';
import { parseMnttab, type MountEntry } from '../platform/mounts';
import { aliasOf } from '../metadata/vm-data';
import { phaseOfState, type Zone } from '../zones/zone';
import { checkPort } from './check-port';
import { checkSocket } from './check-socket';
import { checkVm } from './check-vm';
import { checkWrites } from './check-writes';
import { fail, ok, skip, warn, worst } from './doctor-context';
import type {
  DoctorReport,
  DoctorTarget,
  Step,
  DoctorContext,
  ZoneDoctorReport,
} from './doctor-context';
import { levelOf } from './log-level';
import type { AdminNode } from './node';
import { healthOf } from './status';
import type { VminfodProbe } from './vminfod-health';
import type { SelfHealth } from './watchdog';
import { inBytes } from './format';

/** Zones that are looked at together. */
const VISITS_AT_ONCE = 8;

export interface DoctorOptions {
  readonly node: AdminNode;
  readonly probe: VminfodProbe;
  readonly self: () => SelfHealth;
}

/** Examines zones on demand; one serves the agent. Remembers when VMs changed until it is stopped. */
export class Doctor {
  private readonly options: DoctorOptions;
  private readonly changed = new Map<string, number>();
  private readonly unsubscribe: () => void;

  constructor(options: DoctorOptions) {
    this.options = options;
    this.unsubscribe = options.node.store.onChanged(({ zonename, next }) => {
      if (next === undefined) {
        this.changed.delete(zonename);
      } else {
        this.changed.set(zonename, Date.now());
      }
    });
  }

  stop(): void {
    this.unsubscribe();
    this.changed.clear();
  }

  /** The node and all its zones. */
  async visitAll(): Promise<DoctorReport> {
    const visit = await this.beginVisit();
    const zones = [...(this.options.node.registry()?.all() ?? [])];
    return concluded(this.checkNode(visit), await checkZones(visit, zones));
  }

  /** One zone, with the node it lives on. A zone that the agent does not know has one step. */
  async visitZone(zonename: string): Promise<DoctorReport> {
    const visit = await this.beginVisit();
    const zone = this.options.node.registry()?.get(zonename);
    const checkup =
      zone === undefined ? unknownZone(visit, zonename) : await checkZone({ visit, zone });
    return concluded(this.checkNode(visit), [checkup]);
  }

  private async beginVisit(): Promise<DoctorContext> {
    const { node, probe } = this.options;
    return {
      node,
      mounts: await readMounts(node.paths.mnttab),
      vminfod: await probe.look(node.store.status()),
      changedAt: (zonename) => this.changed.get(zonename),
    };
  }

  private checkNode({ vminfod, mounts, node }: DoctorContext): Step[] {
    const self = this.options.self();
    const health = healthOf(node, self);
    const lost = node.lostRecords();
    const { rssBytes, ceilingBytes, loop } = self;
    return [
      health.well
        ? ok('agent', `version ${node.version}, serving`)
        : fail('agent', health.words, 'look at its log: mdatactl tail, svcs -L mdatad'),
      {
        step: 'vminfod',
        verdict: vminfod.verdict,
        finding: vminfod.words,
        remedy: vminfod.remedy,
      },
      mounts === null
        ? fail('mount table', `${node.paths.mnttab} cannot be read`, 'look at its permissions')
        : ok('mount table', `${mounts.size} mounts`),
      lost > 0
        ? warn('log', `${lost} records were lost`, 'look for a full disk where the log is kept')
        : ok('log', `level ${levelOf(node.log)}, nothing lost`),
      rssBytes > ceilingBytes
        ? warn(
            'memory',
            `${inBytes(rssBytes)} of ${inBytes(ceilingBytes)}`,
            'svcadm restart mdatad',
          )
        : ok('memory', `${inBytes(rssBytes)} of ${inBytes(ceilingBytes)}`),
      ok('event loop', `late by ${Math.round(loop.maxMs)} ms at most in the last seconds`),
    ];
  }
}

async function checkZones(
  visit: DoctorContext,
  zones: readonly Zone[],
): Promise<ZoneDoctorReport[]> {
  if (zones.length === 0) {
    return [];
  }
  const checkups = new Map<Zone, ZoneDoctorReport>();
  await new Promise<void>((resolve) => {
    const queue = vasync.queue((zone: Zone, done) => {
      void checkZone({ visit, zone }).then((checkup) => {
        checkups.set(zone, checkup);
        done();
        if (checkups.size === zones.length) {
          resolve();
        }
      });
    }, VISITS_AT_ONCE);
    zones.forEach((zone) => queue.push(zone));
  });
  return zones.flatMap((zone) => checkups.get(zone) ?? []);
}

/** Never rejects: what goes wrong in a step is a finding. */
async function checkZone(patient: DoctorTarget): Promise<ZoneDoctorReport> {
  const { visit, zone } = patient;
  const { node } = visit;
  const steps: Step[] = [checkIndex(patient)];
  try {
    steps.push(...(await (zone.link.kind === 'socket' ? checkSocket : checkPort)(patient)));
    steps.push(...(await checkVm(patient)));
    steps.push(...(await checkWrites(patient)));
  } catch (err) {
    steps.push(fail('doctor', messageOf(err), 'a fault of the doctor itself: report it'));
  }
  return {
    zonename: zone.zonename,
    alias: aliasOf(node.store.table.vm(zone.zonename)),
    brand: zone.facts.brand,
    state: zone.state,
    verdict: worst(steps.map(({ verdict }) => verdict)),
    steps,
  };
}

/** What the platform says of the zone, against what we hold. */
function checkIndex({ visit, zone }: DoctorTarget): Step {
  const step = 'zone';
  const remedy = `mdatactl notify ${zone.zonename} changed; events get lost when this is often so`;
  try {
    const facts = visit.node.platform.zoneFacts(zone.zonename);
    if (facts === undefined) {
      return fail(step, 'is in no zone index, though the agent holds it', remedy);
    }
    const { brand, zonepath, state } = facts;
    const found = `${brand}, ${state}, ${zonepath}`;
    if (brand !== zone.facts.brand || zonepath !== zone.facts.zonepath) {
      const held = `${zone.facts.brand}, ${zone.facts.zonepath}`;
      return fail(step, `${found}; the agent holds ${held}`, remedy);
    }
    return phaseOfState(state) === zone.state
      ? ok(step, found)
      : warn(step, `${found}; the agent holds it for ${zone.state}`, remedy);
  } catch (err) {
    return fail(step, messageOf(err), 'zoneadm list -cv; look at /etc/zones');
  }
}

function unknownZone({ node }: DoctorContext, zonename: string): ZoneDoctorReport {
  let step: Step;
  try {
    const facts = node.platform.zoneFacts(zonename);
    step =
      facts === undefined
        ? fail('zone', 'no such zone on this node', 'vmadm lookup, zoneadm list -cv')
        : fail('zone', 'the agent does not hold it yet', `mdatactl notify ${zonename} created`);
  } catch (err) {
    step = fail('zone', messageOf(err), 'zoneadm list -cv; look at /etc/zones');
  }
  const nothing = skip('other steps', 'need the zone');
  return { zonename, alias: null, brand: '', state: '', verdict: 'fail', steps: [step, nothing] };
}

function concluded(node: readonly Step[], zones: readonly ZoneDoctorReport[]): DoctorReport {
  const verdicts = [...node, ...zones].map(({ verdict }) => verdict);
  return { verdict: worst(verdicts), node, zones };
}

async function readMounts(mnttab: string): Promise<Map<string, MountEntry> | null> {
  try {
    const entries = parseMnttab(await readFile(mnttab, 'utf8'));
    return new Map(entries.map((entry) => [entry.mountPoint, entry]));
  } catch {
    // Told as a step of the node, with the path.
    return null;
  }
}
