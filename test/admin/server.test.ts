/*
 * The admin server of a real agent on a simulated node.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { isJsonObject, own, parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { adminSocketOf, askAdmin, askJson, openAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { AgentProcess } from '../support/guest-agent';
import { needs } from '../support/pending';
import { parseExposition, sampleOf } from '../support/prometheus';
import { SimNode, whyNoNode } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const SECRET = 'Hae6-planted-secret';
const OS_ZONE = zonenameOf(1);
const HVM_ZONE = zonenameOf(2);
/** Their rows are more than one piece of a reply. */
const MANY_KEYS = Array.from({ length: 1000 }, (_, n) => `key "${n}" ☃`.padEnd(64, 'x'));
const VMS = [
  vmObject(OS_ZONE, {
    alias: 'web0',
    customer_metadata: { plain: SECRET, 'user-script': `#!/bin/sh\n# ${SECRET}` },
    internal_metadata: { root_pw: SECRET },
  }),
  vmObject(HVM_ZONE, {
    alias: 'hvm0',
    brand: 'kvm',
    customer_metadata: { plain: SECRET, ...Object.fromEntries(MANY_KEYS.map((key) => [key, ''])) },
  }),
];

function objectOf(value: unknown): JsonObject {
  assert(isJsonObject(value), `an object, not ${JSON.stringify(value)}`);
  return value;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  await once(server.close(), 'close');
  return port;
}

