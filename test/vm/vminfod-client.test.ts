import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { setImmediate as nextIteration } from 'node:timers/promises';
import type { JsonObject, MetadataMaps } from '../../src/metadata/vm-data';
import { Vminfod } from '../../src/vm/vminfod-client';
import { VmCache, type VmChange } from '../../src/vm/vm-cache';
import { VminfodService } from '../../tools/simcn/vminfod';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';
import { vmObject, vmObjects, zonenameOf } from '../support/vm-objects';

const DOWN = 'vminfod is not available; serving the VM data it sent last';
const BACK = 'following vminfod again';
const LONGEST_ITERATION_MS = 50;

describe('Vminfod', () => {
  let dir: TempDir;
  let path: string;
  let logs: LogRecords;
  let vms: Map<string, JsonObject>;
  let service: VminfodService;
  let table: VmCache;
  let changes: string[];
  let observed: (readonly [string, MetadataMaps])[];
  let client: Vminfod;
  let fds: number;

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'vminfod.sock');
    logs = logRecords();
    vms = new Map(vmObjects(3).map((vm) => [String(vm.zonename), vm]));
    service = new VminfodService(path, { vms: () => vms.values() });
    changes = [];
    observed = [];
    table = new VmCache((zonename, _vm, metadata) => observed.push([zonename, metadata]));
    table.on('changed', (change) => changes.push(describeChange(change)));
    const url = `unix:${path}`;
    client = new Vminfod(url, table, logs.log);
    fds = readdirSync('/proc/self/fd').length;
  });

  afterEach(async () => {
    await client.stop();
    await client.stop();
    await service.stop();
    assert.strictEqual(table.listenerCount('changed'), 1);
    await eventually(() => readdirSync('/proc/self/fd').length <= fds, 'descriptors closed');
    dir.remove();
  });

  const describeChange = ({ zonename, previous, next }: VmChange): string => {
    const number = Number(zonename.slice(-4));
    return `${number} ${previous?.zoneState ?? 'none'} ${next?.zoneState ?? 'none'}`;
  };
  const state = (): string => client.status().state;
  const following = (): Promise<void> => eventually(() => state() === 'following', 'following');
  const [z0, z1, z9] = [zonenameOf(0), zonenameOf(1), zonenameOf(9)];

  it('applies the first snapshot, then events', async () => {
    await service.start();
    client.start();
    await following();
    assert.deepStrictEqual(changes, ['0 none running', '1 none running', '2 none running']);
    changes.length = 0;
    service.modified(vmObject(z9, { zone_state: 'configured' }));
    service.modified(vmObject(z0, { zone_state: 'down', init_restarts: 2 }));
    service.deleted(z1);
    await eventually(() => changes.length === 3);
    assert.deepStrictEqual(changes, ['9 none configured', '0 running down', '1 running none']);
    assert.strictEqual(table.facts(z0)?.initRestarts, 2);
    assert.strictEqual(table.vm(z0)?.zone_state, 'down');
    assert.strictEqual(table.vm(z1), undefined);
  });

  it('keeps no metadata, but passes it to the observer', async () => {
    vms.set(
      z0,
      vmObject(z0, { customer_metadata: { k: 'v' }, internal_metadata: { root_pw: 's' } }),
    );
    await service.start();
    client.start();
    await following();
    assert.deepStrictEqual(table.vm(z0)?.customer_metadata, {});
    assert.deepStrictEqual(table.vm(z0)?.internal_metadata, {});
    const [, seen] = observed.find(([zonename]) => zonename === z0) ?? [];
    assert.deepStrictEqual([...(seen?.customer ?? [])], [['k', 'v']]);
  });

  it('serves the last data while vminfod is down, and then reports what changed', async () => {
    await service.start();
    client.start();
    await following();
    changes.length = 0;
    await service.setDown(true);
    await eventually(() => state() !== 'following');
    assert.strictEqual(table.size, 3);
    vms.delete(z1);
    vms.set(z9, vmObject(z9));
    vms.set(z0, vmObject(z0, { zone_state: 'installed' }));
    await service.setDown(false);
    await following();
    assert.deepStrictEqual(changes.sort(), [
      '0 running installed',
      '1 running none',
      '9 none running',
    ]);
    assert.strictEqual(logs.records(DOWN).length, 1);
    assert.strictEqual(logs.records(BACK).length, 1);
    assert.strictEqual(client.status().reconnects, 1);
  });

  it('waits for a vminfod that comes late, with one warning', async () => {
    client.start();
    await eventually(() => state() === 'down');
    const { since } = client.status();
    await eventually(() => state() === 'down' && client.status().since !== since, 'one more try');
    assert.match(client.status().lastError ?? '', /ENOENT/);
    await service.start();
    await following();
    assert.strictEqual(logs.records(DOWN).length, 1);
    assert.strictEqual(table.size, 3);
  });

  it('follows through a hundred restarts', async function () {
    this.timeout(60_000);
    await service.start();
    client.start();
    await following();
    for (let round = 1; round <= 100; round++) {
      await service.setDown(true);
      await eventually(() => state() !== 'following');
      vms.set(z9, vmObject(z9, { alias: `round ${round}` }));
      await service.setDown(false);
      await following();
      assert.strictEqual(table.vm(z9)?.alias, `round ${round}`);
    }
    assert.strictEqual(client.status().reconnects, 100);
    assert.strictEqual(logs.records(DOWN).length, 100);
    assert.strictEqual(logs.records(BACK).length, 100);
  });

  it('reconnects after a line that is not an event', async () => {
    await service.start();
    client.start();
    await following();
    service.sendGarbage();
    await eventually(() => client.status().reconnects === 1);
    assert.match(client.status().lastError ?? '', /not a JSON object/);
    assert.strictEqual(table.size, 3);
    assert.strictEqual(logs.records(DOWN).length, 1);
  });

  it('skips VMs that name no zone, and accepts unusual members in others', async () => {
    const odd = [null, {}, { zonename: 7 }, { zonename: '../x' }, { zonename: '__proto__' }];
    const good = vmObject(z9, { init_restarts: 'x', com2: null, customer_metadata: [1], uuid: 5 });
    const list = JSON.stringify([...odd.slice(1), good]);
    const server = await serve(path, (write) => {
      write(`${JSON.stringify({ type: 'ready', vms: list })}\n`);
    });
    client.start();
    await following();
    assert.deepStrictEqual(table.zonenames(), [z9]);
    const facts = table.facts(z9);
    assert.deepStrictEqual(
      [facts?.uuid, facts?.initRestarts, facts?.com2],
      [z9, undefined, undefined],
    );
    await client.stop();
    await close(server);
  });

  const broken: readonly (readonly [string, string])[] = [
    ['half a ready line', '{"type":"ready","vms":"[{'],
    ['a VM that is no JSON', `${JSON.stringify({ type: 'ready', vms: '[{"a":}]' })}\n`],
    [
      'an event of no known kind',
      `${JSON.stringify({ type: 'ready', vms: '[]' })}\n{"type":"x"}\n`,
    ],
    [
      'an event without a VM',
      `${JSON.stringify({ type: 'ready', vms: '[]' })}\n{"type":"create","vm":[]}\n`,
    ],
    ['an empty line', `${JSON.stringify({ type: 'ready', vms: '[]' })}\n\n`],
    ['nothing', ''],
  ];
  for (const [name, text] of broken) {
    it(`survives ${name}`, async () => {
      let streams = 0;
      const server = await serve(path, (write, end) => {
        write(text);
        end();
        streams++;
      });
      client.start();
      await eventually(() => streams >= 3, 'three attempts');
      assert.notStrictEqual(client.status().lastError, null);
      await client.stop();
      await close(server);
    });
  }

  it('survives a response that is not HTTP, and another status', async () => {
    const server = createTcpServer((socket) => socket.resume().end('SSH-2.0-x\r\n')).listen(path);
    await once(server, 'listening');
    client.start();
    await eventually(() => state() === 'down');
    await new Promise((resolve) => server.close(resolve));
    const other = createServer((_, response) => response.writeHead(503).end()).listen(path);
    await eventually(() => client.status().lastError?.includes('HTTP_503') === true);
    await client.stop();
    await close(other);
  });

  it('connects to a TCP port too, with a user agent that names it', async () => {
    let agent = '';
    const server = createServer((request, response) => {
      agent = request.headers['user-agent'] ?? '';
      response.write(`${JSON.stringify({ type: 'ready', vms: '[]' })}\n`);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const other = new Vminfod(`http://127.0.0.1:${port}`, table, logs.log);
    other.start();
    await eventually(() => other.status().state === 'following');
    assert.match(agent, /^mdatad - .+\/\d+ \(mdatad\)$/);
    await other.stop();
    await close(server);
  });

  it('reads 50 MB in short iterations of the event loop', async function () {
    this.timeout(180_000);
    const many = vmObjects(4096, 9000);
    const line = `${JSON.stringify({ type: 'ready', vms: JSON.stringify(many) })}\n`;
    assert(Buffer.byteLength(line) > 40e6, `${Buffer.byteLength(line)} bytes`);
    const server = await serveElsewhere(path, line);
    try {
      const longest = await bestMs(LONGEST_ITERATION_MS, async () => {
        const reader = new Vminfod(`unix:${path}`, table, logs.log);
        const iteration = longestIterationMs(() => reader.status().state === 'following');
        reader.start();
        const ms = await iteration;
        await reader.stop();
        return ms;
      });
      assert.strictEqual(table.size, 4096);
      assert(longest < LONGEST_ITERATION_MS, `longest iteration ${longest} ms`);
    } finally {
      server.kill();
      await once(server, 'exit');
    }
  });
});

