/*
 * Events without end about one zone, from vminfod, from the kernel, and from its own reboots: other zones
 * are served as ever, and what is told last counts (XSA-326 on the nearest peer, Xen's xenstored).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { openEmulation } from '../../src/platform/libzonecfg';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { LyingVminfod } from '../support/lying-vminfod';
import { Neighbour } from '../support/neighbour';
import { osZone, PlayedNode, uuidOf } from '../support/played-node';

describe('floods of events', function () {
  this.timeout(120_000);
  let played: PlayedNode;
  let vminfod: LyingVminfod;
  let neighbour: Neighbour;

  before(async function () {
    played = await PlayedNode.start(this, { vms: [osZone(0), osZone(1)] });
    await played.agent.stop();
    vminfod = new LyingVminfod(`${played.root}/var/run/lying.sock`);
    [0, 1].forEach((index) => {
      vminfod.vms.set(uuidOf(index), { ...osZone(index), zonename: uuidOf(index) });
    });
    await vminfod.start();
    played.agent = await AgentProcess.start(played.root, vminfod.flags);
    await eventually(() => vminfod.listeners === 1, 'the agent follows');
    neighbour = await Neighbour.at(played.socket(1), uuidOf(1));
  });

  after(async () => {
    try {
      await neighbour.leave();
    } finally {
      await played.stop();
      await vminfod.stop();
    }
  });

  it('of vminfod about one zone hold up no other, and the last word counts (XSA-326)', async () => {
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 20_000; n++) {
        vminfod.tell(uuidOf(0), { ...osZone(0), zonename: uuidOf(0), init_restarts: n, quota: n });
        if (n % 200 === 0) {
          await delay(1);
        }
      }
    });
    const session = await played.open(0);
    await eventually(async () => (await session.get('sdc:quota')).text === '19999');
    session.close();
  });

  it('of the kernel about one zone hold up no other (XSA-326)', async () => {
    const emulation = openEmulation(played.root);
    const states = ['running', 'shutting_down', 'installed', 'ready'];
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 4000; n++) {
        const [from = '', to = ''] = [states[n % 4], states[(n + 1) % 4]];
        const when = BigInt(Date.now()) * 1_000_000n;
        await emulation.publish(uuidOf(0), 1, to, from, when);
      }
    });
    await eventually(() => played.answers(0), 'the zone is what it is, not what events said');
  });

  it('a zone that reboots all the time is served at the end, and the others meanwhile', async () => {
    await neighbour.isServedDuring(async () => {
      for (let n = 0; n < 15; n++) {
        await played.control('reboot', { uuid: uuidOf(0), guest: false });
      }
    });
    await eventually(() => played.answers(0), 'the zone is served');
  });
});
