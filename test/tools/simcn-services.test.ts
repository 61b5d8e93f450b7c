/* The mdata services of a zone: scripts as an image's author writes them, run by a real agent's node. */
import assert from 'node:assert';
import { existsSync, readFileSync } from 'node:fs';

import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const GOOD = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const BAD = '54f1cc77-68f1-42ab-acac-5c4f64f5d6e0';

/** What the two scripts of a boot write: the first sees that provisioning is over. */
const BOTH = '/var/svc/provision_success\nuser\n';
/** A boot is a dozen processes, on a machine that others use as well. */
const TIMEOUT_MS = 60_000;

describe('simcn: the services of a zone', function () {
  this.timeout(3 * TIMEOUT_MS);
  let node: SimNode;
  let agent: AgentProcess | null = null;

  before(async function () {
    needs(this, whyNoNode());
    const vm = (uuid: string, user: string, operator: string) => ({
      uuid,
      brand: 'joyent',
      customer_metadata: { 'user-script': user, 'user-data': 'data' },
      internal_metadata: { 'operator-script': operator },
    });
    const vms = [
      vm(
        GOOD,
        '#!/bin/sh\necho user >> /root/order\nmdata-put ran "$(zonename)"\n',
        '#!/bin/sh\nls /var/svc/provision* >> /root/order\nexit 3\n',
      ),
      vm(BAD, '#!/bin/sh\necho broken >&2\nexit 7\n', '#!/bin/sh\nexit 0\n'),
    ];
    node = await SimNode.start({ vms, flags: ['--services'], canaries: false });
    if ((await node.exec(GOOD, 'true')).status !== 0) {
      pending(this, 'no zone can be entered, for want of namespaces');
    }
    agent = await AgentProcess.start(node.root);
  });
  after(async () => {
    await agent?.kill();
    await (node as SimNode | undefined)?.stop();
  });

  const svcs = async (uuid: string, name: string) =>
    (await node.exec(uuid, 'svcs', '-H', '-o', 'state', name)).stdout.trim();
  const file = (uuid: string, path: string) =>
    readFileSync(node.path(`/zones/${uuid}/root${path}`), 'utf8');

  it('run the operator’s script before the user’s, once the agent is there', async () => {
    await eventually(
      async () => (await svcs(GOOD, 'mdata:execute')) === 'online',
      'both ran',
      TIMEOUT_MS,
    );
    assert.strictEqual(file(GOOD, '/root/order'), BOTH);
    assert.strictEqual((await node.exec(GOOD, 'mdata-get', 'ran')).stdout, `${GOOD}\n`);
    assert.strictEqual(file(GOOD, '/var/db/mdata-user-data'), 'data\n');
    const log = file(GOOD, '/var/svc/log/smartdc-mdata:execute.log');
    assert.match(log, /operator-script: exit status 3\nuser-script: exit status 0\n$/);
  });

  it('go into maintenance when the user’s script fails, and can be run again', async () => {
    await eventually(
      async () => (await svcs(BAD, 'mdata:execute')) === 'maintenance',
      'it failed',
      TIMEOUT_MS,
    );
    assert.strictEqual(await svcs(BAD, 'svc:/smartdc/mdata:fetch'), 'online');
    assert.match(file(BAD, '/var/svc/log/smartdc-mdata:execute.log'), /broken\n.*exit status 7/);
    await node.exec(BAD, 'mdata-put', 'user-script', '#!/bin/sh\ntouch /root/mended\n');
    await node.exec(BAD, 'svcadm', 'restart', 'mdata:fetch');
    assert.strictEqual((await node.exec(BAD, 'svcadm', 'clear', 'mdata:execute')).status, 0);
    assert.strictEqual(await svcs(BAD, 'mdata:execute'), 'online');
    assert(existsSync(node.path(`/zones/${BAD}/root/root/mended`)));
  });

  it('run at each boot, with what the metadata says then', async () => {
    await eventually(
      async () => (await svcs(GOOD, 'mdata:execute')) === 'online',
      'the first boot',
    );
    await node.ok(['reboot', GOOD]);
    await eventually(
      () => file(GOOD, '/root/order') === `${BOTH}${BOTH}`,
      'the second boot',
      TIMEOUT_MS,
    );
    assert.match((await node.exec(GOOD, 'svcs')).stdout, /^STATE +FMRI\n.*svc:\/smartdc\/mdata:/);
    const none = await node.exec(GOOD, 'svcs', 'nginx');
    assert.deepStrictEqual(
      [none.status, none.stderr],
      [1, "svcs: Pattern 'nginx' doesn't match any instances\n"],
    );
  });
});
