/*
 * A real guest under qemu in which the real cloud-init fetches its data from its own serial port: python
 * and the data source, as Debian has them, are in the guest's initrd.
 */
import assert from 'node:assert';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { AgentProcess } from '../support/guest-agent';
import {
  CLOUD_INIT,
  cloudInitFiles,
  parseAttempt,
  whyNoCloudInit,
} from '../support/guest-cloud-init';
import { GuestConsole } from '../support/guest-console';
import { makeInitrd } from '../support/guest-initrd';
import { guestPackages, KERNEL_ARGUMENTS } from '../support/guest-packages';
import { assertComplete, guestVm } from '../support/guest-vm';
import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { tempDir, type TempDir } from '../support/temp-dir';

const INIT = join(__dirname, '..', '..', '..', 'test', 'guest', 'cloud-init-init.sh');
const UUID = 'c1a8b3d2-0f4e-4d57-9b0a-5c1d2e3f4a5b';
const MEMORY_MIB = 256;
/** On a busy machine; python takes some seconds in software. */
const BOOT_MS = 90_000;

describe('cloud-init in a real guest', function () {
  this.timeout(2 * BOOT_MS);
  let directory: TempDir;
  let node: SimNode | undefined;
  let agent: AgentProcess | undefined;
  let guest: GuestConsole;

  before(async function () {
    const parts = await guestPackages();
    if (typeof parts === 'string') {
      pending(this, parts);
    }
    needs(this, (await whyNoCloudInit()) ?? whyNoNode());
    directory = tempDir();
    const files = (await cloudInitFiles()).map((path) => ({ from: path, to: path }));
    const program = { from: CLOUD_INIT, to: '/cloud-init.py' };
    const initrd = await makeInitrd(directory.path, parts, INIT, [...files, program]);
    node = await SimNode.start();
    const simcn = { kernel: parts.kernel, initrd, append: KERNEL_ARGUMENTS, memory: MEMORY_MIB };
    await node.ok(['create', '--boot'], JSON.stringify(guestVm(UUID, 'kvm', { simcn })));
    guest = new GuestConsole(node.path(`/zones/${UUID}/logs/console.log`));
  });

  after(async () => {
    try {
      await agent?.stop();
    } finally {
      await node?.stop();
      (directory as TempDir | undefined)?.remove();
    }
  });

  it('knows the platform by itself, waits for an agent that comes late, and gets all', async () => {
    await guest.until(/^GUEST product SmartDC HVM/, BOOT_MS);
    await guest.until(/^GUEST starts cloud-init/, BOOT_MS);
    agent = await AgentProcess.start(node?.root ?? '');
    await guest.until(/^GUEST cloud-init ended with 0/, BOOT_MS);
    const attempts = guest.lines().flatMap((line) => parseAttempt(line) ?? []);
    assertComplete(attempts, UUID);
  });

  it('ends with its node', async () => {
    assert(node !== undefined);
    const pid = readFileSync(node.path(`/zones/${UUID}/logs/qemu.pid`), 'utf8').trim();
    assert(existsSync(`/proc/${pid}`), `process ${pid} of the running guest`);
    await node.end();
    assert(!existsSync(`/proc/${pid}`), `process ${pid} was left behind`);
  });
});
