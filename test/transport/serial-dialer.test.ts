import assert from 'node:assert';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dialPort } from '../../src/transport/serial-dialer';
import { findPort } from '../../src/transport/port-file';
import { Ttyb } from '../../tools/simcn/ttyb';
import { eventually } from '../support/eventually';

describe('a try to connect to a port', () => {
  let zoneroot: string;
  let own: Ttyb;
  let victim: Ttyb;

  beforeEach(async () => {
    zoneroot = mkdtempSync(join(tmpdir(), 'pd-'));
    own = new Ttyb({ path: join(zoneroot, 'tmp', 'vm.ttyb'), kind: 'bhyve' });
    victim = new Ttyb({ path: join(zoneroot, 'victim', 'vm.ttyb'), kind: 'bhyve' });
    await own.start();
    await victim.start();
  });

  afterEach(async () => {
    await own.stop();
    await victim.stop();
    rmSync(zoneroot, { recursive: true });
  });

  it('ends at the file that was looked at', async () => {
    let seen = '';
    const dial = dialPort(zoneroot, '/tmp/vm.ttyb', ({ identity }) => {
      seen = identity;
    });
    const { socket, file } = await dial.done;
    assert.strictEqual(file.identity, seen);
    assert.strictEqual(socket.isPaused(), true);
    socket.destroy();
  });

  it('is void when its folder was a link meanwhile, though the folder is back', async () => {
    const tmp = join(zoneroot, 'tmp');
    const aside = join(zoneroot, 'aside');
    // Between the look and the connect, all in one go.
    const dial = dialPort(zoneroot, '/tmp/vm.ttyb', () => {
      renameSync(tmp, aside);
      symlinkSync(join(zoneroot, 'victim'), tmp);
      // The kernel has been asked to connect before any microtask runs.
      queueMicrotask(() => {
        unlinkSync(tmp);
        renameSync(aside, tmp);
      });
    });
    await assert.rejects(dial.done, { code: 'ESTALE' });
    assert.deepStrictEqual([victim.connects, own.connects], [1, 0], 'the other was met');
    await eventually(() => !victim.connected, 'it left');
  });

  it('leaves nobody connected when it is cancelled at any time', async () => {
    for (let turns = 0; turns < 8; turns++) {
      const dial = dialPort(zoneroot, '/tmp/vm.ttyb', () => undefined);
      const settled = dial.done.then(
        () => undefined,
        () => undefined,
      );
      for (let turn = 0; turn < turns; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      dial.cancel();
      await settled;
      await eventually(() => !own.connected, 'it left');
    }
  });

  it('finds one way to a port that appears while it looks', async () => {
    for (let round = 0; round < 50; round++) {
      await own.stop();
      rmSync(own.path);
      const started = own.start();
      let found = await findPort(zoneroot, '/tmp/vm.ttyb').catch(() => null);
      while (found === null) {
        found = await findPort(zoneroot, '/tmp/vm.ttyb').catch(() => null);
      }
      await started;
      assert.strictEqual((await findPort(zoneroot, '/tmp/vm.ttyb')).way, found.way);
    }
  });

  it('finds another way where a folder was put aside, and the same way where nothing was', async () => {
    const before = await findPort(zoneroot, '/tmp/vm.ttyb');
    assert.deepStrictEqual(await findPort(zoneroot, '/tmp/vm.ttyb'), before);
    // The kernel's clock for files is coarse.
    await eventually(async () => {
      renameSync(join(zoneroot, 'tmp'), join(zoneroot, 'aside'));
      mkdirSync(join(zoneroot, 'tmp'));
      rmSync(join(zoneroot, 'tmp'), { recursive: true });
      renameSync(join(zoneroot, 'aside'), join(zoneroot, 'tmp'));
      const after = await findPort(zoneroot, '/tmp/vm.ttyb');
      assert.strictEqual(after.identity, before.identity);
      return after.way !== before.way;
    }, 'another way');
  });
});
