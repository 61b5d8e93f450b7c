/*
 * A thousand VMs, half of them with a guest behind a serial port: a quick start, bounded descriptors, and
 * nothing to do when nothing happens.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { bestMs, bestOf } from '../support/best-of';
import { osZone, SimulatedNode } from '../support/simulated-node';

const VMS = 1000;
/** What is promised; the rest is the machine's. */
const SOCKETS_MS = 5000;
const IDLE_MS = 3000;

describe(`${VMS} VMs`, function () {
  this.timeout(180_000);
  let cn: SimulatedNode;

  before(async function () {
    const vms = Array.from({ length: VMS }, (_, index) => {
      return osZone(index, index % 2 === 0 ? {} : { brand: 'bhyve', zone_state: 'installed' });
    });
    cn = await SimulatedNode.start(this, { vms });
  });

  after(() => cn.stop());

  it('have all their sockets within 5 s of the agent\u2019s start', async () => {
    let started = false;
    const elapsed = await bestMs(SOCKETS_MS, async () => {
      if (started) {
        await cn.agent.stop();
        await cn.startAgent();
      }
      started = true;
      const [ready] = cn.records('ready');
      assert.deepStrictEqual([ready?.zones, ready?.sockets, ready?.hvm], [VMS, VMS / 2, VMS / 2]);
      return Number(ready?.elapsed_ms);
    });
    assert(elapsed < SOCKETS_MS, `${elapsed} ms`);
    for (let index = 0; index < VMS; index += 50) {
      assert(await cn.answers(index));
    }
  });

  it('take two descriptors each at most', () => {
    assert(cn.descriptors < 2 * VMS + 64, `${cn.descriptors} descriptors`);
  });

  it('cost next to no CPU while nothing happens', async () => {
    const used = await bestOf(IDLE_MS / 10, async () => {
      const before = cn.cpuMs;
      await delay(IDLE_MS);
      return cn.cpuMs - before;
    });
    assert(used < IDLE_MS / 10, `${used} ms of ${IDLE_MS}`);
  });

  it('stay below the memory that the README states', () => {
    assert(cn.rssMib < 256, `${cn.rssMib} MiB`);
  });
});
