import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import {
  bindZoneEvents,
  type RawZoneEvent,
  type ZoneSubscription,
} from '../../src/platform/zone-events';
import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { SIMCN, SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const BHYVE = 'aaac8650-4b58-6633-9054-a2c22e7beb36';
const KVM = 'd4e7f0a2-51c8-4d0e-8b63-6f0a9f7f2c55';
const isRoot = process.geteuid?.() === 0;

const BOOT = ['initialized<uninitialized', 'ready<initialized', 'ready<ready', 'running<ready'];
const HALT = [
  'shutting_down<running',
  'shutting_down<shutting_down',
  'shutting_down<shutting_down',
  'shutting_down<shutting_down',
  'uninitialized<shutting_down',
  'free<uninitialized',
];

describe('simcn: events and faults', function () {
  this.timeout(60_000);
  let node: SimNode;
  let events: RawZoneEvent[] = [];
  let subscription: ZoneSubscription | null = null;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({
      vms: [
        { uuid: ZONE, brand: 'joyent' },
        { uuid: BHYVE, brand: 'bhyve', disks: [] },
        { uuid: KVM, brand: 'kvm' },
      ],
    });
    subscription = bindZoneEvents(
      (event) => events.push(event),
      (count) => assert.fail(`${count} events were lost`),
      { root: node.root },
    );
  });
  after(async () => {
    await subscription?.close();
    await (node as SimNode | undefined)?.stop();
  });
  beforeEach(() => {
    events = [];
  });
  afterEach(async () => {
    await node.ok(['fault', '--clear']);
  });

  const eventsOf = (uuid: string) =>
    events.filter((e) => e.zonename === uuid).map((e) => `${e.newstate}<${e.oldstate}`);
  const port = (uuid: string) => node.path(`/zones/${uuid}/root/tmp/vm.ttyb`);

  it('publishes every step of a zone, by the names and in the order of the kernel', async () => {
    const fresh = '00000000-0000-4000-8000-000000000001';
    await node.ok(['create', '--boot'], JSON.stringify({ uuid: fresh }));
    await node.ok(['destroy', fresh]);
    const expected = [
      ...['configured<', 'incomplete<configured', 'installed<incomplete', ...BOOT],
      ...[...HALT, 'incomplete<installed', 'configured<incomplete', '<configured'],
    ];
    await eventually(() => eventsOf(fresh).length === expected.length, 'all events');
    assert.deepStrictEqual(eventsOf(fresh), expected);
    // Those of the index come from userland, which has no zone id.
    const byZoneadm = events.filter((e) => e.zonename === fresh && e.zoneid === -1);
    assert.strictEqual(byZoneadm.length, 6);
  });

  it('frees a zone with the id of the run before, after the next one runs', async () => {
    await node.ok(['fault', 'events.late-free=100', '--zone', ZONE]);
    await node.ok(['reboot', ZONE]);
    await eventually(() => eventsOf(ZONE).length === HALT.length + BOOT.length, 'events');
    assert.deepStrictEqual(eventsOf(ZONE), [...HALT.slice(0, -1), ...BOOT, 'free<uninitialized']);
    const [first, last] = [events.at(0), events.at(-1)];
    assert.strictEqual(last?.zoneid, first?.zoneid);
    assert.notStrictEqual(last?.zoneid, events.at(-2)?.zoneid);
  });

  it('loses the events of one zone, while the zone moves and others are published', async () => {
    await node.ok(['fault', 'events.drop', '--zone', ZONE]);
    await node.ok(['reboot', ZONE]);
    await node.ok(['reboot', KVM]);
    await eventually(
      () => eventsOf(KVM).length === HALT.length + BOOT.length,
      'events of the other',
    );
    assert.deepStrictEqual(eventsOf(ZONE), []);
  });

  it('delays events and keeps their order, while the zone does not wait', async () => {
    await node.ok(['fault', 'events.delay=1500', '--zone', ZONE]);
    await node.ok(['reboot', ZONE]);
    assert.deepStrictEqual(eventsOf(ZONE), []);
    await eventually(() => eventsOf(ZONE).length === HALT.length + BOOT.length, 'late events');
    assert.deepStrictEqual(eventsOf(ZONE), [...HALT, ...BOOT]);
  });

  it('has a vminfod that stops and comes back', async () => {
    await node.ok(['fault', 'vminfod.down']);
    const request = get({ socketPath: node.path('/var/run/vminfod.sock'), path: '/ping' });
    await assert.rejects(once(request, 'response'));
    const { status, stderr } = await node.vmadm(['lookup']);
    assert.strictEqual(status, 1);
    assert.match(stderr, /vminfod/);
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await node.vmadm(['lookup'])).stdout.split('\n').length, 4);
  });

  it("makes an HVM zone's port at boot, and counts a bhyve guest's own reboots", async () => {
    const restarts = async (uuid: string) => {
      const { stdout } = await node.vmadm(['get', uuid]);
      return (JSON.parse(stdout) as { init_restarts: number }).init_restarts;
    };
    for (const [uuid, expected] of [
      [BHYVE, 2],
      [KVM, 0],
    ] as const) {
      await node.ok(['reboot', uuid]);
      const host = connect(port(uuid));
      await once(host, 'connect');
      let closed = false;
      host.once('close', () => (closed = true));
      host.resume();
      await node.ok(['reboot', '--guest', uuid]);
      await node.ok(['reboot', '--guest', uuid]);
      assert.strictEqual(await restarts(uuid), expected);
      assert.strictEqual(closed, uuid === BHYVE);
      host.destroy();
    }
  });

  it('leaves the file of a stopped guest behind, and gives devices as null', async () => {
    await node.ok(['shutdown', BHYVE]);
    assert.ok(existsSync(port(BHYVE)));
    const host = connect(port(BHYVE));
    await assert.rejects(once(host, 'connect'), { code: 'ECONNREFUSED' });
    const shown = JSON.parse((await node.vmadm(['get', BHYVE])).stdout) as { device: unknown };
    assert.strictEqual(shown.device, null);
    await node.ok(['boot', BHYVE]);
  });

  it('holds a port, and restarts a guest again and again', async () => {
    const gone = async (uuid: string) => {
      const host = connect(port(uuid));
      await once(host, 'connect');
      host.resume();
      return once(host, 'close');
    };
    await node.ok(['fault', 'ttyb.held', '--zone', BHYVE]);
    await gone(BHYVE);
    await node.ok(['fault', '--clear']);
    const closed = gone(BHYVE);
    await node.ok(['fault', 'ttyb.flap=2', '--zone', BHYVE]);
    await closed;
    assert.strictEqual((await node.simcn(['fault', 'ttyb.held', '--zone', ZONE])).status, 1);
  });

  it('frees a full disk although a file on it is open', async function () {
    if (!isRoot) {
      this.skip();
    }
    await node.ok(['fault', 'disk.full', '--zone', ZONE]);
    const config = node.path(`/zones/${ZONE}/config`);
    const reader = openSync(join(config, 'metadata.json'), 'r');
    const cleared = node.ok(['fault', '--clear']);
    await eventually(() => !existsSync(join(config, '.full')), 'the room is given back');
    await delay(200);
    closeSync(reader);
    await cleared;
    assert.deepStrictEqual(
      node.mounts().filter((path) => path === config),
      [],
    );
  });

  it('lists the faults that are active, as they can be given again', async () => {
    const active = async () => (await node.ok(['fault'])).split('\n').filter((line) => line !== '');
    assert.deepStrictEqual(await node.simcn(['fault']), {
      status: 0,
      stdout: '',
      stderr: 'simcn: no fault is active\n',
    });
    await node.ok(['fault', 'events.delay=5']);
    await node.ok(['fault', 'vminfod.garbage']);
    await node.ok(['fault', 'lock.held', '--zone', ZONE.toUpperCase()]);
    await node.ok(['fault', 'vminfod.freeze', '--zone', ZONE]);
    assert.deepStrictEqual(await active(), [
      'events.delay=5',
      `lock.held --zone ${ZONE}`,
      `vminfod.freeze --zone ${ZONE}`,
    ]);
    await node.ok(['fault', '--clear']);
    assert.deepStrictEqual(await active(), []);
    await node.ok(['fault', 'lock.held=50', '--zone', ZONE]);
    await eventually(async () => (await active()).length === 0, 'the lock is given back');
  });

  it('runs the operations of one zone one after the other', async () => {
    const results = await Promise.all([
      node.simcn(['reboot', ZONE]),
      node.simcn(['reboot', ZONE]),
      node.simcn(['snapshot', ZONE, 'meanwhile']),
      node.simcn(['reboot', ZONE]),
    ]);
    assert.deepStrictEqual(
      results.map((result) => result.status),
      [0, 0, 0, 0],
    );
    await eventually(() => eventsOf(ZONE).length === 3 * (HALT.length + BOOT.length), 'all events');
    assert.deepStrictEqual(
      eventsOf(ZONE),
      [1, 2, 3].flatMap(() => [...HALT, ...BOOT]),
    );
  });
});

