import assert from 'node:assert';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Platform } from '../../src/platform/libzonecfg';
import type { ZoneIndex } from '../../src/platform/libzonecfg';
import type { ZoneFacts } from '../../src/platform/libzonecfg';
import { Reconciler } from '../../src/zones/reconciler';
import type { MountManager } from '../../src/zones/zone';
import { eventually } from '../support/eventually';
import { ServedZones, ZonedNode } from '../support/served-zones';

const NEVER_MS = 3_600_000;
/** The next try after a failure is made before this is over. */
const SOON_MS = 1200;

describe('the reconcile', () => {
  let zoned: ZonedNode;
  let served: ServedZones;
  let listings: number;

  beforeEach(async () => {
    zoned = new ZonedNode();
    listings = 0;
    const counted = (real: Platform): Platform => ({
      ...real,
      zoneIndex: () => {
        listings++;
        return real.zoneIndex();
      },
    });
    served = new ServedZones(zoned, { platform: counted });
    for (const zonename of ['alpha', 'beta', 'gamma']) {
      await zoned.create(zonename);
    }
    await zoned.boot('beta');
    await served.registry.start();
    listings = 0;
  });

  afterEach(async () => {
    await served.registry.stop(1000);
    assert.deepStrictEqual(zoned.node.subscribers(), []);
    zoned.node.remove();
  });

  function repaired(): unknown[] {
    return served.logged
      .records('reconcile repaired')
      .map(({ zonename, repair }) => `${String(zonename)}: ${String(repair)}`)
      .sort();
  }

  /** Starts one, and resolves when it has found a difference and waits to list again. */
  async function begun(): Promise<{ readonly done: Promise<number> }> {
    const done = served.reconcile();
    await eventually(() => listings === 1, 'the first listing');
    await delay(50);
    return { done };
  }

  it('finds nothing on a healthy node, with one listing', async () => {
    await zoned.boot('alpha');
    await zoned.halt('beta');
    await zoned.destroy('gamma');
    await zoned.create('delta', 'lx');
    const expected = { alpha: 'running', beta: 'halted', delta: 'halted' };
    await eventually(() => JSON.stringify(served.states) === JSON.stringify(expected));
    assert.strictEqual(await served.reconcile(), 0);
    assert.strictEqual(listings, 1);
    assert.deepStrictEqual(repaired(), []);
  });

  it('makes each running zone check its metadata directory', async () => {
    const checked: string[] = [];
    const mount = ({ zonename }: ZoneFacts): MountManager => ({
      state: 'mounted by the brand',
      mountPoint: '/',
      moved: () => undefined,
      lastCheck: () => 'ours',
      check: () => {
        checked.push(zonename);
        return Promise.resolve();
      },
    });
    await served.registry.stop(1000);
    served = new ServedZones(zoned, { directory: mount });
    await served.registry.start();
    assert.strictEqual(await served.reconcile(), 0);
    assert.deepStrictEqual(checked, ['beta']);
  });

  it('repairs a missed creation, deletion, state or identity', async () => {
    await zoned.withLostEvents(async () => {
      await zoned.boot('alpha');
      await zoned.halt('beta');
      await zoned.destroy('beta');
      await zoned.destroy('gamma');
      await zoned.create('gamma', 'lx');
      await zoned.create('delta');
    });
    const before = served.registry.get('gamma');
    assert.strictEqual(await served.reconcile(), 4);
    assert.deepStrictEqual(repaired(), [
      'alpha: missed state',
      'beta: missed deletion',
      'delta: missed creation',
      'gamma: changed identity',
    ]);
    assert.deepStrictEqual(served.states, { alpha: 'running', delta: 'halted', gamma: 'halted' });
    assert.notStrictEqual(served.registry.get('gamma'), before);
    assert.strictEqual(served.registry.get('gamma')?.facts.brand, 'lx');
    assert.strictEqual(await served.reconcile(), 0);
  });

  it('ignores a zone that had an event between the two listings', async () => {
    await zoned.withLostEvents(() => zoned.boot('alpha'));
    const { done } = await begun();
    const when = BigInt(Date.now()) * 1_000_000n;
    // It reports a state in between, so the zone still differs then.
    await zoned.node.emulation.publish('alpha', 1, 'ready', 'initialized', when);
    assert.strictEqual(await done, 0);
    assert.deepStrictEqual(served.states, { alpha: 'ready', beta: 'running', gamma: 'halted' });
    assert.strictEqual(await served.reconcile(), 1);
    assert.strictEqual(served.states.alpha, 'running');
  });

  it('repairs nothing when the event was only late', async () => {
    await zoned.withLostEvents(() => zoned.boot('alpha'));
    const { done } = await begun();
    const when = BigInt(Date.now()) * 1_000_000n;
    await zoned.node.emulation.publish('alpha', 1, 'running', 'ready', when);
    assert.strictEqual(await done, 0);
    assert.deepStrictEqual(repaired(), []);
    assert.strictEqual(served.states.alpha, 'running');
  });

  it('waits longer for events on a node whose events come late', async () => {
    const threeSecondsAgo = BigInt(Date.now() - 3000) * 1_000_000n;
    await zoned.node.emulation.publish('beta', 1, 'running', 'ready', threeSecondsAgo);
    await zoned.withLostEvents(() => zoned.boot('alpha'));
    assert.strictEqual(await served.reconcile(), 0);
    await eventually(() => repaired().length === 1, 'the repair', 10_000);
  });

  it('does not touch a zone that cannot be read, and repairs the others', async () => {
    const xml = zoned.node.paths.host('/etc/zones/beta.xml');
    const whole = readFileSync(xml);
    zoned.node.damageZone('beta');
    const beta = served.registry.get('beta');
    await zoned.withLostEvents(() => zoned.boot('alpha'));
    assert.strictEqual(await served.reconcile(), 1);
    assert.deepStrictEqual(repaired(), ['alpha: missed state']);
    assert.strictEqual(served.registry.get('beta'), beta);
    writeFileSync(xml, whole);
    assert.strictEqual(await served.reconcile(), 0);
  });

  it('repairs nothing while the registry stops its zones', async () => {
    await zoned.withLostEvents(() => zoned.boot('alpha'));
    const { done } = await begun();
    await served.registry.stop(0);
    assert.strictEqual(await done, 0);
    assert.deepStrictEqual([repaired(), served.repairs], [[], []]);
  });

  describe('by the clock', () => {
    let one: Reconciler;

    /** One of a node without zones. */
    function start(reconcileMs: number): void {
      const zoneIndex = (): ZoneIndex => {
        listings++;
        const index = zoned.node.platform.zoneIndex();
        return { ...index, entries: () => [].values() };
      };
      const platform = { ...zoned.node.platform, zoneIndex };
      const options = { platform, log: served.logged.log, reconcileMs };
      one = new Reconciler(options, new Map(), () => Promise.resolve());
      one.start();
    }

    afterEach(() => {
      one.stop();
    });

    it('runs periodically until it is stopped', async () => {
      start(20);
      await eventually(() => listings >= 3, 'three runs');
      one.stop();
      const before = listings;
      await delay(100);
      assert.strictEqual(listings, before);
    });

    it('runs early after a zone could not be read', async () => {
      start(NEVER_MS);
      one.soon();
      await eventually(() => listings === 1, 'a run');
      await delay(SOON_MS);
      assert.strictEqual(listings, 1);
    });

    it('lists at once where events were lost while it checks the mounts of zones that hang', async () => {
      let checks = 0;
      const directory = (): MountManager => ({
        state: 'mounted by the brand',
        mountPoint: '/',
        moved: () => undefined,
        lastCheck: () => 'unknown',
        check: () => {
          checks++;
          return new Promise(() => undefined);
        },
      });
      await served.registry.stop(1000);
      served = new ServedZones(zoned, { directory });
      await served.registry.start();
      const beta = served.registry.get('beta');
      assert(beta !== undefined);
      checks = 0;
      const names = Array.from({ length: 400 }, (_, n) => `zone${n}`);
      const zoneIndex = (): ZoneIndex => {
        listings++;
        const index = zoned.node.platform.zoneIndex();
        return {
          ...index,
          entries: () => names.map((zonename) => ({ ...beta.facts, zonename })).values(),
        };
      };
      const live = { state: 'running', zoneid: 1 } as const;
      const liveZones = () => new Map(names.map((zonename) => [zonename, live]));
      const platform = { ...zoned.node.platform, zoneIndex, liveZones };
      const options = { platform, log: served.logged.log, reconcileMs: 1 };
      const zones = new Map(names.map((zonename) => [zonename, beta]));
      one = new Reconciler(options, zones, () => Promise.resolve());
      one.start();
      await eventually(() => checks > 0, 'a check');
      one.lost();
      await eventually(() => listings > 1, 'another listing');
      assert(checks < names.length, `${checks} checks came first`);
    });

    it('logs a failed run, and retries soon until one succeeds', async () => {
      const { zoneIndex } = zoned.node.paths;
      const failures = (): number => served.logged.records('reconcile failed').length;
      renameSync(zoneIndex, `${zoneIndex}.away`);
      start(NEVER_MS);
      await one.run();
      await eventually(() => failures() === 2, 'a second try');
      renameSync(`${zoneIndex}.away`, zoneIndex);
      await eventually(() => listings === 3, 'a third try');
      await delay(SOON_MS);
      assert.deepStrictEqual([listings, failures()], [3, 2]);
    });
  });
});
