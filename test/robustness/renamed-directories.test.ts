/*
 * Somebody renames the directory of a zone's socket, or the one of all zones: the sockets are there again
 * within two seconds.
 */
import { renameSync } from 'node:fs';
import { eventually } from '../support/eventually';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const ZONES = [0, 1, 2, 3];
/** What is promised, and what a busy machine may take. */
const NOTICED_MS = 2000 + 1000;

describe('a directory of sockets that is renamed', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: ZONES.map((index) => osZone(index)) });
  });

  after(() => cn.stop());

  async function allAnswer(): Promise<boolean> {
    const answers = await Promise.all(ZONES.map((index) => cn.answers(index)));
    return answers.every((answer) => answer);
  }

  it('costs one zone two seconds, if it is its own', async () => {
    const directory = cn.node.path(`/var/zonecontrol/${uuidOf(0)}`);
    renameSync(directory, `${directory}.old`);
    await eventually(allAnswer, 'all answer', NOTICED_MS);
  });

  it('costs all zones two seconds, if it is the one of them all; twice too', async () => {
    const directory = cn.node.path('/var/zonecontrol');
    for (const name of ['old', 'older']) {
      renameSync(directory, `${directory}.${name}`);
      await eventually(allAnswer, 'all answer', NOTICED_MS);
    }
  });
});
