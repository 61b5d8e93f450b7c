/*
 * What a zone's VM object, files and events can hold, in all the ways that ended the platform's agent or
 * could: it stays in that zone, and the process with all other zones goes on.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  openSync,
  closeSync,
  ftruncateSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../src/metadata/vm-data';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { GuestSession, within } from '../support/guest-session';
import { LyingVminfod } from '../support/lying-vminfod';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const BROKEN = 1;
const HEALTHY = 2;
const GUEST = 3;
const MIB = 1024 * 1024;

/** Keys that meet every rule of the handler. */
const KEYS = [
  'motd',
  'root_pw',
  'docker:cmd',
  'sdc:uuid',
  'sdc:nics',
  'sdc:nics.0.ip',
  'sdc:routes',
  'sdc:resolvers.0',
  'sdc:tags.a',
  'sdc:tags',
  'sdc:device',
  'sdc:operator-script',
  'sdc:volumes',
  'sdc:datasets',
  'sdc:delegate_dataset',
  'sdc:constructor',
  'sdc:__proto__',
  'constructor',
  '__proto__',
];

type Corruption = readonly [string, (path: string) => void];

const UNREADABLE: Corruption = ['not to be read', (path) => writeFileSync(path, '{}', { mode: 0 })];

describe('a zone with broken data', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let vminfod: LyingVminfod;

  function publish(index: number, more: JsonObject): void {
    vminfod.publish(uuidOf(index), { ...osZone(index), zonename: uuidOf(index), ...more });
  }

  before(async function () {
    const healthy = osZone(HEALTHY, {
      customer_metadata: { foreign: 'metadata' },
      tags: { foreign: 'tag' },
      routes: { '192.0.2.0/24': '10.99.0.1' },
    });
    const vms = [osZone(BROKEN), healthy, osZone(GUEST, { brand: 'bhyve' })];
    cn = await SimulatedNode.start(this, { vms });
    await cn.agent.stop();
    vminfod = new LyingVminfod(`${cn.root}/var/run/lying.sock`);
    await vminfod.start();
    [BROKEN, HEALTHY].forEach((index) => publish(index, {}));
    cn.agent = await AgentProcess.start(cn.root, vminfod.flags);
    await eventually(() => cn.answers(HEALTHY), 'the agent serves');
  });

  afterEach('the process lives, and the other zone is served', async () => {
    process.kill(cn.agent.pid, 0);
    assert(await cn.answers(HEALTHY));
  });

  after(async () => {
    await cn.stop();
    await vminfod.stop();
  });

  async function ask(key: string): Promise<string> {
    const session = await cn.open(BROKEN);
    const { text } = await session.get(key);
    session.close();
    return text;
  }

  /** Every question gets an answer of the protocol, and none is a fault of the agent. */
  async function askAll(): Promise<void> {
    const session = await cn.open(BROKEN);
    for (const key of KEYS) {
      const { code, text } = await session.get(key);
      assert(['SUCCESS', 'NOTFOUND', 'FAILURE'].includes(code), `${key}: ${code}`);
      assert.notStrictEqual(text, 'Internal error.', key);
    }
    assert.strictEqual((await session.keys()).code, 'SUCCESS');
    session.close();
    assert.deepStrictEqual(cn.records('internal error while handling a request'), []);
  }

  const deep = (depth: number): JsonObject => {
    return Array.from({ length: depth }).reduce<JsonObject>((inner) => ({ inner }), {});
  };
  const objects: readonly (readonly [string, JsonObject])[] = [
    ['a property that is null', { device: null, nics: null, resolvers: null, quota: null }],
    ['no metadata maps', { customer_metadata: undefined, internal_metadata: undefined }],
    [
      'metadata maps that are null',
      { customer_metadata: null, internal_metadata: null, tags: null },
    ],
    ['metadata maps that are lists', { customer_metadata: [], internal_metadata: [1], routes: [] }],
    ['texts where lists should be', { nics: 'x', resolvers: 'y', datasets: 'z', disks: 7 }],
    ['lists of anything', { nics: [null, 7, 'x', [], { ip: null }], resolvers: [{}, null] }],
    ['namespaces that are none', { internal_metadata_namespaces: [null, 7, {}, ''] }],
    ['names of the object prototype', JSON.parse('{"__proto__":{"uuid":"x"},"constructor":7}')],
    ['a brand of another kind', { brand: 7, zone_state: null, zonepath: {}, com2: [] }],
    ['thousands of members', Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [n, n]))],
    ['great depth', deep(2000)],
    ['a member of 8 MiB', { notes: 'x'.repeat(8 * MIB) }],
    ['limits of all kinds', { limit_priv: {}, zfs_snapshot_limit: -1, datasets: [null, 'a'] }],
  ];
  for (const [what, more] of objects) {
    it(`answers with a VM object that has ${what}`, async () => {
      publish(BROKEN, { ...more, alias: what });
      await eventually(async () => (await ask('sdc:alias')) === what, 'the agent knows it');
      await askAll();
    });
  }

  it('answers a request on an open session of a VM that has just left vminfod', async () => {
    publish(BROKEN, {});
    const session = await cn.open(BROKEN);
    assert.strictEqual((await session.get('sdc:uuid')).code, 'SUCCESS');
    vminfod.remove(uuidOf(BROKEN));
    await delay(50);
    assert.strictEqual((await session.get('motd')).code, 'NOTFOUND');
    const gone = session.get('sdc:uuid');
    publish(BROKEN, {});
    assert.strictEqual((await gone).text, uuidOf(BROKEN), 'it waits for the VM to come back');
    session.close();
  });

  it('a guest that reboots again and again while the agent waits for its port does not harm the others', async () => {
    const facts = { brand: 'bhyve', zone_state: 'running' };
    for (let restarts = 0; restarts < 300; restarts++) {
      publish(GUEST, { ...facts, init_restarts: restarts });
      if (restarts % 50 === 0) {
        await cn.control('reboot', { uuid: uuidOf(GUEST), guest: true });
        assert(await cn.answers(HEALTHY));
      }
    }
    const port = cn.node.path(`/zones/${uuidOf(GUEST)}/ttyb`);
    await eventually(async () => {
      const guest = await GuestSession.open(port);
      // What is written while nobody has the port is lost.
      const answer = await within(guest.get('sdc:uuid'), 500, 'an answer').catch(() => null);
      guest.close();
      return answer?.text === uuidOf(GUEST);
    }, 'the guest itself is served');
  });

  const corruptions: readonly Corruption[] = [
    ['cut in the middle', (path) => writeFileSync(path, '{"customer_metadata":{"a":"b')],
    ['empty', (path) => writeFileSync(path, '')],
    ['blank', (path) => writeFileSync(path, ' \n\t')],
    ['no JSON', (path) => writeFileSync(path, Buffer.from([0, 255, 254, 123]))],
    ['a list', (path) => writeFileSync(path, '[]')],
    ['null', (path) => writeFileSync(path, 'null')],
    ['of maps that are none', (path) => writeFileSync(path, '{"customer_metadata":7}')],
    ['deep', (path) => writeFileSync(path, '['.repeat(200_000))],
    ['of 100 MB', (path) => writeSparse(path, 100 * MIB)],
    ['a directory', (path) => mkdirSync(path)],
    ['a link to itself', (path) => symlinkSync(path, path)],
    ["a link to another zone's", (path) => symlinkSync(cn.config(HEALTHY, basename(path)), path)],
    ['a pipe', (path) => execFileSync('mkfifo', [path])],
    ['a device that never ends', (path) => symlinkSync('/dev/zero', path)],
    ['not there', () => undefined],
    // To whom root's rights are missing this is a fault of the machine (failing-files.test.ts).
    ...(process.geteuid?.() === 0 ? [UNREADABLE] : []),
  ];
  for (const file of ['metadata.json', 'tags.json', 'routes.json']) {
    it(`answers whatever ${file} is, and refuses to overwrite what it does not understand`, async () => {
      const path = cn.config(BROKEN, file);
      for (const [what, make] of corruptions) {
        rmSync(path, { recursive: true, force: true });
        make(path);
        await askAll();
        assert(await cn.answers(HEALTHY), what);
        if (file === 'metadata.json') {
          const session = await cn.open(BROKEN);
          const put = await session.put('k', 'v');
          // Nothing could be lost there, or it can be read after all.
          const empty = ['not there', 'not to be read', 'empty', 'blank'].includes(what);
          assert.strictEqual(put.code, empty ? 'SUCCESS' : 'FAILURE', what);
          session.close();
        }
        assert.deepStrictEqual(
          readdirSync(cn.config(BROKEN)).filter((name) => name.includes('mdatad')),
          [],
          'no temporary file is left',
        );
      }
      rmSync(path, { recursive: true, force: true });
    });
  }

  it("links to another zone's files show nothing of them, and lead no write there", async () => {
    const files = ['metadata.json', 'tags.json', 'routes.json'] as const;
    const theirs = files.map((file) => readFileSync(cn.config(HEALTHY, file), 'utf8'));
    /** What a zone reads of what only the healthy one has. */
    const foreign = async (index: number): Promise<string[]> => {
      const session = await cn.open(index);
      const answers = [await session.keys()];
      for (const key of ['foreign', 'sdc:tags.foreign', 'sdc:routes']) {
        answers.push(await session.get(key));
      }
      session.close();
      return answers.map(({ code, text }) => `${code} ${text}`);
    };
    for (const file of files) {
      rmSync(cn.config(BROKEN, file), { force: true });
      symlinkSync(cn.config(HEALTHY, file), cn.config(BROKEN, file));
    }
    publish(HEALTHY, {});
    const [keys = '', value, tag, routes = ''] = await foreign(HEALTHY);
    assert.match(`${keys} ${routes}`, /foreign.*10\.99\.0\.1/s);
    assert.deepStrictEqual([value, tag], ['SUCCESS metadata', 'SUCCESS tag']);

    const [ownKeys, ownValue, ownTag, ownRoutes] = await foreign(BROKEN);
    assert.doesNotMatch(`${ownKeys} ${ownRoutes}`, /foreign|10\.99/);
    assert.deepStrictEqual([ownValue, ownTag], ['NOTFOUND ', 'NOTFOUND ']);
    const session = await cn.open(BROKEN);
    assert.strictEqual((await session.put('k', 'v')).code, 'FAILURE');
    assert.strictEqual((await session.remove('foreign')).code, 'FAILURE');
    session.close();
    assert.deepStrictEqual(
      files.map((file) => readFileSync(cn.config(HEALTHY, file), 'utf8')),
      theirs,
    );
    files.forEach((file) => rmSync(cn.config(BROKEN, file)));
  });

  it('the config directory itself may go, be a file, and come back', async () => {
    const directory = cn.config(BROKEN);
    rmSync(directory, { recursive: true });
    await askAll();
    writeFileSync(directory, 'no directory');
    await askAll();
    rmSync(directory);
    mkdirSync(directory);
    writeFileSync(cn.config(BROKEN, 'metadata.json'), '{"customer_metadata":{"motd":"back"}}');
    const session = await cn.open(BROKEN);
    assert.strictEqual((await session.get('motd')).text, 'back');
    session.close();
  });
});

function writeSparse(path: string, bytes: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
}
