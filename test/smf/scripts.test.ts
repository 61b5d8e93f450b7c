import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../support/eventually';
import {
  MDATAD,
  NodeRoot,
  PLATFORM_AGENT,
  STAND_IN,
  TAKEOVER,
  type Outcome,
} from '../support/node-root';
import { makePackage, otherRelease, reportPreflight } from '../support/smf-package';
import { parseSite } from '../../tools/smf/properties';
import { SETTINGS } from '../../tools/smf/settings';

const LONG_MS = 120_000;

describe('the install scripts', function () {
  this.timeout(LONG_MS);

  let directory = '';
  let unpacked = '';
  let second = '';
  let node: NodeRoot;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    unpacked = makePackage(directory).unpacked;
    second = otherRelease(unpacked, '9.0.0-second', 'serve');
  });

  after(() => rmSync(directory, { recursive: true }));

  beforeEach(() => {
    node = new NodeRoot();
  });

  afterEach(() => node.remove());

  function script(release: string, name: string, ...args: string[]): Outcome {
    return node.run(join(release, 'smf', name), ['--root', node.root, '--wait', '10', ...args]);
  }

  function succeed(outcome: Outcome): Outcome {
    assert.strictEqual(outcome.status, 0, outcome.stdout + outcome.stderr);
    return outcome;
  }

  function refuse(outcome: Outcome, words: RegExp): void {
    assert.notStrictEqual(outcome.status, 0, outcome.stdout);
    assert.match(outcome.stderr, words);
  }

  function release(): string {
    return readlinkSync(node.at('opt/mdatad/current')).replace('versions/', '');
  }

  function changes(): string[] {
    return node.calls().filter((call) => /^(svcadm|svccfg)/.test(call));
  }

  describe('install', () => {
    for (const shell of ['dash', 'bash', 'ksh']) {
      it(`puts mdatad in the place of the platform's agent (${shell})`, function () {
        if (node.run('/bin/sh', ['-c', `command -v ${shell}`]).status !== 0) {
          this.skip();
        }
        succeed(node.run(join(unpacked, 'smf/install'), ['--root', node.root], shell));
        assert.strictEqual(node.state(MDATAD), 'online');
        assert.strictEqual(node.state(TAKEOVER), 'online');
        assert.strictEqual(node.state(PLATFORM_AGENT), 'disabled');
      });
    }

    it('asks SMF for exactly what the hand-over needs, in this order', () => {
      succeed(script(unpacked, 'install'));
      const custom = node.at('opt/custom/smf');
      assert.deepStrictEqual(changes(), [
        `svccfg import ${custom}/mdatad-takeover.xml`,
        // The start method of the takeover.
        `svccfg -f ${node.at(`opt/mdatad/versions/${release()}/smf/stand-in.svccfg`)}`,
        `svcadm enable ${STAND_IN}`,
        `svcadm disable -s ${PLATFORM_AGENT}`,
        `svccfg import ${custom}/mdatad.xml`,
        // The start method of mdatad.
        `svcadm disable -s ${PLATFORM_AGENT}`,
        `svcadm enable -s ${TAKEOVER}`,
        `svcadm enable ${STAND_IN}`,
        `svcadm enable -s ${MDATAD}`,
      ]);
    });

    it('puts everything below /opt, where a reboot leaves it', () => {
      succeed(script(unpacked, 'install'));
      const top = readdirSync(node.root).filter((name) => name !== 'var');
      assert.deepStrictEqual(top, ['opt']);
      assert.deepStrictEqual(readdirSync(node.at('opt')).sort(), ['custom', 'mdatad']);
      assert.deepStrictEqual(readdirSync(node.at('opt/custom/smf')).sort(), [
        'mdatad-takeover.xml',
        'mdatad.xml',
      ]);
    });

    it('makes commands that run with the Node of mdatad', () => {
      succeed(script(unpacked, 'install'));
      const { status, stdout } = node.run(node.at('opt/mdatad/bin/mdatactl'), []);
      assert.deepStrictEqual([status, stdout], [0, 'mdatactl of the package\n']);
    });

    it('leaves all as it is when run again', () => {
      succeed(script(unpacked, 'install'));
      const pid = node.daemonPid();
      node.forgetCalls();
      assert.match(succeed(script(unpacked, 'install')).stdout, /is installed already/);
      assert.deepStrictEqual(changes(), []);
      assert.strictEqual(node.daemonPid(), pid);
    });

    it('lists its steps with --dry-run, and does none of them', () => {
      const { stdout } = succeed(script(unpacked, 'install', '--dry-run'));
      assert.match(
        stdout,
        /^install: these are the steps, none of them done:\n {2}1\. check this node/,
      );
      assert.match(stdout, /^ {2}\d\. import the manifests and start svc:\/site\/mdatad:default/m);
      assert.match(stdout, /install: nothing was changed \(--dry-run\)\n$/);
      assert.deepStrictEqual(readdirSync(node.root), []);
      assert.deepStrictEqual(changes(), []);
      assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    });

    it('runs preflight first and stops where a check fails, before anything is changed', () => {
      const unfit = otherRelease(unpacked, '9.0.6-unfit', 'serve');
      reportPreflight(unfit, [
        { name: 'socket', verdict: 'ok' },
        { name: 'space', verdict: 'warn' },
        { name: 'mount', verdict: 'fail' },
      ]);
      const outcome = script(unfit, 'install');
      refuse(outcome, /this node does not pass: mend it, or go on with --override CHECK/);
      assert.match(
        outcome.stdout,
        /^preflight: space: warn: expected space works, seen space warn; /m,
      );
      assert.match(outcome.stdout, /^preflight: mount: fail: .*; mend mount$/m);
      assert.doesNotMatch(outcome.stdout, /socket/);
      assert.deepStrictEqual(readdirSync(node.root), []);
      assert.deepStrictEqual(changes(), []);
      refuse(script(unfit, 'install', '--override', 'mounts'), /does not pass/);
      const { stdout } = succeed(script(unfit, 'install', '--override', 'mount'));
      assert.match(stdout, /^preflight: mount: fail \(overridden\)/m);
      assert.strictEqual(node.state(MDATAD), 'online');
    });

    it('refuses when preflight gives no report, unless it is told to skip it', () => {
      const mute = otherRelease(unpacked, '9.0.7-mute', 'serve');
      writeFileSync(join(mute, 'dist/tools/mdatactl/main.js'), 'throw new Error("broken")');
      const outcome = script(mute, 'install');
      refuse(outcome, /does not pass/);
      assert.match(outcome.stdout, /^preflight: no report: .*broken/ms);
      succeed(script(mute, 'install', '--override', 'preflight'));
    });

    it('says each step as it is done', () => {
      const { stdout } = succeed(script(unpacked, 'install'));
      const numbers = [...stdout.matchAll(/^install: step (\d): \w+/gm)].map(([, n]) => Number(n));
      assert.deepStrictEqual(numbers, [1, 2, 3, 4, 5]);
    });

    it('lays an example of the settings beside where they go, which changes nothing when it is used', () => {
      succeed(script(unpacked, 'install'));
      const text = readFileSync(node.at('opt/mdatad/etc/mdatad.json.example'), 'utf8');
      assert.strictEqual(parseSite(text, 'the example').size, 0);
      for (const { path } of SETTINGS) {
        assert(text.includes(`"${path.at(-1) ?? ''}": `), path.join('.'));
      }
      const all = text.replace(/^(\s*)\/\/( +)(?=["}])/gm, '$1$2').replace(/^\s*\/\/.*\n/gm, '');
      const commas = all.replace(/(["\d\w\]}])\n(?=\s*")/g, '$1,\n');
      const members = parseSite(commas.replace('"..."', '"unix:/x"'), 'all of the example');
      assert.deepStrictEqual([...members.keys()].length, 11);
    });

    it("puts the platform's agent back when mdatad does not come up", () => {
      const broken = otherRelease(unpacked, '9.0.1-broken', 'end at once');
      refuse(
        script(broken, 'install'),
        /mdatad did not come up .*: svc:.*metadata:default serves again/,
      );
      assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
      assert.strictEqual(node.state(MDATAD), undefined);
      assert.deepStrictEqual(readdirSync(node.at('opt/custom/smf')), []);
      assert.match(node.daemonLog(), /mdatad ended before it was ready: exit code 95/);
      succeed(script(unpacked, 'install'));
      assert.strictEqual(node.state(MDATAD), 'online');
    });

    it('refuses a zone, another system, a missing Node and each missing piece in words of its own', () => {
      const zone = new NodeRoot({ zonename: 'web01' });
      const words = new Set<string>();
      const note = (outcome: Outcome, pattern: RegExp): void => {
        refuse(outcome, pattern);
        words.add(outcome.stderr.replaceAll(node.root, '').replaceAll(directory, ''));
      };
      try {
        const inZone = zone.run(join(unpacked, 'smf/install'), ['--root', zone.root]);
        note(inZone, /this is the zone web01: mdatad runs in the global zone only/);
      } finally {
        zone.remove();
      }
      const pieces: readonly (readonly [string, RegExp])[] = [
        ['RELEASE', /RELEASE is missing: this is not a package/],
        ['dist/src/main.js', /main\.js is missing: the daemon/],
        ['node_modules', /node_modules is missing/],
        ['smf/mdatad.xml', /mdatad\.xml is missing/],
        [
          'native/build/Release/mdatad.node',
          /mdatad\.node is missing: make the package in a SmartOS zone/,
        ],
      ];
      const copy = otherRelease(unpacked, '9.0.2-pieces', 'serve');
      for (const [piece, pattern] of [...pieces].reverse()) {
        rmSync(join(copy, piece), { recursive: true });
        note(script(copy, 'install'), pattern);
      }
      note(
        script(unpacked, 'install', '--node', '/nonexistent'),
        /there is no \/nonexistent\/bin\/node/,
      );
      const old = join(directory, 'old-node');
      mkdirSync(join(old, 'bin'), { recursive: true });
      node.fake('node', 'test "$1" = --version && echo v0.10.48; exit 1', join(old, 'bin'));
      note(script(unpacked, 'install', '--node', old), /is v0\.10\.48: mdatad wants Node 20\.15/);
      node.fake('uname', 'echo Linux');
      note(node.run(join(unpacked, 'smf/install'), []), /this is not SmartOS/);
      assert.strictEqual(words.size, pieces.length + 4);
      assert.deepStrictEqual(readdirSync(node.root), []);
    });

    it('refuses a package for another machine, and native code that does not load', () => {
      const foreign = otherRelease(unpacked, '9.0.3-foreign', 'serve');
      const text = readFileSync(join(foreign, 'RELEASE'), 'utf8');
      writeFileSync(join(foreign, 'RELEASE'), text.replace(/^target=.*/m, 'target=sunos-x64'));
      refuse(script(foreign, 'install'), /the package was made for sunos-x64, and .* is for /);
      const corrupt = otherRelease(unpacked, '9.0.4-corrupt', 'serve');
      writeFileSync(join(corrupt, 'native/build/Release/mdatad.node'), 'no ELF');
      refuse(script(corrupt, 'install'), /the native code does not load with .*Error/);
    });

    it('says what an unknown option is, and exits 2', () => {
      const { status, stderr } = script(unpacked, 'install', '--forse');
      assert.strictEqual(status, 2);
      assert.match(stderr, /--forse is not an option of this script\nusage: install/);
    });
  });

  it('do without SMF below a root that has none: files go in, change and come out', () => {
    const bare = (from: string, name: string): Outcome => {
      const file = join(from, 'smf', name);
      return spawnSync(file, ['--root', node.root], { encoding: 'utf8' });
    };
    assert.match(succeed(bare(unpacked, 'install')).stdout, /no SMF below .*services are left/);
    assert(existsSync(node.at('opt/custom/smf/mdatad.xml')));
    succeed(bare(unpacked, 'install'));
    succeed(bare(second, 'upgrade'));
    assert.strictEqual(release(), '9.0.0-second');
    succeed(bare(second, 'uninstall'));
    assert(!existsSync(node.at('opt/mdatad/current')));
    assert.deepStrictEqual(readdirSync(node.at('opt/custom/smf')), []);
    assert.deepStrictEqual(changes(), []);
  });

  it('cope with a property group that has a stability, which svcprop prints as a property', () => {
    const stable = otherRelease(unpacked, '9.0.5-stable', 'serve');
    const manifest = join(stable, 'smf/mdatad.xml');
    const group = "<property_group name='config' type='application'>";
    const text = readFileSync(manifest, 'utf8');
    writeFileSync(manifest, text.replace(group, `${group}<stability value='Evolving'/>`));
    succeed(script(stable, 'install'));
    assert.match(
      node.run('svcprop', ['-p', 'config', MDATAD]).stdout,
      /^config\/stability astring /,
    );
    assert.strictEqual(node.state(MDATAD), 'online');
  });

  describe('upgrade', () => {
    it('changes to the new release, and back to the old one with the old one', () => {
      succeed(script(unpacked, 'install'));
      const [pid, first] = [node.daemonPid(), release()];
      succeed(script(second, 'upgrade'));
      assert.strictEqual(release(), '9.0.0-second');
      assert.notStrictEqual(node.daemonPid(), pid);
      assert.strictEqual(node.state(MDATAD), 'online');
      succeed(script(node.at(`opt/mdatad/versions/${first}`), 'upgrade'));
      assert.strictEqual(release(), first);
    });

    it('goes back to the release before when the new one does not come up', () => {
      succeed(script(unpacked, 'install'));
      const first = release();
      for (const behaviour of ['end at once', 'never be well'] as const) {
        const broken = otherRelease(unpacked, `9.1.0-${behaviour.replace(/ /g, '-')}`, behaviour);
        refuse(script(broken, 'upgrade'), new RegExp(`${first} is in force again`));
        assert.strictEqual(release(), first);
        assert.strictEqual(node.state(MDATAD), 'online');
        assert.strictEqual(node.state(PLATFORM_AGENT), 'disabled');
      }
      assert.match(node.daemonLog(), /was not ready in 10 s: no zone has its socket yet/);
    });

    it('does not touch the running daemon when the new one refuses its configuration', () => {
      succeed(script(unpacked, 'install'));
      const pid = node.daemonPid();
      const strict = otherRelease(unpacked, '9.2.0-strict', 'refuse the configuration');
      refuse(script(strict, 'upgrade'), /refuses the configuration in force; .* still serves/);
      assert.strictEqual(node.daemonPid(), pid);
    });

    it("keeps the site's settings and the two last releases only", () => {
      succeed(script(unpacked, 'install'));
      const first = release();
      writeFileSync(node.at('opt/mdatad/etc/mdatad.json'), '{"log_level":"debug"}');
      succeed(script(second, 'upgrade'));
      assert.match(node.daemonLog(), /config .*"log_level":"debug"/);
      succeed(script(otherRelease(unpacked, '9.3.0-third', 'serve'), 'upgrade'));
      const kept = readdirSync(node.at('opt/mdatad/versions')).sort();
      assert.deepStrictEqual(kept, ['9.0.0-second', '9.3.0-third']);
      assert.notStrictEqual(first, '');
    });

    it('is undone by rollback, and rollback by rollback', () => {
      succeed(script(unpacked, 'install'));
      const first = release();
      refuse(script(node.at('opt/mdatad/current'), 'rollback'), /there is no release before/);
      succeed(script(second, 'upgrade'));
      const { stdout } = succeed(script(node.at('opt/mdatad/current'), 'rollback', '--dry-run'));
      assert.match(stdout, new RegExp(`make ${first} the release that is started next`));
      assert.strictEqual(release(), '9.0.0-second');
      const pid = node.daemonPid();
      succeed(script(node.at('opt/mdatad/current'), 'rollback'));
      assert.strictEqual(release(), first);
      assert.strictEqual(node.state(MDATAD), 'online');
      assert.notStrictEqual(node.daemonPid(), pid);
      succeed(script(node.at('opt/mdatad/current'), 'rollback'));
      assert.strictEqual(release(), '9.0.0-second');
    });

    it('does nothing when it is in force already, or with --dry-run', () => {
      succeed(script(unpacked, 'install'));
      const [pid, first] = [node.daemonPid(), release()];
      succeed(script(unpacked, 'upgrade'));
      const { stdout } = succeed(script(second, 'upgrade', '--dry-run'));
      assert.match(stdout, /upgrade: nothing was changed \(--dry-run\)\n$/);
      assert.deepStrictEqual([node.daemonPid(), release()], [pid, first]);
    });

    it('finishes what was killed before the new release was started, and keeps the way back', () => {
      succeed(script(unpacked, 'install'));
      const [pid, first] = [node.daemonPid(), release()];
      // Killed right after the link was changed: the daemon of the first release still serves.
      cpSync(second, node.at('opt/mdatad/versions/9.0.0-second'), { recursive: true });
      rmSync(node.at('opt/mdatad/current'));
      symlinkSync('versions/9.0.0-second', node.at('opt/mdatad/current'));
      refuse(script(second, 'install'), new RegExp(`${first} serves still: use upgrade`));
      const { stdout } = succeed(script(second, 'upgrade'));
      assert.match(stdout, new RegExp(`9.0.0-second is in force; before it was ${first}`));
      assert.notStrictEqual(node.daemonPid(), pid);
      assert(existsSync(node.at(`opt/mdatad/versions/${first}`)));
    });

    it('wants an installed mdatad', () => {
      refuse(script(unpacked, 'upgrade'), /is not installed below .*: use install/);
      succeed(script(unpacked, 'install'));
      refuse(script(second, 'install'), /is installed: use upgrade to change to 9\.0\.0-second/);
    });
  });

  describe('uninstall', () => {
    it("gives the zones back to the platform's agent at once, and keeps the settings", () => {
      succeed(script(unpacked, 'install'));
      writeFileSync(node.at('opt/mdatad/etc/mdatad.json'), '{}');
      node.forgetCalls();
      succeed(node.run(node.at('opt/mdatad/current/smf/uninstall'), ['--root', node.root]));
      assert.deepStrictEqual(changes(), [
        `svcadm disable -s ${TAKEOVER}`,
        `svcadm disable -s ${MDATAD}`,
        `svcadm disable -s ${STAND_IN}`,
        `svcadm enable -s ${PLATFORM_AGENT}`,
        `svccfg delete -f ${STAND_IN}`,
        'svccfg delete -f svc:/site/mdatad',
        'svccfg delete -f svc:/site/mdatad-takeover',
      ]);
      assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
      assert.strictEqual(node.state(MDATAD), undefined);
      assert.deepStrictEqual(readdirSync(node.at('opt/custom/smf')), []);
      assert(existsSync(node.at('opt/mdatad/etc/mdatad.json')));
    });

    it("gives the zones' socket directories the modes that the platform gave them", () => {
      const mode = (name: string): string =>
        (statSync(node.at(`var/zonecontrol/${name}`)).mode & 0o777).toString(8);
      for (const [name, bits] of [
        ['by-agent', 0o700],
        ['by-brand', 0o755],
        ['gone', 0o755],
      ] as const) {
        mkdirSync(node.at(`var/zonecontrol/${name}`), { recursive: true, mode: bits });
      }
      succeed(script(unpacked, 'install'));
      succeed(script(second, 'upgrade'));
      // As mdatad makes them.
      chmodSync(node.at('var/zonecontrol/by-brand'), 0o700);
      mkdirSync(node.at('var/zonecontrol/new'), { mode: 0o700 });
      rmSync(node.at('var/zonecontrol/gone'), { recursive: true });
      succeed(script(unpacked, 'uninstall'));
      assert.deepStrictEqual(['by-agent', 'by-brand', 'new'].map(mode), ['700', '755', '700']);
      assert(!existsSync(node.at('opt/mdatad/etc/directory-modes')));
    });

    it('may be run again, and removes all with --purge', () => {
      succeed(script(unpacked, 'install'));
      succeed(script(unpacked, 'uninstall'));
      succeed(script(unpacked, 'uninstall', '--purge'));
      assert(!existsSync(node.at('opt/mdatad')));
      assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    });

    it('does nothing but talk with --dry-run', () => {
      succeed(script(unpacked, 'install'));
      const pid = node.daemonPid();
      const { stdout } = succeed(script(unpacked, 'uninstall', '--dry-run'));
      assert.match(stdout, /uninstall: nothing was changed \(--dry-run\)\n$/);
      assert.strictEqual(node.state(MDATAD), 'online');
      process.kill(pid, 0);
    });
  });

  describe('the processes of the service', () => {
    let pid = 0;
    let child = 0;

    beforeEach(() => {
      succeed(script(unpacked, 'install'));
      pid = node.daemonPid();
      child = Number(readFileSync(node.at('var/run/mdatad/child.pid'), 'utf8'));
    });

    it('are not stopped when a child of the daemon dumps core or is killed', () => {
      for (const how of ['core', 'signal'] as const) {
        node.processEnds(child, how);
        assert.strictEqual(node.state(MDATAD), 'online');
        assert.strictEqual(node.daemonPid(), pid);
        process.kill(pid, 0);
      }
    });

    for (const how of ['core', 'signal'] as const) {
      it(`are started again at once when the daemon ends (${how}) and a child of it still runs`, async () => {
        node.processEnds(pid, how);
        await eventually(() => {
          node.watchContracts();
          return node.daemonPid() !== pid;
        });
        process.kill(child, 0);
        assert.strictEqual(node.state(MDATAD), 'online');
      });
    }

    it('let the daemon end by itself when the service stops', () => {
      succeed(node.run('svcadm', ['disable', '-s', MDATAD]));
      assert.match(node.daemonLog(), /SIGTERM/);
    });

    it('are not what a stale pid file names: no other process is signalled', () => {
      const other = spawn('sleep', ['60'], { stdio: 'ignore' });
      try {
        node.processEnds(pid, 'signal');
        writeFileSync(node.at('var/run/mdatad/mdatad.pid'), `${other.pid ?? ''}\n`);
        const method = node.at('opt/mdatad/current/smf/method/mdatad');
        succeed(node.run('/usr/bin/env', [`SMF_FMRI=${MDATAD}`, method, 'stop']));
        assert.strictEqual(other.signalCode, null);
        process.kill(other.pid ?? 0, 0);
      } finally {
        other.kill();
      }
    });
  });

  describe('the method', () => {
    function method(name: string): Outcome {
      const env = `SMF_FMRI=${MDATAD}`;
      return node.run('/usr/bin/env', [env, node.at('opt/mdatad/current/smf/method/mdatad'), name]);
    }

    it('renders the properties again on refresh and sends the daemon SIGHUP', () => {
      succeed(script(unpacked, 'install'));
      const pid = node.daemonPid();
      writeFileSync(node.at('opt/mdatad/etc/mdatad.json'), '{"limits":{"connections":7}}');
      const { stderr } = succeed(method('refresh'));
      assert.match(stderr, /limits\.connections is as .* says, not as the property says/);
      const rendered: unknown = JSON.parse(
        readFileSync(node.at('var/run/mdatad/config.json'), 'utf8'),
      );
      assert.strictEqual((rendered as { limits: { connections: number } }).limits.connections, 7);
      assert.strictEqual(node.daemonPid(), pid);
    });

    it('ends with 96 on a bad configuration and leaves the one in force', () => {
      succeed(script(unpacked, 'install'));
      const before = readFileSync(node.at('var/run/mdatad/config.json'), 'utf8');
      writeFileSync(node.at('opt/mdatad/etc/mdatad.json'), 'no JSON');
      assert.strictEqual(method('refresh').status, 96);
      assert.strictEqual(method('start').status, 96);
      assert.strictEqual(readFileSync(node.at('var/run/mdatad/config.json'), 'utf8'), before);
    });

    it('ends with 95 without a Node, and with 99 outside SMF', () => {
      succeed(script(unpacked, 'install'));
      const file = node.at('opt/mdatad/current/smf/method/mdatad');
      assert.strictEqual(node.run(file, ['start']).status, 99);
      const link = node.at('opt/mdatad/node');
      rmSync(link);
      symlinkSync('/nonexistent', link);
      const outcome = method('start');
      assert.strictEqual(outcome.status, 95);
      assert.match(outcome.stderr, /there is no Node at .*: run smf\/upgrade --node DIR/);
    });
  });
});
