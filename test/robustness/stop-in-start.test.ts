/*
 * An agent that is stopped while it still reads the zones of its node: it ends soon and cleanly,
 * and does not say that it serves.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { parseJsonObject } from '../../src/metadata/vm-data';
import { AgentProcess } from '../support/guest-agent';
import { needs } from '../support/pending';
import { keepStream } from '../support/said';
import { osZone } from '../support/simulated-node';
import { SimNode, whyNoNode } from '../support/simcn';

const MDATAD = join(__dirname, '..', '..', 'src', 'main.js');
const ZONES = 300;
/** What is promised, and SMF's patience is not much longer. */
const ENDED_MS = 5000;

describe('an agent that is stopped while it starts', function () {
  this.timeout(120_000);
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    const vms = Array.from({ length: ZONES }, (_, n) => osZone(n, { zone_state: 'installed' }));
    node = await SimNode.start({ vms });
  });

  after(async () => {
    await node.stop();
  });

  const hasSocket = (zonename: string): boolean =>
    existsSync(node.path(`/var/zonecontrol/${zonename}/metadata.sock`));

  /** Zones whose socket was made so far. */
  function sockets(): number {
    return readdirSync(node.path('/var/zonecontrol')).filter(hasSocket).length;
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`${signal}: ends in time, says nothing of being ready, and leaves no admin socket`, async () => {
      const already = sockets();
      assert(already < ZONES / 2, 'there is a start to be stopped in');
      const agent = spawn(process.execPath, [MDATAD, '--root', node.root], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const chunks: Buffer[] = [];
      agent.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
      keepStream(`mdatad-${String(agent.pid)}`, agent.stdout);
      const closed = once(agent, 'close');
      const admin = node.path('/var/run/mdatad/admin.sock');
      while (agent.exitCode === null && !(existsSync(admin) && sockets() > already)) {
        await nextIteration();
      }
      agent.kill(signal);
      const began = performance.now();
      assert.deepStrictEqual(await closed, [0, null]);
      const tookMs = performance.now() - began;
      assert(tookMs < ENDED_MS, `${tookMs} ms`);
      assert(sockets() < ZONES, 'it was stopped in its start');
      assert.deepStrictEqual(said(chunks), ['stopping', 'Agent exiting']);
      assert(!existsSync(admin), 'no admin socket is left');
    });
  }

  it('does not keep the next one from starting', async () => {
    const agent = await AgentProcess.start(node.root);
    const ready = agent.records.find(({ msg }) => msg === 'ready');
    assert.strictEqual(ready?.sockets, ZONES);
    await agent.stop();
  });
});

/** Its last words, from the one that says that it stops. */
function said(chunks: readonly Buffer[]): unknown[] {
  const lines = Buffer.concat(chunks).toString().trimEnd().split('\n');
  const words = lines.map((line) => parseJsonObject(line)?.msg);
  assert(!words.includes('ready'));
  // vminfod's answer may be on its way when the signal comes; the stop does not wait for it.
  return words.slice(words.indexOf('stopping')).filter((word) => word !== 'following vminfod');
}
