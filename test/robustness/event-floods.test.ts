/*
 * Events without end about one zone, from vminfod, from the kernel, and from its own reboots: other zones
 * are served as ever, and the last event counts (XSA-326 on the nearest peer, Xen's xenstored).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { openEmulation } from '../../tools/simcn/emulation';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { LyingVminfod } from '../support/lying-vminfod';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

describe('floods of events', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let vminfod: LyingVminfod;
  let neighbour: Neighbour;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [osZone(0), osZone(1)] });
    await cn.agent.stop();
    vminfod = new LyingVminfod(`${cn.root}/var/run/lying.sock`);
    [0, 1].forEach((index) => {
      vminfod.vms.set(uuidOf(index), { ...osZone(index), zonename: uuidOf(index) });
    });
    await vminfod.start();
    cn.agent = await AgentProcess.start(cn.root, vminfod.flags);
    await eventually(() => vminfod.listeners === 1, 'the agent follows');
    neighbour = await Neighbour.at(cn.socket(1), uuidOf(1));
  });

  after(async () => {
    try {
      await neighbour.leave();
    } finally {
      await cn.stop();
      await vminfod.stop();
    }
  });

  it('of vminfod about one zone hold up no other, and the last event counts (XSA-326)', async () => {
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 20_000; n++) {
        vminfod.publish(uuidOf(0), {
          ...osZone(0),
          zonename: uuidOf(0),
          init_restarts: n,
          quota: n,
        });
        if (n % 200 === 0) {
          await delay(1);
        }
      }
    });
    const session = await cn.open(0);
    await eventually(async () => (await session.get('sdc:quota')).text === '19999');
    session.close();
  });

  it('of the kernel about one zone hold up no other (XSA-326)', async () => {
    const emulation = openEmulation(cn.root);
    const states = ['running', 'shutting_down', 'installed', 'ready'];
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 4000; n++) {
        const [from = '', to = ''] = [states[n % 4], states[(n + 1) % 4]];
        const when = BigInt(Date.now()) * 1_000_000n;
        await emulation.publish(uuidOf(0), 1, to, from, when);
      }
    });
    await eventually(() => cn.answers(0), 'the zone is what it is, not what events said');
  });

  it('a zone that reboots all the time is served at the end, and the others meanwhile', async () => {
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 15; n++) {
        await cn.control('reboot', { uuid: uuidOf(0), guest: false });
      }
    });
    await eventually(() => cn.answers(0), 'the zone is served');
  });
});
