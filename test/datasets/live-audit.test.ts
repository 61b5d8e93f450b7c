import assert from 'node:assert';
import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { LiveAudit, type LiveAuditOptions } from '../../src/datasets/live-audit';
import { DEFAULT_POLICY } from '../../src/datasets/policy';
import type { NodeUsage } from '../../src/datasets/usage';
import { createLogger } from '../../src/log';
import { factsOf, parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { eventually } from '../support/eventually';

const SAFE = {
  zfs_filesystem: 'zones/a',
  brand: 'joyent',
  datasets: ['zones/a/data'],
  limit_priv: 'default,-sys_fs_import',
  zfs_snapshot_limit: 4,
  zfs_filesystem_limit: 4,
};
const IMPORTING = { ...SAFE, limit_priv: 'default' };

/** A live audit of VMs that the test changes, with what it logs and how often it asked for use. */
class Bench {
  readonly vms = new Map<string, JsonObject>();
  readonly records: JsonObject[] = [];
  listed: NodeUsage = { kind: 'unknown', why: 'no zfs', fault: false };
  listings = 0;
  reads = 0;
  readonly live: LiveAudit;

  constructor(more: Partial<LiveAuditOptions> = {}) {
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.records.push(parseJsonObject(chunk.toString()) ?? {});
        done();
      },
    });
    this.live = new LiveAudit({
      policy: DEFAULT_POLICY,
      platform: undefined,
      vms: {
        zonenames: () => [...this.vms.keys()],
        vm: (zonename) => {
          this.reads++;
          return this.vms.get(zonename);
        },
        facts: (zonename) => factsOf({ ...this.vms.get(zonename), zonename }),
      },
      listUsage: () => {
        this.listings++;
        return Promise.resolve(this.listed);
      },
      log: createLogger('info', sink),
      ...more,
    });
  }

  put(zonename: string, vm: JsonObject): void {
    this.vms.set(zonename, vm);
    this.live.touch(zonename);
  }

  get messages(): string[] {
    return this.records.map(({ msg, zonename }) => `${String(zonename)}: ${String(msg)}`);
  }
}

const UNSAFE = 'delegated dataset is unsafe for the node';

