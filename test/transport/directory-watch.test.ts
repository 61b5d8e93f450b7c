import assert from 'node:assert';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { watchDirectory, type DirectoryWatch } from '../../src/transport/directory-watch';
import { eventually } from '../support/eventually';

const SECOND_MS = 20;

describe('the watch of a directory', () => {
  let folder: string;
  let reports: number;
  let watch: DirectoryWatch | null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'watch-'));
    reports = 0;
    const broken = (): void => assert.fail('the watch holds');
    watch = watchDirectory(folder, () => reports++, broken, SECOND_MS);
  });

  afterEach(() => {
    watch?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('reports a change once more after a while: illumos forgets what comes right after the first', async () => {
    mkdirSync(join(folder, 'one'));
    await eventually(() => reports >= 2, 'a second report of one change');
  });

  it('reports nothing after it was closed', async () => {
    mkdirSync(join(folder, 'one'));
    await eventually(() => reports >= 1, 'a report');
    watch?.close();
    const before = reports;
    await delay(3 * SECOND_MS);
    assert.strictEqual(reports, before);
  });
});
