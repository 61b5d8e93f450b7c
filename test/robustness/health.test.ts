/*
 * One truth about health: every fault that simcn can inject, and what status, /healthz, zones, kang, the metrics
 * and the doctor say of it.
 */
import assert from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { DoctorReport } from '../../src/admin/doctor';
import { NODE_REASONS, ZONE_REASONS } from '../../src/admin/health';
import type { KangSnapshot, Status, ZoneRow } from '../../src/admin/status';
import { isJsonObject, own } from '../../src/metadata/vm-data';
import { run } from '../../src/platform/exec';
import { FAULTS, type FaultName } from '../../tools/simcn/faults';
import { askAdmin, askJson } from '../support/admin';
import { eventually } from '../support/eventually';
import { needsRoot } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { parseExposition } from '../support/prometheus';
import { runProgram, type Result } from '../support/simcn';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const OS = 1;
const HVM = 2;
const isRoot = process.geteuid?.() === 0;
/** The longest that a problem takes to be one, and what a busy machine adds. */
const SOON_MS = 45_000;
/** Rules that need metadata keys to be few. */
const MOST_KEYS = 8;

type Reason = keyof typeof NODE_REASONS | keyof typeof ZONE_REASONS;

/** What all faces have to say. */
interface Expected {
  readonly reason: Reason;
  /** The zone concerned; null: the node. */
  readonly zone: number | null;
}

interface Case {
  readonly fault: FaultName;
  readonly value?: number;
  readonly zone?: number;
  readonly note?: string;
  /** Makes the fault be felt. */
  readonly provoke?: (cn: SimulatedNode) => Promise<unknown>;
  /** Absent: the agent copes, and all is ok while the fault lasts. */
  readonly expected?: Expected;
}

/** An operator writes the zone's file; no guest writes anything. */
function editByHand(cn: SimulatedNode): Promise<void> {
  const text = JSON.stringify({
    customer_metadata: { edited: String(Date.now()) },
    internal_metadata: {},
  });
  cn.replaceConfig(OS, 'metadata.json', text);
  return Promise.resolve();
}

async function put(cn: SimulatedNode): Promise<void> {
  const session = await cn.open(OS);
  await session.put('k', String(Date.now()));
  session.close();
}

/** Its answer comes when the fault is over. */
function putWithoutWaiting(cn: SimulatedNode): Promise<void> {
  void put(cn).catch(() => undefined);
  return Promise.resolve();
}

const CASES: readonly Case[] = [
  { fault: 'events.drop', zone: OS, provoke: (cn) => cn.node.ok(['reboot', uuidOf(OS)]) },
  {
    fault: 'events.delay',
    value: 500,
    provoke: (cn) => cn.node.ok(['reboot', uuidOf(OS)]),
  },
  {
    fault: 'events.late-free',
    value: 500,
    provoke: (cn) => cn.node.ok(['reboot', uuidOf(OS)]),
  },
  { fault: 'vminfod.down', expected: { reason: 'vminfod-down', zone: null } },
  {
    fault: 'vminfod.freeze',
    zone: OS,
    provoke: editByHand,
    expected: { reason: 'vminfod-behind', zone: OS },
  },
  {
    fault: 'vminfod.freeze',
    zone: OS,
    provoke: (cn) => cn.node.ok(['reboot', uuidOf(OS)]),
    note: ' of a zone that was rebooted',
    expected: { reason: 'vminfod-behind', zone: OS },
  },
  {
    fault: 'vminfod.freeze',
    zone: OS,
    provoke: (cn) => cn.node.ok(['shutdown', uuidOf(OS)]),
    note: ' of a zone that was shut down',
    expected: { reason: 'vminfod-behind', zone: OS },
  },
  {
    fault: 'vminfod.delay',
    value: 25_000,
    provoke: (cn) => cn.node.ok(['boot', uuidOf(OS)]),
    expected: { reason: 'vminfod-behind', zone: OS },
  },
  { fault: 'vminfod.garbage' },
  {
    fault: 'lock.held',
    zone: OS,
    provoke: putWithoutWaiting,
    expected: { reason: 'write-waiting', zone: OS },
  },
  {
    fault: 'disk.full',
    zone: OS,
    provoke: put,
    expected: { reason: isRoot ? 'disk-full' : 'writes-failing', zone: OS },
  },
  {
    fault: 'disk.full',
    zone: OS,
    note: ' that nobody writes to',
    expected: { reason: 'disk-full', zone: OS },
  },
  { fault: 'ttyb.drop', zone: HVM },
  { fault: 'ttyb.held', zone: HVM, expected: { reason: 'port-held', zone: HVM } },
  { fault: 'ttyb.flap', value: 3, zone: HVM },
];

