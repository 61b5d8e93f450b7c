import assert from 'node:assert';
import fc from 'fast-check';
import { routesOf } from '../../src/metadata/sdc';

/** The nics of the specification's table (keys, section 7). */
const NICS = [
  { mac: '90:b8:d0:f5:e4:f5', ip: '10.2.1.20' },
  { mac: '90:b8:d0:0a:ff:cd', ip: 'dhcp' },
  { mac: '90:b8:d0:0b:00:01', ip: '192.168.7.4' },
  { mac: '90:b8:d0:0c:00:01', ips: ['fd00::4/64'] },
  { mac: '2:8:20:0:0:1', ip: '172.16.0.9' },
];

function json(routes: Readonly<Record<string, unknown>>, nics: unknown = NICS): string {
  return JSON.stringify(routesOf(new Map(Object.entries(routes)), nics));
}

describe('routes', () => {
  it("are what the specification's table says", () => {
    const via = (dst: string, gateway: string, linklocal: boolean): string =>
      `[{"linklocal":${linklocal},"dst":"${dst}","gateway":"${gateway}"}]`;
    assert.strictEqual(json({}), '[]');
    assert.strictEqual(json({ '10.2.2.0/24': '10.2.1.1' }), via('10.2.2.0/24', '10.2.1.1', false));
    assert.strictEqual(json({ '10.3.0.1': 'nics[0]' }), via('10.3.0.1', '10.2.1.20', true));
    assert.strictEqual(json({ '10.3.0.1': 'nics[2]' }), via('10.3.0.1', '192.168.7.4', true));
    assert.strictEqual(json({ '10.3.0.1': 'nics[002]' }), via('10.3.0.1', '192.168.7.4', true));
    for (const gone of ['nics[1]', 'nics[3]', 'nics[9]', `nics[${'9'.repeat(40)}]`]) {
      assert.strictEqual(json({ '10.3.0.1': gone }), '[]', gone);
    }
    for (const mac of [
      '90:b8:d0:0b:00:01',
      '90:B8:D0:0B:00:01',
      '90-b8-d0-0b-00-01',
      '90b8d00b0001',
      '90:b8:d0:b:0:1',
    ]) {
      assert.strictEqual(
        json({ '10.4.0.1': `macs[${mac}]` }),
        via('10.4.0.1', '192.168.7.4', true),
      );
    }
    assert.strictEqual(
      json({ '10.4.0.1': 'macs[02:08:20:00:00:01]' }),
      via('10.4.0.1', '172.16.0.9', true),
    );
    for (const mac of ['zz', '00:00:00:00:00:01', '90:b8:d0:0a:ff:cd', '90:b8-d0:0b:00:01']) {
      assert.strictEqual(json({ '10.4.0.1': `macs[${mac}]` }), '[]', mac);
    }
    for (const literal of ['NICS[0]', 'nics[0] ', 'xnics[0]', 'nics[-1]', 'macs[]', 'nics[]']) {
      assert.strictEqual(json({ a: literal }), via('a', literal, false));
    }
    assert.strictEqual(json({ a: 'nics[0]', b: '1.2.3.4' }, null), via('b', '1.2.3.4', false));
  });

  it('keep the order of the map', () => {
    const routes = routesOf(new Map(Object.entries({ b: '1', 10: 'nics[0]', a: 'nics[2]' })), NICS);
    assert.deepStrictEqual(
      routes.map((route) => route.dst),
      ['10', 'b', 'a'],
    );
  });

  it('leave out gateways that are not strings and nics that are not objects', () => {
    assert.strictEqual(json({ a: null, b: 7, c: ['nics[0]'], d: {} }), '[]');
    for (const nics of [null, 'nics', {}, [null, 7, 'x', [], { ip: null, mac: 8 }]]) {
      assert.strictEqual(json({ a: 'nics[0]', b: 'nics[4]', c: 'macs[1:2:3:4:5:6]' }, nics), '[]');
    }
  });

  it('read nothing that a nic inherits', () => {
    const heir: unknown = Object.create({ ip: '10.0.0.1', mac: '1:2:3:4:5:6' });
    assert.strictEqual(json({ a: 'nics[0]', b: 'macs[1:2:3:4:5:6]' }, [heir]), '[]');
  });

  it('find a nic by its MAC in any notation', () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const style = fc.record({
      pad: fc.boolean(),
      upper: fc.boolean(),
      mark: fc.constantFrom(':', '-', ''),
    });
    const write = (
      mac: readonly number[],
      s: { pad: boolean; upper: boolean; mark: string },
    ): string => {
      const text = mac
        .map((value) => value.toString(16).padStart(s.pad || s.mark === '' ? 2 : 1, '0'))
        .join(s.mark);
      return s.upper ? text.toUpperCase() : text;
    };
    const macs = fc.uniqueArray(fc.array(byte, { minLength: 6, maxLength: 6 }), {
      selector: String,
      minLength: 2,
      maxLength: 5,
    });
    fc.assert(
      fc.property(macs, style, style, fc.nat(), (all, stored, asked, pick) => {
        const nics = all.map((mac, index) => ({ mac: write(mac, stored), ip: `10.0.0.${index}` }));
        const wanted = pick % all.length;
        const [route] = routesOf(
          new Map([['d', `macs[${write(all[wanted] ?? [], asked)}]`]]),
          nics,
        );
        assert.deepStrictEqual(route, { linklocal: true, dst: 'd', gateway: `10.0.0.${wanted}` });
      }),
    );
  });

  it('are routes in the order of the map, and of no dhcp, whatever is in the map and the nics', () => {
    const gateway = fc.oneof(
      fc.anything(),
      fc.constantFrom('nics[0]', 'nics[1]', 'nics[7]', 'macs[2:8:20:0:0:1]', '10.0.0.1', ''),
    );
    const nic = fc.oneof(
      fc.anything(),
      fc.record({
        mac: fc.constantFrom('2:8:20:0:0:1', 'zz'),
        ip: fc.constantFrom('10.0.0.9', 'dhcp'),
      }),
    );
    const nics = fc.oneof(fc.anything(), fc.array(nic, { maxLength: 3 }));
    const table = fc.uniqueArray(fc.tuple(fc.string(), gateway), { selector: ([dst]) => dst });
    fc.assert(
      fc.property(table, nics, (entries, ofVm) => {
        const routes = routesOf(new Map(entries), ofVm);
        const order = entries
          .map(([dst]) => dst)
          .filter((dst) => routes.some((r) => r.dst === dst));
        assert.deepStrictEqual(
          routes.map(({ dst }) => dst),
          order,
        );
        for (const { linklocal, dst, gateway: by } of routes) {
          assert.notStrictEqual(by, 'dhcp');
          const asked = new Map(entries).get(dst);
          assert.strictEqual(linklocal, asked !== by);
          assert.ok(!linklocal || /^(nics|macs)\[.+\]$/.test(String(asked)));
        }
      }),
    );
  });
});
