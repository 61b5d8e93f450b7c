/*
 * Zones that have another name than their VM's uuid, as operators ask for them.
 */
import assert from 'node:assert';
import { isJsonObject, own } from '../../src/metadata/vm-data';
import { askAdmin, askJson } from '../support/admin';
import { eventually } from '../support/eventually';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

describe('a zone that is not named by the uuid of its VM', function () {
  this.timeout(30_000);
  const uuid = uuidOf(0);
  const zonename = 'web.prod';
  let cn: SimulatedNode;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [osZone(0, { zonename })] });
    await eventually(async () => (await askAdmin(cn.root, `/zones/${uuid}`)).status === 200);
  });

  after(async () => {
    // Undefined where the suite was skipped.
    await (cn as SimulatedNode | undefined)?.stop();
  });

  it('is found by its own name and by the uuid of its VM', async () => {
    for (const word of [uuid, zonename]) {
      const zone = await askJson(cn.root, `/zones/${word}`);
      assert(isJsonObject(zone));
      assert.deepStrictEqual([own(zone, 'zonename'), own(zone, 'state')], [zonename, 'running']);
      const report = await askJson(cn.root, `/doctor/${word}`);
      assert(!JSON.stringify(report).includes('"fail"'), JSON.stringify(report));
      const said = JSON.stringify({ zonename: word, state: 'running' });
      const { status, text } = await askAdmin(cn.root, '/notify', 'POST', said);
      assert.strictEqual(status, 200, text);
      assert.match(text, /"is":"running"/);
    }
    assert.strictEqual((await askAdmin(cn.root, `/zones/${uuidOf(1)}`)).status, 404);
  });
});
