/*
 * `mdatactl preflight` as a run: its report and exit status, and that it puts everything back however it ends. What
 * each check finds is in preflight-checks.test.ts.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { PROBES, type PreflightReport } from '../../tools/preflight/check';
import { LEAST_NODE } from '../../tools/preflight/node-checks';
import { CHECK_NAMES, preflight } from '../../tools/preflight/preflight';
import { otherUserFinding } from '../../tools/preflight/socket-probes';
import { whyNoFailingCalls } from '../support/failing-calls';
import { whyNoHangingFs } from '../support/hanging-fs';
import { TOP } from '../support/manifest';
import { describeWhere } from '../support/pending';
import { PreflightNode } from '../support/preflight-node';
import { whyNoNode } from '../support/simcn';

describeWhere(
  whyNoFailingCalls() ?? whyNoHangingFs() ?? whyNoNode(),
  'mdatactl preflight',
  function () {
    this.timeout(120_000);
    let node: PreflightNode;

    before(async () => {
      node = await PreflightNode.start();
    });

    after(() => node.stop());

    it('finds nothing wrong on a healthy node, and leaves no trace', async () => {
      const before = node.traces();
      const { checks, elapsed_ms } = await node.report();
      assert.deepStrictEqual(
        checks.map(({ name }) => name),
        CHECK_NAMES,
      );
      assert.deepStrictEqual(
        checks
          .filter(({ verdict }) => verdict !== 'ok')
          .map(({ name, seen }) => `${name}: ${seen}`),
        [],
      );
      assert(checks.every(({ expected, seen }) => expected !== '' && seen !== ''));
      assert(elapsed_ms < 30_000);
      assert.deepStrictEqual(node.traces(), before);
    });

    it('shows a person one line a check within 80 columns, and exits with 0', async () => {
      const { status, stdout, stderr } = await node.run(['env', 'COLUMNS=80']);
      assert.deepStrictEqual([status, stderr], [0, '']);
      const lines = stdout.trimEnd().split('\n');
      assert.strictEqual(lines.length, CHECK_NAMES.length + 2);
      assert.deepStrictEqual(
        lines.filter((line) => line.length > 80),
        [],
      );
      assert.match(lines.at(-1) ?? '', /^all is well; \d+ checks in \d+\.\d s$/);
    });

    it('exits with 1 for warnings and shows what was expected and what to do', async () => {
      chmodSync(node.directory, 0o755);
      const { status, stdout } = await node.run();
      chmodSync(node.directory, 0o700);
      assert.strictEqual(status, 1);
      assert.match(stdout, /^WARN +zone-directories +other users may enter/m);
      assert.match(stdout, /^ +expected: a directory 0700 root for every OS zone$/m);
      assert.match(stdout, /^ +-> .*chmod 700 \/var\/zonecontrol\/\*$/m);
      assert.match(stdout, /^1 warning, nothing failed; /m);
    });

    it('exits with 2 for a user who is not root, and names that', async () => {
      const prefix = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];
      const { status, stdout } = await node.run(prefix);
      assert.strictEqual(status, 2);
      assert.match(stdout, /FAIL +(root|scratch)/);
    });

    it('wants a 64-bit Node of a version that is supported, and root', async () => {
      for (const [facts, name] of [
        [{ arch: 'ia32', version: '20.1.0', uid: 0 }, 'node'],
        [{ arch: 'x64', version: '18.20.0', uid: 0 }, 'node'],
        [{ arch: 'x64', version: '20.14.9', uid: 0 }, 'node'],
        [{ arch: 'x64', version: '24.0.0', uid: 101 }, 'uid'],
      ] as const) {
        const stop = new AbortController();
        const { checks } = await preflight({ root: node.root, facts, signal: stop.signal });
        const bad = checks.filter(({ verdict }) => verdict !== 'ok').map((each) => each.name);
        assert.deepStrictEqual(bad, [name]);
      }
    });

    it('wants the Node that package.json and the install script want', () => {
      const [major, minor] = LEAST_NODE;
      const text = (path: string): string => readFileSync(join(TOP, path), 'utf8');
      assert.match(text('package.json'), new RegExp(`"node": ">=${major}\\.${minor}"`));
      const condition = `+a > ${major} || (+a === ${major} && +b >= ${minor})`;
      assert(text('smf/lib/install.sh').includes(condition));
    });

    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      it(`puts everything back when it is ended by ${signal} in the middle of a mount`, async () => {
        const before = node.traces();
        const { child, stdout } = await node.runInMount();
        child.kill(signal);
        const [status] = (await once(child, 'close')) as [number];
        node.calls.clear();
        assert.strictEqual(status, 2);
        const { checks } = JSON.parse(stdout()) as PreflightReport;
        assert(checks.some(({ name, verdict }) => name === 'lofs' && verdict === 'fail'));
        assert.deepStrictEqual(node.traces(), before);
      });
    }

    it('removes what a run that was killed left behind', async () => {
      const before = node.traces();
      const { child } = await node.runInMount();
      child.kill('SIGKILL');
      await once(child, 'exit');
      node.calls.clear();
      assert(node.mounts().some((path) => path.includes('.preflight.')));
      const { checks } = await node.report([], 'scratch');
      assert.deepStrictEqual(
        checks.map(({ verdict }) => verdict),
        ['ok'],
      );
      assert.deepStrictEqual(node.traces(), before);
    });

    /** A process that works in the mount of a run. */
    async function enterMount() {
      const [point = ''] = node.mounts().filter((path) => path.includes('.preflight.'));
      const inside = spawn('sleep', ['1000'], { cwd: point, stdio: 'ignore' });
      await once(inside, 'spawn');
      const leave = async (): Promise<void> => {
        inside.kill();
        await once(inside, 'exit');
      };
      return { point, scratch: point.slice(0, point.indexOf('/lofs/')), leave };
    }

    it('warns of what an earlier run left and cannot be unmounted, and removes it the next time', async () => {
      const before = node.traces();
      const { child } = await node.runInMount();
      child.kill('SIGKILL');
      await once(child, 'exit');
      node.calls.clear();
      const { point, scratch, leave } = await enterMount();
      const { checks } = await node.report([], 'lofs');
      await leave();
      assert.deepStrictEqual(
        checks.map(({ name, verdict }) => `${name} ${verdict}`),
        ['scratch warn', 'lofs ok'],
      );
      const [{ seen, remedy } = { seen: '', remedy: '' }] = checks;
      assert.match(seen, /\/root\/at stays mounted: .*EBUSY/);
      assert.strictEqual(remedy, `fuser -c ${point}; umount ${point}; rm -r ${scratch}`);
      await node.report([], 'node');
      assert.deepStrictEqual(node.traces(), before);
    });

    it('fails where its own mount stays, and says how to remove it', async () => {
      const before = node.traces();
      const { child, stdout } = await node.runInMount();
      const { point, scratch, leave } = await enterMount();
      child.kill('SIGTERM');
      await once(child, 'close');
      node.calls.clear();
      await leave();
      const { checks } = JSON.parse(stdout()) as PreflightReport;
      const found = checks.find(({ name }) => name === 'scratch');
      assert.strictEqual(found?.verdict, 'fail');
      assert.strictEqual(found.remedy, `fuser -c ${point}; umount ${point}; rm -r ${scratch}`);
      await node.report([], 'node');
      assert.deepStrictEqual(node.traces(), before);
    });

    it('names a vminfod that sends garbage', async () => {
      const path = node.path('/garbage.sock');
      const server = createServer((request, response) => {
        response.end(
          request.url === '/ping' ? '{"ping":"pong"}' : '{"type":"ready","vms":"[{x}]"}\n',
        );
      });
      server.listen(path);
      await once(server, 'listening');
      const flags = ['--json', '--vminfod', `unix:${path}`, '--check', 'vminfod'];
      const { status, stdout } = await node.run([], flags);
      server.close();
      assert.strictEqual(status, 2);
      assert.match(stdout, /"seen": "a VM of the ready line is not JSON"/);
    });

    it('says so where vmadm does not answer in time', async () => {
      const undo = await node.inject('vmadm.hang=60000');
      const { checks } = await node.report([], 'vmadm');
      await undo();
      assert.match(checks[0]?.seen ?? '', /vmadm lookup gave no answer within 8 s/);
    });

    it('makes the checks that need no scratch directory where there is none', async () => {
      node.calls.fail('mkdir', 'EROFS', '.preflight.');
      const { checks } = await node.report(node.calls.prefix);
      node.calls.clear();
      const well = checks.filter(({ verdict }) => verdict === 'ok').map(({ name }) => name);
      for (const name of ['addon', 'ffi', 'libzonecfg', 'zone-events', 'vminfod', 'vmadm']) {
        assert(well.includes(name), name);
      }
      for (const name of ['scratch', 'socket', 'lofs']) {
        assert(!well.includes(name), name);
      }
    });

    it('ends in time where every child hangs, and names each of them', async () => {
      node.calls.delay('open', 120_000, 'file-probes.js$');
      const { checks, elapsed_ms } = await node.report(node.calls.prefix);
      node.calls.clear();
      const hung = checks.filter(({ name, verdict }) => {
        return verdict === 'fail' && PROBES.some((probe) => probe === name);
      });
      assert.deepStrictEqual(
        hung.map(({ name }) => name),
        CHECK_NAMES.filter((name) => {
          return PROBES.some((probe) => probe === name) && name !== 'addon' && name !== 'ffi';
        }),
      );
      assert(elapsed_ms < 30_000, `${elapsed_ms} ms`);
    });
  },
);

describe('what the probes of preflight conclude', () => {
  it('is that another user is kept out by the directory alone, whatever a socket does', () => {
    const peer = { zoneid: 0, pid: 1, uid: 60001 };
    assert.strictEqual(otherUserFinding('EACCES', 'connected', peer).verdict, 'ok');
    assert.strictEqual(otherUserFinding('EACCES', 'EACCES', peer).verdict, 'ok');
    assert.match(otherUserFinding('connected', 'connected', peer).seen, /got through/);
    const wrong = otherUserFinding('EACCES', 'connected', { ...peer, uid: 0 });
    assert.match(wrong.seen, /reported as 0/);
  });
});