/** With `writer: "vmadm"`. */
const VMADM_CASES: readonly Case[] = [
  {
    fault: 'vmadm.fail',
    provoke: put,
    expected: { reason: 'writes-failing', zone: OS },
  },
  {
    fault: 'vmadm.hang',
    value: 20_000,
    zone: OS,
    provoke: putWithoutWaiting,
    expected: { reason: 'write-waiting', zone: OS },
  },
];

/** Each face's own words for the health of the node and of one zone. */
async function facesOf(cn: SimulatedNode, expected?: Expected): Promise<unknown> {
  const { root } = cn;
  const zonename = uuidOf(expected?.zone ?? OS);
  const status = (await askJson(root, '/status')) as Status;
  const healthz = await askAdmin(root, '/healthz');
  const zones = (await askJson(root, '/zones')) as ZoneRow[];
  const row = zones.find((each) => each.zonename === zonename);
  const kang = (await askJson(root, '/kang/snapshot')) as KangSnapshot;
  const kangZone = kang.zone[zonename];
  assert(isJsonObject(kangZone) && isJsonObject(kang.stats.health));
  const { samples } = parseExposition((await askAdmin(root, '/metrics')).text);
  const doctor = (await askJson(root, '/doctor')) as DoctorReport;
  const examined = doctor.zones.find((each) => each.zonename === zonename);
  return {
    status: status.health.state,
    reasons: status.health.problems.map(({ reason, zonename: of }) => [reason, of]),
    healthz: [healthz.status, healthz.text.trim().split(':')[0]],
    zone: [row?.health, row?.reasons],
    kang: [own(kang.stats.health, 'state'), own(kangZone, 'health'), own(kangZone, 'reasons')],
    healthy: samples.find(({ name }) => name === 'mdatad_healthy')?.value,
    unhealthy: samples
      .filter(({ name, value }) => name === 'mdatad_zones_unhealthy' && value > 0)
      .map(({ labels, value }) => [labels.get('reason'), value]),
    doctor: [examined?.verdict === 'ok', doctor.verdict === 'ok'],
  };
}

function allSay(expected?: Expected): unknown {
  if (expected === undefined) {
    return {
      status: 'ok',
      reasons: [],
      healthz: [200, 'ok'],
      zone: ['ok', []],
      kang: ['ok', 'ok', []],
      healthy: 1,
      unhealthy: [],
      doctor: [true, true],
    };
  }
  const { reason, zone } = expected;
  const reasons: Readonly<Record<Reason, { state: string }>> = { ...NODE_REASONS, ...ZONE_REASONS };
  const ofZone = zone === null ? ['ok', []] : [reasons[reason].state, [reason]];
  return {
    status: 'degraded',
    reasons: [[reason, zone === null ? null : uuidOf(zone)]],
    healthz: [200, 'degraded'],
    zone: ofZone,
    kang: ['degraded', ...ofZone],
    healthy: 0,
    unhealthy: zone === null ? [] : [[reason, 1]],
    doctor: [zone === null, false],
  };
}

/** Waits until all faces say so. */
async function allAgree(cn: SimulatedNode, expected?: Expected): Promise<void> {
  const wanted = allSay(expected);
  const end = Date.now() + SOON_MS;
  let said = await facesOf(cn, expected);
  while (JSON.stringify(said) !== JSON.stringify(wanted) && Date.now() < end) {
    await delay(50);
    said = await facesOf(cn, expected);
  }
  assert.deepStrictEqual(said, wanted);
}