/** Of the loop's turns until `over`, ms of CPU: what else the machine does meanwhile does not count. */
async function longestIterationMs(over: () => boolean): Promise<number> {
  let longest = 0;
  while (!over()) {
    const before = process.cpuUsage();
    await nextIteration();
    const { user, system } = process.cpuUsage(before);
    longest = Math.max(longest, (user + system) / 1000);
  }
  return longest;
}

type Write = (text: string) => void;

/** An HTTP server whose every answer is made by hand. */
async function serve(
  path: string,
  answer: (write: Write, end: () => void) => void,
): Promise<Server> {
  try {
    unlinkSync(path);
  } catch {
    // Not there yet.
  }
  const server = createServer((_, response) => {
    response.writeHead(200);
    response.flushHeaders();
    answer(
      (text) => void response.write(text),
      () => void response.end(),
    );
  }).listen(path);
  await once(server, 'listening');
  return server;
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

/** Serves a line from a process of its own, so that only the reading is measured. */
async function serveElsewhere(path: string, line: string): Promise<ChildProcess> {
  writeFileSync(`${path}.line`, line);
  const script = `
    const line = require('fs').readFileSync(process.argv[1] + '.line');
    require('http').createServer((q, r) => { r.writeHead(200); r.write(line); })
      .listen(process.argv[1], () => process.stdout.write('up'));`;
  const child = spawn(process.execPath, ['-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return child;
}
