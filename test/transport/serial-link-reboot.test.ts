import assert from 'node:assert';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { RECONNECT_MS, served, SerialWorld } from '../support/serial-links';

describe('a serial link when the guest reboots, connects to the new port within half a second', () => {
  let world: SerialWorld;

  beforeEach(() => {
    world = new SerialWorld();
  });

  afterEach(() => world.end());

  type Event = 'close' | 'restarts' | 'unlink' | 'appear';
  const events: readonly Event[] = ['close', 'restarts', 'unlink', 'appear'];
  // The new port appears after the old file is gone; all else may come in any order.
  const orders = permutations(events).filter(
    (order) => order.indexOf('unlink') < order.indexOf('appear'),
  );
  for (const order of orders) {
    for (const gapMs of [0, 120]) {
      it(`${order.join(', ')}, ${gapMs} ms apart`, async () => {
        const link = world.link();
        const old = world.port('bhyve', join(world.zoneroot, 'old', 'vm.ttyb'));
        await old.start();
        mkdirSync(join(world.zoneroot, 'tmp'));
        renameSync(old.path, world.path);
        link.zoneRunning();
        await served(old);
        const next = world.port();
        for (const event of order) {
          switch (event) {
            case 'close':
              await old.stop();
              break;
            case 'restarts':
              link.guestRebooted();
              break;
            case 'unlink':
              rmSync(world.path);
              break;
            case 'appear':
              await next.start();
              break;
            default: {
              const never: never = event;
              return never;
            }
          }
          await delay(gapMs);
        }
        await served(next);
        assert.strictEqual(link.counts.connects, 2);
      });
    }
  }

  it('though the old file stays for a second', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    await ttyb.stop();
    await delay(1000);
    await ttyb.start();
    await served(ttyb);
  });

  it('after three reboots in quick succession, without a byte in between', async () => {
    const link = world.link();
    const ttyb = world.port();
    await ttyb.start();
    link.zoneRunning();
    for (let i = 0; i < 3; i++) {
      await eventually(() => ttyb.connected, 'a connection', RECONNECT_MS);
      await ttyb.reboot();
      link.guestRebooted();
    }
    await served(ttyb);
    assert.strictEqual(world.recorder.warnings.length, 0);
  });

  it('without any event', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    await ttyb.fault('flap', 3);
    await served(ttyb);
  });

  it('and keeps a connection that it made before the event of the reboot', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    await ttyb.reboot();
    await served(ttyb);
    link.guestRebooted();
    await delay(600);
    assert.deepStrictEqual([link.state, link.counts.connects], ['connected', 2]);
    await served(ttyb);
  });

  it('and keeps the connection of a kvm guest, whose process goes on', async () => {
    const link = world.link();
    const ttyb = world.port('kvm');
    await world.running(link, ttyb);
    await ttyb.reboot();
    link.guestRebooted();
    await delay(300);
    await served(ttyb);
    assert.strictEqual(link.counts.connects, 1);
  });
});

function permutations<T>(of: readonly T[]): T[][] {
  if (of.length <= 1) {
    return [[...of]];
  }
  return of.flatMap((first, i) =>
    permutations([...of.slice(0, i), ...of.slice(i + 1)]).map((rest) => [first, ...rest]),
  );
}
