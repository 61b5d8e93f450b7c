/*
 * A stage for the install scripts: two releases of a package, and a fresh node root for each test.
 *
 * Called in a suite: it adds the hooks that make all of it and remove it again.
 */
import assert from 'node:assert';
import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { NodeRoot, type Outcome } from './node-root';
import { makePackage, otherRelease } from './smf-package';

export interface InstallStage {
  /** Removed after the suite. */
  readonly directory: string;
  /** The package, unpacked; and another release of it. */
  readonly unpacked: string;
  readonly second: string;
  /** Another one for each test. */
  readonly node: NodeRoot;
  /** Runs a script of a release on the node. */
  readonly script: (release: string, name: string, ...args: string[]) => Outcome;
  readonly succeed: (outcome: Outcome) => Outcome;
  readonly refuse: (outcome: Outcome, words: RegExp) => void;
  /** The release in force. */
  readonly release: () => string;
  /** What SMF was asked to change. */
  readonly changes: () => string[];
}

export function installStage(): InstallStage {
  const places = { directory: '', unpacked: '', second: '' };
  let current: NodeRoot | null = null;
  const node = (): NodeRoot => {
    assert(current !== null, 'between the hooks');
    return current;
  };

  before(() => {
    places.directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    places.unpacked = makePackage(places.directory).unpacked;
    places.second = otherRelease(places.unpacked, '9.0.0-second', 'serve');
  });
  after(() => rmSync(places.directory, { recursive: true }));
  beforeEach(() => {
    current = new NodeRoot();
  });
  afterEach(() => node().remove());

  return {
    get directory() {
      return places.directory;
    },
    get unpacked() {
      return places.unpacked;
    },
    get second() {
      return places.second;
    },
    get node() {
      return node();
    },
    script: (release, name, ...args) =>
      node().run(join(release, 'smf', name), ['--root', node().root, '--wait', '10', ...args]),
    succeed: (outcome) => {
      assert.strictEqual(outcome.status, 0, outcome.stdout + outcome.stderr);
      return outcome;
    },
    refuse: (outcome, words) => {
      assert.notStrictEqual(outcome.status, 0, outcome.stdout);
      assert.match(outcome.stderr, words);
    },
    release: () => readlinkSync(node().at('opt/mdatad/current')).replace('versions/', ''),
    changes: () =>
      node()
        .calls()
        .filter((call) => /^(svcadm|svccfg)/.test(call)),
  };
}
