import assert from 'node:assert';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { changesBetween, VminfodService } from '../../tools/simcn/vminfod';
import { eventually } from '../support/eventually';
import { tempDir, type TempDir } from '../support/temp-dir';
import { vmObject, zonenameOf } from '../support/vm-objects';

const Z = zonenameOf(1);

describe('the simulated vminfod', () => {
  let dir: TempDir;
  let path: string;
  let vms: JsonObject[];
  let service: VminfodService;

  beforeEach(async () => {
    dir = tempDir();
    path = join(dir.path, 'v.sock');
    vms = [vmObject(Z)];
    service = new VminfodService(path, { vms: () => vms });
    await service.start();
  });

  afterEach(async () => {
    await service.stop();
    dir.remove();
  });

  const ask = async (what: string, method = 'GET'): Promise<IncomingMessage> => {
    const req = request({ socketPath: path, path: what, method, agent: false }).end();
    const [response] = (await once(req, 'response')) as [IncomingMessage];
    return response;
  };
  const askAll = async (what: string, method = 'GET'): Promise<[number, string, string]> => {
    const response = await ask(what, method);
    let body = '';
    for await (const chunk of response) {
      body += String(chunk);
    }
    return [response.statusCode ?? 0, response.headers['content-type'] ?? '', body];
  };
  const follow = async (): Promise<{ lines: JsonObject[]; ended: () => boolean }> => {
    const response = await ask('/events');
    const lines: JsonObject[] = [];
    let ended = false;
    let rest = '';
    response.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk.toString('latin1')).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts.map((line) => parseJsonObject(line) ?? { garbage: true }));
    });
    response.on('error', () => undefined);
    response.on('close', () => {
      ended = true;
    });
    await eventually(() => lines.length > 0);
    return { lines, ended: () => ended };
  };

  it('answers as the platform documents', async () => {
    const json = 'application/json';
    assert.deepStrictEqual(await askAll('/ping'), [200, json, '{"ping":"pong"}']);
    assert.deepStrictEqual(await askAll('/vms'), [200, json, JSON.stringify(vms)]);
    assert.deepStrictEqual(await askAll(`/vms/${Z}`), [200, json, JSON.stringify(vms[0])]);
    assert.deepStrictEqual(await askAll('/vms/nope'), [404, json, 'VM Not Found: nope']);
    assert.deepStrictEqual(await askAll('/other'), [404, json, 'Unsupported URL Path']);
    assert.deepStrictEqual(await askAll('/vms', 'POST'), [400, json, '']);
    const [, , status] = await askAll('/status?full=true');
    assert.strictEqual(parseJsonObject(status)?.numVms, 1);
  });

  it('begins a stream with all VMs in a string, and goes on with changes', async () => {
    const { lines } = await follow();
    assert.strictEqual(lines[0]?.type, 'ready');
    assert.deepStrictEqual(JSON.parse(String(lines[0].vms)), vms);
    service.modified(vmObject(Z));
    service.modified(vmObject(Z, { zone_state: 'down' }));
    service.modified(vmObject(zonenameOf(2)));
    service.deleted(Z);
    service.deleted(Z);
    await eventually(() => lines.length === 4);
    assert.deepStrictEqual(
      lines.slice(1).map((line) => [line.type, line.zonename, line.uuid]),
      [
        ['modify', Z, Z],
        ['create', zonenameOf(2), zonenameOf(2)],
        ['delete', Z, Z],
      ],
    );
    assert.deepStrictEqual(lines[1]?.changes, [
      {
        prettyPath: 'zone_state',
        path: ['zone_state'],
        action: 'changed',
        oldValue: 'running',
        newValue: 'down',
      },
    ]);
  });

  it('notices nothing of a frozen zone, in its copy neither, and all of it when thawed', async () => {
    const { lines } = await follow();
    service.setFrozen(Z, true);
    vms = [vmObject(Z, { alias: 'new' })];
    service.modified(vmObject(Z, { alias: 'new' }));
    service.modified(vmObject(zonenameOf(2)));
    await eventually(() => lines.length === 2);
    assert.deepStrictEqual((await askAll(`/vms/${Z}`))[2], JSON.stringify(vmObject(Z)));
    service.setFrozen(Z, false);
    await eventually(() => lines.length === 3);
    assert.deepStrictEqual(lines[2]?.vm, vms[0]);
  });

  it('comes late, goes down and sends garbage on demand', async () => {
    const { lines, ended } = await follow();
    service.setDelay(50);
    const start = Date.now();
    service.modified(vmObject(Z, { alias: 'late' }));
    await eventually(() => lines.length === 2);
    assert(Date.now() - start >= 49);
    service.sendGarbage();
    await eventually(() => lines[2]?.garbage === true);
    await service.setDown(true);
    await eventually(ended);
    await assert.rejects(ask('/ping'), { code: 'ENOENT' });
    vms = [];
    await service.setDown(false);
    assert.strictEqual((await askAll('/vms'))[2], '[]');
    assert.strictEqual(service.listenerCount, 0);
  });
});

describe('changesBetween', () => {
  it('says what the platform would say', () => {
    const nic = { mac: '90:b8:d0:f5:e4:f5', ip: '10.0.0.1' };
    const before = {
      init_restarts: 0,
      customer_metadata: {},
      resolvers: ['a'],
      nics: [nic],
      tags: { 'a.b': 1 },
    };
    const after = {
      init_restarts: 1,
      customer_metadata: { colour: 'blue' },
      resolvers: ['8.8.8.8', 'a'],
      nics: [{ ...nic, ip: '10.0.0.2' }],
      tags: {},
    };
    assert.deepStrictEqual(changesBetween(before, after), [
      {
        prettyPath: 'init_restarts',
        path: ['init_restarts'],
        action: 'changed',
        oldValue: 0,
        newValue: 1,
      },
      {
        prettyPath: 'customer_metadata.colour',
        path: ['customer_metadata', 'colour'],
        action: 'added',
        newValue: 'blue',
      },
      {
        prettyPath: 'resolvers.*',
        path: ['resolvers', null],
        action: 'added',
        newValue: '8.8.8.8',
      },
      {
        prettyPath: 'nics.*.ip',
        path: ['nics', null, 'ip'],
        action: 'changed',
        oldValue: '10.0.0.1',
        newValue: '10.0.0.2',
        ident: '90:b8:d0:f5:e4:f5',
      },
      { prettyPath: 'tags.[a.b]', path: ['tags', 'a.b'], action: 'removed', oldValue: 1 },
    ]);
  });

  it('reports no change for another order of an array', () => {
    assert.deepStrictEqual(changesBetween({ a: [1, 2] }, { a: [2, 1] }), []);
  });
});
