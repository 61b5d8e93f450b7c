/*
 * Zones that have another name than their VM's uuid, as operators ask for them.
 */
import assert from 'node:assert';
import { isJsonObject, own } from '../../src/metadata/vm-data';
import { askAdmin, askJson } from '../support/admin';
import { eventually } from '../support/eventually';
import { osZone, PlayedNode, uuidOf } from '../support/played-node';

describe('a zone that is not named by the uuid of its VM', function () {
  this.timeout(30_000);
  const uuid = uuidOf(0);
  const zonename = 'web.prod';
  let played: PlayedNode;

  before(async function () {
    played = await PlayedNode.start(this, { vms: [osZone(0, { zonename })] });
    await eventually(async () => (await askAdmin(played.root, `/zones/${uuid}`)).status === 200);
  });

  after(async () => {
    // Undefined where the suite was skipped.
    await (played as PlayedNode | undefined)?.stop();
  });

  it('is found by both', async () => {
    for (const word of [uuid, zonename]) {
      const zone = await askJson(played.root, `/zones/${word}`);
      assert(isJsonObject(zone));
      assert.deepStrictEqual([own(zone, 'zonename'), own(zone, 'state')], [zonename, 'running']);
      const checkup = await askJson(played.root, `/doctor/${word}`);
      assert(!JSON.stringify(checkup).includes('"fail"'), JSON.stringify(checkup));
      const said = JSON.stringify({ zonename: word, state: 'running' });
      const { status, text } = await askAdmin(played.root, '/notify', 'POST', said);
      assert.strictEqual(status, 200, text);
      assert.match(text, /"is":"running"/);
    }
    assert.strictEqual((await askAdmin(played.root, `/zones/${uuidOf(1)}`)).status, 404);
  });
});
