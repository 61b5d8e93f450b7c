/*
 * Every system call of a write and of a read of metadata fails with every error that a kernel has for it: the
 * guest gets a reply at once, the log names the fault, the file stays as it was, other zones notice nothing,
 * and when the fault is over all is as ever, without a restart.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import {
  FailingCalls,
  makeUnlikeNew,
  whyNoFailingCalls,
  type Call,
  type Errno,
} from '../support/failing-calls';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const ERRNOS: readonly Errno[] = ['EMFILE', 'ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'ENOMEM', 'EIO'];
/** What a guest can do something about is named to it. */
const FAILURE_TEXTS: Partial<Record<Errno, RegExp>> = {
  ENOSPC: /: no space left\.$/,
  EDQUOT: /: quota exceeded\.$/,
  EROFS: /: read-only file system\.$/,
};
/** To a lock, EACCES means that another holds it: that one is waited for. */
const LOCK_ERRNOS: readonly Errno[] = ['ENOLCK', 'ENOMEM', 'EMFILE', 'EIO'];
const NEIGHBOUR = 0;
/** A write that cannot be made is refused at once, not when a client's patience ends. */
const AT_ONCE_MS = 5000;
const TEMP = '/config/.metadata.json.mdatad$';

interface WriteStep {
  readonly what: string;
  readonly call: Call;
  readonly path: (uuid: string) => string;
  readonly errnos?: readonly Errno[];
  /** What was written is in its place already when this fails. */
  readonly late?: boolean;
}

const inZone = (tail: string) => (uuid: string) => `${uuid}${tail}`;
const lockOf = (uuid: string): string => `vm.${uuid}.config.lockfile$`;

const WRITE_STEPS: readonly WriteStep[] = [
  { what: 'the opening of the lock', call: 'open', path: lockOf },
  { what: 'the lock', call: 'lock', path: lockOf, errnos: LOCK_ERRNOS },
  { what: 'the opening of the file', call: 'open', path: inZone('/config/metadata.json$') },
  { what: 'the reading of the file', call: 'read', path: inZone('/config/metadata.json$') },
  { what: 'the making of the temporary file', call: 'open', path: inZone(TEMP) },
  { what: 'its writing', call: 'write', path: inZone(TEMP) },
  { what: 'its owner', call: 'chown', path: inZone(TEMP) },
  { what: 'its mode', call: 'chmod', path: inZone(TEMP) },
  { what: 'its way to the disk', call: 'fsync', path: inZone(TEMP) },
  { what: 'its closing', call: 'close', path: inZone(TEMP) },
  { what: 'its renaming', call: 'rename', path: inZone('/config/metadata.json$') },
  { what: 'the opening of the directory', call: 'open', path: inZone('/config$'), late: true },
  { what: 'the sync of the directory', call: 'fsync', path: inZone('/config$'), late: true },
];

