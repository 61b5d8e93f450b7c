import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Change, JsonObject, MetadataMap, VmData } from '../../src/metadata/vm-data';
import { ConfigFiles } from '../../src/vm/config-files';
import { Store } from '../../src/vm/store';
import type { VmChange } from '../../src/vm/vm-cache';
import { FileWriter } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { VminfodService } from '../../tools/simcn/vminfod';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';
import { vmObject, zonenameOf } from '../support/vm-objects';
import { METADATA_LIMITS } from '../support/writer-fixture';

const Z = zonenameOf(1);
/** How long a lock is kept for vminfod. */
const CONFIRM_MS = 2000;
const LOCK_CHILD = join(__dirname, '..', 'support', 'lock-child.js');
const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });

describe('Store', () => {
  let dir: TempDir;
  let zonepath: string;
  let lockPath: string;
  let logs: LogRecords;
  let vms: Map<string, JsonObject>;
  let service: VminfodService;
  let store: Store;
  let fds: number;

  beforeEach(async () => {
    fds = fs.readdirSync('/proc/self/fd').length;
    dir = tempDir();
    zonepath = join(dir.path, 'zone');
    lockPath = join(dir.path, `${Z}.lock`);
    fs.mkdirSync(join(zonepath, 'config'), { recursive: true });
    fs.writeFileSync(join(zonepath, 'config', 'metadata.json'), '{"customer_metadata":{"a":"1"}}');
    logs = logRecords();
    vms = new Map([[Z, vmObject(Z)]]);
    const path = join(dir.path, 'v.sock');
    service = new VminfodService(path, { vms: () => vms.values() });
    await service.start();
    const files = new ConfigFiles();
    const lockOf = (uuid: string): string => join(dir.path, `${uuid}.lock`);
    const writer = new Writer(new FileWriter({ lockPath: lockOf, limits: METADATA_LIMITS, files }));
    store = new Store({ vminfodUrl: `unix:${path}`, files, writer, log: logs.log });
    store.track(Z, zonepath, logs.zoneLog(Z));
    store.start();
  });

  afterEach(async () => {
    await store.stop();
    await store.stop();
    await service.stop();
    await eventually(() => fs.readdirSync('/proc/self/fd').length <= fds, 'descriptors closed');
    dir.remove();
  });

  const data = (zonename = Z): VmData => {
    const found = store.data(zonename);
    assert(found !== undefined);
    return found;
  };
  const customerOf = async (vmData = data()): Promise<MetadataMap> => {
    return (await vmData.load({ key: null })).metadata().customer;
  };
  /** vminfod reads the file as it does after each change. */
  const refresh = async (): Promise<void> => {
    const customer = Object.fromEntries(await customerOf());
    service.modified(vmObject(Z, { customer_metadata: customer }));
  };
  const lockIsFree = (): boolean => {
    const { stdout } = spawnSync(process.execPath, [LOCK_CHILD, lockPath], { timeout: 1000 });
    return String(stdout) === 'held\n';
  };

  it('knows a VM by its object and its files', async () => {
    fs.writeFileSync(join(zonepath, 'config', 'tags.json'), '{"t":true}');
    const vm = await data().loaded();
    assert.strictEqual(vm?.zone_state, 'running');
    assert.deepStrictEqual([...(await customerOf())], [['a', '1']]);
    assert.deepStrictEqual([...data().tags()], [['t', true]]);
    assert.strictEqual(data().routes().size, 0);
    assert.strictEqual(store.data('other'), undefined);
  });

  it('shows each acknowledged change to the next reader, a thousand times', async function () {
    this.timeout(60_000);
    store.untrack(Z);
    const files = new ConfigFiles();
    const backend = new FileWriter({ lockPath: () => lockPath, limits: METADATA_LIMITS, files });
    const writer = new Writer(backend, { perSecond: 1e6, burst: 1e6 });
    const url = `unix:${join(dir.path, 'v.sock')}`;
    const fast = new Store({ vminfodUrl: url, files, writer, log: logs.log });
    fast.track(Z, zonepath, logs.zoneLog(Z));
    for (let round = 0; round < 1000; round++) {
      const result = await fast.data(Z)?.change(set('a', String(round)));
      assert.deepStrictEqual(result, { kind: 'stored' });
      assert.strictEqual((await customerOf(fast.data(Z))).get('a'), String(round));
    }
    await fast.stop();
  });

  it('holds the platform lock against other processes until vminfod shows the change', async () => {
    await data().loaded();
    await data().change(set('k', 'v'));
    assert.strictEqual(lockIsFree(), false);
    await refresh();
    await eventually(() => store.status().holds === 0);
    assert.strictEqual(lockIsFree(), true);
    assert.strictEqual(store.status().unconfirmed, 0);
  });

  it('keeps two changes and answers both at once while vminfod is frozen', async () => {
    await data().loaded();
    service.setFrozen(Z, true);
    const start = Date.now();
    assert.strictEqual((await data().change(set('k1', 'v'))).kind, 'stored');
    assert.strictEqual((await data().change(set('k2', 'v'))).kind, 'stored');
    assert(Date.now() - start < CONFIRM_MS, 'nobody waited for a confirmation');
    assert.deepStrictEqual([...(await customerOf()).keys()], ['a', 'k1', 'k2']);
    await eventually(() => store.status().unconfirmed === 1);
    assert.strictEqual(lockIsFree(), true);
  });

  it('waits for another process that holds the lock', async () => {
    const child = spawn(process.execPath, [LOCK_CHILD, lockPath, '300'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const start = Date.now();
    assert.strictEqual((await data().change(set('k', 'v'))).kind, 'stored');
    assert(Date.now() - start >= 250);
    await refresh();
  });

  it('reports VMs that come, change and go', async () => {
    await data().loaded();
    const seen: VmChange[] = [];
    const end = store.onChanged((change) => seen.push(change));
    service.modified(vmObject(Z, { init_restarts: 1 }));
    service.modified(vmObject(zonenameOf(2)));
    service.deleted(zonenameOf(2));
    await eventually(() => seen.length === 3);
    assert.deepStrictEqual(
      seen.map(({ previous, next }) => [
        previous?.initRestarts,
        next?.initRestarts,
        next?.zonename,
      ]),
      [
        [undefined, 1, Z],
        [undefined, undefined, zonenameOf(2)],
        [undefined, undefined, undefined],
      ],
    );
    end();
    service.deleted(Z);
    await eventually(() => store.facts(Z) === undefined);
    assert.strictEqual(seen.length, 3);
  });

  it('lets a request wait for the VM object, and no longer than 5 s', async () => {
    const late = zonenameOf(3);
    const never = zonenameOf(4);
    for (const zonename of [late, never]) {
      store.track(zonename, join(dir.path, zonename), logs.zoneLog(zonename));
    }
    await data().loaded();
    const start = Date.now();
    const waits = [data(late).loaded(), data(late).loaded(), data(never).loaded()];
    assert.strictEqual(store.status().waiting, 3);
    service.modified(vmObject(late));
    const [one, two, none] = await Promise.all(waits);
    assert.deepStrictEqual([one?.zonename, two?.zonename, none], [late, late, undefined]);
    const elapsed = Date.now() - start;
    assert(elapsed >= 4990 && elapsed < 8000, `${elapsed} ms`);
    assert.strictEqual(store.status().waiting, 0);
  });

  it('ends all waits when it stops', async () => {
    await service.stop();
    const unknown = zonenameOf(5);
    store.track(unknown, join(dir.path, unknown), logs.zoneLog(unknown));
    const wait = data(unknown).loaded();
    await store.stop();
    assert.strictEqual(await wait, undefined);
  });

  it('locks by the uuid of the VM where its zone has another name, and waits for it', async () => {
    const uuid = zonenameOf(6);
    const metadata = join(dir.path, 'web.prod', 'config', 'metadata.json');
    fs.mkdirSync(dirname(metadata), { recursive: true });
    store.track('web.prod', join(dir.path, 'web.prod'), logs.zoneLog('web.prod'));
    await data().loaded();
    const change = data('web.prod').change(set('k', 'v'));
    await eventually(() => store.status().waiting === 1);
    assert(!fs.existsSync(metadata));
    service.modified(vmObject('web.prod', { uuid }));
    assert.deepStrictEqual(await change, { kind: 'stored' });
    const locks = fs.readdirSync(dir.path).filter((name) => name.endsWith('.lock'));
    assert.deepStrictEqual(locks, [`${uuid}.lock`]);
    assert.deepStrictEqual([...(await customerOf(data('web.prod')))], [['k', 'v']]);
  });

  it('changes nothing of a zone whose VM never comes', async () => {
    store.track('web.prod', join(dir.path, 'web.prod'), logs.zoneLog('web.prod'));
    const change = data('web.prod').change(set('k', 'v'));
    await store.stop();
    assert.deepStrictEqual(await change, { kind: 'failed', text: 'VM data is not available yet.' });
  });

  it('rejects a name that would leave its directory', () => {
    for (const name of ['..', 'a/b', '', '.', 'x'.repeat(64)]) {
      assert.throws(() => store.track(name, zonepath, logs.zoneLog(Z)), { code: 'EINVAL' });
    }
  });

  it('fails what waits for a VM that is removed', async () => {
    const child = spawn(process.execPath, [LOCK_CHILD, lockPath, '400'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const waiting = data().change(set('k', 'v'));
    await eventually(() => store.status().writer.inProgress[0]?.stage === 'locking');
    store.untrack(Z);
    assert.strictEqual((await waiting).kind, 'failed');
    assert.strictEqual(store.data(Z), undefined);
    await once(child, 'exit');
    assert.strictEqual(
      fs.readFileSync(join(zonepath, 'config', 'metadata.json'), 'utf8'),
      '{"customer_metadata":{"a":"1"}}',
    );
  });
});
