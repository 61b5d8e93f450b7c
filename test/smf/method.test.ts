/* The start method, and the processes of the service, under a startd of the tests. */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { installStage } from '../support/install-stage';
import { MDATAD, type Outcome } from '../support/node-root';
import { otherRelease } from '../support/smf-package';

const LONG_MS = 120_000;

describe('the service', function () {
  this.timeout(LONG_MS);
  const stage = installStage();
  const { script, succeed } = stage;

  describe('the processes of the service', () => {
    let pid = 0;
    let child = 0;

    beforeEach(() => {
      succeed(script(stage.unpacked, 'install'));
      pid = stage.node.daemonPid();
      child = Number(readFileSync(stage.node.at('var/run/mdatad/child.pid'), 'utf8'));
    });

    it('are not stopped when a child of the daemon dumps core or is killed', () => {
      for (const how of ['core', 'signal'] as const) {
        stage.node.processEnds(child, how);
        assert.strictEqual(stage.node.state(MDATAD), 'online');
        assert.strictEqual(stage.node.daemonPid(), pid);
        process.kill(pid, 0);
      }
    });

    for (const how of ['core', 'signal'] as const) {
      it(`are started again at once when the daemon ends (${how}) and a child of it still runs`, async () => {
        stage.node.processEnds(pid, how);
        await eventually(() => {
          stage.node.watchContracts();
          return stage.node.daemonPid() !== pid;
        });
        process.kill(child, 0);
        assert.strictEqual(stage.node.state(MDATAD), 'online');
      });
    }

    it('let the daemon end by itself when the service stops', () => {
      succeed(stage.node.run('svcadm', ['disable', '-s', MDATAD]));
      assert.match(stage.node.daemonLog(), /SIGTERM/);
    });

    it('are not what a stale pid file names: no other process is signalled', () => {
      const other = spawn('sleep', ['60'], { stdio: 'ignore' });
      try {
        stage.node.processEnds(pid, 'signal');
        writeFileSync(stage.node.at('var/run/mdatad/mdatad.pid'), `${other.pid ?? ''}\n`);
        const method = stage.node.at('opt/mdatad/current/smf/method/mdatad');
        succeed(stage.node.run('/usr/bin/env', [`SMF_FMRI=${MDATAD}`, method, 'stop']));
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
      return stage.node.run('/usr/bin/env', [
        env,
        stage.node.at('opt/mdatad/current/smf/method/mdatad'),
        name,
      ]);
    }

    it('renders the properties again on refresh and sends the daemon SIGHUP', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      writeFileSync(stage.node.at('opt/mdatad/etc/mdatad.json'), '{"limits":{"connections":7}}');
      const { stderr } = succeed(method('refresh'));
      assert.match(stderr, /limits\.connections is as .* says, not as the property says/);
      const rendered: unknown = JSON.parse(
        readFileSync(stage.node.at('var/run/mdatad/config.json'), 'utf8'),
      );
      assert.strictEqual((rendered as { limits: { connections: number } }).limits.connections, 7);
      assert.strictEqual(stage.node.daemonPid(), pid);
    });

    it('ends with 96 on a bad configuration and leaves the one in force', () => {
      succeed(script(stage.unpacked, 'install'));
      const before = readFileSync(stage.node.at('var/run/mdatad/config.json'), 'utf8');
      writeFileSync(stage.node.at('opt/mdatad/etc/mdatad.json'), 'no JSON');
      assert.strictEqual(method('refresh').status, 96);
      assert.strictEqual(method('start').status, 96);
      assert.strictEqual(readFileSync(stage.node.at('var/run/mdatad/config.json'), 'utf8'), before);
    });

    it('ends a daemon that an earlier start has left before it starts one', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      // The daemon keeps what it was started with, so its output must not be ours.
      const path = stage.node.at('opt/mdatad/current/smf/method/mdatad');
      const log = stage.node.at('start.log');
      const command = `SMF_FMRI=${MDATAD} ${path} start >${log} 2>&1`;
      succeed(stage.node.run('/bin/sh', ['-c', command]));
      assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
      assert.notStrictEqual(stage.node.daemonPid(), pid);
      // Of no contract, so that the node does not end it.
      process.kill(stage.node.daemonPid(), 'SIGKILL');
    });

    it('starts no daemon where another one answers that no pid file names', () => {
      succeed(script(stage.unpacked, 'install'));
      const pid = stage.node.daemonPid();
      rmSync(stage.node.at('var/run/mdatad/mdatad.pid'));
      const { status, stderr } = method('start');
      assert.strictEqual(status, 1);
      assert.match(stderr, new RegExp(`another mdatad has .*admin.sock: .*process id: ${pid}\\)`));
      assert(!existsSync(stage.node.at('var/run/mdatad/mdatad.pid')));
      process.kill(pid, 0);
    });

    it('starts no daemon where one listens that does not answer, but does beside a mere file', async () => {
      succeed(script(stage.unpacked, 'install'));
      assert.strictEqual(method('stop').status, 0);
      const socket = stage.node.at('var/run/mdatad/admin.sock');
      rmSync(socket, { force: true });
      // Answers nobody: this process waits for the method.
      const hung = createServer().listen(socket);
      await once(hung, 'listening');
      const { status, stderr } = method('start');
      assert.strictEqual(status, 1);
      assert.match(stderr, /another mdatad has .*process id: unknown, as it does not answer/);
      hung.close();
      await once(hung, 'close');
      writeFileSync(socket, '');
      assert.strictEqual(method('start').status, 0);
      // The tests' startd does not know of it.
      assert.strictEqual(method('stop').status, 0);
    });

    it('does not take the answer of another process for that of the daemon it started', () => {
      const other = otherRelease(stage.unpacked, '9.0.8-other', 'answer as another process');
      stage.refuse(script(other, 'install'), /mdatad did not come up/);
      assert.match(
        stage.node.daemonLog(),
        /process \d+ answers in the place of the mdatad that was started, \d+/,
      );
    });

    it('knows the daemon though its Node has a path of more than the 80 bytes that ps shows', () => {
      const tree = join(stage.directory, 'n'.repeat(100));
      mkdirSync(join(tree, 'bin'), { recursive: true });
      copyFileSync(process.execPath, join(tree, 'bin/node'), constants.COPYFILE_FICLONE);
      succeed(script(stage.unpacked, 'install', '--node', tree));
      assert.strictEqual(method('stop').status, 0);
      assert.match(stage.node.daemonLog(), /SIGTERM/);
    });

    it('ends with 95 without a Node, and with 99 outside SMF', () => {
      succeed(script(stage.unpacked, 'install'));
      const file = stage.node.at('opt/mdatad/current/smf/method/mdatad');
      assert.strictEqual(stage.node.run(file, ['start']).status, 99);
      const link = stage.node.at('opt/mdatad/node');
      rmSync(link);
      symlinkSync('/nonexistent', link);
      const outcome = method('start');
      assert.strictEqual(outcome.status, 95);
      assert.match(outcome.stderr, /there is no Node at .*: run smf\/upgrade --node DIR/);
    });
  });
});
