import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { freeSpace } from '../../src/platform/file-stat';
import { needs } from '../support/pending';

const TOP = resolve(__dirname, '..', '..', '..');

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
    const sources = [join(TOP, 'test/native/free-space.c'), join(TOP, 'native/file_look.c')];
    const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', `-I${join(TOP, 'native')}`];
    const built = spawnSync('cc', [...flags, '-o', program, ...sources], { encoding: 'utf8' });
    assert.deepStrictEqual([built.status, built.stderr], [0, '']);
    assert.strictEqual(spawnSync(program, { encoding: 'utf8' }).stdout, '51200\n');
  });

  it('is what the kernel says', async () => {
    const { bavail, bsize, blocks } = await statfs(directory);
    const free = await freeSpace(directory);
    // Others write meanwhile.
    assert(Math.abs(free - bavail * bsize) < (blocks * bsize) / 10, String(free));
  });

  it('cannot be told of what is not there', async () => {
    await assert.rejects(freeSpace(join(directory, 'gone')), { call: 'statvfs', code: 'ENOENT' });
  });
});
