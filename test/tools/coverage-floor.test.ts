import assert from 'node:assert';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { tempDir } from '../support/temp-dir';

const PROGRAM = resolve(__dirname, '../../../tools/coverage-floor.js');

describe('the floor of coverage', () => {
  const dir = tempDir();

  after(() => dir.remove());

  function git(...args: string[]): void {
    const who = ['-c', 'user.name=test', '-c', 'user.email=test@example.com'];
    execFileSync('git', ['-C', dir.path, ...who, ...args], { stdio: 'ignore' });
  }

  function commit(floor: number): void {
    writeFileSync(join(dir.path, '.c8rc.json'), JSON.stringify({ lines: floor }));
    git('add', '.c8rc.json');
    git('commit', '-m', `floor ${floor}`);
  }

  /** What is said against the checkout after a run that reached so many percent. */
  function complaint(reached: number): string {
    mkdirSync(join(dir.path, 'coverage'), { recursive: true });
    const summary = { total: { lines: { pct: reached } } };
    writeFileSync(join(dir.path, 'coverage/coverage-summary.json'), JSON.stringify(summary));
    const { status, stderr } = spawnSync(process.execPath, [PROGRAM, dir.path], {
      encoding: 'utf8',
    });
    assert.strictEqual(status, stderr === '' ? 0 : 1, stderr);
    return stderr;
  }

  it('is not asked of a history where there is none', () => {
    writeFileSync(join(dir.path, '.c8rc.json'), '{"lines":90}');
    assert.strictEqual(complaint(90.9), '');
  });

  it('may stay and rise', () => {
    git('init');
    commit(90);
    assert.strictEqual(complaint(90.4), '');
    commit(92);
    assert.strictEqual(complaint(92.9), '');
  });

  it('may not sink, however many commits ago it was higher', () => {
    commit(91);
    assert.match(complaint(91.5), /"lines" is 91 and was 92 before/);
    commit(91.5);
    assert.match(complaint(91.5), /"lines" is 91.5 and was 92 before/);
  });

  it('may not fall behind what is reached by a percent or more', () => {
    commit(93);
    assert.strictEqual(complaint(93.99), '');
    assert.match(complaint(94.6), /raise "lines" from 93 to 94$/m);
  });
});
