/*
 * A write that was answered with SUCCESS is on disk, whatever happens to the process; one that cannot be
 * made is answered at once with the reason, and leaves nothing behind.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { quantile, within } from '../support/guest-session';
import { describeWhere, whyNotRoot } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { Random } from '../support/random';
import { runProgram, type Result } from '../support/simcn';

const PUT = join(__dirname, '..', '..', 'tools', 'mdata', 'put.js');
const KILLS = 12;
const WRITERS = 3;
const AT_ONCE = 1000;
/** Each is written by one session only: of two there is no telling whose write comes last. */
const KEYS_AT_ONCE = 80;
const SESSIONS = 40;

describe('writes and SIGKILL', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let next = 0;

  before(async function () {
    const limits = { writes_per_second: 10_000, write_burst: 10_000 };
    const vms = Array.from({ length: WRITERS }, (_, index) => {
      return osZone(index, { customer_metadata: { kept: 'as it was', n: 1.5 } });
    });
    cn = await SimulatedNode.start(this, { vms, config: { limits } });
  });

  after(() => cn.stop());

  /** Puts values until the agent is gone. What was stored goes into `stored`. */
  async function writeOn(index: number, stored: Map<string, number>): Promise<void> {
    const session = await cn.open(index);
    try {
      for (;;) {
        const n = next++;
        const key = `key${n % 40}`;
        const { code } = await session.put(key, `${n} ${'x'.repeat(n % 3000)}`);
        assert.strictEqual(code, 'SUCCESS');
        stored.set(key, n);
      }
    } catch (err) {
      assert.match(String(err), /hung up/);
    } finally {
      session.close();
    }
  }

  it(`${KILLS} times at random under load: no acknowledged value is lost, no file broken`, async () => {
    const random = new Random(42);
    const stored = Array.from({ length: WRITERS }, () => new Map<string, number>());
    for (let round = 0; round < KILLS; round++) {
      const writers = stored.map((map, index) => writeOn(index, map));
      await delay(20 + random.below(180));
      await cn.agent.kill();
      await Promise.all(writers);
      for (const [index, map] of stored.entries()) {
        const { customer } = cn.metadata(index);
        assert.strictEqual(customer.kept, 'as it was');
        for (const [key, n] of map) {
          // The one write that was not answered may be there or not.
          const there = Number(String(customer[key]).split(' ')[0]);
          assert(there >= n, `${key} of zone ${index} in round ${round}: ${there}, not ${n}`);
        }
      }
      await cn.startAgent();
    }
    for (const index of stored.keys()) {
      const session = await cn.open(index);
      assert.strictEqual((await session.put('next', 'write')).code, 'SUCCESS');
      session.close();
      const names = readdirSync(cn.config(index));
      assert.deepStrictEqual(
        names.filter((name) => name.startsWith('.')),
        [],
      );
    }
  });

  it('leave no lock behind: the platform\u2019s tool and the next write get it at once', async () => {
    const session = await cn.open(0);
    void session.put('under', 'way').catch(() => undefined);
    await delay(2);
    await cn.agent.kill();
    const update = JSON.stringify({ set_customer_metadata: { by: 'vmadm' } });
    const { status, stderr } = await within(
      cn.node.vmadm(['update', uuidOf(0)], update),
      10_000,
      'vmadm update',
    );
    assert.strictEqual(status, 0, stderr);
    await cn.startAgent();
    const again = await cn.open(0);
    assert((await again.put('next', 'write')).ms < 4000);
    assert.strictEqual((await again.get('by')).text, 'vmadm');
    again.close();
  });

  it(`${AT_ONCE} writes that wait are written together, in their order, and preserve the rest`, async () => {
    const path = cn.config(1, 'metadata.json');
    const own =
      '{ "unknown": [1.10, 1e400],\n "customer_metadata" : {"kept":"as it was", "big":12345678901234567890';
    writeFileSync(path, `${own}},\n "internal_metadata":{} }`);
    const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => cn.open(1)));
    const [first] = sessions;
    assert(first !== undefined);
    let commits = 0;
    const watcher = watch(cn.config(1), (event, name) => {
      commits += event === 'rename' && name === 'metadata.json' ? 1 : 0;
    });
    const last = new Map<string, string>();
    const answers = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, n) => {
        const key = `many${n % KEYS_AT_ONCE}`;
        last.set(key, `value ${n}`);
        return (sessions[n % SESSIONS] ?? first).put(key, `value ${n}`);
      }),
    );
    assert.deepStrictEqual([...new Set(answers.map(({ code }) => code))], ['SUCCESS']);
    const text = readFileSync(path, 'utf8');
    assert(text.startsWith(own), text.slice(0, own.length));
    const { customer } = cn.metadata(1);
    assert.strictEqual(last.size, KEYS_AT_ONCE);
    for (const [key, value] of last) {
      assert.strictEqual(customer[key], value, key);
    }
    // One of each session waits at a time; all those go together.
    await eventually(() => commits > 0, 'renamings are seen');
    watcher.close();
    assert(commits < AT_ONCE / 10, `${commits} renamings`);
    sessions.forEach((session) => session.close());
  });
});

