/*
 * Who may talk, and about what: modes whatever the umask, processes of other zones, and the names that a
 * guest must not read or write.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { describeWhere, whyNotRoot } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const NOBODY = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];
const CONNECT =
  'require("net").connect(process.argv[1]).on("connect", () => process.exit(0))' +
  '.on("error", (err) => { console.log(err.code); process.exit(1); })';
const GETS = 3000;
const PUTS = 20;
const LOST = 'internal metadata has keys of namespaces that the VM does not list';
const INTERNAL = {
  root_pw: 'the password',
  'operator-script': 'the script',
  hidden: 'internal only',
  'sdc:volumes': '[]',
  'ns:key': 'in a namespace',
  'docker:cmd': '["sh"]',
};

describeWhere(whyNotRoot(), 'access to a zone socket', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    const vms = [0, 1].map((index) => osZone(index));
    cn = await SimulatedNode.start(this, { vms });
  });

  after(() => cn.stop());

  for (const umask of ['000', '027', '077', '777']) {
    it(`is root's alone, with umask ${umask} and a directory that was there with mode 0777`, async () => {
      await cn.agent.stop();
      const directory = dirname(cn.socket(0));
      chmodSync(directory, 0o777);
      const prefix = ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'];
      cn.agent = await AgentProcess.start(cn.root, [], prefix);
      for (const index of [0, 1]) {
        const socket = lstatSync(cn.socket(index));
        const above = statSync(dirname(cn.socket(index)));
        assert.deepStrictEqual([socket.mode & 0o7777, socket.uid, socket.gid], [0o600, 0, 0]);
        assert.deepStrictEqual([above.mode & 0o7777, above.uid], [0o700, 0]);
        const argv = [...NOBODY, process.execPath, '-e', CONNECT, cn.socket(index)];
        const tried = await cn.node.run(argv);
        assert.deepStrictEqual([tried.status, tried.stdout], [1, 'EACCES\n']);
        assert(await cn.answers(index));
      }
      const admin = `${cn.root}/var/run/mdatad/admin.sock`;
      assert.strictEqual(lstatSync(admin).mode & 0o7777, 0o600);
      assert.strictEqual(lstatSync(dirname(admin)).mode & 0o7777, 0o700);
    });
  }

  it('is refused to a process of another zone that reached it by a trick, and that is logged', async function () {
    const trick = cn.node.path(`/zones/${uuidOf(1)}/root/opt/trick`);
    mkdirSync(trick, { recursive: true });
    const seesSocket = await cn.node.exec(uuidOf(1), 'test', '-S', '/.zonecontrol/metadata.sock');
    if (seesSocket.status !== 0) {
      this.skip();
    }
    execFileSync('mount', ['--bind', dirname(cn.socket(0)), trick]);
    try {
      const get = (socket: string, s: number): Promise<{ status: number; stdout: string }> => {
        const argv = ['timeout', String(s), 'mdata-get', '--socket', socket, 'sdc:uuid'];
        return cn.node.exec(uuidOf(1), ...argv);
      };
      const own = await get('/.zonecontrol/metadata.sock', 20);
      assert.deepStrictEqual([own.status, own.stdout], [0, `${uuidOf(1)}\n`]);
      const stolen = await get('/opt/trick/metadata.sock', 3);
      assert.strictEqual(stolen.stdout, '');
      assert.notStrictEqual(stolen.status, 0);
      await eventually(() => {
        return cn.records('refused').some((record) => record.reason === 'peer');
      }, 'the refusal is in the log');
      const [refusal] = cn.records('refused').filter((record) => record.reason === 'peer');
      assert.strictEqual(refusal?.zonename, uuidOf(0), 'on behalf of the zone that was attacked');
      assert(Number(refusal.zoneid) > 0, 'with the zone that it came from');
      assert(await cn.answers(0));
    } finally {
      execFileSync('umount', [trick]);
    }
  });

  it('leaves a record of each change: who, what key, how long, with what result, and no value', async () => {
    const session = await cn.open(0);
    const value = 'a value that no log may hold';
    await session.put('audited', value);
    await session.remove('audited');
    await session.put('sdc:uuid', 'x');
    const ofKey = (msg: string, key: string): readonly JsonObject[] => {
      return cn.records(msg).filter(({ query }) => isJsonObject(query) && query.arg === key);
    };
    await eventually(() => ofKey('handled PUT', 'sdc:uuid').length === 1);
    const [put] = ofKey('handled PUT', 'audited');
    const [removed] = ofKey('handled DELETE', 'audited');
    const [refused] = ofKey('handled PUT', 'sdc:uuid');
    assert.deepStrictEqual(
      [put?.zonename, put?.response, put?.length, put?.peer],
      [uuidOf(0), 'SUCCESS', value.length, { pid: process.pid, uid: 0 }],
    );
    assert.strictEqual(removed?.response, 'SUCCESS');
    assert.deepStrictEqual(
      [refused?.response, refused?.err],
      ['FAILURE', { message: 'Cannot update the "sdc" Namespace.', name: 'Failure' }],
    );
    assert(!JSON.stringify(cn.agent.records).includes(value));
    session.close();
  });

  it('logs each change however many requests a guest sends to hide it', async () => {
    const session = await cn.open(1);
    const value = (n: number): string => `hush ${'x'.repeat(n)}`;
    const gets = Array.from({ length: GETS }, () => session.get('sdc:uuid'));
    const puts = Array.from({ length: PUTS }, (_, n) => session.put(`hidden${n}`, value(n)));
    const answers = await Promise.all([...gets, ...puts]);
    assert(answers.every(({ code }) => code === 'SUCCESS'));
    session.close();
    const ofZone = (msg: string): readonly JsonObject[] => {
      return cn.records(msg).filter(({ zonename }) => zonename === uuidOf(1));
    };
    const last = `"arg":"hidden${PUTS - 1}"`;
    const isLast = (record: JsonObject): boolean => JSON.stringify(record).includes(last);
    await eventually(() => ofZone('handled PUT').some(isLast), 'a record of the last change');
    const audit = ofZone('handled PUT');
    const reported = audit.map(({ zonename, response, query, length, peer }) => {
      assert(isJsonObject(query));
      const { cmd, arg, elapsed } = query;
      assert(typeof elapsed === 'number' && elapsed > 0);
      return { zonename, response, cmd, arg, length, peer };
    });
    assert.deepStrictEqual(
      reported,
      Array.from({ length: PUTS }, (_, n) => ({
        zonename: uuidOf(1),
        response: 'SUCCESS',
        cmd: 'PUT',
        arg: `hidden${n}`,
        length: value(n).length,
        peer: { pid: process.pid, uid: 0 },
      })),
    );
    assert(ofZone('handled GET').length < GETS / 2, 'the questions are limited by the log quota');
    assert(!JSON.stringify(audit).includes(value(0)), 'no value');
  });
});

describe('names that are not a guest\u2019s', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    const more = {
      customer_metadata: { motd: 'hello' },
      internal_metadata: INTERNAL,
      internal_metadata_namespaces: ['ns'],
    };
    cn = await SimulatedNode.start(this, { vms: [osZone(0, more)], canaries: false });
  });

  after(() => cn.stop());

  it('internal metadata is readable in no form but that of its rules', async () => {
    const session = await cn.open(0);
    for (const [key, value] of Object.entries(INTERNAL)) {
      const readable = ['root_pw', 'ns:key', 'sdc:volumes'].includes(key);
      const plain = await session.get(key);
      assert.strictEqual(plain.code, readable ? 'SUCCESS' : 'NOTFOUND', key);
      const path = await session.get(`sdc:internal_metadata.${key}`);
      assert.deepStrictEqual([path.code, path.text], ['NOTFOUND', ''], key);
      assert(readable || plain.text !== value);
    }
    assert.strictEqual((await session.get('sdc:internal_metadata')).code, 'NOTFOUND');
    const names = (await session.keys()).text.split('\n');
    assert.deepStrictEqual(names.sort(), ['motd', 'ns:key', 'root_pw']);
    session.close();
  });

  it('operator-script and reserved names are not written', async () => {
    const session = await cn.open(0);
    const answers = [await session.put('operator-script', 'mine')];
    for (const key of ['sdc:x', 'ns:x', 'docker:x']) {
      answers.push(await session.put(key, 'mine'), await session.remove(key));
    }
    for (const { code, text } of answers) {
      assert.strictEqual(code, 'FAILURE', text);
      assert.match(text, /^Cannot update/);
    }
    assert.deepStrictEqual(cn.metadata(0).internal, INTERNAL);
    session.close();
  });

  it('stay refused when a live VM loses its list of namespaces, and the loss is logged', async () => {
    const session = await cn.open(0);
    await cn.control('set', {
      uuid: uuidOf(0),
      properties: { internal_metadata_namespaces: [] },
    });
    await eventually(async () => (await session.get('ns:key')).code === 'NOTFOUND');
    for (const key of ['docker:cmd', 'sdc:volumes']) {
      const answer = await session.put(key, 'spoofed');
      assert.strictEqual(answer.code, 'FAILURE', key);
    }
    assert.deepStrictEqual(cn.metadata(0).customer, { motd: 'hello' });
    assert.deepStrictEqual(cn.metadata(0).internal, INTERNAL);
    await eventually(() => cn.records(LOST).length > 1, 'a warning of the lost namespaces');
    const warnings = cn.records(LOST).map(({ zonename, namespaces }) => [zonename, namespaces]);
    assert.deepStrictEqual(warnings, [
      [uuidOf(0), 'docker'],
      [uuidOf(0), 'ns, docker'],
    ]);
    session.close();
  });
});

describe('names that only an earlier agent or an operator could store', function () {
  this.timeout(60_000);
  const LONG = 'k'.repeat(20_000);
  const CUSTOMER = {
    'a\nb': '1',
    '\u00a0motd': '2',
    '\ufeffmotd': '3',
    [LONG]: '4',
    motd: 'hello',
  };
  let cn: SimulatedNode;

  before(async function () {
    const more = { customer_metadata: CUSTOMER, internal_metadata: INTERNAL };
    cn = await SimulatedNode.start(this, { vms: [osZone(0, more)], canaries: false });
  });

  after(() => cn.stop());

  it('are read and removed by their own name, and cannot be stored anew', async () => {
    const session = await cn.open(0);
    for (const [key, value] of Object.entries(CUSTOMER).slice(0, -1)) {
      assert.deepStrictEqual((await session.get(key)).text, value, JSON.stringify(key));
      assert.strictEqual((await session.put(key, 'again')).code, 'FAILURE');
      assert.deepStrictEqual((await session.remove(key)).code, 'SUCCESS', JSON.stringify(key));
      assert.strictEqual((await session.get(key)).code, 'NOTFOUND');
    }
    assert.deepStrictEqual(cn.metadata(0).customer, { motd: 'hello' });
    session.close();
  });

  it("an operator-script that runs once removes itself, and the operator's other data stays", async () => {
    const session = await cn.open(0);
    assert.strictEqual((await session.get('sdc:operator-script')).text, 'the script');
    assert.strictEqual((await session.remove('operator-script')).code, 'SUCCESS');
    assert.strictEqual((await session.get('sdc:operator-script')).code, 'NOTFOUND');
    const rest = Object.entries(INTERNAL).filter(([key]) => key !== 'operator-script');
    assert.deepStrictEqual(cn.metadata(0).internal, Object.fromEntries(rest));
    session.close();
  });

  it('an empty value is refused with a message of its own and leaves nothing behind', async () => {
    const session = await cn.open(0);
    const { code, text } = await session.put('ssh_host_dsa_key', '');
    assert.deepStrictEqual([code, text], ['FAILURE', 'Empty values are not stored.']);
    assert.strictEqual((await session.get('ssh_host_dsa_key')).code, 'NOTFOUND');
    session.close();
  });
});