async function exitOfStatus(cn: SimulatedNode): Promise<number> {
  const argv = [process.execPath, MDATACTL, '--root', cn.root, 'status'];
  return (await runProgram(argv)).status;
}

function itAgrees(cn: () => SimulatedNode, cases: readonly Case[]): void {
  for (const { fault, value, zone, note = '', provoke, expected } of cases) {
    const what = expected?.reason ?? 'ok: the agent copes';
    it(`is the same in all views with ${fault}${note} (${what}), and ok when it is over`, async () => {
      const node = cn();
      await node.fault(value === undefined ? fault : `${fault}=${value}`, zone);
      await provoke?.(node);
      await allAgree(node, expected);
      assert.strictEqual(await exitOfStatus(node), expected === undefined ? 0 : 3);
      await node.clearFaults();
      await allAgree(node);
      assert.strictEqual(await exitOfStatus(node), 0);
    });
  }
}

describe('health', function () {
  this.timeout(120_000);

  it('is asked about every fault that simcn knows', () => {
    const asked = new Set([...CASES, ...VMADM_CASES].map(({ fault }) => fault));
    assert.deepStrictEqual([...asked].sort(), Object.keys(FAULTS).sort());
  });

  describe('of a node', () => {
    let cn: SimulatedNode;

    before(async function () {
      needsRoot(this);
      const config = { limits: { metadata_keys: MOST_KEYS }, reconcile_seconds: 1 };
      const vms = [osZone(OS), osZone(HVM, { brand: 'bhyve' })];
      cn = await SimulatedNode.start(this, { vms, config, canaries: false });
      await allAgree(cn);
    });

    after(async () => {
      await (cn as SimulatedNode | undefined)?.stop();
    });

    itAgrees(() => cn, CASES);

    it('names damaged config files, asked or not', async () => {
      for (const name of ['metadata', 'tags', 'routes'] as const) {
        const path = cn.config(OS, `${name}.json`);
        const before = readFileSync(path);
        writeFileSync(path, '{ broken');
        await allAgree(cn, { reason: `${name}-damaged`, zone: OS });
        writeFileSync(path, before);
        await allAgree(cn);
      }
    });

    it('names metadata that is full, until a write succeeds', async () => {
      const session = await cn.open(OS);
      let answer = await session.put('key0', 'v');
      for (let n = 1; answer.code === 'SUCCESS'; n++) {
        answer = await session.put(`key${n}`, 'v');
      }
      await allAgree(cn, { reason: 'metadata-full', zone: OS });
      for (let n = 0; n < MOST_KEYS; n++) {
        await session.remove(`key${n}`);
      }
      // The doctor goes on telling of refusals that were lately.
      await eventually(async () => (await askAdmin(cn.root, '/healthz')).text === 'ok\n');
      session.close();
    });

    it('lists only zones that are not healthy when asked to', async () => {
      const list = async (): Promise<string> => {
        const argv = [process.execPath, MDATACTL, '--root', cn.root, 'zones', '--unhealthy'];
        return (await runProgram(argv)).stdout;
      };
      assert.strictEqual(await list(), 'all zones are healthy\n');
      const path = cn.config(OS, 'tags.json');
      writeFileSync(path, '{ broken');
      await allAgree(cn, { reason: 'tags-damaged', zone: OS });
      assert.match(await list(), new RegExp(`${uuidOf(OS)} .* failed +tags-damaged`));
      assert(!(await list()).includes(uuidOf(HVM)));
      writeFileSync(path, '{}');
    });
  });

  it('names a directory that was unmounted, by the mount table, until the zone was rebooted', async function () {
    needsRoot(this);
    // No reconcile is there to find it.
    const config = { reconcile_seconds: 3600 };
    const cn = await SimulatedNode.start(this, { vms: [osZone(OS)], config, canaries: false });
    try {
      await allAgree(cn);
      await run(['umount', cn.node.path(`/zones/${uuidOf(OS)}/root/.zonecontrol`)]);
      await allAgree(cn, { reason: 'mount-replaced', zone: OS });
      await cn.node.ok(['reboot', uuidOf(OS)]);
      await allAgree(cn);
    } finally {
      await cn.stop();
    }
  });

  it('stays ok where the brand of a running zone is changed, which keeps its directory', async function () {
    needsRoot(this);
    const cn = await SimulatedNode.start(this, { vms: [osZone(OS)], canaries: false });
    try {
      await allAgree(cn);
      const index = cn.node.path('/etc/zones/index');
      writeFileSync(index, readFileSync(index, 'utf8').replace(/\bjoyent\b/, 'joyent-minimal'));
      const argv = [process.execPath, MDATACTL, '--root', cn.root];
      await runProgram([...argv, 'notify', uuidOf(OS), 'changed']);
      const brand = async (): Promise<string> =>
        (await runProgram([...argv, 'zones', '-H', '-p', '-o', 'brand'])).stdout;
      await eventually(async () => (await brand()) === 'joyent-minimal\n', 'the new brand');
      // Long enough for a check of what the zone has at its mount point.
      await runProgram([...argv, 'doctor', uuidOf(OS)]);
      await allAgree(cn);
      const { status, stdout } = await cn.node.exec(uuidOf(OS), 'mdata-get', 'sdc:uuid');
      assert.deepStrictEqual([status, stdout], [0, `${uuidOf(OS)}\n`]);
    } finally {
      await cn.stop();
    }
  });

  describe('of a node whose writes go through vmadm', () => {
    let cn: SimulatedNode;

    before(async function () {
      needsRoot(this);
      cn = await SimulatedNode.start(this, { vms: [osZone(OS)], config: { writer: 'vmadm' } });
      await allAgree(cn);
    });

    afterEach(async () => {
      // A write that succeeds ends the memory of one that did not.
      await put(cn);
    });

    after(async () => {
      await (cn as SimulatedNode | undefined)?.stop();
    });

    for (const { fault, value, zone, provoke, expected } of VMADM_CASES) {
      it(`is the same in all views with ${fault}, and ok after a write`, async () => {
        await cn.fault(value === undefined ? fault : `${fault}=${value}`, zone);
        await provoke?.(cn);
        await allAgree(cn, expected);
        await cn.clearFaults();
        await eventually(
          async () => {
            await put(cn);
            return JSON.stringify(await facesOf(cn)) === JSON.stringify(allSay());
          },
          'all ok again',
          SOON_MS,
        );
      });
    }
  });

  it("is ok on an ordinary user's node, whose doctor skips what mounts are asked", async function () {
    needsRoot(this);
    const vms = [osZone(OS), osZone(HVM, { brand: 'bhyve' })];
    const cn = await SimulatedNode.start(this, { vms, asNobody: true });
    // A root of the node's outside may not even be recognised by the agent of a user.
    const ctl = (...argv: string[]): Promise<Result> => {
      return cn.node.run([process.execPath, MDATACTL, '--root', cn.root, ...argv]);
    };
    try {
      await eventually(async () => (await ctl('status')).status === 0, 'ok', SOON_MS);
      const healthy = await ctl('doctor', uuidOf(OS));
      assert.strictEqual(healthy.status, 0, healthy.stdout);
      assert.match(healthy.stdout, /^ {2}mount +- +no mounts on this node$/m);
      assert.strictEqual((await ctl('doctor')).status, 0);
      const index = cn.node.path('/etc/zones/index');
      writeFileSync(index, readFileSync(index, 'utf8').replace(/\bjoyent\b/, 'joyentt'));
      await ctl('notify', uuidOf(OS), 'changed');
      await eventually(async () => (await ctl('status')).status === 3, 'degraded', SOON_MS);
      const { stdout } = await ctl('zones', '--unhealthy', '-H', '-p', '-o', 'brand,reasons');
      assert.strictEqual(stdout, 'joyentt:unknown-brand\n');
      const warned = await ctl('doctor', uuidOf(OS));
      assert.strictEqual(warned.status, 1);
      assert.match(warned.stdout, /WARN +its brand joyentt is not one of this platform/);
    } finally {
      await cn.stop();
    }
  });
});