describe('the admin server', function () {
  this.timeout(60_000);
  const ends: (() => Promise<void>)[] = [];
  let node: SimNode;
  let agent: AgentProcess;
  let root = '';
  let port = 0;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS });
    ends.push(() => node.stop());
    root = node.root;
    port = await freePort();
    const config = node.path('/mdatad.json');
    writeFileSync(config, JSON.stringify({ metrics_port: port }));
    agent = await AgentProcess.start(root, ['--config', config]);
    ends.unshift(() => agent.stop());
    // An agent that has just started may still be on its way to vminfod.
    await eventually(async () => (await askAdmin(root, '/healthz')).text === 'ok\n');
  });

  after(async () => {
    for (const end of ends) {
      await end();
    }
  });

  it("is root's alone: directory 0755, socket 0600", () => {
    const path = adminSocketOf(root);
    assert.strictEqual(statSync(path).mode & 0o777, 0o600);
    assert(statSync(path).isSocket());
    assert.strictEqual(statSync(dirname(path)).mode & 0o777, 0o700);
  });

  it('answers /healthz with one word when all is well', async () => {
    assert.deepStrictEqual(await askAdmin(root, '/healthz'), { status: 200, text: 'ok\n' });
  });

  it('shows the agent in one view', async () => {
    await node.exec(OS_ZONE, 'true');
    const status = objectOf(await askJson(root, '/status'));
    assert.deepStrictEqual(
      { phase: status.phase, health: status.health, sockets: status.sockets },
      {
        phase: 'serving',
        health: {
          ...{ state: 'ok', summary: 'ok', problems: [], problemsInAll: 0 },
          zonesByReason: {},
        },
        sockets: { total: 1, listening: 1 },
      },
    );
    assert.strictEqual(own(objectOf(status.zones), 'total'), 2);
    assert.strictEqual(own(objectOf(status.vminfod), 'verdict'), 'ok');
    assert.strictEqual(status.pid, agent.pid);
  });

  it('counts what guests ask in metrics that a stranger can read', async () => {
    const before = parseExposition((await askAdmin(root, '/metrics')).text);
    const labels = { verb: 'GET', outcome: 'SUCCESS' };
    const asked = sampleOf(before, 'mdatad_requests_total', labels) ?? 0;
    await askJson(root, `/doctor/${OS_ZONE}`);
    const after = parseExposition((await askAdmin(root, '/metrics')).text);
    assert.strictEqual(sampleOf(after, 'mdatad_requests_total', labels), asked + 1);
    assert.strictEqual(after.types.get('mdatad_request_duration_seconds'), 'histogram');
    const bounds = after.samples
      .filter(({ name }) => name === 'mdatad_request_duration_seconds_bucket')
      .filter((sample) => sample.labels.get('verb') === 'GET')
      .map(({ labels: { size }, value }) => (assert(size === 2), value));
    assert.deepStrictEqual(
      bounds,
      [...bounds].sort((a, b) => a - b),
      'buckets are cumulated',
    );
    const count = sampleOf(after, 'mdatad_request_duration_seconds_count', { verb: 'GET' });
    assert.strictEqual(bounds.at(-1), count);
    assert.strictEqual(count, asked + 1);
    assert.strictEqual(sampleOf(after, 'mdatad_zone_requests_total', { zonename: OS_ZONE }), count);
    assert.strictEqual(sampleOf(after, 'mdatad_zones', { state: 'running' }), 2);
    assert.strictEqual(sampleOf(after, 'mdatad_vminfod_following'), 1);
    for (const { name } of after.samples) {
      const family = name.replace(/_(bucket|sum|count)$/, '');
      assert(after.types.has(name) || after.types.has(family), `${name} has a type`);
    }
  });

  it('has a series for each reason of a refusal before there was one', async () => {
    const { samples } = parseExposition((await askAdmin(root, '/metrics')).text);
    const reasons = samples
      .filter(({ name }) => name === 'mdatad_refusals_total')
      .map(({ labels }) => labels.get('reason'));
    const ofConnections = ['connections', 'idle', 'peer', 'uid', 'unread'];
    const ofRequests = [
      'bad-line',
      'broken-frame',
      'dropped-reply',
      'line',
      'queue',
      'rate',
      'unsent',
    ];
    const ofWrites = ['keys', 'size', 'waiting-writes', 'writes'];
    assert.deepStrictEqual(reasons.sort(), [...ofConnections, ...ofRequests, ...ofWrites].sort());
  });

  it("gives a snapshot in kang's shape, its objects under the names of their types", async () => {
    const snapshot = objectOf(await askJson(root, '/kang/snapshot'));
    const service = objectOf(snapshot.service);
    assert.deepStrictEqual(Object.keys(service), ['name', 'component', 'ident', 'version']);
    assert.deepStrictEqual(snapshot.types, ['zone', 'link', 'write']);
    assert(!Number.isNaN(Date.parse(String(objectOf(snapshot.stats).started))));
    for (const type of ['zone', 'link']) {
      const ids = Object.keys(objectOf(snapshot[type]));
      assert.deepStrictEqual(ids.sort(), [OS_ZONE, HVM_ZONE].sort());
    }
    const zone = objectOf(objectOf(snapshot.zone)[OS_ZONE]);
    assert.strictEqual(zone.link, `link:${OS_ZONE}`);
    assert.deepStrictEqual(snapshot.write, {});
  });

  it('changes the level of the log, also for zones added before', async () => {
    const set = await askAdmin(root, '/log-level', 'PUT', '{"level":"debug"}');
    assert.deepStrictEqual(JSON.parse(set.text), { level: 'debug', previous: 'info' });
    const seen = agent.records.length;
    await node.ok(['reboot', OS_ZONE]);
    await eventually(
      () =>
        agent.records.slice(seen).some(({ msg, level }) => msg === 'zone state' && level === 20),
      'a debug record of the zone',
    );
    await askAdmin(root, '/log-level', 'PUT', '{"level":"info"}');
    assert.deepStrictEqual(await askJson(root, '/log-level'), { level: 'info' });
  });

  it('sends live records of one zone to a client that asks for that zone', async () => {
    const live = await openAdmin(root, `/tail?zone=${OS_ZONE}`);
    const lines = createInterface({ input: live })[Symbol.asyncIterator]();
    await askJson(root, '/doctor');
    const { value } = (await lines.next()) as { value: string };
    assert.strictEqual(parseJsonObject(value)?.zonename, OS_ZONE);
    live.destroy();
    const followers = async (): Promise<unknown> =>
      own(objectOf(objectOf(await askJson(root, '/status')).log), 'followers');
    await eventually(async () => (await followers()) === 0, 'the follower is forgotten');
  });

  it('takes a hint that a zone exists, and asks the platform', async () => {
    const hint = (zonename: string, state: string) =>
      askAdmin(root, '/notify', 'POST', JSON.stringify({ zonename, state }));
    const known = await hint(OS_ZONE, 'deleted');
    assert.deepStrictEqual(JSON.parse(known.text), {
      zonename: OS_ZONE,
      said: 'deleted',
      is: 'running',
    });
    const gone = await hint(zonenameOf(99), 'running');
    assert.deepStrictEqual(JSON.parse(gone.text), {
      zonename: zonenameOf(99),
      said: 'running',
      is: null,
    });
  });

  it('logs which zones were added and removed', async () => {
    const seen = agent.records.length;
    const zonename = zonenameOf(7);
    await node.ok(['create', '--boot'], JSON.stringify(vmObject(zonename)));
    await node.ok(['destroy', zonename]);
    const story = (): unknown[] =>
      agent.records.slice(seen).flatMap((r) => (r.zonename === zonename ? [r.msg] : []));
    await eventually(() => story().includes('zone left'), 'the record of its end');
    assert.deepStrictEqual(story(), ['zone arrived', 'zone left']);
  });

  it('refuses invalid requests, each with its own message, and goes on', async () => {
    const cases: readonly [path: string, method: string, body: string, status: number][] = [
      ['/nothing', 'GET', '', 404],
      ['//', 'GET', '', 400],
      ['/zones/../status', 'POST', '', 405],
      [`/zones/${zonenameOf(99)}`, 'GET', '', 404],
      ['/zones/%2e%2e%2fx', 'GET', '', 400],
      ['/notify', 'POST', 'no json', 400],
      ['/notify', 'POST', '{"zonename":"../../etc","state":"running"}', 400],
      ['/notify', 'POST', '{"zonename":"a","state":"sideways"}', 400],
      ['/notify', 'POST', 'x'.repeat(100_000), 413],
      ['/log-level', 'PUT', '{"level":"loud"}', 400],
      ['/status', 'DELETE', '', 405],
    ];
    const words = new Set<string>();
    for (const [path, method, body, status] of cases) {
      const reply = await askAdmin(root, path, method, body);
      assert.strictEqual(reply.status, status, `${method} ${path}: ${reply.text}`);
      words.add(reply.text);
    }
    // Two names that are none are refused alike.
    assert.strictEqual(words.size, cases.length - 1);
    assert.strictEqual((await askAdmin(root, '/healthz')).status, 200);
  });

  it('disconnects clients that send no request or read no reply, but not followers', async () => {
    const sockets: Socket[] = [];
    const client = async (text: string): Promise<Socket> => {
      const socket = connect(adminSocketOf(root));
      sockets.push(socket);
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      socket.write(text);
      return socket;
    };
    const follower = await openAdmin(root, '/tail');
    const slow = [
      await client(''),
      await client('GET /status HTTP/1.1\r\nHost: a\r\n'),
      await client('PUT /log-level HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n'),
      await client('GET /status HTTP/1.1\r\nHost: a\r\n\r\nGET /st'),
      // Many requests on one connection, and then none of the replies read.
      await client('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(500)),
    ];
    // A byte now and then; the last one reads nothing.
    slow.slice(0, -1).forEach((socket) => socket.resume());
    const drip = setInterval(() => slow.forEach((socket) => socket.write(' ')), 500);
    try {
      const closed = slow.map((socket) => {
        return new Promise((resolve) => void socket.once('close', resolve));
      });
      await Promise.all(closed);
      assert(!follower.destroyed && !follower.complete);
      await askJson(root, `/doctor/${OS_ZONE}`);
      await once(follower, 'data');
    } finally {
      clearInterval(drip);
      sockets.forEach((socket) => socket.destroy());
      follower.destroy();
    }
  });

  it('answers on the loopback port only requests that name this machine', async () => {
    const ask = async (host: string): Promise<number> => {
      const asked = request({ host: '127.0.0.1', port, path: '/metrics', headers: { host } });
      asked.end();
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      response.resume();
      return response.statusCode ?? 0;
    };
    const own = ['localhost', 'LOCALHOST', '127.0.0.1', '[::1]', `127.0.0.1:${port}`, '[::1]:80'];
    for (const host of own) {
      assert.strictEqual(await ask(host), 200, host);
    }
    const others = [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.nip.io',
      '::1',
      '10.0.0.1',
    ];
    for (const host of [...others, 'localhost:80:80', 'localhost@evil.example']) {
      assert.strictEqual(await ask(host), 403, host);
    }
    const bare = connect(port, '127.0.0.1');
    bare.end('GET /metrics HTTP/1.0\r\n\r\n');
    const [head] = (await once(bare, 'data')) as [Buffer];
    assert.match(head.toString(), /^HTTP\/1\.1 403 /);
    bare.destroy();
  });

  it('sends a reply of many members whole', async () => {
    const rows = (await askJson(root, `/keys/${HVM_ZONE}`)) as JsonObject[];
    const names = rows.flatMap(({ key, map }) => (map === 'customer' ? String(key) : []));
    assert.deepStrictEqual(
      MANY_KEYS.filter((key) => !names.includes(key)),
      [],
    );
    assert.strictEqual(new Set(names).size, names.length);
  });

  it('shows no metadata value on any route', async () => {
    const paths = ['/status', '/zones', '/doctor', '/datasets', '/metrics', '/kang/snapshot'];
    const records = '/tail?live=no&last=1000';
    const zones = [OS_ZONE, HVM_ZONE].flatMap((zone) => [`/zones/${zone}`, `/keys/${zone}`]);
    for (const path of [...paths, ...zones, records]) {
      const { text, status } = await askAdmin(root, path);
      assert.strictEqual(status, 200, path);
      assert(!text.includes(SECRET), `${path} shows a secret`);
    }
  });
});
