/*
 * The protocol's worked examples, byte by byte, through the socket of a zone on a simulated node.
 */
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { AgentProcess } from '../support/guest-agent';
import { GOLDEN } from '../support/golden';
import { FIXTURE } from '../support/vm-fixture';
import { Peer } from '../support/peer';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const UUID = '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11';
const V2_OK = 'V2_OK\n';

describe('the worked examples on a zone socket', function () {
  this.timeout(30_000);
  let node: SimNode;
  let agent: AgentProcess;
  let socket: string;

  before(async function () {
    needs(this, whyNoNode());
    const { vm, customer, internal, tags, routes } = FIXTURE;
    const maps = { customer_metadata: customer, internal_metadata: internal, tags, routes };
    // A VM as the platform has it, not a payload: it is taken as it is.
    const whole = { ...vm, ...maps, zone_state: 'running' };
    node = await SimNode.start({ vms: [whole], canaries: false });
    agent = await AgentProcess.start(node.root);
    socket = node.path(`/var/zonecontrol/${UUID}/metadata.sock`);
  });

  after(async () => {
    await agent.stop();
    await node.stop();
  });

  for (const row of GOLDEN) {
    it(row.name, async () => {
      const peer = await Peer.at(socket);
      if (row.out === null) {
        peer.write(Buffer.from(row.in, 'latin1'));
      } else {
        const answer = await peer.ask(Buffer.from(row.in, 'latin1'), row.out.length);
        assert.strictEqual(answer, row.out);
      }
      // What follows is the next answer: no byte more, and none at all where silence is due.
      assert.strictEqual(await peer.ask(`NEGOTIATE V2\n`, V2_OK.length), V2_OK);
      assert.strictEqual(peer.text, `${row.out ?? ''}${V2_OK}`);
      peer.socket.destroy();
      if (row.change !== undefined) {
        assertStored(row.change);
      }
    });
  }

  it('answer a client that ends its side after the question', async () => {
    const peer = await Peer.at(socket);
    peer.socket.end('GET two words\n');
    assert.strictEqual(await peer.end(), 'SUCCESS\nok\n.\n');
  });

  function assertStored(change: NonNullable<(typeof GOLDEN)[number]['change']>): void {
    const file = node.path(`/zones/${UUID}/config/metadata.json`);
    const maps = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Record<string, unknown>>;
    const map = maps[`${change.map}_metadata`] ?? {};
    const stored = change.kind === 'set' ? change.value : undefined;
    assert.strictEqual(map[change.key], stored);
  }
});
