import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../src/lib/errors';
import { ConfigFiles } from '../../src/vm/config-files';
import { Writer } from '../../src/writes/writer';
import { remove, set, STORED, WriterFixture } from '../support/writer-fixture';

describe('FileWriter', () => {
  let t: WriterFixture;

  beforeEach(() => (t = new WriterFixture()));
  afterEach(() => t.end());

  it('sets, overwrites and removes, and keeps all other bytes of the file', async () => {
    const text =
      '{ "x": 1.50,\n "customer_metadata": {"b":"1", "a":"2"},"internal_metadata":{"root_pw":"s"}}\n';
    fs.writeFileSync(t.path, text);
    fs.chmodSync(t.path, 0o640);
    assert.deepStrictEqual(await t.ask(set('b', 'new "\u00e9"')), STORED);
    assert.strictEqual(fs.readFileSync(t.path, 'utf8'), text.replace('"1"', '"new \\"\u00e9\\""'));
    assert.deepStrictEqual(await t.ask(remove('b')), STORED);
    assert.strictEqual(fs.readFileSync(t.path, 'utf8'), text.replace('"b":"1", ', ''));
    assert.strictEqual(fs.statSync(t.path).mode & 0o7777, 0o640);
  });

  it("creates a missing file with the VM tool's mode, whatever the umask", async () => {
    fs.unlinkSync(t.path);
    const umask = process.umask(0o077);
    try {
      await t.ask({ kind: 'set', map: 'internal', key: 'root_pw', value: 's' });
    } finally {
      process.umask(umask);
    }
    assert.deepStrictEqual(JSON.parse(fs.readFileSync(t.path, 'utf8')), {
      customer_metadata: {},
      internal_metadata: { root_pw: 's' },
    });
    assert.strictEqual(fs.statSync(t.path).mode & 0o7777, 0o644);
  });

  it('writes nothing where nothing changes', async () => {
    await t.ask(set('a', '1'));
    const before = fs.statSync(t.path).ino;
    assert.deepStrictEqual(await t.ask(set('a', '1')), STORED);
    assert.deepStrictEqual(await t.ask(remove('absent')), STORED);
    assert.strictEqual(fs.statSync(t.path).ino, before);
  });

  it('commits waiting changes together, in order, under one lock', async () => {
    const changes = Array.from({ length: 50 }, (_, index) => set(`k${index % 25}`, String(index)));
    const results = await Promise.all(changes.map((change) => t.ask(change)));
    assert(results.every((result) => result.kind === 'stored'));
    const wanted = Array.from({ length: 25 }, (_, index) => [`k${index}`, String(index + 25)]);
    assert.deepStrictEqual(t.customer(), Object.fromEntries(wanted));
    assert.strictEqual(t.takes, 1);
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
    await Promise.all(all.map((change) => t.ask(change)));
    assert.deepStrictEqual(t.customer(), { a: '1' });
    assert.strictEqual(t.writer.status().joined, 2);
  });

  const unusable: readonly (readonly [string, () => void])[] = [
    ['a torn file', () => fs.writeFileSync(t.path, '{"customer_metadata":{"a":"1"')],
    ['zeros', () => fs.writeFileSync(t.path, Buffer.alloc(100))],
    ['a list', () => fs.writeFileSync(t.path, '[]')],
    ['a map that is a list', () => fs.writeFileSync(t.path, '{"customer_metadata":["x"]}')],
  ];

  for (const [name, damage] of unusable) {
    it(`refuses to rewrite ${name}, and refers the guest to the operator`, async () => {
      damage();
      const before = fs.readFileSync(t.path);
      assert.deepStrictEqual(await t.ask(set('a', '1')), {
        kind: 'failed',
        text: 'Metadata file is damaged; ask the operator.',
      });
      assert.deepStrictEqual(fs.readFileSync(t.path), before);
    });
  }

  for (const blank of ['', ' \n\t\r\n']) {
    it(`rewrites a blank file (${JSON.stringify(blank)}), and logs it`, async () => {
      fs.writeFileSync(t.path, blank);
      fs.chmodSync(t.path, 0o600);
      assert.deepStrictEqual(await t.ask(set('a', '1')), STORED);
      assert.strictEqual(
        fs.readFileSync(t.path, 'utf8'),
        '{"customer_metadata":{"a":"1"},"internal_metadata":{}}',
      );
      assert.strictEqual(fs.statSync(t.path).mode & 0o777, 0o600);
      assert.strictEqual(t.logs.records('blank metadata file was rewritten').length, 1);
    });
  }

  it("stores a guest's key beside a long value of the operator's", async () => {
    const script = '#!/bin/sh\n'.repeat(600_000);
    const file = { customer_metadata: {}, internal_metadata: { 'operator-script': script } };
    fs.writeFileSync(t.path, JSON.stringify(file));
    assert.deepStrictEqual(await t.ask(set('prepare-image:state', 'running')), STORED);
    const after: unknown = JSON.parse(fs.readFileSync(t.path, 'utf8'));
    assert.deepStrictEqual(after, {
      ...file,
      customer_metadata: { 'prepare-image:state': 'running' },
    });
  });

  for (const [name, before] of [
    ['missing', undefined],
    ['blank', ' \n'],
    ['known', '{"customer_metadata":{"mine":"1"}}'],
  ] as const) {
    it(`loses nothing of a file that took the place of a ${name} one after it was looked at`, async () => {
      class OvertakenFiles extends ConfigFiles {
        private overtaken = false;

        override async openForWrite(directory: string) {
          const file = await super.openForWrite(directory);
          if (!this.overtaken) {
            this.overtaken = true;
            fs.writeFileSync(t.path, '{"customer_metadata":{"theirs":"1"}}');
          }
          return file;
        }
      }
      t.make({ files: new OvertakenFiles() });
      fs.rmSync(t.path);
      if (before !== undefined) {
        fs.writeFileSync(t.path, before);
      }
      assert.deepStrictEqual(await t.ask(set('new', '2')), STORED);
      assert.deepStrictEqual(t.customer(), { theirs: '1', new: '2' });
    });
  }

  it('removes the temp file of a killed writer', async () => {
    fs.writeFileSync(join(t.dir.path, '.metadata.json.mdatad'), '{');
    assert.deepStrictEqual(await t.ask(set('a', '1')), STORED);
    assert.deepStrictEqual(t.customer(), { a: '1' });
  });

  it('does not follow a link', async () => {
    const elsewhere = join(t.dir.path, 'elsewhere');
    fs.renameSync(t.path, elsewhere);
    fs.symlinkSync(elsewhere, t.path);
    assert.strictEqual((await t.ask(set('a', '1'))).kind, 'failed');
    assert.strictEqual(fs.lstatSync(t.path).isSymbolicLink(), true);
    fs.symlinkSync('/etc/passwd', join(t.dir.path, '.metadata.json.mdatad'));
    fs.unlinkSync(t.path);
    assert.deepStrictEqual(await t.ask(set('a', '1')), STORED);
    assert.deepStrictEqual(t.customer(), { a: '1' });
  });

  it('fails while the directory is gone, and writes again when it is back', async () => {
    const directory = join(t.dir.path, 'config');
    assert.strictEqual((await t.ask(set('a', '1'), directory)).kind, 'failed');
    fs.mkdirSync(directory);
    assert.deepStrictEqual(await t.ask(set('a', '1'), directory), STORED);
  });

  it('logs a repeated failure once a minute', async () => {
    fs.writeFileSync(t.path, '[]');
    for (let index = 0; index < 3; index++) {
      assert.strictEqual((await t.ask(set('a', String(index)))).kind, 'failed');
    }
    fs.unlinkSync(t.path);
    fs.symlinkSync('/etc/passwd', t.path);
    await t.ask(set('a', 'x'));
    const records = t.logs.records('could not update metadata');
    assert.strictEqual(records.length, new Set(records.map(({ err }) => codeOf(err))).size);
    assert(records.length >= 1);
  });

  it('refuses changes when those that wait exceed twice the metadata limit', async () => {
    t.make({ limits: { metadataBytes: 1000, metadataKeys: 1024, fileBytes: 10_000 } });
    const release = await t.block('z');
    // The first one comes alone, and is refused for its own size.
    const sizes = [1500, 490, 500];
    const asked = sizes.map((size, index) => t.ask(set(`k${index}`, 'x'.repeat(size))));
    const tooMany = { kind: 'failed', text: 'Too many metadata updates.' };
    assert.deepStrictEqual(await asked[2], {
      ...tooMany,
      uncharged: true,
      limit: 'waiting-writes',
    });
    const small = t.ask(set('small', '1'));
    release();
    const full = { kind: 'failed', text: 'Metadata is full.', limit: 'size' };
    assert.deepStrictEqual(await asked[0], full);
    assert.deepStrictEqual(await asked[1], STORED);
    assert.deepStrictEqual(await small, STORED);
    assert.deepStrictEqual(await t.ask(set('k2', 'x'.repeat(400))), STORED);
  });

  it('slows a guest down to its rate', async () => {
    t.writer = new Writer(t.files, { perSecond: 100, burst: 2 });
    const start = Date.now();
    for (let index = 0; index < 7; index++) {
      await t.ask(set('a', String(index)));
    }
    assert(Date.now() - start >= 45, `${Date.now() - start} ms`);
  });

  it('puts no value or path into a reply, and no value into the log', async () => {
    fs.writeFileSync(t.path, '{');
    const result = await t.ask(set('root_pw', 'hunter2'));
    assert.doesNotMatch(JSON.stringify(result), /hunter2|metadata\.json/);
    assert.doesNotMatch(t.logs.text(), /hunter2/);
    assert.match(t.logs.text(), /metadata\.json/);
  });

  it('commits waiting changes when it stops, and refuses new ones', async () => {
    const asked = t.ask(set('a', '1'));
    const stopped = t.writer.stop();
    assert.strictEqual((await t.ask(set('b', '2'))).kind, 'failed');
    await stopped;
    assert.deepStrictEqual(await asked, STORED);
    assert.deepStrictEqual(t.customer(), { a: '1' });
  });

  describe('on a full disk', () => {
    it('answers at once and leaves the old file (a tiny file system)', async function () {
      const disk = join(t.dir.path, 'disk');
      fs.mkdirSync(disk);
      if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk]).status !== 0) {
        this.skip();
      }
      try {
        const file = join(disk, 'metadata.json');
        fs.writeFileSync(file, '{"customer_metadata":{"a":"1"}}');
        const full = await t.ask(set('b', 'x'.repeat(100_000)), disk);
        assert.deepStrictEqual(full, {
          kind: 'failed',
          text: 'Could not update metadata: no space left.',
        });
        assert.deepStrictEqual(fs.readdirSync(disk), ['metadata.json']);
        assert.strictEqual(fs.readFileSync(file, 'utf8'), '{"customer_metadata":{"a":"1"}}');
        assert.deepStrictEqual(await t.ask(set('b', 'small'), disk), STORED);
        spawnSync('mount', ['-o', 'remount,ro', disk]);
        assert.deepStrictEqual(await t.ask(set('c', 'x'), disk), {
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
      const args = [process.execPath, child, t.dir.path, 'a', 'x'.repeat(60_000), 'b', 'small'];
      const { stdout } = spawnSync('/bin/sh', ['-c', script, ...args], { encoding: 'utf8' });
      assert.match(stdout, /^failed a\nok b\n/);
      assert.deepStrictEqual(t.customer(), { b: 'small' });
    });
  });
});
