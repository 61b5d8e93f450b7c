import assert from 'node:assert';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { readTextNow } from '../../src/platform/metadata-text';
import { FileCache, type FileLog } from '../../src/vm/file-cache';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';

interface Content {
  readonly text: string;
}

const EMPTY: Content = { text: '' };
const MAX = 1024;

describe('a cache of files', () => {
  let dir: TempDir;
  let path: string;
  let logs: LogRecords;
  let log: FileLog;
  let tick: number;
  let cache: FileCache<Content>;

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'zone', 'file');
    fs.mkdirSync(join(dir.path, 'zone'));
    logs = logRecords();
    log = logs.zoneLog('z');
    tick = 0;
    cache = new FileCache(
      10_000,
      EMPTY,
      (_path, { bytes }) => [{ text: bytes?.toString() ?? '' }, 1],
      () => tick,
    );
  });

  afterEach(() => dir.remove());

  const write = (key: string): void => {
    fs.writeFileSync(path, JSON.stringify({ [key]: 1 }));
    tick++;
  };
  const keep = (settled?: boolean): Content => {
    const text = readTextNow(path, MAX, MAX);
    assert(text.kind === 'ok');
    return cache.keep(path, text, settled);
  };
  /** The file cannot be asked, whoever asks. */
  const breakIt = (): void => {
    fs.renameSync(join(dir.path, 'zone'), join(dir.path, 'aside'));
    fs.symlinkSync('zone', join(dir.path, 'zone'));
    tick++;
  };
  const warnings = (): unknown[] => {
    return logs.records('config file cannot be used').map(({ repeated }) => repeated);
  };

  it('gives what was kept while the file is the same', () => {
    write('one');
    assert.strictEqual(cache.current(path, log), null);
    const kept = keep(true);
    assert.strictEqual(cache.current(path, log), kept);
    write('two and more');
    assert.strictEqual(cache.current(path, log), null);
    assert.strictEqual(cache.kept(path), null);
  });

  it('has a file read again in the next tick that was changed just before it was read', () => {
    write('one');
    const kept = keep();
    assert.strictEqual(cache.current(path, log), kept);
    tick++;
    assert.strictEqual(cache.current(path, log), null);
  });

  it('asks for the stat of a file once in a tick', () => {
    write('one');
    const kept = keep(true);
    assert.strictEqual(cache.current(path, log), kept);
    fs.unlinkSync(path);
    assert.strictEqual(cache.current(path, log), kept);
    tick++;
    assert.strictEqual(cache.stat(path), null);
    assert.strictEqual(cache.current(path, log), EMPTY);
  });

  it('serves what was read last while a file cannot be asked, and throws without it', () => {
    write('one');
    const kept = keep(true);
    breakIt();
    assert.strictEqual(cache.current(path, log), kept);
    assert.throws(() => cache.stat(path), { code: 'ELOOP' });
    cache.remove(path);
    assert.throws(() => cache.current(path, log), { code: 'ELOOP' });
  });

  it('warns once a minute of a file for the same reason, and anew of one that was removed', () => {
    write('one');
    keep(true);
    breakIt();
    cache.current(path, log);
    cache.current(path, log);
    assert.deepStrictEqual(warnings(), [0]);
    cache.remove(path);
    assert.throws(() => cache.current(path, log));
    assert.deepStrictEqual(warnings(), [0, 0]);
  });

  it('reads a file at once as from a thread', async () => {
    write('one');
    assert.deepStrictEqual(cache.readNow(path, log, MAX, MAX), { text: '{"one":1}' });
    assert.deepStrictEqual(await cache.read(path, log, MAX, MAX), { text: '{"one":1}' });
    fs.unlinkSync(path);
    assert.strictEqual(cache.readNow(path, log, MAX, MAX), EMPTY);
    assert.strictEqual(await cache.read(path, log, MAX, MAX), EMPTY);
    assert.deepStrictEqual(warnings(), []);
  });

  it('reads a refused file as empty, with a warning that says why', async () => {
    write('one');
    assert.strictEqual(cache.readNow(path, log, 1, 1), EMPTY);
    assert.strictEqual(await cache.read(path, log, 1, 1), EMPTY);
    const [record] = logs.records('config file cannot be used');
    assert.deepStrictEqual([record?.reason, record?.path], ['too large', path]);
  });

  it('drops what was not used for long', () => {
    const paths = Array.from({ length: 20 }, (_, index) => `${path}${index}`);
    for (const each of paths) {
      path = each;
      write('one');
      keep(true);
    }
    tick++;
    assert.strictEqual(cache.kept(paths[0] ?? ''), null);
    tick++;
    assert.notStrictEqual(cache.kept(paths[19] ?? ''), null);
  });
});