describeWhere(whyNoFailingCalls(), 'a failing system call of a write', function () {
  this.timeout(120_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;

  before(async function () {
    calls = new FailingCalls();
    // A zone for each step, and the neighbour: the log names a fault of a zone once a minute.
    const vms = [NEIGHBOUR, ...WRITE_STEPS.keys(), WRITE_STEPS.length].map((_, index) => {
      return osZone(index, { customer_metadata: { old: 'value' } });
    });
    cn = await SimulatedNode.start(this, { vms, prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  for (const [n, { what, call, path, errnos = ERRNOS, late }] of WRITE_STEPS.entries()) {
    const index = n + 1;

    it(`answers FAILURE, logs it and keeps the old file when ${what} fails (${call})`, async () => {
      const [session, neighbour] = [await cn.open(index), await cn.open(NEIGHBOUR)];
      for (const errno of errnos) {
        await eventually(() => noLockHeld(), 'the write before is confirmed, its lock released');
        makeUnlikeNew(cn.config(index, 'metadata.json'));
        const before = readFileSync(cn.config(index, 'metadata.json'));
        const hits = calls.fail(call, errno, path(uuidOf(index)));
        const put = await session.put('new', errno);
        assert(hits() > 0, `${call} is called`);
        assert.strictEqual(put.code, 'FAILURE', errno);
        assert.match(put.text, FAILURE_TEXTS[errno] ?? /^Could not update metadata\.$/);
        assert(put.ms < AT_ONCE_MS, `${put.ms} ms`);
        if (late !== true) {
          assert.deepStrictEqual(readFileSync(cn.config(index, 'metadata.json')), before);
        }
        assert.deepStrictEqual(temporaryFiles(index), []);
        const other = await neighbour.put('k', `${call} ${errno}`);
        assert.strictEqual(other.code, 'SUCCESS', `of the neighbour: ${other.text}`);
        await eventually(() => isLogged(index, errno), `a record of ${errno}`);
        calls.clear();
        assert.strictEqual((await session.put('new', `after ${errno}`)).code, 'SUCCESS');
        assert.strictEqual(cn.metadata(index).customer.new, `after ${errno}`);
      }
      session.close();
      neighbour.close();
    });
  }

  it('leaves a temporary file that the next write removes when unlink fails too', async () => {
    const index = WRITE_STEPS.length + 1;
    const session = await cn.open(index);
    calls.fail('fsync', 'EIO', `${uuidOf(index)}${TEMP}`);
    const hits = calls.fail('unlink', 'EIO', `${uuidOf(index)}${TEMP}`);
    assert.strictEqual((await session.put('new', 'v')).code, 'FAILURE');
    assert(hits() > 0);
    assert.strictEqual(temporaryFiles(index).length, 1);
    calls.clear();
    assert.strictEqual((await session.put('new', 'v')).code, 'SUCCESS');
    assert.deepStrictEqual(temporaryFiles(index), []);
    assert.strictEqual((await session.get('new')).text, 'v');
    session.close();
  });

  async function noLockHeld(): Promise<boolean> {
    return (await askAdmin(cn.root, '/status')).text.includes('"locksHeld":0');
  }

  function temporaryFiles(index: number): string[] {
    return readdirSync(cn.config(index)).filter((name) => name.includes('mdatad'));
  }

  function isLogged(index: number, errno: Errno): boolean {
    return cn.agent.records.some((record) => {
      return record.zonename === uuidOf(index) && JSON.stringify(record.err ?? '').includes(errno);
    });
  }
});

describeWhere(whyNoFailingCalls(), 'a failing system call of a read', function () {
  this.timeout(120_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;

  before(async function () {
    calls = new FailingCalls();
    const metadata = { customer_metadata: { motd: 'old' }, tags: { role: 'old' } };
    const vms = Array.from({ length: 7 }, (_, index) => osZone(index, metadata));
    cn = await SimulatedNode.start(this, { vms, prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  for (const [n, call] of (['stat', 'open', 'read'] as const).entries()) {
    it(`serves the last data when ${call} fails, and the new file afterwards`, async () => {
      const index = 1 + 2 * n;
      const session = await cn.open(index);
      assert.strictEqual((await session.get('motd')).text, 'old');
      for (const errno of ERRNOS) {
        const hits = calls.fail(call, errno, `${uuidOf(index)}/config/metadata.json$`);
        const { motd } = cn.metadata(index).customer;
        const next = JSON.stringify({ customer_metadata: { motd: errno } });
        cn.replaceConfig(index, 'metadata.json', next);
        const answer = await session.get('motd');
        assert(hits() > 0, `${call} is called`);
        assert.deepStrictEqual([answer.code, answer.text], ['SUCCESS', motd], errno);
        assert.strictEqual((await session.get('sdc:uuid')).text, uuidOf(index));
        assert(await cn.answers(NEIGHBOUR));
        calls.clear();
        assert.strictEqual((await session.get('motd')).text, errno);
      }
      session.close();
    });

    it(`answers FAILURE, not NOTFOUND, and logs it when ${call} fails on the first read`, async () => {
      const index = 2 + 2 * n;
      const session = await cn.open(index);
      for (const errno of ERRNOS) {
        const hits = calls.fail(call, errno, `${uuidOf(index)}/config/`);
        for (const answer of [
          await session.get('motd'),
          await session.get('nosuch'),
          await session.keys(),
          await session.get('sdc:tags.role'),
        ]) {
          assert.strictEqual(answer.code, 'FAILURE', errno);
        }
        assert(hits() > 0);
        assert(await cn.answers(NEIGHBOUR));
        await eventually(() => {
          return cn.records('internal error while handling a request').some((record) => {
            return JSON.stringify(record).includes(errno);
          });
        }, `a record of ${errno}`);
        calls.clear();
      }
      assert.strictEqual((await session.get('motd')).text, 'old');
      assert.strictEqual((await session.get('sdc:tags.role')).text, 'old');
      session.close();
    });
  }
});
