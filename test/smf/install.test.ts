/* smf/install on a node root: what it does, in which order, and what it refuses. */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { installStage } from '../support/install-stage';
import {
  MDATAD,
  NodeRoot,
  PLATFORM_AGENT,
  STAND_IN,
  TAKEOVER,
  type Outcome,
} from '../support/node-root';
import { otherRelease, reportPreflight } from '../support/smf-package';
import { parseConfig } from '../../src/config';
import { parseSite, toJson } from '../../tools/smf/properties';
import { SETTINGS } from '../../tools/smf/settings';

const LONG_MS = 120_000;

describe('the script install', function () {
  this.timeout(LONG_MS);
  const stage = installStage();
  const { script, succeed, refuse, release, changes } = stage;

  for (const shell of ['dash', 'bash', 'ksh']) {
    it(`puts mdatad in the place of the platform's agent (${shell})`, function () {
      if (stage.node.run('/bin/sh', ['-c', `command -v ${shell}`]).status !== 0) {
        this.skip();
      }
      succeed(
        stage.node.run(join(stage.unpacked, 'smf/install'), ['--root', stage.node.root], shell),
      );
      assert.strictEqual(stage.node.state(MDATAD), 'online');
      assert.strictEqual(stage.node.state(TAKEOVER), 'online');
      assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'disabled');
    });
  }

  it('asks SMF for exactly what the hand-over needs, in this order', () => {
    succeed(script(stage.unpacked, 'install'));
    const custom = stage.node.at('opt/custom/smf');
    assert.deepStrictEqual(changes(), [
      `svccfg import ${custom}/mdatad-takeover.xml`,
      // The start method of the takeover.
      `svccfg -f ${stage.node.at(`opt/mdatad/versions/${release()}/smf/stand-in.svccfg`)}`,
      `svcadm enable ${STAND_IN}`,
      `svcadm disable ${PLATFORM_AGENT}`,
      `svccfg import ${custom}/mdatad.xml`,
      // The start method of mdatad.
      `svcadm disable ${PLATFORM_AGENT}`,
      `svcadm enable -s ${TAKEOVER}`,
      `svcadm enable ${STAND_IN}`,
      `svcadm enable -s ${MDATAD}`,
    ]);
  });

  it('puts everything below /opt, where a reboot leaves it', () => {
    succeed(script(stage.unpacked, 'install'));
    const top = readdirSync(stage.node.root).filter((name) => name !== 'var');
    assert.deepStrictEqual(top, ['opt']);
    assert.deepStrictEqual(readdirSync(stage.node.at('opt')).sort(), ['custom', 'mdatad']);
    assert.deepStrictEqual(readdirSync(stage.node.at('opt/custom/smf')).sort(), [
      'mdatad-takeover.xml',
      'mdatad.xml',
    ]);
  });

  it('makes commands that run with the Node of mdatad', () => {
    succeed(script(stage.unpacked, 'install'));
    const { status, stdout } = stage.node.run(stage.node.at('opt/mdatad/bin/mdatactl'), []);
    assert.deepStrictEqual([status, stdout], [0, 'mdatactl of the package\n']);
  });

  it('leaves all as it is when run again', () => {
    succeed(script(stage.unpacked, 'install'));
    const pid = stage.node.daemonPid();
    stage.node.forgetCalls();
    assert.match(succeed(script(stage.unpacked, 'install')).stdout, /is installed already/);
    assert.deepStrictEqual(changes(), []);
    assert.strictEqual(stage.node.daemonPid(), pid);
  });

  it('only lists its steps with --dry-run', () => {
    const { stdout } = succeed(script(stage.unpacked, 'install', '--dry-run'));
    assert.match(
      stdout,
      /^install: these are the steps, none of them done:\n {2}1\. check this node/,
    );
    assert.match(stdout, /^ {2}\d\. import the manifests and start svc:\/site\/mdatad:default/m);
    assert.match(stdout, /install: nothing was changed \(--dry-run\)\n$/);
    assert.deepStrictEqual(readdirSync(stage.node.root), []);
    assert.deepStrictEqual(changes(), []);
    assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
  });

  it('runs preflight first and stops where a check fails, before anything is changed', () => {
    const failing = otherRelease(stage.unpacked, '9.0.6-failing', 'serve');
    reportPreflight(failing, [
      { name: 'socket', verdict: 'ok' },
      { name: 'space', verdict: 'warn' },
      { name: 'mount', verdict: 'fail' },
    ]);
    const outcome = script(failing, 'install');
    refuse(outcome, /this node does not pass: mend it, or go on with --override CHECK/);
    assert.match(
      outcome.stdout,
      /^preflight: space: warn: expected space works, seen space warn; /m,
    );
    assert.match(outcome.stdout, /^preflight: mount: fail: .*; mend mount$/m);
    assert.doesNotMatch(outcome.stdout, /socket/);
    assert.deepStrictEqual(readdirSync(stage.node.root), []);
    assert.deepStrictEqual(changes(), []);
    refuse(script(failing, 'install', '--override', 'mounts'), /does not pass/);
    const { stdout } = succeed(script(failing, 'install', '--override', 'mount'));
    assert.match(stdout, /^preflight: mount: fail \(overridden\)/m);
    assert.strictEqual(stage.node.state(MDATAD), 'online');
  });

  it('refuses when preflight gives no report, unless it is asked to skip it', () => {
    const mute = otherRelease(stage.unpacked, '9.0.7-mute', 'serve');
    writeFileSync(join(mute, 'dist/tools/mdatactl/main.js'), 'throw new Error("broken")');
    const outcome = script(mute, 'install');
    refuse(outcome, /does not pass/);
    assert.match(outcome.stdout, /^preflight: no report: .*broken/ms);
    succeed(script(mute, 'install', '--override', 'preflight'));
  });

  it('says each step as it is done', () => {
    const { stdout } = succeed(script(stage.unpacked, 'install'));
    const numbers = [...stdout.matchAll(/^install: step (\d): \w+/gm)].map(([, n]) => Number(n));
    assert.deepStrictEqual(numbers, [1, 2, 3, 4, 5]);
  });

  it('lays an example of the settings beside where they go, which changes nothing when it is used', () => {
    succeed(script(stage.unpacked, 'install'));
    const text = readFileSync(stage.node.at('opt/mdatad/etc/mdatad.json.example'), 'utf8');
    assert.strictEqual(parseSite(text, 'the example').size, 0);
    assert.deepStrictEqual(parseConfig(text, 'the example'), parseConfig('{}', 'no settings'));
    for (const { path } of SETTINGS) {
      assert(text.includes(`"${path.at(-1) ?? ''}": `), path.join('.'));
    }
    const all = text.replace(/^(\s*)\/\/( +)(?=["}])/gm, '$1$2').replace(/^\s*\/\/.*\n/gm, '');
    const commas = all.replace(/(["\d\w\]}])\n(?=\s*")/g, '$1,\n');
    const members = parseSite(commas, 'all of the example');
    assert.deepStrictEqual([...members.keys()].length, 11);
    assert.doesNotThrow(() => parseConfig(toJson(members), 'all of the example'));
  });

  it("puts the platform's agent back when mdatad does not come up", () => {
    const broken = otherRelease(stage.unpacked, '9.0.1-broken', 'end at once');
    refuse(
      script(broken, 'install'),
      /mdatad did not come up .*: svc:.*metadata:default serves again/,
    );
    assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
    assert.strictEqual(stage.node.state(MDATAD), undefined);
    assert.deepStrictEqual(readdirSync(stage.node.at('opt/custom/smf')), []);
    assert.match(stage.node.daemonLog(), /mdatad ended before it was ready: exit code 95/);
    succeed(script(stage.unpacked, 'install'));
    assert.strictEqual(stage.node.state(MDATAD), 'online');
  });

  it('refuses a zone, another system, a missing Node and each missing piece, each with its own message', () => {
    const zone = new NodeRoot({ zonename: 'web01' });
    const words = new Set<string>();
    const note = (outcome: Outcome, pattern: RegExp): void => {
      refuse(outcome, pattern);
      words.add(outcome.stderr.replaceAll(stage.node.root, '').replaceAll(stage.directory, ''));
    };
    try {
      const inZone = zone.run(join(stage.unpacked, 'smf/install'), ['--root', zone.root]);
      note(inZone, /this is the zone web01: mdatad runs in the global zone only/);
    } finally {
      zone.remove();
    }
    const pieces: readonly (readonly [string, RegExp])[] = [
      ['RELEASE', /RELEASE is missing: this is not a package/],
      ['dist/src/bundle/mdatad.js', /mdatad\.js is missing: the daemon/],
      ['node_modules', /node_modules is missing/],
      ['smf/mdatad.xml', /mdatad\.xml is missing/],
      [
        'native/build/Release/mdatad.node',
        /mdatad\.node is missing: make the package in a SmartOS zone/,
      ],
    ];
    const copy = otherRelease(stage.unpacked, '9.0.2-pieces', 'serve');
    for (const [piece, pattern] of [...pieces].reverse()) {
      rmSync(join(copy, piece), { recursive: true });
      note(script(copy, 'install'), pattern);
    }
    note(
      script(stage.unpacked, 'install', '--node', '/nonexistent'),
      /there is no \/nonexistent\/bin\/node/,
    );
    const old = join(stage.directory, 'old-node');
    mkdirSync(join(old, 'bin'), { recursive: true });
    stage.node.fake('node', 'test "$1" = --version && echo v0.10.48; exit 1', join(old, 'bin'));
    note(
      script(stage.unpacked, 'install', '--node', old),
      /is v0\.10\.48: mdatad wants Node 20\.15/,
    );
    stage.node.fake('uname', 'echo Linux');
    note(stage.node.run(join(stage.unpacked, 'smf/install'), []), /this is not SmartOS/);
    assert.strictEqual(words.size, pieces.length + 4);
    assert.deepStrictEqual(readdirSync(stage.node.root), []);
  });

  it('refuses a package for another machine, and native code that does not load', () => {
    const foreign = otherRelease(stage.unpacked, '9.0.3-foreign', 'serve');
    const text = readFileSync(join(foreign, 'RELEASE'), 'utf8');
    writeFileSync(join(foreign, 'RELEASE'), text.replace(/^target=.*/m, 'target=sunos-x64'));
    refuse(script(foreign, 'install'), /the package was made for sunos-x64, and .* is for /);
    const corrupt = otherRelease(stage.unpacked, '9.0.4-corrupt', 'serve');
    writeFileSync(join(corrupt, 'native/build/Release/mdatad.node'), 'no ELF');
    refuse(script(corrupt, 'install'), /the native code does not load with .*Error/);
  });

  it('prints its release, as the other scripts do', () => {
    const id = /^id=(.*)$/m.exec(readFileSync(join(stage.unpacked, 'RELEASE'), 'utf8'))?.[1];
    for (const name of ['install', 'upgrade', 'rollback', 'uninstall']) {
      const { status, stdout, stderr } = script(stage.unpacked, name, '--version');
      assert.deepStrictEqual([status, stdout, stderr], [0, `${id ?? ''}\n`, ''], name);
    }
  });

  it('works below MDATAD_ROOT, and says so, unless --root is given', () => {
    const install = join(stage.unpacked, 'smf/install');
    const env = { ...process.env, MDATAD_ROOT: stage.node.root };
    const run = (...args: string[]): Outcome =>
      spawnSync(install, ['--dry-run', ...args], { encoding: 'utf8', env });
    const { stdout } = succeed(run());
    assert(stdout.startsWith(`install: works below ${stage.node.root} (MDATAD_ROOT)\n`), stdout);
    assert.match(stdout, new RegExp(`copy release .* to ${stage.node.root}/opt/mdatad/versions`));
    const other = join(stage.directory, 'none');
    refuse(run('--root', other), /none is not a directory/);
    env.MDATAD_ROOT = 'not/absolute';
    refuse(run(), /MDATAD_ROOT wants an absolute path, not not\/absolute/);
    assert.match(run('--help').stdout, /instead of \/ \(default: MDATAD_ROOT/);
  });

  it('says what an unknown option is, and exits 2', () => {
    const { status, stderr } = script(stage.unpacked, 'install', '--forse');
    assert.strictEqual(status, 2);
    assert.match(stderr, /--forse is not an option of this script\nusage: install/);
  });
  it('do without SMF below a root that has none: files go in, change and come out', () => {
    const bare = (from: string, name: string): Outcome => {
      const file = join(from, 'smf', name);
      return spawnSync(file, ['--root', stage.node.root], { encoding: 'utf8' });
    };
    assert.match(
      succeed(bare(stage.unpacked, 'install')).stdout,
      /no SMF below .*services are left/,
    );
    assert(existsSync(stage.node.at('opt/custom/smf/mdatad.xml')));
    succeed(bare(stage.unpacked, 'install'));
    succeed(bare(stage.second, 'upgrade'));
    assert.strictEqual(release(), '9.0.0-second');
    succeed(bare(stage.second, 'uninstall'));
    assert(!existsSync(stage.node.at('opt/mdatad/current')));
    assert.deepStrictEqual(readdirSync(stage.node.at('opt/custom/smf')), []);
    assert.deepStrictEqual(changes(), []);
  });

  it('cope with a property group that has a stability, which svcprop prints as a property', () => {
    const stable = otherRelease(stage.unpacked, '9.0.5-stable', 'serve');
    const manifest = join(stable, 'smf/mdatad.xml');
    const group = "<property_group name='config' type='application'>";
    const text = readFileSync(manifest, 'utf8');
    writeFileSync(manifest, text.replace(group, `${group}<stability value='Evolving'/>`));
    succeed(script(stable, 'install'));
    assert.match(
      stage.node.run('svcprop', ['-p', 'config', MDATAD]).stdout,
      /^config\/stability astring /,
    );
    assert.strictEqual(stage.node.state(MDATAD), 'online');
  });
});
