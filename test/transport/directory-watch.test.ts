import assert from 'node:assert';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PeriodicTimer } from '../../src/lib/periodic-timer';
import { watchDirectory, type DirectoryWatch } from '../../src/transport/directory-watch';
import { eventually } from '../support/eventually';
import { tempDir, type TempDir } from '../support/temp-dir';

describe('the watch of a directory', () => {
  let top: TempDir;
  let parent: string;
  let changes: Map<string, number>;
  let watches: DirectoryWatch[];
  const timer = new PeriodicTimer(50);

  beforeEach(() => {
    top = tempDir();
    parent = join(top.path, 'zonecontrol');
    changes = new Map();
    watches = [];
    for (const name of ['a', 'b']) {
      mkdirSync(join(parent, name), { recursive: true });
      const changed = (): unknown => changes.set(name, (changes.get(name) ?? 0) + 1);
      const watched = watchDirectory(join(parent, name), timer, changed, () => undefined);
      assert(watched !== null);
      watches.push(watched);
    }
  });

  afterEach(() => {
    watches.forEach((watched) => watched.close());
    top.remove();
  });

  function reported(): string[] {
    return [...changes.keys()].sort();
  }

  it('reports a name that is added and removed in it, and nothing of other directories', async () => {
    writeFileSync(join(parent, 'a', 'x'), '');
    await eventually(() => reported().length === 1);
    rmSync(join(parent, 'a', 'x'));
    mkdirSync(join(parent, 'c'));
    await delay(100);
    assert.deepStrictEqual(reported(), ['a']);
  });

  it('reports that the directory was renamed', async () => {
    renameSync(join(parent, 'b'), join(parent, 'other'));
    await eventually(() => changes.has('b'));
    assert.deepStrictEqual(reported(), ['b']);
  });

  it('reports to all watches that their parent was renamed, again and again', async () => {
    for (let n = 0; n < 3; n++) {
      changes.clear();
      renameSync(parent, `${parent}.${n}`);
      await eventually(() => reported().length === 2, `the renaming ${n}`);
      watches.splice(0).forEach((watched) => watched.close());
      for (const name of ['a', 'b']) {
        mkdirSync(join(parent, name), { recursive: true });
        const changed = (): unknown => changes.set(name, 1);
        const watched = watchDirectory(join(parent, name), timer, changed, () => undefined);
        assert(watched !== null);
        watches.push(watched);
      }
    }
  });

  it('reports a change a second time later: illumos loses what follows right after the first', async () => {
    let reports = 0;
    const broken = (): void => assert.fail('the watch holds');
    const watched = watchDirectory(join(parent, 'a'), timer, () => reports++, broken);
    assert(watched !== null);
    watches.push(watched);
    writeFileSync(join(parent, 'a', 'one'), '');
    await eventually(() => reports > 0);
    await delay(100);
    const first = reports;
    await eventually(() => reports > first, 'a second report of one change');
  });

  it('reports nothing after it was closed', async () => {
    watches.forEach((watched) => watched.close());
    renameSync(parent, `${parent}.old`);
    await delay(100);
    assert.deepStrictEqual(reported(), []);
  });
});
