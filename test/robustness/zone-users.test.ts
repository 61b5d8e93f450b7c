/*
 * Users of a zone who are not its root, on a kernel that asks for no permission on a socket, as illumos does not:
 * test/support/zone-user.c simulates that.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describeWhere, needs, whyNotRoot } from '../support/pending';
import { frame, putFrame, readFrame } from '../support/frames';
import { eventually } from '../support/eventually';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const SOURCE = resolve(__dirname, '../../../test/support/zone-user.c');
const SOCKET = '/.zonecontrol/metadata.sock';
const READER = 1000;
const OTHER = 1001;
const ID = '0000abcd';

describeWhere(whyNotRoot(), 'a user of a zone who is not root', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  async function start(
    context: Mocha.Context,
    config: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    needs(context, spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc');
    const vms = [osZone(0, { customer_metadata: { motd: 'hello' } })];
    cn = await SimulatedNode.start(context, { vms, config, canaries: false });
    const directory = cn.node.path(`/zones/${uuidOf(0)}/root/opt`);
    mkdirSync(directory, { recursive: true });
    const built = spawnSync('cc', ['-O1', '-o', join(directory, 'zone-user'), SOURCE]);
    assert.strictEqual(built.status, 0, String(built.stderr));
    const seesSocket = await cn.node.exec(uuidOf(0), 'test', '-S', SOCKET);
    needs(context, seesSocket.status === 0 ? null : 'needs a zone that sees its socket');
  }

  async function ask(uid: number, ...lines: readonly Buffer[]): Promise<string[]> {
    const argv = [
      String(uid),
      SOCKET,
      'NEGOTIATE V2',
      ...lines.map((line) => line.toString().trim()),
    ];
    const { stdout } = await cn.node.exec(uuidOf(0), '/opt/zone-user', ...argv);
    return stdout.split('\n').filter((line) => line !== '');
  }

  function refusals(): readonly unknown[] {
    return cn.records('refused').filter(({ reason }) => reason === 'uid');
  }

  const get = frame(ID, 'GET', 'motd');

  describe('where no other user is configured to read', () => {
    before(function () {
      return start(this, {});
    });

    after(() => cn.stop());

    it('does not reach the socket', async () => {
      assert.strictEqual((await ask(0, get)).length, 2, 'root does');
      assert.deepStrictEqual(await ask(READER, get), ['EACCES']);
    });

    it('is refused and counted where the directory was opened to all', async () => {
      const directory = dirname(cn.socket(0));
      chmodSync(directory, 0o755);
      assert.deepStrictEqual(await ask(READER, get), ['closed']);
      await eventually(() => refusals().length > 0, 'the refusal is in the log');
      // The next start mends it.
      await cn.agent.stop();
      await cn.startAgent();
      assert.strictEqual(lstatSync(directory).mode & 0o7777, 0o700);
      assert.deepStrictEqual(await ask(READER, get), ['EACCES']);
    });
  });

  describe('where a user is configured to read', () => {
    before(function () {
      return start(this, { readers: [READER] });
    });

    after(() => cn.stop());

    it('lets that user read', async () => {
      const [negotiated, answer, keys] = await ask(READER, get, frame(ID, 'KEYS'));
      assert.strictEqual(negotiated, 'V2_OK');
      assert.strictEqual(readFrame(`${answer ?? ''}\n`).payload.toString(), 'hello');
      assert.strictEqual(readFrame(`${keys ?? ''}\n`).payload.toString(), 'motd');
    });

    it('lets that user change nothing', async () => {
      const changes = [putFrame(ID, 'motd', 'mine'), frame(ID, 'DELETE', 'motd')];
      for (const line of (await ask(READER, ...changes)).slice(1)) {
        const { code, payload } = readFrame(`${line}\n`);
        assert.deepStrictEqual([code, payload.toString()], ['FAILURE', 'Permission denied.']);
      }
      assert.deepStrictEqual(cn.metadata(0).customer, { motd: 'hello' });
      const [record] = cn.records('handled PUT');
      assert.deepStrictEqual(record?.response, 'FAILURE');
    });

    it('refuses any other user, though the directory is open to all', async () => {
      assert.deepStrictEqual(await ask(OTHER, get), ['closed']);
      assert.strictEqual(lstatSync(dirname(cn.socket(0))).mode & 0o7777, 0o711);
    });

    it('refuses a process of the global zone with the same uid', async () => {
      chmodSync(cn.root, 0o711);
      const zoneUser = cn.node.path(`/zones/${uuidOf(0)}/root/opt/zone-user`);
      const argv = [zoneUser, String(READER), cn.socket(0), 'NEGOTIATE V2'];
      assert.strictEqual((await cn.node.run(argv)).stdout, 'closed\n');
    });
  });
});