describe('the live audit of delegated datasets', () => {
  let bench: Bench;
  afterEach(() => bench.live.stop());

  it('does nothing before it is started, and then catches up', async () => {
    bench = new Bench();
    bench.put('a', SAFE);
    await turn();
    assert.strictEqual(bench.reads, 0);
    bench.live.start();
    await turn();
    const verdicts = { safe: 0, unsafe: 0, unknown: 1, exempt: 0 };
    assert.deepStrictEqual(bench.live.counts().verdicts, verdicts, 'there is no zfs');
    assert.deepStrictEqual(bench.messages, []);
  });

  it('audits a VM once after many touches, and never in the call itself', async () => {
    bench = new Bench();
    bench.live.start();
    for (let i = 0; i < 100; i++) {
      bench.put('a', IMPORTING);
    }
    assert.strictEqual(bench.reads, 0);
    await turn();
    assert.strictEqual(bench.reads, 1);
  });

  it('does not parse a VM that has no dataset and never had one', async () => {
    bench = new Bench();
    bench.live.start();
    bench.put('a', { brand: 'joyent', datasets: [] });
    bench.put('b', SAFE);
    await eventually(() => bench.reads > 0);
    assert.strictEqual(bench.reads, 1);
    bench.put('b', { brand: 'joyent' });
    await eventually(() => bench.reads === 2);
    assert.strictEqual(bench.live.lastOf('b'), undefined);
  });

  it('yields the event loop after a few VMs', async () => {
    bench = new Bench();
    bench.live.start();
    for (let i = 0; i < 100; i++) {
      bench.put(`z${i}`, SAFE);
    }
    await turn();
    assert(bench.reads > 0 && bench.reads < 20, `${bench.reads} in a turn`);
    await eventually(() => bench.reads === 100);
  });

  it('warns once for each change of what is wrong, with the reasons', async () => {
    bench = new Bench();
    bench.live.start();
    const put = async (vm: JsonObject): Promise<void> => {
      bench.put('a', vm);
      await turn();
    };
    await put(IMPORTING);
    await put({ ...IMPORTING, alias: 'renamed' });
    assert.deepStrictEqual(bench.messages, [`a: ${UNSAFE}`]);
    const [{ findings, level } = {}] = bench.records;
    assert.strictEqual(level, 40);
    assert.match(JSON.stringify(findings), /"rule":"receive-granted","member":"limit_priv"/);
    await put({ ...IMPORTING, zfs_snapshot_limit: null });
    await put(SAFE);
    await put(IMPORTING);
    assert.deepStrictEqual(bench.messages, [
      `a: ${UNSAFE}`,
      `a: ${UNSAFE}`,
      'a: delegated dataset is unsafe no more',
      `a: ${UNSAFE}`,
    ]);
    const { warnings, rules } = bench.live.counts();
    assert.deepStrictEqual({ warnings, rules }, { warnings: 3, rules: { 'receive-granted': 1 } });
  });

  it('remembers that a VM was safe when it loses its last mark, until the VM is removed', async () => {
    bench = new Bench();
    bench.live.start();
    const plain = { brand: 'joyent', datasets: SAFE.datasets };
    bench.put('a', SAFE);
    await turn();
    bench.put('a', plain);
    await turn();
    assert.strictEqual(bench.live.lastOf('a')?.kind, 'unsafe');
    bench.live.remove('a');
    bench.put('a', plain);
    await turn();
    assert.strictEqual(bench.live.lastOf('a')?.kind, 'exempt');
  });

  it('judges use once it is listed, lists it once for many VMs, and keeps it when zfs fails', async () => {
    bench = new Bench({ usageMs: 20 });
    bench.listed = {
      kind: 'known',
      usage: new Map([
        ['zones/a', { snapshots: 5, filesystems: 1 }],
        ['zones/b', { snapshots: 4, filesystems: 1 }],
        ['zones/b/data', { snapshots: 4, filesystems: 0 }],
        // No part of b's sum: it is not in the tree that has the limits.
        ['data/export', { snapshots: 100, filesystems: 0 }],
      ]),
    };
    bench.live.start();
    bench.put('a', SAFE);
    bench.put('b', { ...SAFE, zfs_filesystem: 'zones/b', datasets: ['zones/b/data'] });
    bench.put('c', { ...SAFE, zfs_filesystem: 'zones/c', datasets: ['zones/c/data'] });
    await eventually(() => bench.live.lastOf('a')?.kind === 'unsafe', 'use is judged');
    assert.strictEqual(bench.listings, 1);
    assert.deepStrictEqual(bench.messages, [`a: ${UNSAFE}`]);
    assert.strictEqual(bench.live.lastOf('b')?.kind, 'safe');
    assert.strictEqual(bench.live.lastOf('c')?.kind, 'unknown', 'it is not in the listing');

    bench.listed = { kind: 'unknown', why: 'zfs broke', fault: true };
    for (const listings of [2, 3]) {
      bench.live.touch('a');
      await eventually(() => bench.listings === listings, 'it is listed again');
      await turn();
    }
    assert.strictEqual(bench.live.lastOf('a')?.kind, 'unsafe');
    assert.deepStrictEqual(bench.messages, [
      `a: ${UNSAFE}`,
      'undefined: use of datasets cannot be listed',
    ]);
  });

  it('lists no use while nothing is delegated', async () => {
    bench = new Bench({ usageMs: 0 });
    bench.live.start();
    bench.put('a', { brand: 'joyent' });
    await turn();
    await turn();
    assert.strictEqual(bench.listings, 0);
    assert.strictEqual(bench.live.lastOf('a'), undefined);
  });

  it('keeps nothing while it is switched off, and audits all when it is on again', async () => {
    bench = new Bench();
    bench.live.start();
    bench.put('a', IMPORTING);
    await turn();
    bench.live.reload({ ...DEFAULT_POLICY, enabled: false });
    bench.put('b', SAFE);
    await turn();
    assert.deepStrictEqual(bench.live.counts().verdicts, {
      safe: 0,
      unsafe: 0,
      unknown: 0,
      exempt: 0,
    });
    assert.strictEqual(bench.reads, 1);
    bench.live.reload(DEFAULT_POLICY);
    await turn();
    assert.deepStrictEqual(bench.live.counts().verdicts, {
      safe: 0,
      unsafe: 1,
      unknown: 1,
      exempt: 0,
    });
  });

  it('audits all VMs by a new policy, and none again by the same', async () => {
    bench = new Bench();
    bench.live.start();
    bench.put('a', IMPORTING);
    await turn();
    bench.live.reload({ ...DEFAULT_POLICY });
    await turn();
    assert.strictEqual(bench.reads, 1);
    bench.vms.set('a', { ...IMPORTING, owner_uuid: 'ops' });
    bench.live.reload({ ...DEFAULT_POLICY, plainOwners: ['ops'] });
    await turn();
    assert.strictEqual(bench.live.lastOf('a')?.kind, 'exempt');
  });

  it('does nothing more once it is stopped, a listing in progress included', async () => {
    let finish: (usage: NodeUsage) => void = () => assert.fail('nobody asked');
    const asked = new Promise<void>((resolve) => {
      bench = new Bench({
        listUsage: () => {
          resolve();
          return new Promise((done) => (finish = done));
        },
      });
    });
    bench.live.start();
    bench.put('a', SAFE);
    await asked;
    bench.live.stop();
    bench.live.stop();
    const { reads } = bench;
    finish({ kind: 'known', usage: new Map() });
    bench.put('a', IMPORTING);
    await turn();
    assert.strictEqual(bench.reads, reads);
    assert.deepStrictEqual(bench.messages, []);
  });
});