describeWhere(whyNotRoot(), 'a full disk', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    const vms = [0, 1].map((index) => osZone(index, { customer_metadata: { old: 'value' } }));
    cn = await SimulatedNode.start(this, { vms });
  });

  after(() => cn.stop());

  /** The write is refused at once, in those words; the old file is whole, and nothing else is there. */
  async function refused(words: RegExp): Promise<void> {
    const before = readFileSync(cn.config(0, 'metadata.json'));
    const session = await cn.open(0);
    for (const ask of [session.put('new', 'x'.repeat(40_000)), session.remove('old')]) {
      const { code, text, ms } = await ask;
      if (code === 'SUCCESS') {
        // A removal can fit where an addition does not: then it was made.
        continue;
      }
      assert.strictEqual(code, 'FAILURE');
      assert.match(text, words);
      assert(ms < 2000, `${ms} ms`);
    }
    assert.strictEqual((await session.get('old')).text, 'value');
    assert.deepStrictEqual(readFileSync(cn.config(0, 'metadata.json')), before);
    const names = readdirSync(cn.config(0)).filter((name) => /mdatad|\.new/.test(name));
    assert.deepStrictEqual(names, [], 'no temporary file is left');
    const other = await cn.open(1);
    assert.strictEqual((await other.put('k', 'v')).code, 'SUCCESS');
    session.close();
    other.close();
    process.kill(cn.agent.pid, 0);
  }

  async function worksAgain(): Promise<void> {
    const session = await cn.open(0);
    assert.strictEqual((await session.put('again', 'yes')).code, 'SUCCESS');
    assert.strictEqual(cn.metadata(0).customer.again, 'yes');
    session.close();
  }

  it('ENOSPC: an immediate FAILURE that names it, and the next write works when there is room', async () => {
    await cn.fault('disk.full', 0);
    await refused(/no space left/);
    await cn.clearFaults();
    await worksAgain();
  });

  it('EROFS: an immediate FAILURE that names it, and the next write works when that ends', async () => {
    const directory = cn.config(0);
    execFileSync('mount', ['--bind', directory, directory]);
    try {
      execFileSync('mount', ['-o', 'remount,bind,ro', directory]);
      await refused(/read-only file system/);
    } finally {
      execFileSync('umount', [directory]);
    }
    await worksAgain();
  });

  it('the making of sockets is tried again until there is room', async () => {
    const run = cn.node.path('/var/zonecontrol');
    await cn.agent.stop();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k,nr_inodes=2', 'full', run]);
    try {
      await cn.startAgent();
      assert(cn.records('cannot create the zone socket').length > 0);
      assert(!(await cn.answers(0)));
      execFileSync('mount', ['-o', 'remount,size=1m,nr_inodes=100', run]);
      await eventually(() => cn.answers(0), 'the socket is made', 15_000);
      await eventually(() => cn.answers(1), 'the other too', 15_000);
    } finally {
      await cn.agent.stop();
      execFileSync('umount', [run]);
      await cn.startAgent();
    }
  });
});

describeWhere(whyNotRoot(), 'an agent that may not write', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [osZone(0)], asNobody: true });
  });

  after(() => cn.stop());

  it('EACCES: an immediate FAILURE, and the next write works when it is permitted', async () => {
    const put = (): Promise<Result> => {
      return cn.node.run([process.execPath, PUT, '--socket', cn.socket(0), 'k', 'v']);
    };
    chmodSync(cn.config(0), 0o555);
    const refused = await within(put(), 5000, 'an answer');
    assert.strictEqual(refused.status, 2);
    assert.match(refused.stderr, /Could not update metadata\.$/m);
    const reported = (): unknown => cn.records('could not update metadata')[0];
    await eventually(() => reported() !== undefined, 'the log says it');
    assert.match(JSON.stringify(reported()), /EACCES/);
    chmodSync(cn.config(0), 0o755);
    assert.strictEqual((await put()).status, 0);
    assert.strictEqual(cn.metadata(0).customer.k, 'v');
  });
});

