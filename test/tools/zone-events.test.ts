/*
 * zone-events: what it prints of a zone's life, and how it ends.
 */
import assert from 'node:assert';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { describeWhere } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const ZONE_EVENTS = join(__dirname, '..', '..', 'tools', 'zone-events', 'main.js');
const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';

describeWhere(whyNoNode(), 'zone-events', function () {
  this.timeout(30_000);
  let node: SimNode;

  before(async () => {
    node = await SimNode.start({ vms: [{ uuid: ZONE, brand: 'joyent' }] });
  });

  after(() => node.stop());

  function start(): { child: ChildProcess; lines: AsyncIterator<string>; errors: Buffer[] } {
    const child = spawn(process.execPath, [ZONE_EVENTS, '--root', node.root], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const errors: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return { child, lines, errors };
  }

  async function next(lines: AsyncIterator<string>): Promise<JsonObject> {
    const { value } = (await lines.next()) as { value: string };
    return parseJsonObject(value) ?? {};
  }

  it('is ready first, then prints each change of state with its time to the nanosecond', async () => {
    const { child, lines } = start();
    const { type, zones } = await next(lines);
    assert.deepStrictEqual([type, zones], ['ready', 1]);
    await node.ok(['reboot', ZONE]);
    const states: unknown[] = [];
    while (states.at(-1) !== 'running') {
      const { value } = (await lines.next()) as { value: string };
      const event = parseJsonObject(value);
      assert.match(value, /"when":[0-9]{19}\}\}$/);
      assert.deepStrictEqual(
        [event?.type, event?.channel, event?.class, event?.subclass],
        ['event', 'com.sun:zones:status', 'status', 'change'],
      );
      const data = event?.data as JsonObject;
      assert.strictEqual(data.zonename, ZONE);
      states.push(data.newstate);
    }
    assert.strictEqual(states[0], 'shutting_down');
    assert(states.includes('ready'));
    child.kill('SIGTERM');
    assert.deepStrictEqual(await once(child, 'exit'), [0, null]);
  });

  it('ends without a message when the reader of its output has gone', async () => {
    const { child, lines, errors } = start();
    await next(lines);
    child.stdout?.destroy();
    const exited = once(child, 'exit');
    await node.ok(['reboot', ZONE]);
    assert.deepStrictEqual(await exited, [0, null]);
    assert.strictEqual(Buffer.concat(errors).toString(), '');
  });

  it('prints its version', () => {
    const argv = [ZONE_EVENTS, '--version'];
    const { stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('says what it needs where it cannot subscribe', () => {
    const env = { ...process.env };
    delete env.MDATAD_ROOT;
    const run = (...args: string[]): [number | null, string] => {
      const argv = [ZONE_EVENTS, ...args];
      const { status, stderr } = spawnSync(process.execPath, argv, { env, encoding: 'utf8' });
      return [status, stderr];
    };
    const [without, needed] = run();
    assert.strictEqual(without, 1);
    assert.match(needed, /^zone-events: --root DIR is needed off SmartOS\n {2}.*MDATAD_ROOT\n$/);
    const [status, words] = run('--root', '/nowhere');
    assert.strictEqual(status, 1);
    assert.strictEqual(
      words,
      'zone-events: read /nowhere/etc/zones/index: no such file or directory (ENOENT)\n' +
        '  see what is there: ls -la /nowhere/etc/zones\n',
    );
  });
});
