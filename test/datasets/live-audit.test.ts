import assert from 'node:assert';
import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import {
  listUsage,
  LiveAudit,
  parseZfsList,
  type LiveAuditOptions,
  type NodeUsage,
} from '../../src/datasets/live-audit';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_POLICY } from '../../src/datasets/policy';
import { createLogger } from '../../src/log';
import { factsOf, parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { eventually } from '../support/eventually';
import { tempDir, type TempDir } from '../support/temp-dir';

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

const NODE = `zones\tfilesystem
zones/img@final\tsnapshot
zones/a\tfilesystem
zones/a@vmsnap-one\tsnapshot
zones/a/data\tfilesystem
zones/a/data@1\tsnapshot
zones/a/data/db\tfilesystem
zones/a/data/db@1\tsnapshot
zones/a/data/db@2\tsnapshot
zones/a/data/db#mark\tbookmark
zones/a/data/swap\tvolume
zones/a/data/with space\tfilesystem
zones/a/database\tfilesystem
zones/a/database@1\tsnapshot
zones/b/data\tfilesystem
`;

describe('usage', () => {
  it('counts snapshots of a dataset and below, filesystems and volumes below it', () => {
    const usage = parseZfsList(NODE);
    assert.deepStrictEqual(usage.get('zones/a/data'), { snapshots: 3, filesystems: 3 });
    assert.deepStrictEqual(usage.get('zones/a/data/db'), { snapshots: 2, filesystems: 0 });
    assert.deepStrictEqual(usage.get('zones/a'), { snapshots: 5, filesystems: 5 });
    assert.deepStrictEqual(usage.get('zones/b/data'), { snapshots: 0, filesystems: 0 });
    assert.strictEqual(usage.get('zones/c'), undefined);
  });

  it('rejects a listing with a line that it cannot read', () => {
    for (const line of ['zones/a', 'zones/a filesystem', '\tsnapshot', 'a\tfilesystem\t7']) {
      const text = `zones\tfilesystem\n${line}\n`;
      assert.throws(() => parseZfsList(text), /line 2 is unreadable/, line);
    }
    assert.throws(() => parseZfsList('@x\tsnapshot'), /line 1/);
    assert.throws(() => parseZfsList('zones/a\tsnapshot'), /line 1/);
  });

  it('agrees with a count by hand, dataset by dataset, in any order of lines', () => {
    const pathArb = fc
      .array(fc.constantFrom('a', 'b', 'ab'), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join('/'));
    const lineArb = fc.oneof(
      fc.tuple(pathArb, fc.constantFrom('filesystem', 'volume')),
      fc.tuple(fc.tuple(pathArb, fc.constantFrom('x', 'y')), fc.constant('snapshot')),
    );
    const linesArb = fc
      .array(lineArb, { maxLength: 30 })
      .map((lines) =>
        lines.map(([name, type]) => `${typeof name === 'string' ? name : name.join('@')}\t${type}`),
      )
      .map((lines) => [...new Map(lines.map((line) => [line.split('\t')[0], line])).values()]);
    fc.assert(
      fc.property(linesArb, (lines) => {
        const usage = parseZfsList(lines.join('\n'));
        for (const [dataset, counted] of usage) {
          const snapshots = lines.filter(
            (line) =>
              line.endsWith('\tsnapshot') &&
              (line.startsWith(`${dataset}@`) || line.startsWith(`${dataset}/`)),
          );
          const filesystems = lines.filter(
            (line) => !line.endsWith('\tsnapshot') && line.startsWith(`${dataset}/`),
          );
          assert.deepStrictEqual(counted, {
            snapshots: snapshots.length,
            filesystems: filesystems.length,
          });
        }
      }),
    );
  });
});

describe('the listing of use', () => {
  let dir: TempDir;
  beforeEach(() => (dir = tempDir()));
  afterEach(() => dir.remove());

  function zfs(script: string): string {
    const path = join(dir.path, 'zfs');
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  }

  it('reads what the program prints for names and types', async () => {
    const program = zfs(
      '[ "$*" = "list -H -p -t filesystem,volume,snapshot -o name,type" ] && ' +
        'printf "z/a\\tfilesystem\\nz/a@s\\tsnapshot\\nz/a/b\\tvolume\\n"',
    );
    const listed = await listUsage(program);
    assert(listed.kind === 'known');
    assert.deepStrictEqual(listed.usage.get('z/a'), { snapshots: 1, filesystems: 1 });
  });

  it('is unknown, without a fault, where there is no such program', async () => {
    const listed = await listUsage(join(dir.path, 'none'));
    assert(listed.kind === 'unknown');
    assert.strictEqual(listed.fault, false);
  });

  for (const [what, script, why] of [
    ['fails', 'echo internal error >&2; exit 1', /EXIT_1.*internal error/],
    ['prints something else', 'echo no tabs here', /line 1 is unreadable/],
  ] as const) {
    it(`is unknown, with a fault, where the program ${what}`, async () => {
      const listed = await listUsage(zfs(script));
      assert(listed.kind === 'unknown');
      assert.strictEqual(listed.fault, true);
      assert.match(listed.why, why);
    });
  }
});