describe('values in flight', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    const limits = { writes_per_second: 10_000, write_burst: 10_000 };
    cn = await SimulatedNode.start(this, {
      vms: [osZone(0)],
      config: { limits, store_empty_values: true },
    });
  });

  after(() => cn.stop());

  it('come back as they were: every character, empty, up to 1 MiB, in pieces of any length', async () => {
    const session = await cn.open(0);
    const all = Array.from({ length: 0x800 }, (_, point) => String.fromCodePoint(point)).join('');
    const random = new Random(7);
    const values = ['', ' ', '\n', '.', '.\n..\n', '\0', '\ufeffBOM', all, '\u{1f980}'.repeat(500)];
    for (let length = 1; length <= 64 * 1024; length *= 4) {
      values.push(
        Array.from({ length }, () => String.fromCharCode(32 + random.below(95))).join(''),
      );
    }
    values.push('\u20ac'.repeat(340_000));
    for (const value of values) {
      assert.strictEqual((await session.put('value', value)).code, 'SUCCESS');
      assert.strictEqual((await session.get('value')).text, value);
      assert.strictEqual(cn.metadata(0).customer.value, value);
    }
    session.close();
  });

  it('are refused with the reason where they cannot be kept', async () => {
    const session = await cn.open(0);
    const notUtf8 = await session.put('bin', Buffer.from([0xff, 0xfe]));
    assert.deepStrictEqual([notUtf8.code, notUtf8.text], ['FAILURE', 'Value is not UTF-8.']);
    for (const key of ['__proto__', 'a\nb', 'sdc:uuid', '']) {
      assert.strictEqual((await session.put(key, 'v')).code, 'FAILURE', key);
    }
    const huge = await session.put('huge', 'x'.repeat(1_700_000));
    assert.deepStrictEqual([huge.code, huge.text], ['FAILURE', 'Request too large']);
    for (const key of ['constructor', 'toString', 'hasOwnProperty']) {
      assert.strictEqual((await session.get(key)).code, 'NOTFOUND', key);
      assert.strictEqual((await session.put(key, key)).code, 'SUCCESS');
      assert.strictEqual((await session.get(key)).text, key);
    }
    session.close();
  });

  it('are bounded in number and total size: the reply names the limit, and deleting makes room', async () => {
    const many = Object.fromEntries(Array.from({ length: 1022 }, (_, n) => [`n${n}`, 'v']));
    cn.replaceConfig(0, 'metadata.json', JSON.stringify({ customer_metadata: many }));
    const session = await cn.open(0);
    assert.strictEqual((await session.put('last', 'v')).text, 'OK');
    assert.strictEqual((await session.put('very last_pw', 'v')).text, 'OK');
    assert.strictEqual((await session.put('one more', 'v')).text, 'Too many metadata keys.');
    assert.strictEqual((await session.put('n1', 'changed')).code, 'SUCCESS');
    const value = 'x'.repeat(1_000_000);
    let words = '';
    for (let n = 0; words === '' && n < 6; n++) {
      words = (await session.put(`n${n}`, value)).text.replace('OK', '');
    }
    assert.strictEqual(words, 'Metadata is full.');
    assert.strictEqual((await session.remove('n0')).text, 'OK');
    session.close();
  });

  it('200 GETs one after the other take less than 2 s of the agent', async () => {
    const session = await cn.open(0);
    const times: number[] = [];
    for (let n = 0; n < 200; n++) {
      times.push((await session.get('sdc:uuid')).ms);
    }
    const sum = times.reduce((a, b) => a + b, 0);
    assert(sum < 2000, `${sum} ms, p99 ${quantile(times, 0.99)} ms`);
    session.close();
  });

  it('a change by vmadm is in the next answer within 1 s', async () => {
    const session = await cn.open(0);
    const update = JSON.stringify({ set_customer_metadata: { by: 'vmadm' } });
    const vmadm = runProgram([cn.node.path('/usr/sbin/vmadm'), 'update', uuidOf(0)], update);
    assert.strictEqual((await vmadm).status, 0);
    assert.strictEqual((await session.get('by')).text, 'vmadm');
    session.close();
  });
});
