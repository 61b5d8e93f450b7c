/*
 * The warnings of config files: a new fault at once, the same again once a minute.
 */
import assert from 'node:assert';
import { FileWarnings } from '../../src/vm/config-read';
import { logRecords } from '../support/log-records';

const PATH = '/zones/a/config/metadata.json';

describe('the warnings of config files', () => {
  let now = 0;
  let warnings: FileWarnings;
  let seen: unknown[][];

  beforeEach(() => {
    now = 0;
    warnings = new FileWarnings(() => now);
    seen = [];
  });

  function warn(reason: string, fault: string, path = PATH): void {
    const logs = logRecords();
    warnings.warn(path, reason, fault, { reason }, logs.zoneLog('a'));
    for (const record of logs.records('config file cannot be used')) {
      seen.push([record.reason, record.repeated]);
    }
  }

  it('are logged once while a file stays as it is', () => {
    warn('no JSON object', 'ino 1');
    now = 600_000;
    warn('no JSON object', 'ino 1');
    assert.deepStrictEqual(seen, [['no JSON object', 0]]);
    warn('no JSON object', 'ino 1', '/zones/b/config/metadata.json');
    assert.strictEqual(seen.length, 2);
  });

  it('are logged once a minute for each reason while a file breaks again and again', () => {
    for (let i = 0; i < 10; i++) {
      warn('no JSON object', `ino ${i}`);
      warnings.recovered(PATH);
    }
    warn('not a regular file', 'ino 10');
    now = 60_000;
    warn('no JSON object', 'ino 11');
    assert.deepStrictEqual(seen, [
      ['no JSON object', 0],
      ['not a regular file', 0],
      ['no JSON object', 9],
    ]);
  });

  it('begin anew for a file that was removed', () => {
    warn('EIO', 'EIO');
    warnings.remove(PATH);
    warn('EIO', 'EIO');
    assert.deepStrictEqual(seen, [
      ['EIO', 0],
      ['EIO', 0],
    ]);
  });
});
