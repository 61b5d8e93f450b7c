/*
 * Many guests that flood their serial ports at full speed: each is read at a bounded rate, in turns with the
 * others, and zones that ask meanwhile do not feel it.
 */
import assert from 'node:assert';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { portConnections } from '../support/guest-port';
import { LoopProbe } from '../support/loop-probe-reader';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { parseExposition, sampleOf } from '../support/prometheus';

const CHILD = join(__dirname, '..', 'support', 'flood-child.js');
const NEIGHBOUR = 0;
const FLOODERS = Array.from({ length: 32 }, (_, n) => 0x100 + n);
const FLOOD_MS = 2000;
const KIB = 1024;
/** A port's rate, its burst, and what was read before it was paused (net-stream.ts). */
const RATE_BYTES = 256 * KIB;
const BURST_BYTES = (3 * 1024 + 256) * KIB;

describe(`${FLOODERS.length} guests that flood their ports`, function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let neighbour: Neighbour;
  let probe: LoopProbe;

  before(async function () {
    const metadata = { customer_metadata: { big: 'x'.repeat(100 * KIB) } };
    const ports = FLOODERS.map((index) => osZone(index, { brand: 'bhyve', ...metadata }));
    probe = new LoopProbe();
    const vms = [osZone(NEIGHBOUR), ...ports];
    cn = await SimulatedNode.start(this, { vms, prefix: probe.prefix });
    neighbour = await Neighbour.at(cn.socket(NEIGHBOUR), uuidOf(NEIGHBOUR));
    for (const index of FLOODERS) {
      const zoneroot = cn.node.path(`/zones/${uuidOf(index)}/root`);
      await eventually(() => portConnections(zoneroot).length > 0, 'the agent is on the port');
    }
  });

  after(async () => {
    probe.remove();
    await neighbour.leave();
    await cn.stop();
  });

  async function receivedBytes(): Promise<number> {
    const { text } = await askAdmin(cn.root, '/metrics');
    const labels = { direction: 'received' };
    return sampleOf(parseExposition(text), 'mdatad_bytes_total', labels) ?? 0;
  }

  async function flood(kind: string, ms: number): Promise<void> {
    const sockets = FLOODERS.map((index) => cn.node.path(`/zones/${uuidOf(index)}/ttyb`));
    const child = fork(CHILD, [kind, ...sockets], { execArgv: [] });
    const exited = once(child, 'exit');
    await once(child, 'message');
    await delay(ms);
    child.disconnect();
    await exited;
  }

  for (const kind of ['junk', 'newlines', 'gets']) {
    it(`with ${kind}: others are served as before`, async () => {
      await neighbour.isServedDuring(() => flood(kind, FLOOD_MS));
    });

    it(`with ${kind}: no iteration of the event loop is long`, async () => {
      await probe.iterationsAreShort(cn.agent.pid, () => flood(kind, FLOOD_MS));
    });
  }

  it('are read at a bounded rate', async () => {
    const [before, began] = [await receivedBytes(), performance.now()];
    await flood('junk', 2 * FLOOD_MS);
    const received = (await receivedBytes()) - before;
    const seconds = (performance.now() - began) / 1000;
    const most = FLOODERS.length * (BURST_BYTES + seconds * RATE_BYTES);
    assert(received < most, `${received} bytes in ${seconds} s, at most ${most}`);
  });
});
