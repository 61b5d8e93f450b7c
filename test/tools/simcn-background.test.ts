/* `simcn up -d`, `down` and `logs`, as somebody at a terminal uses them. */
import assert from 'node:assert';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { needs } from '../support/pending';
import { runProgram, SIMCN, SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const GUEST = 'd4e7f0a2-51c8-4d0e-8b63-6f0a9f7f2c55';

describe('simcn: in the background', function () {
  this.timeout(60_000);
  let root: string;

  before(function () {
    needs(this, whyNoNode());
    root = mkdtempSync(join(tmpdir(), 'cn-'));
  });
  after(async () => {
    await simcn('down');
    rmSync(root, { recursive: true, force: true });
  });

  const simcn = (name: string, ...args: string[]) =>
    runProgram([process.execPath, SIMCN, name, '--root', root, ...args]);

  it('comes up, outlives the command, and goes down with nothing left', async () => {
    const vms = join(root, 'vms.json');
    writeFileSync(vms, JSON.stringify([{ uuid: ZONE, brand: 'joyent', vcpus: 2 }]));
    const up = await simcn('up', '-d', '--vms', vms);
    assert.deepStrictEqual(up, {
      status: 0,
      stdout: `${JSON.stringify({ ready: true, root, zones: 1 })}\n`,
      stderr: '',
    });
    assert.match((await simcn('ls')).stdout, /a5894692-.* running /);
    const { stdout } = await simcn('logs');
    assert.match(stdout, /^simcn: VM 0: Warning, invalid create property: \[vcpus\] removing/);
    assert.match(stdout, /^\{"ready":true/m);

    const down = await simcn('down');
    assert.deepStrictEqual(down, { status: 0, stdout: '', stderr: '' });
    assert(!readFileSync('/proc/self/mounts', 'utf8').includes(root));
    assert(!existsSync(join(root, 'var/run/simcn.sock')));
    const again = await simcn('down');
    assert.strictEqual(again.status, 1);
    assert.match(again.stderr, /no node is up at/);
  });

  it('says why it does not come up', async () => {
    const { status, stdout, stderr } = await simcn('up', '-d', '--vms', join(root, 'none.json'));
    assert.deepStrictEqual([status, stdout], [1, '']);
    assert.match(
      stderr,
      /^simcn: open \S*none\.json: no such file or directory \(ENOENT\)\n {2}.*ls -la /,
    );
  });

  it('says where a log would be', async () => {
    await simcn('up', '-d');
    const { status, stderr } = await simcn('logs', ZONE.slice(0, 8));
    assert.strictEqual(status, 1);
    assert.match(stderr, /logs\/console\.log: only a real guest has a console here/);
    await simcn('down');
  });
});

describe('simcn: a guest that does not boot', function () {
  this.timeout(60_000);

  it('leaves nothing behind when it was just made', async function () {
    needs(this, whyNoNode());
    const node = await SimNode.start();
    try {
      const missing = join(node.root, 'no-such-kernel');
      const simcn = { kernel: missing, initrd: missing };
      const payload = JSON.stringify({ uuid: GUEST, brand: 'kvm', simcn });
      for (let round = 0; round < 2; round++) {
        const { status, stdout, stderr } = await node.simcn(['create'], payload);
        assert.deepStrictEqual([status, stdout], [1, '']);
        assert.match(stderr, /qemu/);
        assert.strictEqual(await node.ok(['ls', '-H']), '');
        for (const path of [`/zones/${GUEST}`, `/var/zonecontrol/${GUEST}`]) {
          assert(!existsSync(node.path(path)), path);
        }
        assert(!readFileSync(node.path('/etc/zones/index'), 'utf8').includes(GUEST));
      }
    } finally {
      await node.stop();
    }
  });
});
