/*
 * Answers after a change of the files, while vminfod sends nothing about the zone.
 */
import assert from 'node:assert';
import { renameSync, writeFileSync } from 'node:fs';
import { AgentProcess } from '../support/guest-agent';
import { Peer } from '../support/peer';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const UUID = '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11';
const CHANGES = 1000;

describe('with vminfod frozen for a zone', function () {
  this.timeout(120_000);
  let node: SimNode;
  let agent: AgentProcess;

  before(async function () {
    needs(this, whyNoNode());
    const vm = { uuid: UUID, brand: 'joyent', customer_metadata: { colour: 'none' } };
    node = await SimNode.start({ vms: [vm] });
    agent = await AgentProcess.start(node.root);
    await node.ok(['fault', 'vminfod.freeze', '--zone', UUID]);
  });

  after(async () => {
    await node.ok(['fault', '--clear']);
    await agent.stop();
    await node.stop();
  });

  async function get(peer: Peer, key: string, expected: string): Promise<void> {
    const answer = `SUCCESS\n${expected}\n.\n`;
    assert.strictEqual(await peer.ask(`GET ${key}\n`, answer.length), answer);
  }

  function replace(file: string, content: object): void {
    const path = node.path(`/zones/${UUID}/config/${file}`);
    writeFileSync(`${path}.new`, JSON.stringify(content));
    renameSync(`${path}.new`, path);
  }

  it(`shows each of ${CHANGES} changes in the next answer`, async () => {
    const peer = await Peer.at(node.path(`/var/zonecontrol/${UUID}/metadata.sock`));
    for (let n = 0; n < CHANGES; n++) {
      replace('metadata.json', { customer_metadata: { colour: `c${n}` }, internal_metadata: {} });
      await get(peer, 'colour', `c${n}`);
    }
    peer.socket.destroy();
  });

  it('shows changed tags and routes in the next answer', async () => {
    const peer = await Peer.at(node.path(`/var/zonecontrol/${UUID}/metadata.sock`));
    for (let n = 0; n < 50; n++) {
      replace('tags.json', { role: `r${n}` });
      await get(peer, 'sdc:tags.role', `r${n}`);
      replace('routes.json', { '10.0.0.0/8': `10.0.0.${n}` });
      const route = { linklocal: false, dst: '10.0.0.0/8', gateway: `10.0.0.${n}` };
      await get(peer, 'sdc:routes', JSON.stringify([route]));
    }
    peer.socket.destroy();
  });

  it("shows an operator's vmadm update while vmadm still waits for vminfod", async () => {
    const peer = await Peer.at(node.path(`/var/zonecontrol/${UUID}/metadata.sock`));
    const update = node.vmadm(
      ['update', UUID],
      JSON.stringify({ set_customer_metadata: { by: 'vmadm' } }),
    );
    const answer = 'SUCCESS\nvmadm\n.\n';
    for (;;) {
      const received = await askLine(peer);
      if (received === answer) {
        break;
      }
      assert.strictEqual(received, 'NOTFOUND\n');
    }
    peer.socket.destroy();
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await update).status, 0);
  });

  async function askLine(peer: Peer): Promise<string> {
    const before = peer.text.length;
    return (await peer.ask('GET by\n', 'NOTFOUND\n'.length)).slice(0, peer.text.length - before);
  }
});
