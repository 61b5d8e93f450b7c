/*
 * A zone's own view of its metadata, through all that happens to zones and to the agent.
 */
import assert from 'node:assert';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { AgentProcess } from '../support/guest-agent';
import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { eventually } from '../support/eventually';

const NATIVE = '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11';
const LX = 'c8c0b5c2-7d1f-6b8c-d7ad-c9a2f0b45b1e';
const HVM = 'aaac8650-4b58-6633-9054-a2c22e7beb36';

const isRoot = process.getuid?.() === 0;

function vm(uuid: string, brand: string): object {
  return { uuid, brand, alias: `a-${brand}`, customer_metadata: { motd: `hello from ${brand}` } };
}

describe('a zone and its metadata', function () {
  this.timeout(90_000);
  let node: SimNode;
  let agent: AgentProcess;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: [vm(NATIVE, 'joyent'), vm(LX, 'lx'), vm(HVM, 'bhyve')] });
    agent = await AgentProcess.start(node.root);
    if ((await node.exec(NATIVE, 'true')).status !== 0) {
      pending(this, 'no zone can be entered, for want of namespaces');
    }
  });

  after(async () => {
    await agent.stop();
    await node.stop();
  });

  async function ask(uuid: string, ...argv: string[]): Promise<string> {
    const { status, stdout, stderr } = await node.exec(uuid, ...argv);
    assert.strictEqual(status, 0, `${argv.join(' ')}: ${stderr}`);
    return stdout;
  }

  it('has the socket where its brand puts it, and cannot change the directory', async () => {
    assert.strictEqual(await ask(NATIVE, 'mdata-get', 'motd'), 'hello from joyent\n');
    assert.strictEqual(await ask(LX, 'mdata-get', 'motd'), 'hello from lx\n');
    for (const [uuid, directory] of [
      [NATIVE, '/.zonecontrol'],
      [LX, '/native/.zonecontrol'],
    ] as const) {
      assert.strictEqual(
        await ask(uuid, 'stat', '-c', '%F %a', `${directory}/metadata.sock`),
        'socket 600\n',
      );
      const { status, stderr } = await node.exec(uuid, 'touch', `${directory}/x`);
      assert.notStrictEqual(status, 0);
      assert.match(stderr, /Read-only file system/);
    }
  });

  it('has modes that do not depend on the umask', () => {
    const directory = node.path(`/var/zonecontrol/${NATIVE}`);
    assert.strictEqual(statSync(directory).mode & 0o7777, 0o700);
    assert.strictEqual(statSync(`${directory}/metadata.sock`).mode & 0o7777, 0o600);
  });

  it('has no socket for an HVM guest', () => {
    assert(!existsSync(node.path(`/var/zonecontrol/${HVM}/metadata.sock`)));
  });

  for (const [what, change] of [
    ['a reboot', (uuid: string) => [['reboot', uuid]]],
    [
      'a halt and a boot',
      (uuid: string) => [
        ['shutdown', uuid],
        ['boot', uuid],
      ],
    ],
    [
      'a rollback',
      (uuid: string) => [
        ['snapshot', uuid, 's1'],
        ['rollback', uuid, 's1'],
      ],
    ],
    ['a reprovision', (uuid: string) => [['reprovision', uuid]]],
  ] as const) {
    it(`is served again after ${what}`, async () => {
      for (const uuid of [NATIVE, LX]) {
        await ask(uuid, 'mdata-put', 'kept', what);
        for (const argv of change(uuid)) {
          await node.ok(argv);
        }
        assert.strictEqual(await ask(uuid, 'mdata-get', 'kept'), `${what}\n`);
      }
    });
  }

  it('serves clients that run while the agent is killed and restarted', async () => {
    const waiting = node.exec(
      NATIVE,
      'sh',
      '-c',
      'echo up >/root/up; while [ ! -e /root/go ]; do sleep 0.05; done; mdata-get motd',
    );
    await eventually(() => existsSync(node.path(`/zones/${NATIVE}/root/root/up`)));
    await agent.kill();
    agent = await AgentProcess.start(node.root);
    await ask(NATIVE, 'touch', '/root/go');
    assert.strictEqual((await waiting).stdout, 'hello from joyent\n');
  });

  it('answers a client that asked while no agent ran, once one starts', async () => {
    await agent.kill();
    const asking = node.exec(LX, 'mdata-get', 'motd');
    agent = await AgentProcess.start(node.root);
    assert.strictEqual((await asking).stdout, 'hello from lx\n');
  });

  it('leaves nothing behind when destroyed, and can be created again under its uuid', async () => {
    const directory = node.path(`/var/zonecontrol/${NATIVE}`);
    for (let round = 0; round < 3; round++) {
      await node.ok(['destroy', NATIVE]);
      await eventually(() => !existsSync(directory), 'the directory is gone');
      const again = {
        ...vm(NATIVE, 'joyent-minimal'),
        customer_metadata: { round: String(round) },
      };
      await node.ok(['create', '--boot'], JSON.stringify(again));
      assert.strictEqual(await ask(NATIVE, 'mdata-get', 'round'), `${round}\n`);
    }
  });

  it('keeps its agent when a second one is refused', async () => {
    await assert.rejects(AgentProcess.start(node.root), /another mdatad serves this node/);
    assert.strictEqual(await ask(LX, 'mdata-get', 'motd'), 'hello from lx\n');
  });
});

describe('on a platform whose brands do not mount the directory', function () {
  this.timeout(60_000);

  it('the agent mounts it when the zone becomes ready, and unmounts it when the zone halts', async function () {
    needs(this, whyNoNode() ?? (isRoot ? null : 'only root can mount'));
    const node = await SimNode.start({ flags: ['--old-platform'] });
    const agent = await AgentProcess.start(node.root);
    try {
      for (const [uuid, brand, point] of [
        [NATIVE, 'joyent', '.zonecontrol'],
        [LX, 'lx', 'native/.zonecontrol'],
      ] as const) {
        await node.ok(['create', '--boot'], JSON.stringify(vm(uuid, brand)));
        const inZone = await node.exec(uuid, 'mdata-get', 'motd');
        assert.strictEqual(inZone.stdout, `hello from ${brand}\n`, inZone.stderr);
        const line = readFileSync(node.path('/etc/mnttab'), 'utf8')
          .split('\n')
          .find((entry) => entry.includes(`/zones/${uuid}/root/${point}\t`));
        assert.match(line ?? '', /\tlofs\tro,nodevices,nosetuid,noexec,zone=/);
        await node.ok(['shutdown', uuid]);
        await eventually(() => !node.mounts().some((path) => path.includes(uuid)), 'unmounted');
      }
    } finally {
      await agent.stop();
      await node.stop();
    }
  });
});
