import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { needs } from '../support/pending';
import { SIMCN, SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const LX = 'c8c0b5c2-7d1f-6b8c-d7ad-c9a2f0b45b1e';
const HALTED = '3f6d2c1b-9a84-4f0e-b1c2-77d0e5a9c412';
const GUEST = 'aaac8650-4b58-6633-9054-a2c22e7beb36';
const DATA = `zones/${ZONE}/data`;
const isRoot = process.geteuid?.() === 0;

const VMS = [
  { uuid: ZONE, brand: 'joyent', datasets: [DATA], zfs_snapshot_limit: 2 },
  { uuid: LX, brand: 'lx', hostname: 'lx-host' },
  { uuid: HALTED, brand: 'joyent', zone_state: 'installed' },
  { uuid: GUEST, brand: 'kvm' },
];

// The same view must come about for root and, by way of a user namespace, for anybody.
for (const asNobody of isRoot ? [false, true] : [false]) {
  describe(`simcn exec ${asNobody ? 'of an ordinary user' : ''}`, function () {
    this.timeout(60_000);
    let node: SimNode;

    before(async function () {
      needs(this, whyNoNode());
      node = await SimNode.start({ vms: VMS, asNobody });
    });
    after(async () => {
      await (node as SimNode | undefined)?.stop();
    });

    it('runs a command in the zone: its root, its files, root of them', async () => {
      const { status, stdout } = await node.exec(
        ZONE,
        'sh',
        '-c',
        'id -u; ls -d /.zonecontrol; echo hi > /tmp/x',
      );
      assert.strictEqual(status, 0);
      assert.strictEqual(stdout, '0\n/.zonecontrol\n');
      assert.strictEqual(readFileSync(node.path(`/zones/${ZONE}/root/tmp/x`), 'utf8'), 'hi\n');
    });

    it('shows the socket directory where the brand has it, and lets nothing be written there', async () => {
      writeFileSync(node.path(`/var/zonecontrol/${ZONE}/probe`), 'p');
      writeFileSync(node.path(`/var/zonecontrol/${LX}/probe`), 'q');
      assert.strictEqual((await node.exec(ZONE, 'cat', '/.zonecontrol/probe')).stdout, 'p');
      assert.strictEqual((await node.exec(LX, 'cat', '/native/.zonecontrol/probe')).stdout, 'q');
      const written = await node.exec(ZONE, 'touch', '/.zonecontrol/new');
      assert.strictEqual(written.status, 1);
      assert.match(written.stderr, /Read-only file system/);
    });

    it("keeps the host's programs, and everything else of the host, out of reach", async () => {
      const { stderr } = await node.exec(ZONE, 'touch', '/usr/new');
      assert.match(stderr, /Read-only file system/);
      assert.strictEqual((await node.exec(ZONE, 'ls', node.root)).status, 2);
    });

    it('has a name and a host name of its own', async () => {
      const { stdout } = await node.exec(LX, 'sh', '-c', 'zonename; hostname');
      assert.strictEqual(stdout, `${LX}\nlx-host\n`);
    });

    it('has the metadata commands on the PATH', async () => {
      const { stdout } = await node.exec(
        ZONE,
        'sh',
        '-c',
        'command -v mdata-get; command -v mdata-put',
      );
      assert.strictEqual(stdout, '/opt/simcn/bin/mdata-get\n/opt/simcn/bin/mdata-put\n');
      assert.strictEqual((await node.exec(ZONE, 'mdata-get', '--help')).status, 0);
    });

    it('ends as the command ended', async () => {
      assert.strictEqual((await node.exec(ZONE, 'sh', '-c', 'exit 7')).status, 7);
      assert.strictEqual((await node.exec(ZONE, 'sh', '-c', 'kill -9 $$')).status, 137);
      assert.strictEqual((await node.exec(ZONE, 'no-such-program')).status, 127);
    });

    it('hands over stdin', async () => {
      const { stdout } = await node.simcn(['exec', ZONE, '--', 'cat'], 'some\0bytes');
      assert.strictEqual(stdout, 'some\0bytes');
    });

    it('says why nothing can be run in a halted zone, or in a guest', async () => {
      const halted = await node.exec(HALTED, 'true');
      assert.deepStrictEqual(
        [halted.status, halted.stderr],
        [1, `simcn: zone ${HALTED} is not running (it is installed; start it: simcn boot)\n`],
      );
      const guest = await node.exec(GUEST, 'true');
      assert.strictEqual(guest.status, 1);
      assert.match(guest.stderr, /kvm guest/);
    });

    it("gives the process the zone's directory for its root, and ends it with the zone", async () => {
      const argv = [
        SIMCN,
        'exec',
        '--root',
        node.root,
        LX,
        '--',
        'sh',
        '-c',
        '(sleep 999 & echo $!); sleep 998',
      ];
      const prefix = asNobody
        ? ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--']
        : [];
      const [program = '', ...args] = [...prefix, process.execPath, ...argv];
      const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      const [line] = (await once(child.stdout, 'data')) as [Buffer];
      // /proc is the host's, and so is the process id.
      const pid = Number(line.toString());
      const { stdout } = await node.run(['readlink', `/proc/${pid}/root`]);
      assert.strictEqual(stdout.trim(), node.path(`/zones/${LX}/root`));
      const ended = once(child, 'exit');
      await node.ok(['shutdown', LX]);
      assert.deepStrictEqual(await ended, [137, null]);
      assert.ok(
        !existsSync(`/proc/${pid}`) || isZombie(pid),
        'the process in the background lives on',
      );
      await node.ok(['boot', LX]);
    });

    it('passes a signal on', async () => {
      const argv = [
        SIMCN,
        'exec',
        '--root',
        node.root,
        ZONE,
        '--',
        'sh',
        '-c',
        'trap "exit 3" TERM; echo up; sleep 99 & wait',
      ];
      const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      assert.deepStrictEqual(await ended, [3, null]);
    });

    it('puts a root back as a snapshot has it, and leaves what is delegated alone', async () => {
      const sh = async (script: string) => {
        const result = await node.exec(ZONE, 'sh', '-c', script);
        assert.strictEqual(result.status, 0, result.stderr);
        return result.stdout;
      };
      await sh(`echo one > /var/f; touch /var/g; echo one > /${DATA}/f`);
      await node.ok(['snapshot', ZONE, 'first']);
      await sh(`echo two > /var/f; echo two > /${DATA}/f; rm /var/g`);
      await node.ok(['snapshot', ZONE, 'second']);
      const third = await node.simcn(['snapshot', ZONE, 'third']);
      assert.strictEqual(third.status, 1);
      assert.match(third.stderr, /limit of 2 snapshots/);

      await node.ok(['rollback', ZONE, 'first']);
      assert.strictEqual(await sh(`ls /var/g; cat /var/f /${DATA}/f`), '/var/g\none\ntwo\n');
      // Rolling back has dropped what came after.
      assert.strictEqual((await node.simcn(['rollback', ZONE, 'second'])).status, 1);
      assert.strictEqual(await sh('cat /.zonecontrol/probe'), 'p');

      await node.ok(['reprovision', ZONE]);
      assert.strictEqual(await sh(`ls /var/f 2>&1 >&2 | wc -l; cat /${DATA}/f`), '1\ntwo\n');
      assert.strictEqual(await sh('cat /.zonecontrol/probe'), 'p');
      assert.strictEqual((await node.simcn(['rollback', ZONE, 'first'])).status, 1);
      const guest = await node.simcn(['snapshot', GUEST, 'x']);
      assert.strictEqual(guest.status, 1);
    });

    const mayMount = isRoot && !asNobody;
    it(
      mayMount ? 'leaves nothing mounted, and nothing said' : 'says once that it cannot mount',
      async () => {
        const root = node.root;
        assert.strictEqual(await node.end(), 0);
        assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes(root));
        const lines = node.stderr.split('\n').filter((line) => line !== '');
        assert.strictEqual(lines.length, mayMount ? 0 : 1, node.stderr);
      },
    );
  });
}

/** Killed, and waiting for a parent that reaps it. */
function isZombie(pid: number): boolean {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
}
