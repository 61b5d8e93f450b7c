/*
 * The real cloud-init in zones: its client for the metadata socket, run in the zone's own view, against
 * the real agent on a simulated node.
 */
import assert from 'node:assert';
import { readFileSync, readlinkSync } from 'node:fs';

import { AgentProcess } from '../support/guest-agent';
import { parseAttempt, PYTHON, whyNoCloudInit } from '../support/guest-cloud-init';
import { assertComplete, GUEST_VM_USER_SCRIPT, guestVm } from '../support/guest-vm';
import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const LX = 'c8c0b5c2-7d1f-6b8c-d7ad-c9a2f0b45b1e';
const NATIVE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
/** The checkout, as a zone of a simulated node sees it. */
const PROGRAM = '/opt/simcn/project/test/support/guest-cloud-init.py';
const LX_SOCKET = '/native/.zonecontrol/metadata.sock';

describe('cloud-init in a zone', function () {
  this.timeout(60_000);
  let node: SimNode | undefined;
  let agent: AgentProcess | undefined;

  before(async function () {
    needs(this, (await whyNoCloudInit()) ?? whyNoNode());
    node = await SimNode.start({ vms: [guestVm(LX, 'lx'), guestVm(NATIVE, 'joyent')] });
    agent = await AgentProcess.start(node.root);
    if ((await node.exec(LX, 'test', '-S', LX_SOCKET)).status !== 0) {
      pending(this, 'no zone can be entered, for want of namespaces');
    }
  });

  after(async () => {
    try {
      await agent?.stop();
    } finally {
      await node?.stop();
    }
  });

  async function fetchIn(uuid: string, ...more: string[]): Promise<void> {
    assert(node !== undefined);
    const argv = [PYTHON, PROGRAM, '--environment', 'lx-brand', ...more];
    const { stdout, stderr } = await node.exec(uuid, ...argv);
    const attempts = stdout.split('\n').flatMap((line) => parseAttempt(line) ?? []);
    assert.strictEqual(assertComplete(attempts, uuid), 0, stderr);
    const clients = attempts.map((attempt) => 'data' in attempt && attempt.data.client);
    assert.deepStrictEqual(clients, ['JoyentMetadataSocketClient']);
  }

  it('gets complete data in an lx zone, and leaves the scripts where they are run', async () => {
    await fetchIn(LX);
    const root = node?.path(`/zones/${LX}/root`) ?? '';
    const script = readlinkSync(`${root}/var/db/user-script`);
    assert.strictEqual(script, `/var/lib/cloud/instances/${LX}/data/user-script`);
    assert.strictEqual(readFileSync(`${root}${script}`, 'utf8'), GUEST_VM_USER_SCRIPT);
  });

  it('gets complete data from the socket of a native zone', async () => {
    await fetchIn(NATIVE, '--socket', '/.zonecontrol/metadata.sock');
  });
});
