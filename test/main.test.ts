/* The daemon as a process: what its signals do. */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { eventually } from './support/eventually';
import { AgentProcess } from './support/guest-agent';
import { needs } from './support/pending';
import { keepStream } from './support/said';
import { osZone } from './support/simulated-node';
import { SimNode, whyNoNode } from './support/simcn';

const MAIN = join(__dirname, '..', 'src', 'bundle', 'mdatad.js');

describe('mdatad', function () {
  this.timeout(60_000);

  let node: SimNode;
  let daemon: ChildProcess | undefined;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: [osZone(1), osZone(2)] });
  });

  after(async () => {
    daemon?.kill('SIGKILL');
    await node.stop();
  });

  it('binds the sockets of its zones before it follows vminfod', async () => {
    const agent = await AgentProcess.start(node.root);
    try {
      const order = (): unknown[] => agent.records.map(({ msg }) => msg);
      await eventually(() => order().includes('following vminfod'));
      const served = order().indexOf('running zones are served');
      assert(served >= 0 && served < order().indexOf('following vminfod'), order().join(', '));
    } finally {
      await agent.stop();
    }
  });

  it('opens no inspector on SIGUSR1, and goes on', async () => {
    daemon = spawn(process.execPath, [MAIN, '--root', node.root], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      const stream = daemon[name];
      assert(stream !== null);
      keepStream('mdatad', stream);
      stream.on('data', (chunk: Buffer) => (output[name] += chunk.toString()));
    }
    await eventually(() => output.stdout.includes('"msg":"ready"'), 'ready', 30_000);
    daemon.kill('SIGUSR1');
    // Signals are delivered in order, and the reload comes after whatever the first one started.
    daemon.kill('SIGHUP');
    await eventually(() => output.stdout.includes('configuration reloaded'), 'the reload');
    daemon.kill('SIGTERM');
    const [code] = (await once(daemon, 'close')) as [number | null];
    assert.strictEqual(code, 0);
    assert.doesNotMatch(output.stderr, /Debugger listening|inspector/i);
  });
});
