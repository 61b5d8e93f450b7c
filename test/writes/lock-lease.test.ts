/*
 * Locks that are kept after a write, against the platform's VM tool in another process.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { ConfigFiles } from '../../src/vm/config-files';
import { FileWriter } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { within } from '../support/guest-session';
import { eventually } from '../support/eventually';
import { logRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';
import {
  METADATA_LIMITS,
  remove,
  set,
  shown,
  STORED,
  WriterFixture,
} from '../support/writer-fixture';

const LOCK_CHILD = join(__dirname, '..', 'support', 'lock-child.js');
/** Longer than the test: no lock is released because vminfod was silent. */
const CONFIRM_MS = 60_000;
const LONGEST_MS = 1000;
/** The tool gets the lock when it is released for the first time, unless it was not there yet. */
const MOST_RELEASES = 4;

describe('a lease against the VM tool', () => {
  let dir: TempDir;
  let writer: Writer;

  beforeEach(() => {
    dir = tempDir();
    fs.writeFileSync(join(dir.path, 'metadata.json'), '{}');
  });

  afterEach(async () => {
    await writer.stop();
    dir.remove();
  });

  it('ends now and then while a guest never stops writing', async () => {
    const lockPath = join(dir.path, 'lock');
    const files = new FileWriter({
      lockPath: () => lockPath,
      limits: METADATA_LIMITS,
      files: new ConfigFiles(),
      confirmMs: CONFIRM_MS,
      longestLeaseMs: LONGEST_MS,
    });
    writer = new Writer(files, { perSecond: 1e6, burst: 1e6 });
    const log = logRecords().zoneLog('z');
    const target = { zonename: 'z', uuid: 'z', directory: dir.path, log };
    const over = new AbortController();
    let last = 0;
    const guest = (async () => {
      while (!over.signal.aborted) {
        const change = { kind: 'set', map: 'customer', key: 'k', value: String(++last) } as const;
        assert.strictEqual((await writer.change(target, change)).kind, 'stored');
      }
    })();
    try {
      const tool = spawn(process.execPath, [LOCK_CHILD, lockPath, '50'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(tool, 'exit');
      await within(once(tool.stdout, 'data'), 20_000, 'the lock');
      const { unconfirmed } = files.leaseStatus;
      assert(unconfirmed >= 1 && unconfirmed <= MOST_RELEASES, `released ${unconfirmed} times`);
      await ended;
    } finally {
      over.abort();
      await guest;
    }
    const file = fs.readFileSync(join(dir.path, 'metadata.json'), 'utf8');
    assert.deepStrictEqual(JSON.parse(file), { customer_metadata: { k: String(last) } });
    // What is still held waits for vminfod, which is silent here.
    files.observe('z', { customer: new Map([['k', String(last)]]), internal: new Map() });
  });
});

describe('a lease', () => {
  let t: WriterFixture;

  beforeEach(() => (t = new WriterFixture()));
  afterEach(() => t.end());

  it('answers at once and loses nothing while vminfod is frozen', async () => {
    t.make({ confirmMs: 2000 });
    const start = Date.now();
    for (let index = 0; index < 10; index++) {
      assert.deepStrictEqual(await t.ask(set(`k${index}`, 'v')), STORED);
    }
    assert(Date.now() - start < 2000, 'nobody waited for a confirmation');
    const wanted = Array.from({ length: 10 }, (_, index) => [`k${index}`, 'v']);
    assert.deepStrictEqual(t.customer(), Object.fromEntries(wanted));
    assert.strictEqual(t.takes, 1);
    assert.strictEqual(t.held, 1, 'the lock is kept');
    await eventually(() => t.held === 0);
    assert(Date.now() - start >= 1900);
    assert.strictEqual(t.files.leaseStatus.unconfirmed, 1);
    assert.strictEqual(t.logs.records('vminfod did not confirm a metadata update').length, 1);
  });

  it('releases the lock as soon as vminfod shows all changes', async () => {
    t.make({ confirmMs: 20_000 });
    await t.ask(set('a', '1'));
    await t.ask(remove('a'));
    await t.ask(set('b', '2'));
    t.files.observe('z', shown({ a: '1', b: '2' }));
    t.files.observe('z', shown({}));
    assert.strictEqual(t.held, 1);
    t.files.observe('z', shown({ b: '2', other: 'x' }));
    assert.strictEqual(t.held, 0);
    assert.strictEqual(t.files.leaseStatus.unconfirmed, 0);
  });

  it('logs once a minute that vminfod does not confirm', async () => {
    t.make({ confirmMs: 1 });
    const log = t.logs.zoneLog('z');
    for (let index = 1; index <= 3; index++) {
      const target = { zonename: 'z', uuid: 'z', directory: t.dir.path, log };
      await t.writer.change(target, set('a', String(index)));
      await eventually(() => t.files.leaseStatus.unconfirmed === index);
    }
    assert.strictEqual(t.logs.records('vminfod did not confirm a metadata update').length, 1);
  });

  it('answers in time when another holds the lock, and writes nothing afterwards', async () => {
    t.make({}, 1000);
    const release = await t.block('z');
    const [first, second] = await Promise.all([t.ask(set('a', '1')), t.ask(set('a', '1'))]);
    const text = 'Could not update metadata: configuration is locked.';
    assert.deepStrictEqual(
      [first, second],
      [
        { kind: 'failed', text },
        { kind: 'failed', text, uncharged: true },
      ],
    );
    await eventually(() => t.writer.status().inProgress.length === 0);
    release();
    assert.deepStrictEqual(await t.ask(set('b', '2')), STORED);
    assert.deepStrictEqual(t.customer(), { b: '2' });
  });

  it('does not delay other VMs while one is stuck', async () => {
    const other = join(t.dir.path, 'other');
    fs.mkdirSync(other);
    const zones = Array.from({ length: 20 }, (_, index) => `s${index}`);
    const release = await t.block(...zones);
    const stuck = zones.map((zonename) => t.ask(set('a', '1'), t.dir.path, zonename));
    await eventually(() => t.takes === 20);
    assert.deepStrictEqual(await t.ask(set('a', '1'), other, 'free'), STORED);
    assert.strictEqual(t.writer.status().inProgress.length, 20);
    assert.strictEqual(t.writer.status().inProgress[0]?.stage, 'locking');
    release();
    await Promise.all(stuck);
  });
});
