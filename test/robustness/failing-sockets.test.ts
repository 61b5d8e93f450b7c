/*
 * Every system call of a zone's socket, of the way to vminfod and of the log fails in the ways that a kernel
 * has for it: that zone is named in the log and served when the fault is over, without a restart; the
 * others are served all the time.
 */
import assert from 'node:assert';
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls, type Call, type Errno } from '../support/failing-calls';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const ERRNOS: readonly Errno[] = ['EMFILE', 'ENOSPC', 'EROFS', 'EACCES', 'ENOMEM'];
const NEIGHBOUR = 0;
const ATTACKED = 1;
const FOLLOWED_MS = 5000;

/** The name beside the zones' directories that a socket is made under. */
const ownName = (uuid: string): string => `.${uuid}.`;

const SOCKET_STEPS: readonly (readonly [Call, (uuid: string) => string])[] = [
  ['socket', () => ''],
  ['bind', ownName],
  ['listen', ownName],
  // Of a socket that has no name yet, too.
  ['chmod', () => ''],
  ['rename', (uuid) => `${uuid}/metadata.sock$`],
];

describeWhere(whyNoFailingCalls(), 'a failing system call of a zone socket', function () {
  this.timeout(120_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;
  let next = 2;

  before(async function () {
    calls = new FailingCalls();
    const vms = [NEIGHBOUR, ATTACKED].map((index) => osZone(index));
    cn = await SimulatedNode.start(this, { vms, prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  function reported(index: number, words: string): boolean {
    return cn.agent.records.some((record) => {
      return record.zonename === uuidOf(index) && JSON.stringify(record).includes(words);
    });
  }

  for (const [call, path] of SOCKET_STEPS) {
    it(`makes the socket soon after ${call} failed, and serves other zones meanwhile`, async () => {
      const neighbour = await cn.open(NEIGHBOUR);
      for (const errno of ERRNOS) {
        const index = next++;
        const hits = calls.fail(call, errno, path(uuidOf(index)));
        await cn.control('create', {
          vms: osZone(index, { zone_state: 'installed' }),
          boot: false,
        });
        await eventually(() => reported(index, errno), `a record of ${errno}`);
        assert(hits() > 0, `${call} is called`);
        assert.strictEqual((await neighbour.get('sdc:uuid')).text, uuidOf(NEIGHBOUR));
        calls.clear();
        await eventually(() => cn.answers(index), `after ${errno}`, 20_000);
      }
      neighbour.close();
    });
  }

  it('makes a removed directory soon after mkdir failed', async () => {
    const index = next++;
    await cn.control('create', {
      vms: osZone(index, { zone_state: 'installed' }),
      boot: false,
    });
    await eventually(() => cn.answers(index));
    calls.fail('mkdir', 'ENOMEM', `zonecontrol/${uuidOf(index)}$`);
    rmSync(dirname(cn.socket(index)), { recursive: true });
    // node:fs loses the errno of a directory that it makes with those above it.
    await eventually(() => reported(index, 'cannot create the zone socket'), 'a record');
    assert(await cn.answers(NEIGHBOUR));
    calls.clear();
    await eventually(() => cn.answers(index), 'it is made', 20_000);
  });

  for (const [call, words] of [
    ['accept', 'cannot accept a connection'],
    ['peer', 'getpeerucred'],
  ] as const) {
    it(`lets a client connect after ${call} failed`, async () => {
      const inside = await cn.open(ATTACKED);
      // Who was answered was accepted.
      await inside.get('sdc:uuid');
      for (const errno of ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS'] as const) {
        const hits = calls.fail(call, errno, ownName(uuidOf(ATTACKED)));
        const outside = cn.open(ATTACKED).catch(() => null);
        await eventually(() => hits() > 0, `${call} is called`);
        assert(await cn.answers(NEIGHBOUR), errno);
        if (call === 'accept') {
          assert.strictEqual((await inside.get('sdc:uuid')).text, uuidOf(ATTACKED), errno);
        }
        calls.clear();
        (await outside)?.close();
        await eventually(() => cn.answers(ATTACKED), `after ${errno}`);
      }
      await eventually(() => reported(ATTACKED, words), 'a record');
      inside.close();
    });
  }

  for (const call of ['read', 'write'] as const) {
    it(`closes one connection, and no other, when ${call} fails`, async () => {
      for (const errno of ['ENOMEM', 'EIO'] as const) {
        const session = await cn.open(ATTACKED);
        const neighbour = await cn.open(NEIGHBOUR);
        assert.strictEqual((await session.get('sdc:uuid')).code, 'SUCCESS');
        const hits = calls.fail(call, errno, ownName(uuidOf(ATTACKED)));
        await assert.rejects(session.get('sdc:uuid'), /hung up/);
        assert(hits() > 0);
        assert.strictEqual((await neighbour.get('sdc:uuid')).code, 'SUCCESS');
        calls.clear();
        assert(await cn.answers(ATTACKED));
        session.close();
        neighbour.close();
      }
    });
  }

  it('replaces a removed socket although the directory cannot be watched', async () => {
    for (const errno of ['ENOSPC', 'EMFILE', 'ENOMEM'] as const) {
      const index = next++;
      const hits = calls.fail('watch', errno, `zonecontrol/${uuidOf(index)}`);
      await cn.control('create', { vms: [osZone(index)], boot: true });
      await eventually(() => cn.answers(index));
      assert(hits() > 0);
      rmSync(cn.socket(index));
      await eventually(() => cn.answers(index), `with ${errno}`);
      calls.clear();
    }
  });

  it('serves all zones while connect to vminfod fails, and follows it afterwards', async () => {
    const again = (): number => cn.records('following vminfod again').length;
    for (const errno of ['ENOMEM', 'EMFILE', 'EACCES'] as const) {
      const before = again();
      const hits = calls.fail('connect', errno, 'vminfod.sock$');
      await cn.fault('vminfod.down');
      await cn.clearFaults();
      await eventually(() => hits() > 2, 'it is tried again and again');
      assert(await cn.answers(NEIGHBOUR));
      const over = performance.now();
      calls.clear();
      await eventually(() => again() > before, `after ${errno}`, 20_000);
      assert(performance.now() - over < FOLLOWED_MS, `${performance.now() - over} ms`);
    }
  });

  it('delays no request while writes to the log fail, and counts lost records', async () => {
    const session = await cn.open(NEIGHBOUR);
    const hits = calls.fail('write', 'ENOSPC', 'socket:[');
    for (let n = 0; n < 50; n++) {
      assert.strictEqual((await session.get('sdc:uuid')).code, 'SUCCESS');
    }
    await eventually(() => hits() > 0, 'the log is written');
    calls.clear();
    await eventually(async () => {
      await session.get('sdc:uuid');
      return cn.records('log records were lost').some((record) => Number(record.lost) > 0);
    }, 'the log names it');
    session.close();
  });
});
