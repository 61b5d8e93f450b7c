/*
 * The benchmark, as small as it gets: that it measures every row and leaves nothing behind. How fast
 * the machine is does not matter here.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pageOf } from '../../tools/bench/page';
import { lineOf, parseReport, reportOf, rowOf } from '../../tools/bench/report';
import { needs } from '../support/pending';
import { whyNoNode } from '../support/simcn';

const BENCH = join(__dirname, '..', '..', 'tools', 'bench', 'main.js');

describe('the benchmark', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'b-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('takes the median of the runs and says whether it meets the goal', () => {
    const row = rowOf('rate', 'x', { least: 0.5 }, [0.9, 0.1, 0.6], '');
    assert.deepStrictEqual([row.median, row.least, row.greatest, row.met], [0.6, 0.1, 0.9, true]);
    assert.strictEqual(rowOf('time', 's', { most: 1 }, [1.2], '').met, false);
  });

  it('counts no missing number as a goal met', () => {
    assert.strictEqual(rowOf('time', 's', { most: 1 }, [NaN], '').met, false);
  });

  it('shows how a row changed from an earlier run, which it reads from its own JSON', () => {
    const before = reportOf([rowOf('time', 's', {}, [2], '')]);
    const again = parseReport(JSON.stringify(before));
    assert.deepStrictEqual(again, before);
    assert.match(lineOf(rowOf('time', 's', {}, [3], ''), again.rows[0]), /\| 2, \+50 % \|$/);
  });

  it('does not judge a quick run by the goals of a full one', () => {
    const row = rowOf('time', 's', { most: 1 }, [2], '', false);
    assert.match(lineOf(row), /\| <= 1 \|  \|/);
    assert(!pageOf(reportOf([row]), null).includes('missed</small>'));
  });

  it('draws a page that needs nothing from elsewhere and shows names as text', () => {
    const before = reportOf([rowOf('a < b', 'ms', {}, [4], '')]);
    const page = pageOf(reportOf([rowOf('a < b', 'ms', { most: 5 }, [1, 3, 2], 'p99')]), before);
    assert.match(page, /a &#60; b/);
    assert(!/(src|href)=|url\(|<script/.test(page));
    assert.strictEqual([...page.matchAll(/<circle/g)].length, 3, 'a dot for each run');
    assert.match(page, /baseline 4, -50 %/);
  });

  it('measures every row on a real node and removes it', function () {
    this.timeout(240_000);
    needs(this, whyNoNode());
    needs(this, spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc');
    needs(this, existsSync('/proc/self/schedstat') ? null : 'needs /proc/PID/schedstat of Linux');
    const json = join(directory, 'out.json');
    const html = join(directory, 'out.html');
    const args = [BENCH, '--smoke', '--json', json, '--html', html];
    const { status, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: directory },
      timeout: 220_000,
    });
    assert.deepStrictEqual([status, stderr], [0, '']);
    const { rows } = parseReport(readFileSync(json, 'utf8'));
    assert.strictEqual(rows.length, 51);
    for (const { name, median } of rows) {
      assert(Number.isFinite(median), name);
    }
    assert.strictEqual([...readFileSync(html, 'utf8').matchAll(/<svg/g)].length, rows.length);
    rmSync(json);
    rmSync(html);
    assert.deepStrictEqual(spawnSync('ls', ['-A', directory], { encoding: 'utf8' }).stdout, '');
  });
});
