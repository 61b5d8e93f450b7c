import assert from 'node:assert';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { listZones } from '../../src/zones/events';
import type { ZoneFacts } from '../../src/platform/libzonecfg';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';

const ZONES = 300;

describe('the index of configured zones', () => {
  let node: EmulatedNode;

  beforeEach(() => {
    node = makeNode();
  });

  afterEach(() => {
    node.remove();
  });

  function entries(text: string): ZoneFacts[] {
    writeFileSync(node.paths.zoneIndex, text);
    return [...node.platform.zoneIndex().entries()];
  }

  it('has name, state, zonepath and brand in fields one, two, three and five', () => {
    const text = 'global:installed:/::\nz1:installed:/zones/z1:0a7c:lx:ex:12\n';
    assert.deepStrictEqual(entries(text), [
      { zonename: 'z1', state: 'installed', zonepath: '/zones/z1', brand: 'lx' },
    ]);
  });

  it('accepts four fields, and a last line without a newline', () => {
    assert.deepStrictEqual(entries('z1:configured:/zones/z1:0a7c\nz2:incomplete:'), [
      { zonename: 'z1', state: 'configured', zonepath: '/zones/z1', brand: '' },
      { zonename: 'z2', state: 'incomplete', zonepath: '', brand: '' },
    ]);
  });

  it('accepts a colon in a quoted zonepath', () => {
    assert.deepStrictEqual(entries('z1:installed:"/zones/a:b":0a7c:joyent:ex:1\n'), [
      { zonename: 'z1', state: 'installed', zonepath: '/zones/a:b', brand: 'joyent' },
    ]);
  });

  for (const [what, line] of [
    ['a comment', '#z1:installed:/zones/z1:u:lx:ex:1'],
    ['an empty line', ''],
    ['a line without a name', ':installed:/zones/z1:u'],
    ['a state of the kernel', 'z1:running:/zones/z1:u:lx:ex:1'],
    ['no state', 'z1'],
    ['a name that is too long', `${'z'.repeat(64)}:installed:/zones/z1:u`],
    ['a path that is too long', `z1:installed:/${'z'.repeat(1024)}:u`],
  ] as const) {
    it(`passes over ${what}, as libzonecfg does`, () => {
      assert.deepStrictEqual(entries(`${line}\nz9:installed:/zones/z9:u:lx:ex:9\n`).length, 1);
      assert.strictEqual(node.platform.zoneFacts('z1'), undefined);
      assert.strictEqual(node.platform.zoneFacts('z9')?.brand, 'lx');
    });
  }

  it('finds a zone by its whole name only', () => {
    entries('xz1:installed:/zones/x:u:lx:ex:1\nz1:installed:/zones/z1:z1:joyent:ex:2\n');
    assert.strictEqual(node.platform.zoneFacts('z1')?.zonepath, '/zones/z1');
    assert.strictEqual(node.platform.zoneFacts('z'), undefined);
  });

  it('is overruled by the kernel for a zone that the kernel knows', () => {
    node.addZone('alpha');
    const states = (): unknown => node.platform.zoneFacts('alpha')?.state;
    node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
    assert.strictEqual(states(), 'installed');
    node.emulation.zoneStatus('alpha', STATUS.booting, 0);
    assert.strictEqual(states(), 'running');
    node.emulation.zoneStatus('alpha', STATUS.free, 0);
    assert.strictEqual(states(), 'installed');
  });

  describe('of many zones', () => {
    beforeEach(() => {
      node.emulation.zonesConfigure(
        Array.from({ length: ZONES }, (_, n) => {
          const name = `z${n}`;
          return {
            name,
            brand: 'joyent',
            zonepath: `/zones/${name}`,
            uuid: '',
            state: 'installed',
          };
        }),
      );
      node.emulation.zoneStatus('z7', STATUS.initialized, 0);
      node.emulation.zoneStatus('z7', STATUS.running, 0);
    });

    it('is listed without a call of libzonecfg', async () => {
      const before = node.emulation.costs();
      const { zones } = await listZones(node.platform);
      assert.deepStrictEqual([zones.length, zones[7]?.state], [ZONES, 'running']);
      assert.strictEqual(node.platform.zoneFacts('z8')?.brand, 'joyent');
      assert.deepStrictEqual(node.emulation.costs(), before);
    });

    it('asks libzonecfg for the brands that it leaves out only', async () => {
      const { zoneIndex } = node.paths;
      const text = readFileSync(zoneIndex, 'utf8').replace(/^(z[89]:.*):joyent:ex:\d+$/gm, '$1');
      writeFileSync(`${zoneIndex}.new`, text);
      renameSync(`${zoneIndex}.new`, zoneIndex);
      rmSync(node.paths.host('/etc/zones/z9.xml'));
      const before = node.emulation.costs();
      const { zones, unreadable } = await listZones(node.platform);
      const after = node.emulation.costs();
      // One without XML is not configured.
      assert.deepStrictEqual([zones.length, unreadable.size], [ZONES - 1, 0]);
      assert.strictEqual(zones[8]?.brand, 'joyent');
      assert.deepStrictEqual(
        [after.documents - before.documents, after.indexLines - before.indexLines],
        [3, 0],
      );
    });
  });
});
