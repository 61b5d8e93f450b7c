/*
 * The system calls of a guest's port and of a child process fail: the guest or the write is as it should be
 * when the fault is over, and no other notices anything.
 */
import assert from 'node:assert';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls } from '../support/failing-calls';
import { portConnections } from '../support/guest-port';
import { describeWhere } from '../support/pending';
import { osZone, PlayedNode, uuidOf } from '../support/played-node';

const NEIGHBOUR = 0;
const ATTACKED = 1;

describeWhere(whyNoFailingCalls(), 'a system call of a guest\u2019s port that fails', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let played: PlayedNode;
  const steps = ['stat', 'socket', 'connect'] as const;

  before(async function () {
    calls = new FailingCalls();
    const guests = steps.map((_, n) => osZone(n + 1, { brand: 'bhyve' }));
    const vms = [osZone(NEIGHBOUR), ...guests];
    played = await PlayedNode.start(this, { vms, prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await played.stop();
    calls.remove();
  });

  /** At most once a minute, whatever fails. */
  function told(index: number): boolean {
    const records = played.records('could not use the port of the VM');
    return records.some((record) => record.zonename === uuidOf(index));
  }

  for (const [n, call] of steps.entries()) {
    it(`${call}: the guest is connected when that is over`, async () => {
      const index = n + 1;
      const zoneroot = played.node.path(`/zones/${uuidOf(index)}/root`);
      const connected = (): boolean => portConnections(zoneroot).length === 1;
      await eventually(connected, 'it is connected at first');
      for (const errno of ['EMFILE', 'ENOMEM', 'EACCES'] as const) {
        const path = call === 'socket' ? '' : `${uuidOf(index)}/root/tmp/vm.ttyb$`;
        const hits = calls.fail(call, errno, path);
        await played.control('reboot', { uuid: uuidOf(index), guest: true });
        await eventually(() => hits() > 0 && told(index), `${call} fails, and that is told`);
        assert(call === 'socket' || (await played.answers(NEIGHBOUR)));
        calls.clear();
        await eventually(connected, `after ${errno}`);
      }
    });
  }
});

describeWhere(whyNoFailingCalls(), 'a system call of a child process that fails', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let played: PlayedNode;

  before(async function () {
    calls = new FailingCalls();
    const vms = [osZone(NEIGHBOUR), osZone(ATTACKED)];
    played = await PlayedNode.start(this, {
      vms,
      config: { writer: 'vmadm' },
      prefix: calls.prefix,
    });
  });

  after(async () => {
    await played.stop();
    calls.remove();
  });

  for (const [call, errnos] of [
    ['fork', ['EAGAIN', 'ENOMEM']],
    ['socketpair', ['EMFILE', 'ENFILE', 'ENOMEM']],
    ['pipe', ['EMFILE', 'ENFILE', 'ENOMEM']],
  ] as const) {
    it(`${call}: FAILURE, and the next write is made`, async () => {
      const session = await played.open(ATTACKED);
      for (const errno of errnos) {
        const hits = calls.fail(call, errno);
        const put = await session.put('k', errno);
        assert(hits() > 0, `${call} is called`);
        assert.deepStrictEqual([put.code, put.text], ['FAILURE', 'Could not update metadata.']);
        assert(await played.answers(NEIGHBOUR));
        calls.clear();
        assert.strictEqual((await session.put('k', `after ${errno}`)).code, 'SUCCESS');
      }
      const told = played
        .records('could not update metadata')
        .map(({ err }) => JSON.stringify(err));
      for (const errno of errnos) {
        assert(
          told.some((text) => text.includes(errno)),
          `${errno}: ${told.join()}`,
        );
      }
      session.close();
    });
  }
});
