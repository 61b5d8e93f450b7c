/*
 * A node that boots all of its zones while the agent starts, as it does after a power cut: SMF starts the
 * zones and us at the same time, and no moment is without an event for minutes.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from '../support/eventually';
import { ServedZones, ZonedNode } from '../support/served-zones';

const ZONES = 1000;
/** Not the limit of what the agent may take, but of what this test waits for on a busy machine. */
const PATIENCE_MS = 120_000;

describe('a registry that starts while a thousand zones boot', () => {
  let zoned: ZonedNode;

  beforeEach(() => {
    zoned = new ZonedNode();
    zoned.node.emulation.zonesConfigure(
      Array.from({ length: ZONES }, (_, n) => {
        const name = `z${n}`;
        return { name, brand: 'joyent', zonepath: `/zones/${name}`, uuid: '', state: 'installed' };
      }),
    );
  });

  afterEach(() => {
    zoned.node.remove();
  });

  it('starts, and finds every zone running in the end', async function () {
    this.timeout(PATIENCE_MS);
    const served = new ServedZones(zoned);
    const storm = spawn(
      process.execPath,
      [require.resolve('../support/zone-child'), 'boot', zoned.node.root, String(ZONES)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const over = once(storm, 'exit');
    try {
      await once(storm.stdout, 'data');
      assert.strictEqual(storm.exitCode, null);
      await served.registry.start();
      assert.strictEqual(served.registry.size, ZONES);
      const [status] = (await over) as unknown[];
      assert.strictEqual(status, 0);
      const running = (): number =>
        Object.values(served.states).filter((state) => state === 'running').length;
      await eventually(() => running() === ZONES, 'every zone runs', PATIENCE_MS);
    } finally {
      await served.registry.stop(0);
      storm.kill('SIGKILL');
      await over;
    }
  });
});
