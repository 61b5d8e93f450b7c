import assert from 'node:assert';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, loadConfig, needingRestart, parseConfig } from '../src/config';

describe('the configuration', () => {
  it('has the documented defaults', () => {
    const config = loadConfig(undefined);
    assert.strictEqual(config.log_level, 'info');
    assert.strictEqual(config.writer, 'file');
    assert.strictEqual(config.limits.line_bytes, 2 * 1024 * 1024);
    assert.strictEqual(config.limits.metadata_keys, 1024);
    assert.strictEqual(config.limits.connections, 64);
    assert.strictEqual(config.vminfod, undefined);
  });

  it('keeps what a file says and fills in the rest', () => {
    const config = parseConfig('{"limits":{"connections":8},"writer":"vmadm"}', 'test');
    assert.strictEqual(config.limits.connections, 8);
    assert.strictEqual(config.limits.queued_requests, 16);
    assert.strictEqual(config.writer, 'vmadm');
  });

  it('takes lines that begin with // for comments, wherever they stand, and nothing else', () => {
    const text = '// of this site\n{\n  // "writer": "vmadm",\n  "vminfod": "unix:/a//x"\n}\n//\n';
    const config = parseConfig(text, 'test');
    assert.deepStrictEqual([config.writer, config.vminfod], ['file', 'unix:/a//x']);
    assert.throws(() => parseConfig('{} // end', 'test'), /^ConfigError: test: not JSON/);
  });

  it('takes readers as numbers, and as digits, which is what a list of SMF holds', () => {
    const before = parseConfig('{"readers":[1000,"1001"]}', 'test');
    assert.deepStrictEqual(before.readers, [1000, 1001]);
    const same = parseConfig('{"readers":[1000,1001]}', 'test');
    assert.deepStrictEqual(needingRestart(before, same), []);
    assert.deepStrictEqual(needingRestart(before, parseConfig('{}', 'test')), ['readers']);
  });

  for (const [text, words] of [
    ['{"limits":{"conections":8}}', /limits: .*conections/],
    ['{"limits":{"connections":0}}', /limits\.connections: /],
    ['{"log_level":"loud"}', /log_level: /],
    ['{"readers":[1000,0]}', /readers\.1: /],
    ['{"readers":["staff"]}', /readers\.0: .*number/],
    ['{"vminfod":"ftp://x"}', /vminfod: http:\/\/HOST:PORT or unix:\/PATH/],
    ['{"mount_running_zones":false}', /mount_running_zones: was removed: .*reboot the zone/],
    ['[]', /an object is needed/],
    ['{', /not JSON/],
  ] as const) {
    it(`refuses ${text} and names the faulty member`, () => {
      assert.throws(
        () => parseConfig(text, 'mdatad.json'),
        (err: unknown) =>
          err instanceof ConfigError &&
          err.message.startsWith('mdatad.json: ') &&
          words.test(err.message),
      );
    });
  }

  it('lists the members that a reload leaves as they were', () => {
    const before = parseConfig('{}', 'before');
    const after = parseConfig(
      '{"writer":"vmadm","log_level":"debug","limits":{"connections":8,"write_burst":5}}',
      'after',
    );
    assert.deepStrictEqual(needingRestart(before, after), ['writer', 'limits.write_burst']);
    assert.deepStrictEqual(needingRestart(after, after), []);
  });

  it('names a file that cannot be read, and why', () => {
    const directory = mkdtempSync(join(tmpdir(), 'mdatad-'));
    try {
      const path = join(directory, 'absent.json');
      assert.throws(() => loadConfig(path), {
        message: `${path}: cannot be read: no such file or directory (ENOENT)`,
        remedy: `see what is there: ls -la ${directory}`,
      });
      writeFileSync(path, '{"log_level":"debug"}');
      assert.strictEqual(loadConfig(path).log_level, 'debug');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