describe('simcn: an old platform', function () {
  this.timeout(60_000);

  it('leaves the mount to the agent, and time for it, and unmounts it at the halt', async function () {
    if (whyNoNode() !== null || !isRoot) {
      this.skip();
    }
    const node = await SimNode.start({ flags: ['--old-platform', '--ready-ms', '300'] });
    try {
      const started = Date.now();
      await node.ok(['create'], JSON.stringify({ uuid: ZONE }));
      assert.ok(Date.now() - started >= 300);
      assert.deepStrictEqual(node.mounts(), []);
      assert.ok(existsSync(node.path(`/var/zonecontrol/${ZONE}`)));
    } finally {
      await node.stop();
    }
  });

  it('ends well on a signal that comes before it is ready, and leaves nothing', async function () {
    needs(this, whyNoNode());
    const vms = Array.from({ length: 200 }, (_, i) => ({
      uuid: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
    }));
    const root = mkdtempSync(join(tmpdir(), 'cn-'));
    const file = join(root, 'vms.json');
    writeFileSync(file, JSON.stringify(vms));
    const child = spawn(process.execPath, [SIMCN, 'up', '--root', root, '--vms', file]);
    try {
      child.stdout.resume();
      await eventually(() => existsSync(join(root, 'zones', vms[0]?.uuid ?? '', 'root')));
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      assert.deepStrictEqual(await ended, [0, null]);
      assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes(root));
    } finally {
      child.kill('SIGKILL');
      rmSync(root, { recursive: true });
    }
  });
});
