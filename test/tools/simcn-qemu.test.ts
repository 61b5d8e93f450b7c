import assert from 'node:assert';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { makeInitrd } from '../support/guest-initrd';
import { guestPackages } from '../support/guest-packages';
import { SimNode, whyNoNode } from '../support/simcn';

const GUEST = 'd4e7f0a2-51c8-4d0e-8b63-6f0a9f7f2c55';
const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
while :; do
  echo hello > /dev/ttyS1
  if read -t 1 word < /dev/ttyS1; then
    /bin/busybox poweroff -f
  fi
done
`;
/** Software emulation on a machine that others use as well. */
const GUEST_BOOT_MS = 120_000;

describe('simcn: a real guest', function () {
  this.timeout(3 * GUEST_BOOT_MS);
  let directory: string | null = null;
  let node: SimNode | null = null;

  before(async function () {
    const parts = await guestPackages();
    if (whyNoNode() !== null || typeof parts === 'string') {
      this.skip();
    }
    directory = mkdtempSync(join(tmpdir(), 'guest-'));
    const init = join(directory, 'init');
    writeFileSync(init, INIT, { mode: 0o755 });
    const simcn = { kernel: parts.kernel, initrd: await makeInitrd(directory, parts, init) };
    node = await SimNode.start({ vms: [{ uuid: GUEST, brand: 'kvm', simcn }] });
  });
  after(async () => {
    await node?.stop();
    if (directory !== null) {
      rmSync(directory, { recursive: true });
    }
  });

  const up = () => {
    assert.ok(node !== null);
    return node;
  };
  const pid = () => Number(readFileSync(up().path(`/zones/${GUEST}/logs/qemu.pid`), 'utf8'));
  const state = async () => {
    const [zone] = JSON.parse(await up().ok(['ls', '--json'])) as { zone_state: string }[];
    return zone?.zone_state;
  };

  it('speaks on the second serial port, and halts its zone by powering off', async () => {
    const first = pid();
    const port = connect(up().path(`/zones/${GUEST}/root/tmp/vm.ttyb`));
    const [received] = (await once(port, 'data')) as [Buffer];
    assert.match(received.toString(), /^h/);
    // The guest may not be reading yet, and the port forgets what nobody reads.
    const again = setInterval(() => port.write('off\n'), 500);
    await once(port, 'close');
    clearInterval(again);
    await eventually(async () => (await state()) === 'installed', 'the halt');
    assert.ok(!existsSync(`/proc/${first}`));
  });

  it('keeps its process over a reset, and loses it at a halt', async () => {
    await up().ok(['boot', GUEST]);
    const running = pid();
    await up().ok(['reboot', '--guest', GUEST]);
    assert.strictEqual(pid(), running);
    assert.ok(existsSync(`/proc/${running}`));
    await up().ok(['shutdown', GUEST]);
    assert.ok(!existsSync(`/proc/${running}`));
  });

  it('is ended with the node, or, when that was killed, by the next one', async () => {
    await up().ok(['boot', GUEST]);
    const stray = pid();
    const { root } = up();
    await up().end('SIGKILL');
    assert.ok(existsSync(`/proc/${stray}`));
    node = await SimNode.start({ root });
    assert.strictEqual(await state(), 'running');
    await eventually(() => !existsSync(`/proc/${stray}`), 'the end of the stray');
    const last = pid();
    assert.strictEqual(await node.end(), 0);
    assert.ok(!existsSync(`/proc/${last}`));
  });
});
