import assert from 'node:assert';
import { renameSync } from 'node:fs';
import type { Platform } from '../../src/platform/libzonecfg';
import { listZones } from '../../src/zones/snapshot';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';

describe('a snapshot of all zones', () => {
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

  it('has brand, path and state of each configured one, and not the global one', async () => {
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

  it('leaves out a zone that goes away while it is taken', async () => {
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
    it(`tells a zone apart whose XML is ${what}, and has all others`, async () => {
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

  it('knows no zone that stands in the index only, without a brand', async () => {
    node.addZone('alpha');
    node.leaveOutBrands();
    const xml = node.paths.host('/etc/zones/alpha.xml');
    renameSync(xml, `${xml}.away`);
    assert.deepStrictEqual(await listZones(node.platform), { zones: [], unreadable: new Map() });
  });

  it('cannot be had without the index, which the error names', async () => {
    const { zoneIndex } = node.paths;
    renameSync(zoneIndex, `${zoneIndex}.away`);
    await assert.rejects(listZones(node.platform), { code: 'ENOENT', subject: zoneIndex });
  });

  it('lets a fault of ours through: that is no damaged zone', async () => {
    node.addZone('alpha');
    node.leaveOutBrands();
    const broken = (): never => {
      throw new TypeError('on purpose');
    };
    await assert.rejects(listZones({ ...node.platform, zoneBrand: broken }), TypeError);
  });

  it('gives others their turn while it goes through a thousand zones', async () => {
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
