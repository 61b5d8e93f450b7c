/*
 * The benchmark, as small as it gets: that it measures every row and leaves nothing behind. How fast
 * the machine is does not matter here.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lineOf, parseReport, reportOf, rowOf } from '../../tools/bench/report';
import { needs } from '../support/pending';
import { whyNoNode } from '../support/simcn';

const BENCH = join(__dirname, '..', '..', 'tools', 'bench', 'main.js');

describe('the benchmark', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'b-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('takes the median of the runs and says whether it meets the goal', () => {
    const row = rowOf('rate', 'x', { least: 0.5 }, [0.9, 0.1, 0.6], '');
    assert.deepStrictEqual([row.median, row.least, row.greatest, row.met], [0.6, 0.1, 0.9, true]);
    assert.strictEqual(rowOf('time', 's', { most: 1 }, [1.2], '').met, false);
  });

  it('calls no figure a goal met', () => {
    assert.strictEqual(rowOf('time', 's', { most: 1 }, [NaN], '').met, false);
  });

  it('shows how a row changed from an earlier run, which it reads from its own JSON', () => {
    const before = reportOf([rowOf('time', 's', {}, [2], '')]);
    const again = parseReport(JSON.stringify(before));
    assert.deepStrictEqual(again, before);
    assert.match(lineOf(rowOf('time', 's', {}, [3], ''), again.rows[0]), /\| 2, \+50 % \|$/);
  });

  it('measures every row on a real node and removes it', function () {
    this.timeout(120_000);
    needs(this, whyNoNode());
    needs(this, spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc');
    needs(this, existsSync('/proc/self/schedstat') ? null : 'needs /proc/PID/schedstat of Linux');
    const json = join(folder, 'out.json');
    const { status, stderr } = spawnSync(process.execPath, [BENCH, '--smoke', '--json', json], {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: folder },
      timeout: 110_000,
    });
    assert.deepStrictEqual([status, stderr], [0, '']);
    const { rows } = parseReport(readFileSync(json, 'utf8'));
    assert.strictEqual(rows.length, 16);
    for (const { name, median } of rows) {
      assert(Number.isFinite(median), name);
    }
    rmSync(json);
    assert.deepStrictEqual(spawnSync('ls', ['-A', folder], { encoding: 'utf8' }).stdout, '');
  });
});
