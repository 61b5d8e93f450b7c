/* How one event stream is read, and how long it occupies the event loop. */
import assert from 'node:assert';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { MetadataMaps } from '../../src/metadata/vm-data';
import { followEvents } from '../../src/vm/event-stream';
import { VmCache, type VmObserver } from '../../src/vm/vm-cache';
import { get } from '../../src/vm/vminfod-client';
import { tempDir, type TempDir } from '../support/temp-dir';
import { vmObject, zonenameOf } from '../support/vm-objects';

const EVENTS = 200;
/** What an event costs a listener of the table: half of what may delay the guests. */
const WORK_MS = 1;
/** More than fit into the time between two yields: one read of the socket has all of them. */
const MOST_IN_AN_ITERATION = 10;

describe('the event stream', () => {
  let dir: TempDir;
  let server: Server;

  beforeEach(() => (dir = tempDir()));

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    dir.remove();
  });

  it('yields the event loop within a burst of events', async () => {
    const path = join(dir.path, 'vminfod.sock');
    const lines = Array.from({ length: EVENTS }, (_, i) => {
      const zonename = zonenameOf(i);
      const vm = { uuid: zonename, zonename, brand: 'bhyve', zonepath: '/z' };
      return `${JSON.stringify({ type: 'create', zonename, vm })}\n`;
    });
    const vms = JSON.stringify([vmObject(zonenameOf(EVENTS))]);
    const ready = `${JSON.stringify({ type: 'ready', vms })}\n`;
    server = createServer((_, response) => response.write(ready + lines.join(''))).listen(path);
    await once(server, 'listening');
    const table = new VmCache();
    let inIteration = 0;
    const most = { ofIterations: 0 };
    table.on('changed', () => {
      most.ofIterations = Math.max(most.ofIterations, ++inIteration);
      const end = performance.now() + WORK_MS;
      while (performance.now() < end);
    });
    const over = new AbortController();
    const url = `unix:${path}`;
    const response = await get(url, '/events', over.signal);
    const followed = followEvents(url, response, table, over.signal, () => undefined);
    while (table.size <= EVENTS) {
      await turn();
      inIteration = 0;
    }
    over.abort(new Error('over'));
    await assert.rejects(followed, /over/);
    assert.ok(
      most.ofIterations <= MOST_IN_AN_ITERATION,
      `${most.ofIterations} events in one iteration`,
    );
  });

  it('gives a VM of the first snapshot to who waits for it before the others have come', async () => {
    const path = join(dir.path, 'vminfod.sock');
    const [first, second] = [zonenameOf(0), zonenameOf(1)];
    const vms = JSON.stringify([vmObject(first), vmObject(second)]);
    const ready = `${JSON.stringify({ type: 'ready', vms })}\n`;
    const cut = ready.indexOf(second);
    assert(cut > 0);
    let sendRest = (): void => undefined;
    server = createServer((_, response) => {
      response.write(ready.slice(0, cut));
      sendRest = () => response.write(ready.slice(cut));
    }).listen(path);
    await once(server, 'listening');
    const table = new VmCache();
    const over = new AbortController();
    const url = `unix:${path}`;
    const response = await get(url, '/events', over.signal);
    const whole = new Promise<void>((resolve) => {
      followEvents(url, response, table, over.signal, resolve).catch(() => undefined);
    });
    assert.strictEqual((await table.wait(first))?.uuid, first);
    assert.deepStrictEqual(table.zonenames(), [first]);
    sendRest();
    await whole;
    assert.deepStrictEqual(table.zonenames(), [first, second]);
    over.abort(new Error('over'));
  });

  /** Follows a stream of these events until the table has all of their VMs. */
  async function follow(
    events: readonly object[],
    observe?: VmObserver,
  ): Promise<{ readonly table: VmCache; readonly ended: Promise<unknown> }> {
    const path = join(dir.path, 'vminfod.sock');
    const lines = events.map((event) => `${JSON.stringify(event)}\n`).join('');
    const ready = `${JSON.stringify({ type: 'ready', vms: '[]' })}\n`;
    server = createServer((_, response) => response.write(ready + lines)).listen(path);
    await once(server, 'listening');
    const table = new VmCache(observe);
    const over = new AbortController();
    const url = `unix:${path}`;
    const response = await get(url, '/events', over.signal);
    const following = followEvents(url, response, table, over.signal, () => undefined);
    const ended = following.catch((err: unknown) => err);
    const ends = ended.then(() => 'ended');
    while (table.size < events.length && (await Promise.race([ends, turn()])) !== 'ended');
    over.abort(new Error('over'));
    return { table, ended };
  }

  it('observes the metadata of a long event as that of a short one, and keeps none of it', async () => {
    const [short, long] = [zonenameOf(0), zonenameOf(1)];
    const vmOf = (zonename: string, padding: number): object => ({
      ...vmObject(zonename, { alias: 'caf\u00e9' }),
      customer_metadata: { a: '1', padding: 'x\n'.repeat(padding), 10: 'n' },
      tags: { t: '}' },
      internal_metadata: { 'docker:cmd': ['sh'] },
    });
    const seen = new Map<string, MetadataMaps>();
    const { table } = await follow(
      [
        { type: 'create', zonename: short, vm: vmOf(short, 10) },
        { zonename: long, changes: [{ vm: {} }], vm: vmOf(long, 400_000), type: 'create' },
      ],
      (zonename, _vm, metadata) => seen.set(zonename, metadata),
    );
    for (const zonename of [short, long]) {
      const { customer, internal } = seen.get(zonename) ?? {};
      assert.deepStrictEqual([...(customer?.keys() ?? [])], ['10', 'a', 'padding']);
      assert.strictEqual(customer?.get('a'), '1');
      assert.deepStrictEqual(internal?.get('docker:cmd'), ['sh']);
      const vm = table.vm(zonename);
      assert.deepStrictEqual([vm?.customer_metadata, vm?.internal_metadata], [{}, {}]);
      assert.deepStrictEqual([vm?.alias, vm?.tags], ['caf\u00e9', { t: '}' }]);
    }
  });

  it('takes a VM whose metadata has more members than are indexed', async () => {
    const zonename = zonenameOf(0);
    const members = Array.from({ length: 33_000 }, (_, n) => [`key${n}`, '1']);
    const vm = vmObject(zonename, { customer_metadata: Object.fromEntries(members) });
    const seen: number[] = [];
    const { table } = await follow([{ type: 'create', zonename, vm }], (_zonename, _vm, metadata) =>
      seen.push(metadata.customer.size),
    );
    assert.deepStrictEqual([table.zonenames(), seen], [[zonename], [members.length]]);
  });

  it('ends at an event of more than 32 MiB, before it is whole', async () => {
    const zonename = zonenameOf(0);
    const vm = vmObject(zonename, { alias: 'x'.repeat(33 * 1024 * 1024) });
    const { table, ended } = await follow([{ type: 'create', zonename, vm }]);
    assert.match(String(await ended), /an event does not end/);
    assert.strictEqual(table.size, 0);
  });
});
