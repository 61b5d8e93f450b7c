import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const START = join(__dirname, '..', 'src', 'start.js');

describe('the start of the daemon', () => {
  it('runs main.js beside it, with its arguments and its exit status', () => {
    const run = (option: string) => {
      return spawnSync(process.execPath, [START, option], { encoding: 'utf8' });
    };
    assert.match(run('--version').stdout, /^\d+\.\d+\.\d+\n$/);
    const { status, stderr } = run('--no-such-option');
    assert.match(stderr, /unknown option '--no-such-option'/);
    assert.strictEqual(status, 96);
  });
});
