/*
 * What the calls of a replacement leave, and what they say when one fails. That each comes in its order,
 * and what a death in between leaves, is tested with the whole agent (robustness/killed-writes).
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SystemError } from '../../src/lib/errors';
import {
  openStat,
  replaceDurably,
  syncDurably,
  deviceOf,
  inodeOf,
  sizeOf,
  changedMsOf,
  modifiedMsOf,
  freeSpace,
} from '../../src/platform/files';
import { needs } from '../support/pending';

const TOP = resolve(__dirname, '..', '..', '..');

describe('a durable file', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'df-'));
    path = join(directory, 'file');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const replace = (text: string, at = path, temp = join(directory, '.temp')): Promise<void> =>
    replaceDurably(at, temp, Buffer.from(text));

  it('takes the place of the old one, and only its owner may read it', async () => {
    writeFileSync(path, 'old');
    const before = lstatSync(path);
    await replace('new');
    const stat = lstatSync(path);
    assert.strictEqual(stat.mode & 0o7777, 0o600);
    assert.strictEqual(readFileSync(path, 'utf8'), 'new');
    assert.deepStrictEqual(readdirSync(directory), ['file']);
    assert.notStrictEqual(stat.ino, before.ino);
  });

  it('can be empty, or many megabytes', async () => {
    for (const text of ['', 'x'.repeat(20 * 1024 * 1024)]) {
      await replace(text);
      assert.ok(readFileSync(path).equals(Buffer.from(text)));
    }
  });

  it('replaces the temporary file of a killed process, and follows no link there', async () => {
    const elsewhere = join(directory, 'elsewhere');
    writeFileSync(elsewhere, 'of somebody else');
    symlinkSync(elsewhere, join(directory, '.temp'));
    await replace('new');
    assert.strictEqual(readFileSync(elsewhere, 'utf8'), 'of somebody else');
    assert.ok(lstatSync(path).isFile());
    assert.deepStrictEqual(readdirSync(directory).sort(), ['elsewhere', 'file']);
  });

  it('keeps the old file and names the failed call when it cannot be made', async () => {
    writeFileSync(path, 'old');
    const occupied = join(directory, 'occupied');
    mkdirSync(join(occupied, 'inner'), { recursive: true });
    const gone = join(directory, 'gone', 'file');
    const failures: [string, string, string | undefined, string][] = [
      ['rename', 'EISDIR', undefined, occupied],
      ['open', 'ENOENT', `${gone}.temp`, gone],
      ['rename', 'ENAMETOOLONG', undefined, `${directory}/${'x'.repeat(300)}`],
      ['open', 'ENAMETOOLONG', `/${'x/'.repeat(4000)}`, path],
    ];
    for (const [call, code, temp, at] of failures) {
      await assert.rejects(replace('new', at, temp), (err) => {
        return err instanceof SystemError && err.call === call && err.code === code;
      });
      assert.deepStrictEqual(readdirSync(directory).sort(), ['file', 'occupied']);
    }
    assert.strictEqual(readFileSync(path, 'utf8'), 'old');
  });

  it('is synced as it is, but not through a link', async () => {
    writeFileSync(path, 'as it is');
    await syncDurably(path);
    assert.strictEqual(readFileSync(path, 'utf8'), 'as it is');
    symlinkSync(path, join(directory, 'link'));
    for (const [name, code] of [
      ['link', 'ELOOP'],
      ['gone', 'ENOENT'],
    ] as const) {
      await assert.rejects(syncDurably(join(directory, name)), (err) => {
        return err instanceof SystemError && err.call === 'open' && err.code === code;
      });
    }
  });

  it('can be replaced by many callers at once', async () => {
    const paths = Array.from({ length: 64 }, (_, n) => join(directory, String(n)));
    await Promise.all(paths.map((each) => replace(each, each, `${each}.temp`)));
    assert.deepStrictEqual(
      paths.map((each) => readFileSync(each, 'utf8')),
      paths,
    );
  });
});

describe('the stat of a file', () => {
  it('says which file it is, how long, and when it was changed', () => {
    const stat = openStat()(__filename);
    assert(stat !== null);
    const { dev, ino, size, ctimeMs, mtimeMs } = lstatSync(__filename);
    assert.deepStrictEqual([deviceOf(stat), inodeOf(stat), sizeOf(stat)], [dev, ino, size]);
    for (const [ms, expected] of [
      [changedMsOf(stat), ctimeMs],
      [modifiedMsOf(stat), mtimeMs],
    ] as const) {
      assert(Math.abs(ms - expected) < 0.01, `${ms} is not ${expected}`);
    }
  });
});

describe('the free space of a file system', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'space-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('is counted in fragments, which on ZFS are smaller than blocks', function () {
    needs(this, spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc');
    const program = join(directory, 'free-space');
    const sources = [join(TOP, 'test/native/free-space.c'), join(TOP, 'native/file_stat.c')];
    const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', `-I${join(TOP, 'native')}`];
    const built = spawnSync('cc', [...flags, '-o', program, ...sources], { encoding: 'utf8' });
    assert.deepStrictEqual([built.status, built.stderr], [0, '']);
    assert.strictEqual(spawnSync(program, { encoding: 'utf8' }).stdout, '51200\n');
  });

  it('is what the kernel reports', async () => {
    const { bavail, bsize, blocks } = await statfs(directory);
    const free = await freeSpace(directory);
    // Others write meanwhile.
    assert(Math.abs(free - bavail * bsize) < (blocks * bsize) / 10, String(free));
  });

  it('is an error for a path that does not exist', async () => {
    await assert.rejects(freeSpace(join(directory, 'gone')), { call: 'statvfs', code: 'ENOENT' });
  });
});
