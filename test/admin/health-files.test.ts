/*
 * What is found in a VM's config files, and in vminfod's copy of them.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { ConfigChecks } from '../../src/admin/health-files';
import type { VmData } from '../../src/metadata/vm-data';
import { tempDir } from '../support/temp-dir';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
/** Longer than vminfod has, to show a change. */
const LATER_MS = 60_000;

/** The files as the agent serves them, as far as these tests write them. */
function dataOf(customer: Readonly<Record<string, string>>): VmData {
  const data: VmData = {
    zonename: ZONE,
    load: () => data,
    fileBytes: () => assert.fail('nobody asks for it'),
    use: () => assert.fail('nobody asks for it'),
    metadata: () => ({ customer: new Map(Object.entries(customer)), internal: new Map() }),
    tags: () => new Map(),
    routes: () => new Map(),
    vm: () => undefined,
    loaded: () => Promise.resolve(undefined),
    change: () => assert.fail('nothing is changed'),
  };
  return data;
}

describe('the checks of config files', () => {
  const dir = tempDir();
  const directory = join(dir.path, 'config');
  const path = join(directory, 'metadata.json');
  const socket = join(dir.path, 'vminfod.sock');
  let vminfod: Server;
  let copy: object = {};
  let asked = 0;
  let passedMs = 0;

  before(async () => {
    mkdirSync(directory);
    vminfod = createServer((_request, response) => {
      asked++;
      response.end(JSON.stringify({ zonename: ZONE, tags: {}, routes: {}, ...copy }));
    });
    await once(vminfod.listen(socket), 'listening');
  });

  after(() => {
    vminfod.close();
    dir.remove();
  });

  beforeEach(() => {
    rmSync(path, { force: true });
    passedMs = 0;
    asked = 0;
  });

  const checks = (): ConfigChecks =>
    new ConfigChecks(`unix:${socket}`, () => Date.now() + passedMs);

  function write(customer: object): void {
    writeFileSync(`${path}.new`, JSON.stringify({ customer_metadata: customer }));
    renameSync(`${path}.new`, path);
  }

  it('find nothing wrong where a VM has no files', () => {
    const check = checks().check(ZONE, directory);
    assert.deepStrictEqual(
      [check.damaged, check.changedAt, check.isUnproven, check.isNewerThan(0)],
      [[], 0, false, false],
    );
  });

  it('report an unusable file once it had the time to be written whole', () => {
    const each = checks();
    const broken = '{ "customer_metadata": {"pw":"Hae6-secret';
    for (const [text, words] of [
      [broken, /^metadata.json holds no JSON object/],
      ['[]', /^metadata.json holds no JSON object/],
      ['{"customer_metadata":["a"]}', /^metadata.json has in customer_metadata no JSON object/],
    ] as const) {
      writeFileSync(path, text);
      passedMs = 0;
      assert.deepStrictEqual(each.check(ZONE, directory).damaged, []);
      passedMs = LATER_MS;
      const [damaged] = each.check(ZONE, directory).damaged;
      assert.match(damaged?.text ?? '', words);
      assert(!damaged?.text.includes('secret'));
    }
    writeFileSync(path, '{}');
    assert.deepStrictEqual(each.check(ZONE, directory).damaged, []);
  });

  it('give vminfod some seconds, then call its copy stale where last_modified is older, in whole seconds', () => {
    write({ key: 'value' });
    const each = checks();
    const wrote = Date.now();
    assert(!each.check(ZONE, directory).isNewerThan(wrote - LATER_MS));
    passedMs = LATER_MS;
    const check = each.check(ZONE, directory);
    assert(check.isNewerThan(wrote - LATER_MS));
    assert(!check.isNewerThan(wrote));
    assert(!check.isNewerThan(undefined), 'a vminfod that tells no time is not accused');
  });

  it('compare the contents once for each change, however new the copy claims to be', async () => {
    // A file's time may be some milliseconds behind the clock: the agent started well before.
    passedMs = -1000;
    const each = checks();
    write({ key: 'new' });
    passedMs = LATER_MS;
    copy = { customer_metadata: { key: 'old' } };
    assert(each.check(ZONE, directory).isUnproven);
    assert.strictEqual(await each.compare(ZONE, dataOf({ key: 'new' }), 1), 'differs');
    assert(each.check(ZONE, directory).isUnproven, 'it is asked again until it shows the change');
    assert.strictEqual(each.lastCompared(ZONE, 1), 'differs');
    assert.strictEqual(each.lastCompared(ZONE, 2), null, 'the copy is a new one');
    passedMs += LATER_MS;
    assert.strictEqual(each.lastCompared(ZONE, 1), null, 'it is no news any more');
    copy = { customer_metadata: { key: 'new' } };
    assert.strictEqual(await each.compare(ZONE, dataOf({ key: 'new' }), 1), 'shown');
    assert(!each.check(ZONE, directory).isUnproven);
    write({ key: 'newer' });
    assert(each.check(ZONE, directory).isUnproven);
    assert.strictEqual(asked, 2);
  });

  it('parse no file that would block the event loop, and ask vminfod for none', async () => {
    const each = checks();
    const large = { key: 'x'.repeat(1024 * 1024) };
    writeFileSync(path, `{"customer_metadata":${JSON.stringify(large)}`);
    passedMs = LATER_MS;
    assert.deepStrictEqual(each.check(ZONE, directory).damaged, []);
    assert.strictEqual(await each.compare(ZONE, dataOf(large), 1), 'unknown');
    assert.strictEqual(asked, 0);
  });
});
