/*
 * Config files that are read on the spot.
 */
import assert from 'node:assert';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { ConfigFiles } from '../../src/vm/config-files';
import { readConfigFile } from '../../src/vm/config-read';
import { logRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';

describe('a config file that is read on the spot', () => {
  let dir: TempDir;
  let path: string;

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'metadata.json');
  });

  afterEach(() => dir.remove());

  it('comes whole, up to a length', () => {
    fs.writeFileSync(path, '{"a":1}');
    const file = readConfigFile(path, 7);
    assert(file.kind === 'read');
    assert.strictEqual(file.bytes.toString(), '{"a":1}');
    assert.deepStrictEqual(
      { ...readConfigFile(path, 6), stat: null },
      {
        ...{ kind: 'refused', reason: 'too large', stat: null },
      },
    );
  });

  it('is a regular file, and nothing else is opened', () => {
    fs.symlinkSync('/etc/passwd', path);
    const file = readConfigFile(path);
    assert.deepStrictEqual(
      [file.kind, 'reason' in file && file.reason],
      [...['refused', 'not a regular file']],
    );
    fs.unlinkSync(path);
    assert.throws(() => readConfigFile(path), { code: 'ENOENT' });
  });

  it('gives the values that no request has asked for, until it is replaced', async () => {
    const long = 'é"\n'.repeat(100_000);
    const customer = { long, number: 7, list: Array.from({ length: 40_000 }, () => 1) };
    fs.writeFileSync(path, JSON.stringify({ customer_metadata: customer }));
    const owner = { directory: dir.path, log: logRecords().zoneLog('z') };
    const { maps } = await new ConfigFiles().load(owner, { key: null });
    // A long list is no value of any guest's.
    assert.deepStrictEqual(Object.fromEntries(maps.customer), { ...customer, list: {} });
    fs.appendFileSync(path, ' ');
    assert.throws(() => maps.customer.get('number'), { code: 'ESTALE' });
  });
});
