/*
 * The session with tokens of the protocol's page, byte by byte, against the whole agent.
 */
import assert from 'node:assert';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentProcess } from '../support/guest-agent';
import { Peer } from '../support/peer';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const UUID = '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11';
const PAGE = readFileSync(join(__dirname, '../../../src/protocol/README.md'), 'utf8');

describe("the session with tokens on the protocol's page", function () {
  this.timeout(60_000);
  let node: SimNode;
  let agent: AgentProcess | null = null;

  before(async function () {
    needs(this, whyNoNode());
    const vm = { uuid: UUID, brand: 'joyent', customer_metadata: { motd: '.hi\n' } };
    node = await SimNode.start({ vms: [vm], canaries: false });
  });

  after(async () => {
    await agent?.stop();
    await node.stop();
  });

  it('is what the agent answers', async () => {
    mkdirSync(node.path('/var/db/mdatad'), { recursive: true });
    writeFileSync(node.path('/var/db/mdatad/token.key'), Buffer.alloc(32), { mode: 0o600 });
    agent = await AgentProcess.start(node.root);
    const section = PAGE.split('\n### A session with tokens\n')[1]?.split('\n## ')[0] ?? '';
    const rows = section.split('\n').filter((line) => line.startsWith('| `'));
    assert(rows.length >= 8, `${rows.length} rows`);
    const peer = await Peer.at(node.path(`/var/zonecontrol/${UUID}/metadata.sock`));
    for (const row of rows) {
      const [request = '', reply = ''] = row
        .split('`')
        .filter((_, at) => at % 2 === 1)
        .map((text) => text.replace('\\n', '\n'));
      assert.strictEqual(await peer.ask(request, reply.length), reply, row);
    }
    peer.socket.destroy();
  });

  it('changes its tokens when the key\u2019s file was readable by others', async () => {
    const path = node.path('/var/db/mdatad/token.key');
    await agent?.stop();
    writeFileSync(path, Buffer.alloc(31));
    agent = await AgentProcess.start(node.root);
    const { size, mode } = statSync(path);
    assert.deepStrictEqual([size, mode & 0o777], [32, 0o600]);
    const warned = agent.records.find(({ msg }) => String(msg).startsWith('the key of this node'));
    assert(warned !== undefined);
    assert(!readFileSync(path).equals(Buffer.alloc(32)));
  });
});
