import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../src/lib/errors';
import type { Change, ChangeResult, MetadataMaps } from '../../src/metadata/vm-data';
import { FileWriter, type FileWriterOptions } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';

const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });
const remove = (key: string): Change => ({ kind: 'remove', map: 'customer', key });
const STORED = { kind: 'stored' };
const shown = (customer: object): MetadataMaps => ({
  customer: new Map(Object.entries(customer)),
  internal: new Map(),
});

describe('FileWriter', () => {
  let dir: TempDir;
  let path: string;
  let logs: LogRecords;
  let files: FileWriter;
  let writer: Writer;
  let takes: number;
  let held: Set<string>;
  let blocked: Promise<void>;

  const make = (options: Partial<FileWriterOptions> = {}, answerMs?: number): void => {
    const takeLock: FileWriterOptions['takeLock'] = async (uuid, signal) => {
      takes++;
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
      });
      await Promise.race([blocked, aborted]);
      assert(!held.has(uuid), 'one holder at a time');
      held.add(uuid);
      return { release: () => void held.delete(uuid) };
    };
    files = new FileWriter({ lockPath: (uuid) => uuid, takeLock, confirmMs: 50, ...options });
    writer = new Writer(files, undefined, answerMs);
  };

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'metadata.json');
    fs.writeFileSync(path, '{"customer_metadata":{},"internal_metadata":{}}');
    logs = logRecords();
    takes = 0;
    held = new Set();
    blocked = Promise.resolve();
    make();
  });

  afterEach(async () => {
    await writer.stop();
    assert.deepStrictEqual([...held], [], 'no lock stays');
    assert.strictEqual(files.leaseStatus.holds, 0);
    assert.deepStrictEqual(
      fs.readdirSync(dir.path).filter((name) => name.includes('mdatad')),
      [],
      'no temp file stays',
    );
    dir.remove();
  });

  const ask = (change: Change, directory = dir.path, zonename = 'z'): Promise<ChangeResult> => {
    return writer.change(
      { zonename, uuid: zonename, directory, log: logs.zoneLog(zonename) },
      change,
    );
  };
  const customer = (): unknown => {
    const file: unknown = JSON.parse(fs.readFileSync(path, 'utf8'));
    return typeof file === 'object' && file !== null && 'customer_metadata' in file
      ? file.customer_metadata
      : undefined;
  };

  it('sets, overwrites and removes, and keeps the rest of the file to the byte', async () => {
    const text =
      '{ "x": 1.50,\n "customer_metadata": {"b":"1", "a":"2"},"internal_metadata":{"root_pw":"s"}}\n';
    fs.writeFileSync(path, text);
    fs.chmodSync(path, 0o640);
    assert.deepStrictEqual(await ask(set('b', 'new "\u00e9"')), STORED);
    assert.strictEqual(fs.readFileSync(path, 'utf8'), text.replace('"1"', '"new \\"\u00e9\\""'));
    assert.deepStrictEqual(await ask(remove('b')), STORED);
    assert.strictEqual(fs.readFileSync(path, 'utf8'), text.replace('"b":"1", ', ''));
    assert.strictEqual(fs.statSync(path).mode & 0o7777, 0o640);
  });

  it('makes a missing file as the VM tool would, whatever the umask', async () => {
    fs.unlinkSync(path);
    const umask = process.umask(0o077);
    try {
      await ask({ kind: 'set', map: 'internal', key: 'root_pw', value: 's' });
    } finally {
      process.umask(umask);
    }
    assert.deepStrictEqual(JSON.parse(fs.readFileSync(path, 'utf8')), {
      customer_metadata: {},
      internal_metadata: { root_pw: 's' },
    });
    assert.strictEqual(fs.statSync(path).mode & 0o7777, 0o644);
  });

  it('writes nothing where nothing changes', async () => {
    await ask(set('a', '1'));
    const before = fs.statSync(path).ino;
    assert.deepStrictEqual(await ask(set('a', '1')), STORED);
    assert.deepStrictEqual(await ask(remove('absent')), STORED);
    assert.strictEqual(fs.statSync(path).ino, before);
  });

  it('writes what waits together, in order, under one lock', async () => {
    const changes = Array.from({ length: 50 }, (_, index) => set(`k${index % 25}`, String(index)));
    const results = await Promise.all(changes.map((change) => ask(change)));
    assert(results.every((result) => result.kind === 'stored'));
    const wanted = Array.from({ length: 25 }, (_, index) => [`k${index}`, String(index + 25)]);
    assert.deepStrictEqual(customer(), Object.fromEntries(wanted));
    assert.strictEqual(takes, 1);
  });

  it('joins a repetition of the newest change of a key, and no older one', async () => {
    const all = [
      set('a', '1'),
      set('a', '1'),
      set('a', '2'),
      set('a', '1'),
      remove('b'),
      remove('b'),
    ];
    await Promise.all(all.map((change) => ask(change)));
    assert.deepStrictEqual(customer(), { a: '1' });
    assert.strictEqual(writer.status().joined, 2);
  });

  it('loses nothing while vminfod is frozen, and answers at once', async () => {
    make({ confirmMs: 2000 });
    const start = Date.now();
    for (let index = 0; index < 10; index++) {
      assert.deepStrictEqual(await ask(set(`k${index}`, 'v')), STORED);
    }
    assert(Date.now() - start < 2000, 'nobody waited for a confirmation');
    const wanted = Array.from({ length: 10 }, (_, index) => [`k${index}`, 'v']);
    assert.deepStrictEqual(customer(), Object.fromEntries(wanted));
    assert.strictEqual(takes, 1);
    assert.deepStrictEqual([...held], ['z'], 'the lock is kept');
    await eventually(() => held.size === 0);
    assert(Date.now() - start >= 1900);
    assert.strictEqual(files.leaseStatus.unconfirmed, 1);
    assert.strictEqual(logs.records('vminfod did not confirm a metadata update').length, 1);
  });

  it('lets the lock go as soon as vminfod shows all changes', async () => {
    make({ confirmMs: 20_000 });
    await ask(set('a', '1'));
    await ask(remove('a'));
    await ask(set('b', '2'));
    files.observe('z', shown({ a: '1', b: '2' }));
    files.observe('z', shown({}));
    assert.strictEqual(held.size, 1);
    files.observe('z', shown({ b: '2', other: 'x' }));
    assert.strictEqual(held.size, 0);
    assert.strictEqual(files.leaseStatus.unconfirmed, 0);
  });

  describe('where a stale copy of vminfod\u2019s has undone what was stored', () => {
    const file = (map: object): string => JSON.stringify({ customer_metadata: map });
    /** As vmadm does: another file in its place. */
    const replace = (map: object): void => {
      fs.writeFileSync(`${path}.new`, file(map));
      fs.renameSync(`${path}.new`, path);
    };
    const target = (): Parameters<Writer['change']>[0] => {
      return { zonename: 'z', uuid: 'z', directory: dir.path, log: logs.zoneLog('z') };
    };
    const look = async (): Promise<number> => {
      const changes = files.undoneChanges(target());
      await Promise.all(changes.map((change) => writer.change(target(), change)));
      return changes.length;
    };

    beforeEach(async () => {
      make({ confirmMs: 1 });
      replace({ a: 'old', gone: 'x', other: '1' });
      await ask(set('a', 'new'));
      await ask(set('b', 'made'));
      await ask(remove('gone'));
      await eventually(() => held.size === 0);
    });

    it('writes it again, once, and logs and counts it', async () => {
      assert.strictEqual(await look(), 0);
      replace({ a: 'old', gone: 'x', other: '2' });
      await look();
      assert.strictEqual(await look(), 0);
      assert.deepStrictEqual(customer(), { a: 'new', b: 'made', other: '2' });
      assert.strictEqual(files.leaseStatus.restored, 3);
      const told = logs.records(
        'metadata was undone from a stale copy of vminfod, and written again',
      );
      assert.strictEqual(told.length, 1);
      await eventually(() => held.size === 0);
      replace({ a: 'old', gone: 'x', other: '3' });
      assert.strictEqual(await look(), 0);
      assert.deepStrictEqual(customer(), { a: 'old', gone: 'x', other: '3' });
    });

    it('leaves alone what an operator changed to something else', async () => {
      replace({ a: 'third', b: 'made', gone: 'y' });
      await look();
      assert.deepStrictEqual(customer(), { a: 'third', b: 'made', gone: 'y' });
      assert.strictEqual(files.leaseStatus.restored, 0);
    });

    it('leaves alone what was taken back after vminfod had shown it', async () => {
      files.observe('z', shown({ a: 'new', b: 'made', other: '1' }));
      replace({ a: 'old', gone: 'x', other: '1' });
      assert.strictEqual(await look(), 0);
      assert.deepStrictEqual(customer(), { a: 'old', gone: 'x', other: '1' });
    });

    it('leaves alone a file that was replaced under our lock: vmadm waits for it', async () => {
      make({ confirmMs: 20 });
      await ask(set('b', 'again'));
      replace({ b: 'made' });
      await eventually(() => held.size === 0);
      assert.strictEqual(await look(), 0);
    });

    it('says nothing of long values, and writes and removes them', async () => {
      const long = 'x'.repeat(200_000);
      assert.deepStrictEqual(await ask(set('long', long)), STORED);
      assert.deepStrictEqual(await ask(set('long', `${long}y`)), STORED);
      assert.deepStrictEqual(await ask(remove('long')), STORED);
    });

    it('does nothing where it is switched off', async () => {
      make({ confirmMs: 1, restoreUndone: false });
      await ask(set('a', 'newer'));
      await eventually(() => held.size === 0);
      replace({ a: 'new' });
      assert.strictEqual(await look(), 0);
    });
  });

  it('answers in time when another holds the lock, and writes nothing after that', async () => {
    make({}, 100);
    blocked = new Promise(() => undefined);
    const [first, second] = await Promise.all([ask(set('a', '1')), ask(set('a', '1'))]);
    const text = 'Could not update metadata: configuration is locked.';
    assert.deepStrictEqual(
      [first, second],
      [
        { kind: 'failed', text },
        { kind: 'failed', text, uncharged: true },
      ],
    );
    await eventually(() => writer.status().inProgress.length === 0);
    blocked = Promise.resolve();
    assert.deepStrictEqual(await ask(set('b', '2')), STORED);
    assert.deepStrictEqual(customer(), { b: '2' });
  });

  it('holds up no other VM while one is stuck', async () => {
    const other = join(dir.path, 'other');
    fs.mkdirSync(other);
    let release = (): void => undefined;
    blocked = new Promise((resolve) => {
      release = resolve;
    });
    const stuck = Array.from({ length: 20 }, (_, index) =>
      ask(set('a', '1'), dir.path, `s${index}`),
    );
    await eventually(() => takes === 20);
    blocked = Promise.resolve();
    assert.deepStrictEqual(await ask(set('a', '1'), other, 'free'), STORED);
    assert.strictEqual(writer.status().inProgress.length, 20);
    assert.strictEqual(writer.status().inProgress[0]?.stage, 'locking');
    release();
    await Promise.all(stuck);
  });

  const unusable: readonly (readonly [string, () => void])[] = [
    ['a torn file', () => fs.writeFileSync(path, '{"customer_metadata":{"a":"1"')],
    ['zeros', () => fs.writeFileSync(path, Buffer.alloc(100))],
    ['a list', () => fs.writeFileSync(path, '[]')],
    ['a map that is a list', () => fs.writeFileSync(path, '{"customer_metadata":["x"]}')],
  ];
  for (const [name, damage] of unusable) {
    it(`refuses to rewrite ${name}, and says who can help`, async () => {
      damage();
      const before = fs.readFileSync(path);
      assert.deepStrictEqual(await ask(set('a', '1')), {
        kind: 'failed',
        text: 'Metadata file is damaged; ask the operator.',
      });
      assert.deepStrictEqual(fs.readFileSync(path), before);
    });
  }

  for (const blank of ['', ' \n\t\r\n']) {
    it(`rewrites a file that holds nothing (${JSON.stringify(blank)}), and logs it`, async () => {
      fs.writeFileSync(path, blank);
      fs.chmodSync(path, 0o600);
      assert.deepStrictEqual(await ask(set('a', '1')), STORED);
      assert.strictEqual(
        fs.readFileSync(path, 'utf8'),
        '{"customer_metadata":{"a":"1"},"internal_metadata":{}}',
      );
      assert.strictEqual(fs.statSync(path).mode & 0o777, 0o600);
      assert.strictEqual(logs.records('blank metadata file was rewritten').length, 1);
    });
  }

  it('lets a guest write beside what the operator put there, however long that is', async () => {
    const script = '#!/bin/sh\n'.repeat(600_000);
    const file = { customer_metadata: {}, internal_metadata: { 'operator-script': script } };
    fs.writeFileSync(path, JSON.stringify(file));
    assert.deepStrictEqual(await ask(set('prepare-image:state', 'running')), STORED);
    const after: unknown = JSON.parse(fs.readFileSync(path, 'utf8'));
    assert.deepStrictEqual(after, {
      ...file,
      customer_metadata: { 'prepare-image:state': 'running' },
    });
  });

  it('writes through no link', async () => {
    const elsewhere = join(dir.path, 'elsewhere');
    fs.renameSync(path, elsewhere);
    fs.symlinkSync(elsewhere, path);
    assert.strictEqual((await ask(set('a', '1'))).kind, 'failed');
    assert.strictEqual(fs.lstatSync(path).isSymbolicLink(), true);
    fs.symlinkSync('/etc/passwd', join(dir.path, '.metadata.json.mdatad'));
    fs.unlinkSync(path);
    assert.deepStrictEqual(await ask(set('a', '1')), STORED);
    assert.deepStrictEqual(customer(), { a: '1' });
  });

  it('fails while the directory is gone, and writes again when it is back', async () => {
    const directory = join(dir.path, 'config');
    assert.strictEqual((await ask(set('a', '1'), directory)).kind, 'failed');
    fs.mkdirSync(directory);
    assert.deepStrictEqual(await ask(set('a', '1'), directory), STORED);
  });

  it('says once a minute that vminfod confirms nothing', async () => {
    make({ confirmMs: 1 });
    const log = logs.zoneLog('z');
    for (let index = 1; index <= 3; index++) {
      const target = { zonename: 'z', uuid: 'z', directory: dir.path, log };
      await writer.change(target, set('a', String(index)));
      await eventually(() => files.leaseStatus.unconfirmed === index);
    }
    assert.strictEqual(logs.records('vminfod did not confirm a metadata update').length, 1);
  });

  it('says once a minute that a write fails for one reason', async () => {
    fs.writeFileSync(path, '[]');
    for (let index = 0; index < 3; index++) {
      assert.strictEqual((await ask(set('a', String(index)))).kind, 'failed');
    }
    fs.unlinkSync(path);
    fs.symlinkSync('/etc/passwd', path);
    await ask(set('a', 'x'));
    const told = logs.records('could not update metadata');
    assert.strictEqual(told.length, new Set(told.map(({ err }) => codeOf(err))).size);
    assert(told.length >= 1);
  });

  it('holds no more bytes of waiting changes than twice what the metadata may come to', async () => {
    make({ limits: { metadataBytes: 1000, metadataKeys: 1024, fileBytes: 10_000 } });
    let release = (): void => undefined;
    blocked = new Promise((resolve) => {
      release = resolve;
    });
    // The first one comes alone, and is told what is wrong with it.
    const sizes = [1500, 490, 500];
    const asked = sizes.map((size, index) => ask(set(`k${index}`, 'x'.repeat(size))));
    const tooMany = { kind: 'failed', text: 'Too many metadata updates.' };
    assert.deepStrictEqual(await asked[2], {
      ...tooMany,
      uncharged: true,
      limit: 'waiting-writes',
    });
    const small = ask(set('small', '1'));
    release();
    const full = { kind: 'failed', text: 'Metadata is full.', limit: 'size' };
    assert.deepStrictEqual(await asked[0], full);
    assert.deepStrictEqual(await asked[1], STORED);
    assert.deepStrictEqual(await small, STORED);
    assert.deepStrictEqual(await ask(set('k2', 'x'.repeat(400))), STORED);
  });

  it('slows a guest down to its share', async () => {
    writer = new Writer(files, { perSecond: 100, burst: 2 });
    const start = Date.now();
    for (let index = 0; index < 7; index++) {
      await ask(set('a', String(index)));
    }
    assert(Date.now() - start >= 45, `${Date.now() - start} ms`);
  });

  it('takes away what a killed writer left', () => {
    const temp = join(dir.path, '.metadata.json.mdatad');
    fs.writeFileSync(temp, '{');
    files.clean(dir.path);
    assert.strictEqual(fs.existsSync(temp), false);
    files.clean(dir.path);
  });

  it('never tells a value or a path, and never logs a value', async () => {
    fs.writeFileSync(path, '{');
    const result = await ask(set('root_pw', 'hunter2'));
    assert.doesNotMatch(JSON.stringify(result), /hunter2|metadata\.json/);
    assert.doesNotMatch(logs.text(), /hunter2/);
    assert.match(logs.text(), /metadata\.json/);
  });

  it('finishes what was asked for when it stops, and takes nothing new', async () => {
    const asked = ask(set('a', '1'));
    const stopped = writer.stop();
    assert.strictEqual((await ask(set('b', '2'))).kind, 'failed');
    await stopped;
    assert.deepStrictEqual(await asked, STORED);
    assert.deepStrictEqual(customer(), { a: '1' });
  });

  describe('on a full disk', () => {
    it('says so at once and leaves the old file (a tiny file system)', async function () {
      const disk = join(dir.path, 'disk');
      fs.mkdirSync(disk);
      if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk]).status !== 0) {
        this.skip();
      }
      try {
        const file = join(disk, 'metadata.json');
        fs.writeFileSync(file, '{"customer_metadata":{"a":"1"}}');
        const full = await ask(set('b', 'x'.repeat(100_000)), disk);
        assert.deepStrictEqual(full, {
          kind: 'failed',
          text: 'Could not update metadata: no space left.',
        });
        assert.deepStrictEqual(fs.readdirSync(disk), ['metadata.json']);
        assert.strictEqual(fs.readFileSync(file, 'utf8'), '{"customer_metadata":{"a":"1"}}');
        assert.deepStrictEqual(await ask(set('b', 'small'), disk), STORED);
        spawnSync('mount', ['-o', 'remount,ro', disk]);
        assert.deepStrictEqual(await ask(set('c', 'x'), disk), {
          kind: 'failed',
          text: 'Could not update metadata: read-only file system.',
        });
      } finally {
        spawnSync('umount', [disk]);
      }
    });

    it('survives a limit on file sizes', () => {
      const child = join(__dirname, '..', 'support', 'write-child.js');
      const script = 'trap "" XFSZ; ulimit -f 20; exec "$0" "$@"';
      const args = [process.execPath, child, dir.path, 'a', 'x'.repeat(60_000), 'b', 'small'];
      const { stdout } = spawnSync('/bin/sh', ['-c', script, ...args], { encoding: 'utf8' });
      assert.match(stdout, /^failed a\nok b\n/);
      assert.deepStrictEqual(customer(), { b: 'small' });
    });
  });
});
