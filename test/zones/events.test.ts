import assert from 'node:assert';
import { once } from 'node:events';
import { readdirSync, renameSync } from 'node:fs';
import type { Platform } from '../../src/platform/libzonecfg';
import {
  bindZoneEvents,
  type RawZoneEvent,
  type ZoneSubscription,
} from '../../src/platform/zone-events';
import { listZones, ZoneEvents } from '../../src/zones/events';
import { makeNode, openDescriptors, STATUS, type EmulatedNode } from '../support/emulated-node';
import { eventually } from '../support/eventually';
import { ZonedNode } from '../support/served-zones';

/** What an event says, without what is another in each run. */
function textOf({ zonename, newstate, oldstate }: RawZoneEvent): string {
  if (newstate === '') {
    return `${zonename} deleted`;
  }
  return `${zonename} ${oldstate === '' ? 'created' : `changed ${oldstate}>${newstate}`}`;
}

describe('zone events', () => {
  let zoned: ZonedNode;
  let streams: ZoneEvents[];
  let descriptors: number;

  beforeEach(async () => {
    zoned = new ZonedNode();
    streams = [];
    // The thread pool and the first async call open descriptors of their own, once.
    await zoned.kernel.configured('warm');
    descriptors = openDescriptors();
  });

  afterEach(async () => {
    await Promise.all(streams.map((stream) => stream.stop()));
    assert.deepStrictEqual(zoned.node.subscribers(), []);
    await eventually(() => openDescriptors() === descriptors, 'descriptors are as before');
    zoned.node.remove();
  });

  function make(wrap?: (real: ZoneSubscription) => ZoneSubscription): ZoneEvents {
    const stream = new ZoneEvents(zoned.node.platform, zoned.bind(wrap));
    streams.push(stream);
    return stream;
  }

  /** One that does something between its listing and the end of its critical section, each time. */
  function withBetween(between: () => Promise<void>): ZoneEvents {
    return make((real) => ({
      ...real,
      exitCritical: async () => {
        await between();
        return real.exitCritical();
      },
    }));
  }

  function eventsOf(stream: ZoneEvents): string[] {
    const seen: string[] = [];
    stream.on('data', (event: RawZoneEvent) => seen.push(textOf(event)));
    return seen;
  }

  it('start with a snapshot of all zones but the global one', async () => {
    await zoned.create('alpha');
    await zoned.create('beta', 'lx');
    await zoned.boot('beta');
    const stream = make();
    const ready = once(stream, 'ready');
    const facts = await stream.start();
    assert.deepStrictEqual(facts, [
      { zonename: 'alpha', brand: 'joyent', zonepath: '/zones/alpha', state: 'installed' },
      { zonename: 'beta', brand: 'lx', zonepath: '/zones/beta', state: 'running' },
    ]);
    assert.deepStrictEqual(await ready, [facts]);
  });

  it('report a zone’s whole life with the kernel’s state names and times, in order', async () => {
    const stream = make();
    const seen = eventsOf(stream);
    const whens: bigint[] = [];
    stream.on('data', (event: RawZoneEvent) => whens.push(event.when));
    await stream.start();
    const from = BigInt(Date.now()) * 1_000_000n;
    await zoned.create('alpha');
    await zoned.boot('alpha');
    await zoned.halt('alpha');
    await zoned.destroy('alpha');
    await eventually(() => seen.at(-1) === 'alpha deleted');
    assert.deepStrictEqual(seen, [
      'alpha created',
      'alpha changed uninitialized>initialized',
      'alpha changed initialized>ready',
      'alpha changed ready>running',
      'alpha changed running>shutting_down',
      'alpha changed shutting_down>shutting_down',
      'alpha changed shutting_down>shutting_down',
      'alpha changed shutting_down>uninitialized',
      'alpha changed uninitialized>free',
      'alpha deleted',
    ]);
    assert(whens.every((when) => when >= from && when < from + 60_000_000_000n));
  });

  it('include changes made during the snapshot in the snapshot, and do not repeat them', async () => {
    await zoned.create('alpha');
    const work = [() => zoned.create('beta'), () => zoned.move('alpha', 'initialized')];
    let listings = 0;
    const stream = withBetween(async () => {
      listings++;
      await work.shift()?.();
    });
    const seen = eventsOf(stream);
    const facts = await stream.start();
    assert.strictEqual(listings, 3, 'each change has the zones listed again');
    assert.deepStrictEqual(
      facts.map(({ zonename, state }) => `${zonename} ${state}`),
      ['alpha installed', 'beta installed'],
    );
    await zoned.move('alpha', 'ready');
    await eventually(() => seen.length > 0);
    assert.deepStrictEqual(seen, ['alpha changed initialized>ready']);
  });

  it('bound the first snapshot of a node that never rests, and say that zones changed meanwhile', async () => {
    await zoned.create('alpha');
    let listings = 0;
    const stream = withBetween(async () => {
      listings++;
      await zoned.kernel.configured('alpha');
    });
    const seen = eventsOf(stream);
    const began = performance.now();
    const facts = await stream.start();
    assert(performance.now() - began >= 2000 && listings > 1, `${listings} listings`);
    assert.strictEqual(facts.length, 1);
    assert.strictEqual(stream.changedMeanwhile, true);
    await zoned.move('alpha', 'initialized');
    await eventually(() => seen.at(-1) === 'alpha changed uninitialized>initialized');
  });

  it('report a zone that cannot be read, and list all others', async () => {
    for (const zonename of ['alpha', 'beta', 'gamma']) {
      await zoned.create(zonename);
    }
    zoned.node.damageZone('beta');
    const stream = make();
    const unreadable: unknown[] = [];
    stream.on('unreadable', (zonename: string, err: Error) =>
      unreadable.push(`${zonename} ${err.name}`),
    );
    const facts = await stream.start();
    assert.deepStrictEqual(
      facts.map(({ zonename }) => zonename),
      ['alpha', 'gamma'],
    );
    assert.deepStrictEqual(unreadable, ['beta SystemError']);
  });

  it('fail to start where the zones cannot be listed, and leave the critical section', async () => {
    const index = zoned.node.paths.zoneIndex;
    renameSync(index, `${index}.away`);
    await assert.rejects(make().start(), { name: 'SystemError', call: 'read', code: 'ENOENT' });
    renameSync(`${index}.away`, index);
    // More than a queue takes, were the section still held.
    for (let n = 0; n < 50; n++) {
      await zoned.kernel.configured('alpha');
    }
  });

  it('report how many events were lost when the queue is full, and deliver later ones', async () => {
    const stream = make();
    const seen = eventsOf(stream);
    let lost = 0;
    stream.on('lost', (count: number) => (lost += count));
    await stream.start();
    await zoned.flood();
    // While the queue is full, a later event would be lost too.
    await eventually(
      () => seen.length + lost === 100,
      'each event is delivered, or reported as lost',
    );
    assert(lost > 0);
    await zoned.create('alpha');
    await eventually(() => seen.at(-1) === 'alpha created');
    assert.strictEqual(seen.length - 1 + lost, 100);
  });

  it('reach every subscriber, and continue when one of them stops', async () => {
    const [one, two] = [make(), make()];
    const [first, second] = [eventsOf(one), eventsOf(two)];
    await Promise.all([one.start(), two.start()]);
    await zoned.create('alpha');
    await eventually(() => first.length === 1 && second.length === 1);
    await one.stop();
    await zoned.create('beta');
    await eventually(() => second.length === 2);
    assert.deepStrictEqual(first, ['alpha created']);
  });

  it('end the stream at a stop, which may be repeated', async () => {
    const stream = make();
    const seen = eventsOf(stream);
    const ended = once(stream, 'end');
    await stream.start();
    const stopped = stream.stop();
    assert.strictEqual(stream.stop(), stopped);
    await zoned.create('alpha');
    await Promise.all([stopped, ended]);
    assert.deepStrictEqual(seen, []);
  });

  it('may be stopped during the first snapshot, which then rejects', async () => {
    const holding: { stream?: ZoneEvents } = {};
    holding.stream = withBetween(async () => {
      void holding.stream?.stop();
      await Promise.resolve();
    });
    await assert.rejects(holding.stream.start(), { name: 'SystemError', code: 'ESHUTDOWN' });
  });

  it('fail to start where there is no node', async () => {
    const stream = new ZoneEvents(zoned.node.platform, (onEvent, onLost) =>
      bindZoneEvents(onEvent, onLost, { root: zoned.node.paths.host('/nowhere') }),
    );
    await assert.rejects(stream.start(), { name: 'SystemError', call: 'zonecfg_notify_bind' });
    await stream.stop();
    assert.deepStrictEqual(readdirSync(zoned.node.paths.host('/system/simcn/evchan')), []);
  });
});

