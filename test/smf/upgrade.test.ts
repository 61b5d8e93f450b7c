/* smf/upgrade, rollback and uninstall: what replaces and removes an installed mdatad. */
import assert from 'node:assert';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { installStage } from '../support/install-stage';
import { MDATAD, PLATFORM_AGENT, STAND_IN, TAKEOVER } from '../support/node-root';
import { otherRelease } from '../support/smf-package';

const LONG_MS = 120_000;

describe('the scripts for an installed mdatad', function () {
  this.timeout(LONG_MS);
  const stage = installStage();
  const { script, succeed, refuse, release, changes } = stage;

  function edit(path: string, change: (text: string) => string): void {
    const text = change(readFileSync(path, 'utf8'));
    assert.notStrictEqual(text, readFileSync(path, 'utf8'));
    writeFileSync(path, text);
  }

  /** From here on no script of this release can end the daemon. */
  function endNothing(directory: string): void {
    edit(join(directory, 'smf/lib/daemon.sh'), (text) =>
      text.replace(/kill -(TERM|KILL)/g, 'true $1').replace(/(?<=_SECONDS=)\d+/g, '1'),
    );
  }

  function daemonLives(pid: number, program: string): RegExp {
    return new RegExp(`process ${pid}, does not end by SIGKILL: .*, and run ${program} again`);
  }

  async function end(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL');
    await eventually(() => !existsSync(`/proc/${pid}`));
  }

  describe('upgrade', () => {
    it('changes to the new release, and back to the old one with the old one', () => {
      succeed(script(stage.unpacked, 'install'));
      const [pid, first] = [stage.node.daemonPid(), release()];
      succeed(script(stage.second, 'upgrade'));
      assert.strictEqual(release(), '9.0.0-second');
      assert.notStrictEqual(stage.node.daemonPid(), pid);
      assert.strictEqual(stage.node.state(MDATAD), 'online');
      succeed(script(stage.node.at(`opt/mdatad/versions/${first}`), 'upgrade'));
      assert.strictEqual(release(), first);
    });

    it('goes back to the release before when the new one does not come up', () => {
      succeed(script(stage.unpacked, 'install'));
      const first = release();
      for (const behaviour of ['end at once', 'never be well'] as const) {
        const broken = otherRelease(
          stage.unpacked,
          `9.1.0-${behaviour.replace(/ /g, '-')}`,
          behaviour,
        );
        refuse(script(broken, 'upgrade'), new RegExp(`${first} is in force again`));
        assert.strictEqual(release(), first);
        assert.strictEqual(stage.node.state(MDATAD), 'online');
        assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'disabled');
      }
      assert.match(stage.node.daemonLog(), /was not ready in 10 s: no zone has its socket yet/);
    });

    it('does not touch the running daemon when the new one refuses its configuration', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      const strict = otherRelease(stage.unpacked, '9.2.0-strict', 'refuse the configuration');
      refuse(script(strict, 'upgrade'), /refuses the configuration in force; .* still serves/);
      assert.strictEqual(stage.node.daemonPid(), pid);
    });

    it("keeps the site's settings and the two last releases only", () => {
      succeed(script(stage.unpacked, 'install'));
      const first = release();
      writeFileSync(stage.node.at('opt/mdatad/etc/mdatad.json'), '{"log_level":"debug"}');
      succeed(script(stage.second, 'upgrade'));
      assert.match(stage.node.daemonLog(), /config .*"log_level":"debug"/);
      succeed(script(otherRelease(stage.unpacked, '9.3.0-third', 'serve'), 'upgrade'));
      const kept = readdirSync(stage.node.at('opt/mdatad/versions')).sort();
      assert.deepStrictEqual(kept, ['9.0.0-second', '9.3.0-third']);
      assert.notStrictEqual(first, '');
    });

    it('is undone by rollback, and rollback by rollback', () => {
      succeed(script(stage.unpacked, 'install'));
      const first = release();
      refuse(script(stage.node.at('opt/mdatad/current'), 'rollback'), /there is no release before/);
      succeed(script(stage.second, 'upgrade'));
      const { stdout } = succeed(
        script(stage.node.at('opt/mdatad/current'), 'rollback', '--dry-run'),
      );
      assert.match(stdout, new RegExp(`make ${first} the release that is started next`));
      assert.strictEqual(release(), '9.0.0-second');
      const pid = stage.node.daemonPid();
      succeed(script(stage.node.at('opt/mdatad/current'), 'rollback'));
      assert.strictEqual(release(), first);
      assert.strictEqual(stage.node.state(MDATAD), 'online');
      assert.notStrictEqual(stage.node.daemonPid(), pid);
      succeed(script(stage.node.at('opt/mdatad/current'), 'rollback'));
      assert.strictEqual(release(), '9.0.0-second');
    });

    it('does nothing when it is in force already, or with --dry-run', () => {
      succeed(script(stage.unpacked, 'install'));
      const [pid, first] = [stage.node.daemonPid(), release()];
      succeed(script(stage.unpacked, 'upgrade'));
      const { stdout } = succeed(script(stage.second, 'upgrade', '--dry-run'));
      assert.match(stdout, /upgrade: nothing was changed \(--dry-run\)\n$/);
      assert.deepStrictEqual([stage.node.daemonPid(), release()], [pid, first]);
    });

    it('finishes what was killed before the new release was started, and keeps the release to roll back to', () => {
      succeed(script(stage.unpacked, 'install'));
      const [pid, first] = [stage.node.daemonPid(), release()];
      // Killed right after the link was changed: the daemon of the first release still serves.
      cpSync(stage.second, stage.node.at('opt/mdatad/versions/9.0.0-second'), { recursive: true });
      rmSync(stage.node.at('opt/mdatad/current'));
      symlinkSync('versions/9.0.0-second', stage.node.at('opt/mdatad/current'));
      refuse(script(stage.second, 'install'), new RegExp(`${first} serves still: use upgrade`));
      const { stdout } = succeed(script(stage.second, 'upgrade'));
      assert.match(stdout, new RegExp(`9.0.0-second is in force; before it was ${first}`));
      assert.notStrictEqual(stage.node.daemonPid(), pid);
      assert(existsSync(stage.node.at(`opt/mdatad/versions/${first}`)));
    });

    it('stops where the old daemon lives on after its service was disabled, and goes on once it has ended', async () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      // Whose method it is that stops the old daemon, as it is in force by then.
      const stuck = otherRelease(stage.unpacked, '9.6.0-stuck', 'serve');
      endNothing(stuck);
      refuse(script(stuck, 'upgrade'), daemonLives(pid, 'upgrade'));
      assert.strictEqual(stage.node.daemonPid(), pid);
      assert.notStrictEqual(stage.node.state(MDATAD), 'online');
      await end(pid);
      succeed(script(stuck, 'upgrade'));
      assert.notStrictEqual(stage.node.daemonPid(), pid);
    });

    it('ends the old daemon itself where its stop method fails', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      const failing = otherRelease(stage.unpacked, '9.7.0-failing', 'serve');
      edit(join(failing, 'smf/method/mdatad'), (text) =>
        text.replace('stop) stop_daemon', 'stop) exit 1'),
      );
      succeed(script(failing, 'upgrade'));
      assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
      assert.strictEqual(stage.node.state(MDATAD), 'online');
    });

    it('requires an installed mdatad', () => {
      refuse(script(stage.unpacked, 'upgrade'), /is not installed below .*: use install/);
      succeed(script(stage.unpacked, 'install'));
      refuse(
        script(stage.second, 'install'),
        /is installed: use upgrade to change to 9\.0\.0-second/,
      );
    });
  });

  describe('uninstall', () => {
    it("gives the zones back to the platform's agent at once, and keeps the settings", () => {
      succeed(script(stage.unpacked, 'install'));
      writeFileSync(stage.node.at('opt/mdatad/etc/mdatad.json'), '{}');
      stage.node.forgetCalls();
      succeed(
        stage.node.run(stage.node.at('opt/mdatad/current/smf/uninstall'), [
          '--root',
          stage.node.root,
        ]),
      );
      assert.deepStrictEqual(changes(), [
        `svcadm disable ${TAKEOVER}`,
        `svcadm disable ${MDATAD}`,
        `svcadm disable ${MDATAD}`,
        `svcadm disable ${STAND_IN}`,
        `svcadm enable -s ${PLATFORM_AGENT}`,
        `svccfg delete -f ${STAND_IN}`,
        'svccfg delete -f svc:/site/mdatad',
        'svccfg delete -f svc:/site/mdatad-takeover',
      ]);
      assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
      assert.strictEqual(stage.node.state(MDATAD), undefined);
      assert.deepStrictEqual(readdirSync(stage.node.at('opt/custom/smf')), []);
      assert(existsSync(stage.node.at('opt/mdatad/etc/mdatad.json')));
    });

    it("gives the zones' socket directories the modes that the platform gave them", () => {
      const mode = (name: string): string =>
        (statSync(stage.node.at(`var/zonecontrol/${name}`)).mode & 0o777).toString(8);
      for (const [name, bits] of [
        ['by-agent', 0o700],
        ['by-brand', 0o755],
        ['gone', 0o755],
      ] as const) {
        mkdirSync(stage.node.at(`var/zonecontrol/${name}`), { recursive: true, mode: bits });
      }
      succeed(script(stage.unpacked, 'install'));
      succeed(script(stage.second, 'upgrade'));
      // As mdatad makes them.
      chmodSync(stage.node.at('var/zonecontrol/by-brand'), 0o700);
      mkdirSync(stage.node.at('var/zonecontrol/new'), { mode: 0o700 });
      rmSync(stage.node.at('var/zonecontrol/gone'), { recursive: true });
      succeed(script(stage.unpacked, 'uninstall'));
      assert.deepStrictEqual(['by-agent', 'by-brand', 'new'].map(mode), ['700', '755', '700']);
      assert(!existsSync(stage.node.at('opt/mdatad/etc/directory-modes')));
    });

    it('may be run again, and removes all with --purge', () => {
      succeed(script(stage.unpacked, 'install'));
      succeed(script(stage.unpacked, 'uninstall'));
      succeed(script(stage.unpacked, 'uninstall', '--purge'));
      assert(!existsSync(stage.node.at('opt/mdatad')));
      assert(!existsSync(stage.node.at('var/db/mdatad')));
      assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
    });

    it("does not enable the platform's agent beside a daemon that lives on", async () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      const stuck = otherRelease(stage.unpacked, '9.8.0-stuck', 'serve');
      endNothing(stuck);
      endNothing(stage.node.at('opt/mdatad/current'));
      refuse(script(stuck, 'uninstall'), daemonLives(pid, 'uninstall'));
      assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'disabled');
      assert.strictEqual(stage.node.daemonPid(), pid);
      await end(pid);
      succeed(script(stage.unpacked, 'uninstall'));
      assert.strictEqual(stage.node.state(PLATFORM_AGENT), 'online');
    });

    it('only prints its steps with --dry-run', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      const { stdout } = succeed(script(stage.unpacked, 'uninstall', '--dry-run'));
      assert.match(stdout, /uninstall: nothing was changed \(--dry-run\)\n$/);
      assert.strictEqual(stage.node.state(MDATAD), 'online');
      process.kill(pid, 0);
    });
  });
});
