import assert from 'node:assert';
import fc from 'fast-check';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { UnwantedError, type MetadataMaps } from '../../src/metadata/vm-data';
import { ConfigFiles, type ConfigOwner } from '../../src/vm/config-files';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';

const WARNING = 'config file cannot be used';

function objectText(members: readonly (readonly [string, unknown])[]): string {
  const texts = members.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  return `{${texts.join(',')}}`;
}

/** JavaScript moves keys that are numbers to the front; the file has its own order. */
function sorted(members: Iterable<readonly [string, unknown]>): unknown[] {
  return [...members].map((member) => JSON.stringify(member)).sort();
}

describe('ConfigFiles', () => {
  let dir: TempDir;
  let logs: LogRecords;
  let files: ConfigFiles;
  let path: string;

  beforeEach(() => {
    dir = tempDir();
    logs = logRecords();
    files = new ConfigFiles();
    path = join(dir.path, 'metadata.json');
  });

  afterEach(() => dir.remove());

  const owner = (): ConfigOwner => ({ directory: dir.path, log: logs.zoneLog('z') });
  const load = async (from = files, of = owner()): Promise<MetadataMaps> => {
    return (await from.load(of, { key: null })).maps;
  };
  const customer = async (): Promise<unknown> => Object.fromEntries((await load()).customer);
  const write = (map: unknown): void => {
    fs.writeFileSync(path, JSON.stringify({ customer_metadata: map }));
  };
  const warnings = (): number => logs.records(WARNING).length;

  it('keeps the order of the file, and names of prototypes as names', async () => {
    fs.writeFileSync(
      path,
      '{"customer_metadata":{"z":"1","__proto__":"p","a":2,"constructor":"c"}}',
    );
    const { customer: map, internal } = await load();
    assert.deepStrictEqual(
      [...map],
      [
        ['z', '1'],
        ['__proto__', 'p'],
        ['a', 2],
        ['constructor', 'c'],
      ],
    );
    assert.strictEqual(internal.size, 0);
  });

  it('reads any file as JSON.parse does, own members only, and any other as empty', () => {
    const key = fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', '10', 'é\n'));
    const map = fc.array(fc.tuple(key, fc.jsonValue()), { maxLength: 6 });
    const text = fc.oneof(
      map.map((members) => objectText(members)),
      map.map((members) => objectText(members).slice(0, -1)),
      fc.json(),
      fc.string(),
    );
    fc.assert(
      fc.property(text, (content) => {
        fs.writeFileSync(join(dir.path, 'tags.json'), content);
        const read = new ConfigFiles().tags(owner());
        let expected: unknown;
        try {
          expected = JSON.parse(content);
        } catch {
          expected = {};
        }
        const isMap = typeof expected === 'object' && expected !== null && !Array.isArray(expected);
        assert.deepStrictEqual(sorted(read), sorted(isMap ? Object.entries(expected ?? {}) : []));
      }),
    );
  });

  it('reads tags and routes as flat maps', () => {
    fs.writeFileSync(join(dir.path, 'tags.json'), '{"a.b":true}');
    fs.writeFileSync(join(dir.path, 'routes.json'), '{"10.0.0.0/8":"nics[0]"}');
    assert.deepStrictEqual([...files.tags(owner())], [['a.b', true]]);
    assert.deepStrictEqual([...files.routes(owner())], [['10.0.0.0/8', 'nics[0]']]);
  });

  it('sees each of many quick changes of the same length, in place or by rename', async () => {
    for (let round = 100; round < 400; round++) {
      if (round % 2 === 0) {
        write({ n: round });
      } else {
        fs.writeFileSync(`${path}.new`, JSON.stringify({ customer_metadata: { n: round } }));
        fs.renameSync(`${path}.new`, path);
      }
      assert.deepStrictEqual(await customer(), { n: round });
    }
  });

  it('parses a settled file once', async () => {
    write({ a: '1' });
    await new Promise((resolve) => setTimeout(resolve, 40));
    const first = await load();
    assert.strictEqual(await load(), first);
  });

  it('asks for the stat of a settled file once in a tick, by whatever is asked first', async () => {
    let tick = 1;
    const ofTicks = new ConfigFiles(() => tick);
    const valueNow = (): unknown => {
      const loaded = ofTicks.load(owner(), { key: 'a' });
      assert(!(loaded instanceof Promise));
      return loaded.maps.customer.get('a');
    };
    write({ a: '1' });
    await new Promise((resolve) => setTimeout(resolve, 40));
    await load(ofTicks);
    tick++;
    assert.strictEqual(valueNow(), '1');
    write({ a: 'two' });
    assert.strictEqual(valueNow(), '1');
    assert.strictEqual(ofTicks.sizeOf(dir.path), '{"customer_metadata":{"a":"1"}}'.length);
    tick++;
    assert((await ofTicks.load(owner(), { key: 'a' })).maps.customer.get('a') === 'two');
  });

  it('sees a change that was made with the old modification time', async () => {
    write({ a: '1' });
    const { atime, mtime } = fs.statSync(path);
    await new Promise((resolve) => setTimeout(resolve, 40));
    assert.deepStrictEqual(await customer(), { a: '1' });
    write({ a: '2' });
    fs.utimesSync(path, atime, mtime);
    assert.deepStrictEqual(await customer(), { a: '2' });
  });

  it('reads a missing file as empty without a warning, and reads it when it is back', async () => {
    assert.deepStrictEqual(await customer(), {});
    write({ a: '1' });
    assert.deepStrictEqual(await customer(), { a: '1' });
    fs.unlinkSync(path);
    assert.deepStrictEqual(await customer(), {});
    fs.rmdirSync(dir.path);
    fs.writeFileSync(dir.path, '');
    assert.deepStrictEqual(await customer(), {});
    assert.strictEqual(warnings(), 0);
  });

  it('reads a torn file as empty until it is whole, with one warning', async () => {
    write({ a: '1' });
    fs.writeFileSync(path, '{"customer_metadata":{"a":');
    assert.deepStrictEqual([await customer(), await customer(), await customer()], [{}, {}, {}]);
    assert.strictEqual(warnings(), 1);
    fs.appendFileSync(path, '"2"}}');
    assert.deepStrictEqual(await customer(), { a: '2' });
    fs.writeFileSync(path, '[]');
    assert.deepStrictEqual(await customer(), {});
    // A repetition within a minute is not logged.
    assert.strictEqual(warnings(), 1);
  });

  it('reads a map of another type as empty', async () => {
    for (const wrong of ['null', '[1]', '"x"', '7', 'true']) {
      fs.writeFileSync(path, `{"customer_metadata":${wrong},"internal_metadata":{"k":"v"}}`);
      const maps = await load();
      assert.deepStrictEqual([maps.customer.size, maps.internal.get('k')], [0, 'v']);
    }
  });

  const strange: readonly (readonly [string, (at: string) => void])[] = [
    ['a directory', (at) => fs.mkdirSync(at)],
    [
      'a link to a file like it',
      (at) => {
        fs.writeFileSync(`${at}.other`, '{"customer_metadata":{"foreign":"x"}}');
        fs.symlinkSync(`${at}.other`, at);
      },
    ],
    ['a dangling link', (at) => fs.symlinkSync('/nowhere', at)],
    ['a FIFO', (at) => void execFileSync('mkfifo', [at])],
    [
      'a file of 100 MB',
      (at) => {
        fs.writeFileSync(at, '{}');
        fs.truncateSync(at, 1e8);
      },
    ],
    ['a device', (at) => fs.symlinkSync('/dev/zero', at)],
  ];
  for (const [name, make] of strange) {
    it(`reads ${name} as empty at once, with one warning`, async () => {
      make(path);
      assert.deepStrictEqual([await customer(), await customer()], [{}, {}]);
      assert.strictEqual(warnings(), 1);
    });
  }

  it('keeps no more than its limit for any number of zones', async () => {
    const small = new ConfigFiles(undefined, 64 * 1024);
    const zones = Array.from({ length: 50 }, (_, index) => join(dir.path, String(index)));
    for (const directory of zones) {
      fs.mkdirSync(directory);
      const text = JSON.stringify({ customer_metadata: { k: 'x'.repeat(10_000) } });
      fs.writeFileSync(join(directory, 'metadata.json'), text);
    }
    for (const directory of zones) {
      assert.strictEqual((await load(small, { ...owner(), directory })).customer.size, 1);
    }
    const before = fs.readdirSync('/proc/self/fd').length;
    assert.strictEqual(
      (await load(small, { ...owner(), directory: zones[0] ?? '' })).customer.size,
      1,
    );
    assert.strictEqual(fs.readdirSync('/proc/self/fd').length, before);
  });

  it('gives a value of a long file, the old or the new one, while the file is replaced', async () => {
    const value = (round: number): string => String(round % 10).repeat(300 * 1024);
    write({ k: value(0) });
    for (let round = 1; round < 30; round++) {
      const loading = files.load(owner(), { key: 'k' });
      fs.writeFileSync(`${path}.new`, JSON.stringify({ customer_metadata: { k: value(round) } }));
      fs.renameSync(`${path}.new`, path);
      const read = (await loading).maps.customer.get('k');
      assert(read === value(round) || read === value(round - 1));
      assert.strictEqual((await load()).customer.size, 1);
    }
    assert.strictEqual(warnings(), 0);
  });

  it('reads no long file for whoever is gone when it is their turn', async () => {
    const value = 'v'.repeat(300 * 1024);
    write({ k: value });
    let isThere = true;
    const first = files.load(owner(), { key: 'k' });
    const second = files.load(owner(), { key: 'k', isWanted: () => isThere });
    isThere = false;
    assert.strictEqual((await first).maps.customer.get('k'), value);
    await assert.rejects(async () => second, UnwantedError);
  });

  it('logs no value', async () => {
    fs.writeFileSync(path, '{"customer_metadata":{"root_pw":"hunter2"');
    await customer();
    assert.strictEqual(warnings(), 1);
    assert.doesNotMatch(logs.text(), /hunter2/);
  });
});

describe('a long metadata file', () => {
  let dir: TempDir;
  let path: string;

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'metadata.json');
  });

  afterEach(() => dir.remove());

  it('gives the values that no request has asked for, until it is replaced', async () => {
    const long = 'é"\n'.repeat(100_000);
    const customer = { long, number: 7, list: Array.from({ length: 40_000 }, () => 1) };
    fs.writeFileSync(path, JSON.stringify({ customer_metadata: customer }));
    const owner = { directory: dir.path, log: logRecords().zoneLog('z') };
    const { maps } = await new ConfigFiles().load(owner, { key: null });
    // A long list is no value of any guest's.
    assert.deepStrictEqual(Object.fromEntries(maps.customer), { ...customer, list: {} });
    fs.appendFileSync(path, ' ');
    assert.throws(() => maps.customer.get('number'), { code: 'ESTALE' });
  });
});
