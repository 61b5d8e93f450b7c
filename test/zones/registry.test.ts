import assert from 'node:assert';
import { once } from 'node:events';
import { existsSync, lstatSync, writeFileSync } from 'node:fs';
import { setImmediate as nextIteration } from 'node:timers/promises';
import type { ZoneSubscription } from '../../src/platform/zone-events';
import { STATUS } from '../support/emulated-node';
import { eventually } from '../support/eventually';
import { nothingLeft, openThings, type OpenThings } from '../support/open-things';
import { Peer } from '../support/peer';
import { HeldLink, ServedZones, ZonedNode, type ServedOptions } from '../support/served-zones';

describe('the registry', () => {
  let zoned: ZonedNode;
  let all: ServedZones[];
  /** What a test holds up goes on at its end, whatever became of the test. */
  let releases: (() => void)[];
  let before: OpenThings;

  beforeEach(async () => {
    releases = [];
    zoned = new ZonedNode();
    all = [];
    // The thread pool and the first async call open descriptors of their own, once.
    await zoned.kernel.configured('warm');
    before = openThings();
  });

  afterEach(async () => {
    releases.forEach((release) => release());
    await Promise.all(all.map(({ registry }) => registry.stop(1000)));
    assert.deepStrictEqual(zoned.node.subscribers(), []);
    await nothingLeft(before);
    zoned.node.remove();
  });

  function serve(options: ServedOptions = {}): ServedZones {
    const served = new ServedZones(zoned, options);
    all.push(served);
    return served;
  }

  async function become(served: ServedZones, expected: Record<string, string>): Promise<void> {
    const text = JSON.stringify(expected);
    await eventually(() => JSON.stringify(served.states) === text, text);
  }

  /** What the zone's socket answers: its brand. */
  async function answer(zonename: string): Promise<string> {
    const peer = await Peer.at(zoned.node.paths.zoneSocket(zonename));
    const reply = await peer.ask('GET brand\n', 'SUCCESS\nx\n.\n'.length);
    peer.socket.destroy();
    return reply.split('\n')[1] ?? '';
  }

  function gate(): { readonly released: Promise<void>; readonly release: () => void } {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    releases.push(release);
    return { released, release };
  }

  function nowNs(): bigint {
    return BigInt(Date.now()) * 1_000_000n;
  }

  /** Its first snapshot is followed by this, before its critical section ends. */
  function afterListing(work: () => Promise<void>): NonNullable<ServedOptions['subscription']> {
    let done = false;
    return (real: ZoneSubscription) => ({
      ...real,
      exitCritical: async () => {
        if (!done) {
          done = true;
          await work();
        }
        return real.exitCritical();
      },
    });
  }

  describe('at its start', () => {
    it('holds all zones in their states, with their sockets listening, when start() resolves', async () => {
      await zoned.create('alpha');
      await zoned.create('beta', 'lx');
      await zoned.boot('beta');
      const served = serve();
      await served.registry.start();
      assert.deepStrictEqual(served.states, { alpha: 'halted', beta: 'running' });
      assert(lstatSync(zoned.node.paths.zoneSocket('alpha')).isSocket());
      assert.strictEqual(await answer('beta'), 'lx');
    });

    it('binds the sockets of running zones first, and logs when they listen', async () => {
      // The index has them in this order.
      for (const name of ['alpha', 'beta', 'gamma', 'delta']) {
        await zoned.create(name);
      }
      await zoned.boot('beta');
      await zoned.boot('delta');
      const order: string[] = [];
      const served = serve({
        link: (real, { zonename }) =>
          new HeldLink(real, {
            start: () => {
              order.push(zonename);
              if (zonename === 'alpha') {
                assert(lstatSync(zoned.node.paths.zoneSocket('beta')).isSocket());
                assert(lstatSync(zoned.node.paths.zoneSocket('delta')).isSocket());
                const [record] = served.logged.records('running zones are served');
                assert.strictEqual(record?.zones, 2);
              }
              return Promise.resolve();
            },
          }),
      });
      await served.registry.start();
      assert.deepStrictEqual(order, ['beta', 'delta', 'alpha', 'gamma']);
      assert.strictEqual(served.registry.size, 4);
    });

    it('says so where the event channel does not answer', async () => {
      await zoned.create('alpha');
      const { released, release } = gate();
      const served = serve({
        subscription: (real) => ({
          ...real,
          exitCritical: async () => {
            await released;
            return real.exitCritical();
          },
        }),
      });
      const text = 'no list of zones yet: the event channel of the platform does not answer';
      const starting = served.registry.start();
      await eventually(() => served.logged.records(text).length > 0, 'the record', 20_000);
      assert.deepStrictEqual(served.states, {});
      release();
      await starting;
      assert.deepStrictEqual(served.states, { alpha: 'halted' });
    });

    it('misses no change during the first snapshot', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      const between = async (): Promise<void> => {
        await zoned.destroy('beta');
      };
      const served = serve({ subscription: afterListing(between) });
      await served.registry.start();
      assert.deepStrictEqual(served.states, { alpha: 'halted' });
      assert.strictEqual(await served.reconcile(), 0);
    });

    it('misses no change while its zones are added', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      await zoned.create('gamma');
      let changed: Promise<void> | undefined;
      const served = serve({
        link: (real, { zonename }) => {
          if (zonename === 'alpha') {
            changed = zoned
              .boot('alpha')
              .then(() => zoned.boot('gamma'))
              .then(() => zoned.destroy('beta'))
              .then(() => zoned.create('delta'));
          }
          return new HeldLink(real, { start: () => changed ?? Promise.resolve() });
        },
      });
      await served.registry.start();
      await become(served, { alpha: 'running', delta: 'halted', gamma: 'running' });
      assert.deepStrictEqual(served.repairs, []);
    });

    it('lists all zones again when events were lost before all were added', async () => {
      await zoned.create('alpha');
      let missed: Promise<void> | undefined;
      const served = serve({
        link: (real) => {
          missed ??= zoned.withLostEvents(() => zoned.boot('alpha')).then(() => zoned.flood());
          return new HeldLink(real, { start: () => missed ?? Promise.resolve() });
        },
      });
      await served.registry.start();
      await become(served, { alpha: 'running' });
      assert.deepStrictEqual(served.repairs, ['missed state']);
    });

    it('logs a zone that cannot be read, serves all others, and adds it once it can be read', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      await zoned.create('gamma');
      const xml = zoned.node.paths.host('/etc/zones/beta.xml');
      zoned.node.damageZone('beta');
      const served = serve();
      await served.registry.start();
      assert.deepStrictEqual(served.states, { alpha: 'halted', gamma: 'halted' });
      const [record] = served.logged.records('zone cannot be read and is not served');
      assert.strictEqual(record?.zonename, 'beta');
      writeFileSync(xml, '<zone name="beta" zonepath="/zones/beta" brand="lx"/>');
      await zoned.boot('beta');
      await become(served, { alpha: 'halted', beta: 'running', gamma: 'halted' });
      assert.strictEqual(await answer('beta'), 'lx');
    });
  });

  describe('while it runs', () => {
    it('follows each zone from creation to deletion, and leaves nothing behind', async () => {
      const served = serve();
      const gone: string[] = [];
      served.registry.on('removed', (zone) => gone.push(zone.zonename));
      await served.registry.start();
      await zoned.create('alpha');
      await become(served, { alpha: 'halted' });
      await zoned.boot('alpha');
      await become(served, { alpha: 'running' });
      await zoned.halt('alpha');
      await become(served, { alpha: 'halted' });
      await zoned.destroy('alpha');
      await eventually(() => gone.length === 1);
      assert.deepStrictEqual([gone, served.states], [['alpha'], {}]);
      assert(!existsSync(zoned.node.paths.zoneDirectory('alpha')));
    });

    it('lists all zones again when events were lost', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      const served = serve();
      await served.registry.start();
      await zoned.withLostEvents(async () => {
        await zoned.boot('alpha');
        await zoned.destroy('beta');
        await zoned.create('gamma');
      });
      await zoned.flood();
      await become(served, { alpha: 'running', gamma: 'halted' });
      assert.deepStrictEqual(served.repairs.sort(), [
        'missed creation',
        'missed deletion',
        'missed state',
      ]);
    });

    it('lists once more when events were lost after the first listing', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      const served = serve();
      await served.registry.start();
      await zoned.withLostEvents(() => zoned.boot('alpha'));
      await zoned.flood();
      const lost = 'zone events were lost, listing all zones';
      await eventually(() => served.logged.records(lost).length === 1, 'the first run');
      await nextIteration();
      await zoned.withLostEvents(() => zoned.boot('beta'));
      await zoned.flood();
      await become(served, { alpha: 'running', beta: 'running' });
    });

    it('ignores an event that is older than its own query of the zone', async () => {
      await zoned.create('alpha');
      const served = serve();
      await served.registry.start();
      const moves: string[] = [];
      served.registry.on('moved', (zone) => moves.push(zone.state));
      const old = nowNs() - 1_000_000_000n;
      await zoned.withLostEvents(() => zoned.boot('alpha'));
      await served.registry.notify('alpha');
      await zoned.node.emulation.publish('alpha', 1, 'initialized', 'uninitialized', old);
      await zoned.node.emulation.publish('alpha', 1, 'ready', 'initialized', old + 1n);
      await zoned.node.emulation.publish('alpha', 1, 'running', 'ready', old + 2n);
      await zoned.move('alpha', 'shutting_down');
      await become(served, { alpha: 'halted' });
      assert.deepStrictEqual(moves, ['running', 'halted']);
    });

    it('follows a state that was published before its own query and set after it', async () => {
      await zoned.create('alpha');
      const served = serve();
      await served.registry.start();
      await zoned.withLostEvents(() => zoned.move('alpha', 'initialized', 'ready'));
      const published = nowNs() - 1_000_000n;
      await served.registry.notify('alpha');
      const event = once(served.registry, 'event');
      await zoned.node.emulation.publish('alpha', 1, 'shutting_down', 'ready', published);
      await event;
      assert.deepStrictEqual(served.states, { alpha: 'ready' });
      // The kernel sets the state that it published just before.
      zoned.node.emulation.zoneStatus('alpha', STATUS.shutting_down, 0);
      await become(served, { alpha: 'halted' });
      assert.deepStrictEqual(served.repairs, []);
    });

    it('ignores an event that is older than the zone’s first query', async () => {
      const served = serve();
      await served.registry.start();
      const moves: string[] = [];
      served.registry.on('moved', (zone) => moves.push(zone.state));
      const old = nowNs() - 1_000_000_000n;
      await zoned.withLostEvents(async () => {
        await zoned.create('alpha');
        await zoned.boot('alpha');
      });
      await zoned.node.emulation.publish('alpha', -1, 'configured', '', old);
      await zoned.node.emulation.publish('alpha', 1, 'initialized', 'uninitialized', old + 1n);
      await zoned.node.emulation.publish('alpha', 1, 'ready', 'initialized', old + 2n);
      await zoned.node.emulation.publish('alpha', 1, 'running', 'ready', old + 3n);
      await zoned.move('alpha', 'shutting_down');
      await become(served, { alpha: 'halted' });
      assert.deepStrictEqual(moves, ['halted']);
    });

    it('lets a zone run whose run before is freed late', async () => {
      await zoned.create('alpha');
      await zoned.boot('alpha');
      const served = serve();
      await served.registry.start();
      const moves: string[] = [];
      served.registry.on('moved', (zone) => moves.push(zone.state));
      zoned.faults.set({ name: 'events.late-free', value: 0, zonename: null });
      await zoned.halt('alpha');
      let newest = '';
      served.registry.on('event', ({ newstate }) => {
        newest = newstate;
      });
      await zoned.boot('alpha');
      await eventually(() => newest === 'free');
      assert.deepStrictEqual(served.states, { alpha: 'running' });
      assert.strictEqual(moves.at(-1), 'running');
      assert.strictEqual(await answer('alpha'), 'joyent');
      assert.strictEqual(await served.reconcile(), 0);
    });

    it('takes the states of the index for what they are, which userland publishes', async () => {
      await zoned.create('alpha');
      const served = serve();
      await served.registry.start();
      await zoned.kernel.indexed('alpha', 'installed', 'incomplete');
      await zoned.kernel.indexed('alpha', 'incomplete', 'configured');
      // A zone that nobody announced.
      await zoned.withLostEvents(() => zoned.create('beta'));
      await zoned.kernel.indexed('beta', 'incomplete', 'installed');
      await become(served, { alpha: 'halted', beta: 'halted' });
      await zoned.kernel.indexed('alpha', 'incomplete', 'installed');
      await zoned.boot('alpha');
      await become(served, { alpha: 'running', beta: 'halted' });
      assert.strictEqual(await served.reconcile(), 0);
    });

    it('gives a zone that is created again under its name a new link, once the old one is closed', async () => {
      await zoned.create('alpha');
      const { released, release } = gate();
      const served = serve({ link: (real) => new HeldLink(real, { stop: () => released }) });
      const course: string[] = [];
      served.registry.on('added', (zone) => course.push(`${zone.facts.brand} added`));
      served.registry.on('removed', (zone) => course.push(`${zone.facts.brand} removed`));
      await served.registry.start();
      await zoned.destroy('alpha');
      await eventually(() => served.registry.size === 0);
      await zoned.create('alpha', 'lx');
      await zoned.boot('alpha');
      await zoned.create('beta');
      await become(served, { beta: 'halted' });
      assert.strictEqual(await answer('alpha'), 'joyent', 'the old one serves who is still there');
      release();
      await become(served, { alpha: 'running', beta: 'halted' });
      await eventually(async () => (await answer('alpha').catch(() => '')) === 'lx');
      assert.deepStrictEqual(
        course.filter((step) => step !== 'joyent added'),
        ['joyent removed', 'lx added'],
      );
    });

    it('follows zones that have become unreadable, and all others', async () => {
      await zoned.create('alpha');
      await zoned.create('beta');
      const served = serve();
      await served.registry.start();
      zoned.node.damageZone('beta');
      await zoned.node.emulation.publish('beta', 1, 'running', 'ready', nowNs());
      await zoned.withLostEvents(() => zoned.create('gamma'));
      zoned.node.damageZone('gamma');
      await zoned.kernel.configured('gamma');
      await zoned.boot('alpha');
      await become(served, { alpha: 'running', beta: 'running' });
      const [record] = served.logged.records('zone could not be read');
      assert.strictEqual(record?.zonename, 'gamma');
      assert.strictEqual(await served.reconcile(), 0);
    });
  });

  describe('at its end', () => {
    it('leaves the socket files for the next agent', async () => {
      await zoned.create('alpha');
      const served = serve();
      await served.registry.start();
      await served.registry.stop(100);
      assert(lstatSync(zoned.node.paths.zoneSocket('alpha')).isSocket());
      await assert.rejects(answer('alpha'), { code: 'ECONNREFUSED' });
      assert.deepStrictEqual(served.states, { alpha: 'closed' });
    });

    it('adds no zone after a stop during the start', async () => {
      for (let n = 0; n < 20; n++) {
        await zoned.create(`zone${n}`);
      }
      const served = serve();
      const stopped = new Promise<void>((resolve) => {
        served.registry.once('added', () => resolve(served.registry.stop(100)));
      });
      await Promise.all([served.registry.start(), stopped]);
      assert.deepStrictEqual(served.states, { zone0: 'closed' });
    });

    it('stops within its grace although the subscription does not end', async () => {
      await zoned.create('alpha');
      const { released, release } = gate();
      const served = serve({
        subscription: (real) => ({
          ...real,
          close: async () => {
            await released;
            await real.close();
          },
        }),
      });
      await served.registry.start();
      const began = performance.now();
      await served.registry.stop(200);
      const tookMs = performance.now() - began;
      assert(tookMs >= 190 && tookMs < 2000, `${tookMs} ms`);
      await zoned.boot('alpha');
      assert.deepStrictEqual(served.states, { alpha: 'closed' });
      release();
      await eventually(() => zoned.node.subscribers().length === 0);
    });
  });
});
