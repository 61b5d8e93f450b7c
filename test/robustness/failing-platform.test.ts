/*
 * The system calls of a guest's port, of a child process and of libzonecfg fail: the guest, the write or the
 * zone is as it should be when the fault is over, and no other notices anything.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { codeOf } from '../../src/lib/errors';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls } from '../support/failing-calls';
import { frame } from '../support/frames';
import { portConnections } from '../support/guest-port';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const NEIGHBOUR = 0;
const ATTACKED = 1;
const TALKER = 9;
/** The longest pause before the agent reads again, and the read. */
const AGAIN_MS = 20_000;

describeWhere(whyNoFailingCalls(), 'a failing system call of a guest\u2019s port', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;
  const steps = ['socketpair', 'fork'] as const;

  before(async function () {
    calls = new FailingCalls();
    const guests = steps.map((_, n) => osZone(n + 1, { brand: 'bhyve' }));
    const talker = osZone(TALKER, { brand: 'bhyve', customer_metadata: { motd: 'hello' } });
    const vms = [osZone(NEIGHBOUR), ...guests, talker];
    cn = await SimulatedNode.start(this, { vms, prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  /** At most once a minute, whatever fails. */
  function reported(index: number): boolean {
    const records = cn.records('cannot connect to the serial port');
    return records.some((record) => record.zonename === uuidOf(index));
  }

  /** Ends the processes that go below zones' roots for the agent, so that the next dial needs another. */
  function endHelpers(): void {
    for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        if (parent === cn.agent.pid && stat.includes('(zone_root)')) {
          process.kill(Number(pid), 'SIGKILL');
        }
      } catch (err) {
        // It has ended meanwhile.
        assert(['ENOENT', 'ESRCH'].includes(codeOf(err)), String(err));
      }
    }
  }

  function allConnected(): boolean {
    const indexes = [...steps.map((_, n) => n + 1), TALKER];
    return indexes.every((index) => {
      return portConnections(cn.node.path(`/zones/${uuidOf(index)}/root`)).length === 1;
    });
  }

  for (const [n, call] of steps.entries()) {
    it(`connects the guest after ${call} failed`, async () => {
      const index = n + 1;
      const zoneroot = cn.node.path(`/zones/${uuidOf(index)}/root`);
      const connected = (): boolean => portConnections(zoneroot).length === 1;
      for (const errno of ['EMFILE', 'ENOMEM'] as const) {
        // While another guest is dialled a helper may start that is not found to be ended.
        await eventually(allConnected, 'all are connected at first');
        const hits = calls.fail(call, errno);
        endHelpers();
        await cn.control('reboot', { uuid: uuidOf(index), guest: true });
        const failed = (): boolean => {
          endHelpers();
          return hits() > 0 && reported(index);
        };
        await eventually(failed, `${call} fails, and that is logged`);
        assert(await cn.answers(NEIGHBOUR));
        calls.clear();
        await eventually(connected, `after ${errno}`);
      }
    });
  }

  it('retries the dial whenever its helper process is killed', async () => {
    const zoneroot = cn.node.path(`/zones/${uuidOf(1)}/root`);
    for (let turns = 0; turns < 10; turns++) {
      await cn.control('reboot', { uuid: uuidOf(1), guest: true });
      await delay(2 * turns);
      endHelpers();
      await eventually(() => portConnections(zoneroot).length === 1, 'it is connected');
    }
  });

  for (const call of ['read', 'write'] as const) {
    it(`closes one connection when ${call} fails, and answers the guest on the next`, async () => {
      const zoneroot = cn.node.path(`/zones/${uuidOf(TALKER)}/root`);
      const port = connect(cn.node.path(`/zones/${uuidOf(TALKER)}/ttyb`));
      let received = '';
      port.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
      // What is written while nobody has the port is lost: it is asked again, as a guest does.
      const answered = async (): Promise<boolean> => {
        received = '';
        port.write(Buffer.concat([Buffer.from('\n'), frame('0000000a', 'GET', 'motd')]));
        await delay(50);
        return received.includes('0000000a SUCCESS');
      };
      for (const errno of ['ENOMEM', 'EIO'] as const) {
        await eventually(() => portConnections(zoneroot).length === 1, 'it is connected at first');
        const [first = ''] = portConnections(zoneroot);
        const hits = calls.fail(call, errno, `${zoneroot}/tmp/`);
        port.write(frame('0000000b', 'GET', 'motd'));
        const lost = (): boolean => !portConnections(zoneroot).includes(first);
        await eventually(() => hits() > 0 && lost(), `${call} fails`);
        assert(await cn.answers(NEIGHBOUR));
        calls.clear();
        await eventually(answered, `an answer after ${errno}`);
      }
      port.destroy();
    });
  }
});

describeWhere(whyNoFailingCalls(), 'a failing read of the zone index', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;

  before(async function () {
    calls = new FailingCalls();
    cn = await SimulatedNode.start(this, { vms: [osZone(NEIGHBOUR)], prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  for (const [n, errno] of (['ENOMEM', 'EACCES', 'ENOSPC', 'EMFILE'] as const).entries()) {
    it(`serves a zone that was created during ${errno} once it is over`, async () => {
      const index = 1 + n;
      const neighbour = await cn.open(NEIGHBOUR);
      const hits = calls.fail('open', errno, '/etc/zones/index$');
      await cn.control('create', { vms: [osZone(index)], boot: true });
      const reported = (): boolean => {
        const records = cn.records('zone could not be read');
        return records.some(({ zonename }) => zonename === uuidOf(index));
      };
      await eventually(() => hits() > 0 && reported(), 'a record');
      assert(!(await cn.answers(index)));
      assert.strictEqual((await neighbour.get('sdc:uuid')).text, uuidOf(NEIGHBOUR));
      calls.clear();
      await eventually(() => cn.answers(index), `served after ${errno}`, AGAIN_MS);
      neighbour.close();
    });
  }
});

describeWhere(whyNoFailingCalls(), 'a failing system call of a child process', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;

  before(async function () {
    calls = new FailingCalls();
    const vms = [osZone(NEIGHBOUR), osZone(ATTACKED)];
    cn = await SimulatedNode.start(this, {
      vms,
      config: { writer: 'vmadm' },
      prefix: calls.prefix,
    });
  });

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  for (const [call, errnos] of [
    ['fork', ['EAGAIN', 'ENOMEM']],
    ['socketpair', ['EMFILE', 'ENFILE', 'ENOMEM']],
    ['pipe', ['EMFILE', 'ENFILE', 'ENOMEM']],
    ['exec', ['EACCES', 'ENOMEM']],
  ] as const) {
    it(`answers FAILURE when ${call} fails, and makes the next write`, async () => {
      const session = await cn.open(ATTACKED);
      for (const errno of errnos) {
        const hits = calls.fail(call, errno);
        const put = await session.put('k', errno);
        assert(hits() > 0, `${call} is called`);
        assert.deepStrictEqual([put.code, put.text], ['FAILURE', 'Could not update metadata.']);
        assert(await cn.answers(NEIGHBOUR));
        calls.clear();
        assert.strictEqual((await session.put('k', `after ${errno}`)).code, 'SUCCESS');
      }
      const reported = cn
        .records('could not update metadata')
        .map(({ err }) => JSON.stringify(err));
      for (const errno of errnos) {
        assert(
          reported.some((text) => text.includes(errno)),
          `${errno}: ${reported.join()}`,
        );
      }
      session.close();
    });
  }
});
