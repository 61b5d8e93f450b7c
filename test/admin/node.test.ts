import assert from 'node:assert';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PlatformStateReader } from '../../src/admin/node';
import { readZoneIndex, type LiveZone } from '../../src/platform/libzonecfg';

describe('the states that the platform gives', () => {
  let directory = '';
  let index = '';
  let readings = 0;
  const live = new Map<string, LiveZone>([['b', { state: 'running', zoneid: 7 }]]);
  const reader = (): PlatformStateReader =>
    new PlatformStateReader(
      {
        liveZones: () => live,
        zoneIndex: () => {
          readings++;
          return readZoneIndex(index);
        },
      },
      index,
    );

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'states-'));
    index = join(directory, 'index');
    writeFileSync(index, 'global:installed:/\na:configured:/z/a\nb:installed:/z/b\n');
    readings = 0;
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  it('come from the kernel and the index, which is parsed again only when it changed', async () => {
    const states = reader();
    const first = await states.read();
    assert.deepStrictEqual(first, {
      live,
      index: new Map([
        ['a', 'configured'],
        ['b', 'installed'],
      ]),
    });
    assert.deepStrictEqual(await states.read(), first);
    assert.strictEqual(readings, 1);
    writeFileSync(index, 'a:installed:/z/a\na:configured:/z/a\n');
    assert.deepStrictEqual((await states.read()).index, new Map([['a', 'installed']]));
    assert.strictEqual(readings, 2);
  });

  it('are not known where the platform cannot be asked', async () => {
    rmSync(index);
    await assert.rejects(reader().read(), /ENOENT/);
  });
});
