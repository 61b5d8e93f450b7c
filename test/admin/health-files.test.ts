/*
 * What is found in a VM's config files, and in vminfod's copy of them.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { ConfigChecks } from '../../src/admin/health-files';
import type { VmData } from '../../src/metadata/vm-data';
import { tempDir } from '../support/temp-dir';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
/** Longer than vminfod has, to show a change. */
const LATER_MS = 60_000;
const NOTHING = { damaged: [], changedAt: 0, modifiedAt: 0 };

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
    new ConfigChecks(`unix:${socket}`, Date.now() + passedMs, () => Date.now() + passedMs);

  /** Files that are written one after the other have different times: the kernel's clock goes in steps of milliseconds. */
  function write(customer: object): void {
    const before = statSync(path, { throwIfNoEntry: false })?.ctimeMs;
    do {
      writeFileSync(`${path}.new`, JSON.stringify({ customer_metadata: customer }));
      renameSync(`${path}.new`, path);
    } while (Math.floor(statSync(path).ctimeMs) === Math.floor(before ?? 0));
  }

  const never = (): boolean => assert.fail('nobody asks vminfod');
  const always = (): boolean => true;

  it('find nothing wrong where a VM has no files', async () => {
    const each = checks();
    passedMs = LATER_MS;
    assert.deepStrictEqual(await each.check(directory), NOTHING);
    assert(!(await each.isBehind(dataOf({}), 0, never)));
  });

  it('report an unusable file once it had the time to be written whole', async () => {
    const each = checks();
    const broken = '{ "customer_metadata": {"pw":"Hae6-secret';
    const large = JSON.stringify({ key: `secret${'x'.repeat(1024 * 1024)}` });
    for (const [text, words] of [
      [broken, /^metadata.json cannot be used \(no JSON object\)/],
      ['[]', /^metadata.json cannot be used \(no JSON object\)/],
      [`{"customer_metadata":${large}`, /^metadata.json cannot be used \(no JSON object\)/],
      ['{"customer_metadata":["a"]}', /\(no JSON object in customer_metadata\)/],
    ] as const) {
      writeFileSync(path, text);
      passedMs = 0;
      assert.deepStrictEqual((await each.check(directory)).damaged, []);
      passedMs = LATER_MS;
      const [damaged] = (await each.check(directory)).damaged;
      assert.match(damaged?.text ?? '', words);
      assert(!damaged?.text.includes('secret'));
    }
    for (const text of ['{}', ' ']) {
      writeFileSync(path, text);
      assert.deepStrictEqual((await each.check(directory)).damaged, [], text);
    }
  });

  it('take no second thread for a file that is being read', async () => {
    const each = checks();
    writeFileSync(path, '[]');
    passedMs = LATER_MS;
    const first = each.check(directory);
    assert.deepStrictEqual(await each.check(directory), NOTHING);
    const found = await first;
    assert.strictEqual(found.damaged.length, 1);
    assert.deepStrictEqual(await each.check(directory), found);
  });

  it('report what cannot be read, and what is no file', async () => {
    const each = checks();
    mkdirSync(path);
    passedMs = LATER_MS;
    const [damaged] = (await each.check(directory)).damaged;
    assert.match(damaged?.text ?? '', /\(not a regular file\)/);
    rmSync(path, { recursive: true });
  });

  it('give vminfod some seconds, then call its copy stale where last_modified is older, in whole seconds', async () => {
    write({ key: 'value' });
    // It was written before the agent started: only a copy that is older is suspicious.
    passedMs = 1000;
    const each = checks();
    const wrote = Date.now();
    copy = { customer_metadata: { key: 'other' } };
    const isBehind = async (lastModified: number | undefined): Promise<boolean> => {
      await each.check(directory);
      return each.isBehind(dataOf({ key: 'value' }), lastModified, always);
    };
    assert(!(await isBehind(wrote - LATER_MS)));
    passedMs = LATER_MS;
    assert(!(await isBehind(wrote)));
    assert(!(await isBehind(undefined)), 'a vminfod that tells no time is not accused');
    assert.strictEqual(asked, 0);
    assert(await isBehind(wrote - LATER_MS));
    assert.strictEqual(asked, 1);
  });

  it('compare the contents once for each change, however new the copy claims to be', async () => {
    // A file's time may be some milliseconds behind the clock: the agent started well before.
    passedMs = -1000;
    const each = checks();
    const isBehind = async (value: string, of: number, mayAsk = always): Promise<boolean> => {
      await each.check(directory);
      return each.isBehind(dataOf({ key: value }), of, mayAsk);
    };
    const NEW = Date.now() + LATER_MS;
    write({ key: 'new' });
    passedMs = LATER_MS;
    copy = { customer_metadata: { key: 'old' } };
    assert(!(await isBehind('new', NEW, () => false)), 'nothing is known before it is asked');
    assert(await isBehind('new', NEW));
    assert(await isBehind('new', NEW, never), 'it is asked again only after a while');
    assert.strictEqual(asked, 1);
    assert(await isBehind('new', NEW + 1), 'the copy is a new one');
    passedMs += LATER_MS;
    copy = { customer_metadata: { key: 'new' } };
    assert(!(await isBehind('new', NEW + 1)), 'the answer was no news any more');
    assert.strictEqual(asked, 3);
    assert(!(await isBehind('new', NEW + 2, never)), 'it was shown');
    write({ key: 'newer' });
    assert(await isBehind('newer', NEW + 2));
    assert.strictEqual(asked, 4);
  });

  it('ask vminfod for no file that would block the event loop', async () => {
    const each = checks();
    const large = { key: 'x'.repeat(1024 * 1024) };
    write(large);
    passedMs = LATER_MS;
    assert.deepStrictEqual((await each.check(directory)).damaged, []);
    assert(await each.isBehind(dataOf(large), 1, always), 'the copy is older');
    assert(!(await each.isBehind(dataOf(large), Date.now(), always)));
    assert.strictEqual(asked, 0);
  });
});
