/*
 * The shell scripts under the platform's /bin/sh, a ksh93, which has aliases before a script defines any: they
 * come before a function of the same name.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { installStage } from '../support/install-stage';
import { TOP } from '../support/manifest';
import { MDATAD, PLATFORM_AGENT } from '../support/node-root';
import { otherRelease } from '../support/smf-package';

/** shtab_aliases in usr/src/contrib/ast/src/cmd/ksh93/data/aliases.c of illumos. */
const ALIASES: Readonly<Record<string, string>> = {
  autoload: 'typeset -fu',
  command: 'command ',
  compound: 'typeset -C',
  fc: 'hist',
  float: 'typeset -lE',
  functions: 'typeset -f',
  hash: 'alias -t --',
  history: 'hist -l',
  integer: 'typeset -li',
  nameref: 'typeset -n',
  nohup: 'nohup ',
  r: 'hist -s',
  redirect: 'command exec',
  source: 'command .',
  stop: 'kill -s STOP',
  suspend: 'kill -s STOP $$',
  times: '{ { time;} 2>&1;}',
  type: 'whence -v',
};

const SCRIPTS = ['install', 'upgrade', 'uninstall', 'method/mdatad', 'method/takeover'];

/** Every shell script below a directory, by its first line or its name. */
function scriptsBelow(directory: string): string[] {
  const names = readdirSync(join(TOP, directory), { recursive: true, encoding: 'utf8' });
  return names
    .map((name) => join(TOP, directory, name))
    .filter((path) => statSync(path).isFile())
    .filter((path) => path.endsWith('.sh') || /^#!.*sh\b/.test(readFileSync(path, 'utf8')));
}

describe('the shell scripts', function () {
  this.timeout(120_000);

  it("name no function as an alias of the platform's shell", () => {
    const paths = ['smf', '.ci', 'tools'].flatMap(scriptsBelow);
    const functions = paths.flatMap((path) => {
      const text = readFileSync(path, 'utf8');
      return [...text.matchAll(/^\s*(?:function\s+)?(\w+)\s*\(\)/gm)].map(([, name = '']) => name);
    });
    assert(functions.includes('find_node') && functions.includes('stop_daemon'));
    assert.deepStrictEqual(
      functions.filter((name) => name in ALIASES),
      [],
    );
  });

  describe('with its aliases', () => {
    const stage = installStage();
    const { script, succeed } = stage;
    const aliases = Object.entries(ALIASES).map(([name, value]) => `alias ${name}='${value}'\n`);

    /** A release whose scripts are run by this shell, with the aliases. */
    function releaseFor(shell: string, id: string): string {
      const release = otherRelease(stage.unpacked, id, 'serve');
      for (const name of SCRIPTS) {
        const path = join(release, 'smf', name);
        const text = readFileSync(path, 'utf8').replace(/^#!.*\n/, '');
        writeFileSync(path, `#!/usr/bin/env ${shell}\n${aliases.join('')}${text}`);
      }
      return release;
    }

    for (const shell of ['dash', 'ksh']) {
      it(`install, upgrade, stop and uninstall, and each time the daemon ends (${shell})`, function () {
        if (stage.node.run('/bin/sh', ['-c', `command -v ${shell}`]).status !== 0) {
          this.skip();
        }
        const [first, second] = [
          releaseFor(shell, `9.4.0-${shell}`),
          releaseFor(shell, `9.5.0-${shell}`),
        ];
        succeed(script(first, 'install'));
        const before = stage.node.daemonPid();
        succeed(script(second, 'upgrade'));
        assert.throws(() => process.kill(before, 0), { code: 'ESRCH' });
        const pid = stage.node.daemonPid();
        succeed(stage.node.run('svcadm', ['disable', '-s', MDATAD]));
        assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
        succeed(script(second, 'uninstall'));
        assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
      });
    }
  });
});
