/*
 * What is true of a whole run of the tests (mocha loads this by --require, see .mocharc.json): nothing that
 * our programs said shows a secret, and where CI wants every test to run, none was skipped silently.
 */
import assert from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { leaksIn, SAID_DIRECTORY } from './said';
import { leftOut } from './left-out';

let directory = '';

export const mochaHooks = {
  beforeAll(): void {
    directory = mkdtempSync(join(tmpdir(), 'said-'));
    process.env[SAID_DIRECTORY] = directory;
  },

  afterAll: [
    function noSecretWasSaid(this: Mocha.Context): void {
      this.timeout(60_000);
      const leaks = leaksIn(directory);
      // What leaked is needed to find out how.
      assert.deepStrictEqual(leaks, [], 'values of metadata are in what our programs said');
      rmSync(directory, { recursive: true });
    },

    function noTestWasLeftOut(this: Mocha.Context): void {
      if (process.env.CI !== undefined && process.getuid?.() === 0) {
        const root = this.test?.parent;
        assert(root !== undefined);
        assert.deepStrictEqual(leftOut(root), [], 'tests that did not run, though CI can run them');
      }
    },
  ],
};
