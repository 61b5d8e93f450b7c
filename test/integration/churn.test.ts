/*
 * Five hundred zones created, booted, rebooted and destroyed in random order, and what is left then.
 */
import assert from 'node:assert';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { Peer } from '../support/peer';
import { needs } from '../support/pending';
import { Random } from '../support/random';
import { SimNode, whyNoNode } from '../support/simcn';
import { ask } from '../../tools/simcn/control';

const ZONES = 500;
/** Besides the creation, on the average. */
const STEPS_PER_ZONE = 1.4;
const AT_ONCE = 8;
/** Processes that go below zones' roots and are kept for the next request: the warm-up may need fewer. */
const IDLE_HELPERS = 2;
const BRANDS = ['joyent', 'joyent-minimal', 'lx', 'builder', 'unknown-brand', 'bhyve'] as const;
/** Short, so that what was lost is repaired within the test's time. */
const CONFIG = JSON.stringify({ reconcile_seconds: 3 });

type State = 'running' | 'installed' | 'gone';

interface Modelled {
  readonly uuid: string;
  readonly brand: string;
  state: State;
}

describe(`${ZONES} zones that are created and destroyed`, function () {
  this.timeout(240_000);

  for (const faults of [[], ['events.delay=50'], ['events.drop']]) {
    const what = faults.length === 0 ? 'with all events' : `with ${faults.join(' ')}`;

    it(`leave exactly the right sockets, ${what}`, async function () {
      needs(this, whyNoNode());
      const node = await SimNode.start();
      const configPath = `${node.root}/mdatad.json`;
      await node.run(['tee', configPath], CONFIG);
      const agent = await AgentProcess.start(node.root, ['--config', configPath]);
      try {
        // The first zone brings what all of them share: the watcher of directories.
        const warmUp = await churn(node.root, new Random(1), 5);
        await destroyAll(node.root, warmUp);
        await assertRight(node, warmUp);
        const descriptors = countDescriptors(agent.pid);
        for (const fault of faults) {
          await node.ok(['fault', fault]);
        }
        const zones = await churn(node.root, new Random(7), ZONES);
        await node.ok(['fault', '--clear']);
        await assertRight(node, zones);
        if (!faults.includes('events.drop')) {
          const repairs = agent.records.filter((record) => record.msg === 'reconcile repaired');
          assert.deepStrictEqual(repairs, [], 'in a healthy run the reconcile finds nothing');
        }
        await destroyAll(node.root, zones);
        await assertRight(node, zones);
        await eventually(
          () => countDescriptors(agent.pid) <= descriptors + IDLE_HELPERS,
          `descriptors are back at ${descriptors}`,
        );
      } finally {
        await agent.stop();
        await node.stop();
      }
    });
  }
});

/** Makes zones, then does random things to random ones; each zone's own steps come one after another. */
async function churn(root: string, random: Random, count: number): Promise<Modelled[]> {
  const zones: Modelled[] = Array.from({ length: count }, () => ({
    uuid: randomUUID(),
    brand: random.pick(BRANDS),
    state: 'gone',
  }));
  const plan = new Map<Modelled, number>();
  for (const zone of zones) {
    plan.set(zone, 1);
  }
  for (let n = 0; n < count * STEPS_PER_ZONE; n++) {
    const zone = random.pick(zones);
    plan.set(zone, (plan.get(zone) ?? 0) + 1);
  }
  const work = [...plan].map(([zone, steps]) => async () => {
    for (let n = 0; n < steps; n++) {
      await step(root, zone, random);
    }
  });
  await inParallel(work);
  return zones;
}

async function step(root: string, zone: Modelled, random: Random): Promise<void> {
  const { uuid, brand } = zone;
  switch (zone.state) {
    case 'gone': {
      const vms = { uuid, brand, customer_metadata: { me: uuid } };
      const boot = random.below(4) > 0;
      await ask(root, 'create', {
        vms: { ...vms, zone_state: boot ? 'running' : 'installed' },
        boot,
      });
      zone.state = boot ? 'running' : 'installed';
      return;
    }
    case 'installed':
      if (random.below(3) === 0) {
        await ask(root, 'destroy', { uuid });
        zone.state = 'gone';
      } else {
        await ask(root, 'boot', { uuid });
        zone.state = 'running';
      }
      return;
    case 'running':
      switch (random.below(4)) {
        case 0:
          await ask(root, 'destroy', { uuid });
          zone.state = 'gone';
          return;
        case 1:
          await ask(root, 'shutdown', { uuid });
          zone.state = 'installed';
          return;
        default:
          await ask(root, 'reboot', { uuid, guest: false });
      }
  }
}

async function destroyAll(root: string, zones: readonly Modelled[]): Promise<void> {
  await inParallel(
    zones
      .filter((zone) => zone.state !== 'gone')
      .map((zone) => async () => {
        await ask(root, 'destroy', { uuid: zone.uuid });
        zone.state = 'gone';
      }),
  );
}

async function inParallel(work: readonly (() => Promise<void>)[]): Promise<void> {
  const queue = [...work];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        await next();
      }
    }),
  );
}

/** Every zone that is there answers with its own data; nothing is left of the others. */
async function assertRight(node: SimNode, zones: readonly Modelled[]): Promise<void> {
  const directory = node.path('/var/zonecontrol');
  const served = zones.filter((zone) => zone.state !== 'gone' && zone.brand !== 'bhyve');
  const expected = served.map((zone) => zone.uuid).sort();
  const sockets = (): string[] =>
    readdirSync(directory)
      .filter((uuid) => existsSync(`${directory}/${uuid}/metadata.sock`))
      .sort();
  await eventually(
    () =>
      sockets().length === expected.length && sockets().every((uuid, i) => uuid === expected[i]),
    'the sockets are those of the zones that exist',
    30_000,
  );
  for (const zone of served) {
    await eventually(
      () => answers(`${directory}/${zone.uuid}/metadata.sock`, zone.uuid),
      zone.uuid,
    );
  }
  const gone = zones.filter((zone) => zone.state === 'gone').map((zone) => zone.uuid);
  assert.deepStrictEqual(
    readdirSync(directory).filter((uuid) => gone.includes(uuid)),
    [],
  );
  assertMounts(node, zones);
}

function assertMounts(node: SimNode, zones: readonly Modelled[]): void {
  const table = readFileSync(node.path('/etc/mnttab'), 'utf8');
  for (const zone of zones) {
    const point = zone.brand === 'lx' ? '/native/.zonecontrol' : '/.zonecontrol';
    const mounted = table.includes(`/zones/${zone.uuid}/root${point}\t`);
    const should =
      process.getuid?.() === 0 &&
      zone.state === 'running' &&
      zone.brand !== 'bhyve' &&
      zone.brand !== 'unknown-brand';
    assert.strictEqual(mounted, should, `mount of ${zone.brand} ${zone.uuid} ${zone.state}`);
  }
}

async function answers(socket: string, uuid: string): Promise<boolean> {
  const expected = `SUCCESS\n${uuid}\n.\n`;
  try {
    const peer = await Peer.at(socket);
    const received = await peer.ask('GET me\n', expected.length);
    peer.socket.destroy();
    return received === expected;
  } catch {
    // Nobody listens there, or not for long: the zone is still being made.
    return false;
  }
}

function countDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
