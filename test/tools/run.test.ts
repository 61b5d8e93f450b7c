/*
 * A run of the tests as a whole: it fails when a program of ours said a secret, and, where CI wants all of
 * them, when a test was left out.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CANARY } from '../support/canaries';
import { needsRoot } from '../support/pending';
import { tempDir } from '../support/temp-dir';

const MOCHA = require.resolve('mocha/bin/mocha.js');
const SUPPORT = join(__dirname, '..', 'support');

describe('a run of the tests', function () {
  this.timeout(30_000);
  const dir = tempDir();

  after(() => dir.remove());

  /** Runs mocha with the hooks on one file. */
  function run(
    spec: string,
    env: NodeJS.ProcessEnv = {},
  ): { status: number | null; output: string } {
    const path = join(dir.path, 'some.test.js');
    writeFileSync(path, spec);
    const argv = [MOCHA, '--no-config', '--require', join(SUPPORT, 'hooks.js'), path];
    const clean: NodeJS.ProcessEnv = { ...process.env, TMPDIR: dir.path };
    delete clean.CI;
    const { status, stdout, stderr } = spawnSync(process.execPath, argv, {
      encoding: 'utf8',
      env: { ...clean, ...env },
    });
    return { status, output: stdout + stderr };
  }

  const say = (text: string): string => {
    const said = JSON.stringify(join(SUPPORT, 'said.js'));
    return `it('says', () => require(${said}).keepSaid('mdatad-7', ${JSON.stringify(text)}));`;
  };
  const LEFT_OUT = "it('runs', () => {}); it.skip('is left out', () => {});";

  it('succeeds when no program prints a secret, and keeps nothing', () => {
    const { status, output } = run(say('all is well\n'));
    assert.strictEqual(status, 0, output);
    assert.deepStrictEqual(
      readdirSync(dir.path).filter((name) => name.startsWith('said-')),
      [],
    );
  });

  it('fails when a program printed a secret in any form, and names where, not the value', () => {
    for (const secret of [`${CANARY}-1`, Buffer.from(`x${CANARY}-1`).toString('base64')]) {
      const { status, output } = run(say(`first\n{"msg":"${secret}"}\n`));
      assert.strictEqual(status, 1, output);
      const [, path = ''] = /'(\S*said-\S*\/mdatad-7\.txt), line 2'/.exec(output) ?? [];
      assert(readFileSync(path, 'latin1').includes(secret));
      assert(!output.includes(CANARY) && !output.includes(secret), output);
    }
  });

  it('fails under CI when a test was left out, and names it', function () {
    needsRoot(this);
    const { status, output } = run(LEFT_OUT, { CI: '1' });
    assert.strictEqual(status, 1, output);
    assert.match(output, /\+ {3}'is left out'/);
    const allowed = run("it.skip('installs (ksh)', () => {});", { CI: '1' });
    assert.strictEqual(allowed.status, 0, allowed.output);
  });

  it('may leave out tests elsewhere', () => {
    const { status, output } = run(LEFT_OUT);
    assert.strictEqual(status, 0, output);
  });
});
