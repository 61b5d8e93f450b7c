import assert from 'node:assert';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readStates } from '../../src/admin/node';
import { readZoneIndex, type LiveZone } from '../../src/platform/libzonecfg';
import { tempDir } from '../support/temp-dir';

describe('the states that the platform gives', () => {
  const directory = tempDir();
  const index = join(directory.path, 'index');
  const live = new Map<string, LiveZone>([['b', { state: 'running', zoneid: 7 }]]);
  const platform = { liveZones: () => live, zoneIndex: () => readZoneIndex(index) };

  after(() => directory.remove());

  it('come from the kernel and, of other zones, from the first line of the index', async () => {
    writeFileSync(
      index,
      'global:installed:/\na:configured:/z/a\na:installed:/z/a\nb:installed:/z/b\n',
    );
    assert.deepStrictEqual(
      await readStates(platform),
      new Map([
        ['a', { state: 'configured' }],
        ['b', { state: 'running', zoneid: 7 }],
      ]),
    );
    assert.deepStrictEqual([...live.keys()], ['b']);
  });

  it('are not known where the platform cannot be asked', async () => {
    rmSync(index);
    await assert.rejects(readStates(platform), /ENOENT/);
  });
});