describe('a listing of all zones', () => {
  let node: EmulatedNode;

  beforeEach(() => {
    node = makeNode();
  });

  afterEach(() => {
    node.remove();
  });

  async function names(platform: Platform = node.platform): Promise<string[]> {
    return (await listZones(platform)).zones.map(({ zonename }) => zonename);
  }

  it('returns brand, path and state of each configured zone but the global one', async () => {
    assert.deepStrictEqual(await listZones(node.platform), { zones: [], unreadable: new Map() });
    node.addZone('alpha', 'lx');
    node.addZone('beta', 'bhyve');
    node.emulation.zoneStatus('beta', STATUS.initialized, 0);
    node.emulation.zoneStatus('beta', STATUS.running, 0);
    const { zones, unreadable } = await listZones(node.platform);
    assert.deepStrictEqual(zones, [
      { zonename: 'alpha', brand: 'lx', zonepath: '/zones/alpha', state: 'installed' },
      { zonename: 'beta', brand: 'bhyve', zonepath: '/zones/beta', state: 'running' },
    ]);
    assert.strictEqual(unreadable.size, 0);
  });

  it('leaves out a zone that is deleted meanwhile', async () => {
    ['alpha', 'beta', 'gamma'].forEach((zonename) => node.addZone(zonename));
    node.leaveOutBrands();
    const seen = await names({
      ...node.platform,
      zoneBrand: (zonename) => {
        if (zonename === 'alpha') {
          node.emulation.zoneDelete('beta');
        }
        return node.platform.zoneBrand(zonename);
      },
    });
    assert.deepStrictEqual(seen, ['alpha', 'gamma']);
  });

  for (const [what, damage] of [
    ['cut off', '<?xml version="1.0"?>\n<zone name="beta" zonepa'],
    ['of another program', '<service_bundle type="manifest" name="beta"/>'],
    ['empty', ''],
  ] as const) {
    it(`reports a zone whose XML is ${what}, and lists all others`, async () => {
      ['alpha', 'beta', 'gamma'].forEach((zonename) => node.addZone(zonename));
      node.damageZone('beta', damage);
      const { zones, unreadable } = await listZones(node.platform);
      assert.deepStrictEqual(
        zones.map(({ zonename }) => zonename),
        ['alpha', 'gamma'],
      );
      const err = unreadable.get('beta');
      assert.deepStrictEqual([...unreadable.keys()], ['beta']);
      assert.deepStrictEqual([err?.call, err?.code], ['zone_get_brand', 'Z_INVALID_DOCUMENT']);
    });
  }

  it('leaves out a zone without XML whose index line has no brand', async () => {
    node.addZone('alpha');
    node.leaveOutBrands();
    const xml = node.paths.host('/etc/zones/alpha.xml');
    renameSync(xml, `${xml}.away`);
    assert.deepStrictEqual(await listZones(node.platform), { zones: [], unreadable: new Map() });
  });

  it('fails without the index, and names it', async () => {
    const { zoneIndex } = node.paths;
    renameSync(zoneIndex, `${zoneIndex}.away`);
    await assert.rejects(listZones(node.platform), { code: 'ENOENT', subject: zoneIndex });
  });

  it('throws a bug of the agent instead of reporting a damaged zone', async () => {
    node.addZone('alpha');
    node.leaveOutBrands();
    const broken = (): never => {
      throw new TypeError('on purpose');
    };
    await assert.rejects(listZones({ ...node.platform, zoneBrand: broken }), TypeError);
  });

  it('yields to the event loop while it lists a thousand zones', async () => {
    node.emulation.zonesConfigure(
      Array.from({ length: 1000 }, (_, n) => {
        const name = `zone${n}`;
        const zonepath = `/zones/${name}`;
        return { name, brand: 'joyent', zonepath, uuid: `u${n}`, state: 'installed' };
      }),
    );
    let turns = 0;
    let over = false;
    const count = (): void => {
      turns++;
      if (!over) {
        setImmediate(count);
      }
    };
    setImmediate(count);
    node.leaveOutBrands();
    // Each brand takes longer than it does on a fast machine, so that there is something to share.
    const slow = (zonename: string): string => {
      const end = performance.now() + 0.1;
      while (performance.now() < end);
      return node.platform.zoneBrand(zonename);
    };
    const seen = await names({ ...node.platform, zoneBrand: slow });
    over = true;
    assert.strictEqual(seen.length, 1000);
    assert(turns >= 5, `${turns} turns in 100 ms`);
  });
});
