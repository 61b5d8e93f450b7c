/*
 * A system call that the agent cannot start without fails: it ends at once with the exit code that SMF has
 * for it and says on stderr what it could not do; started again when that is over, it serves.
 */
import assert from 'node:assert';
import { FailingCalls, whyNoFailingCalls, type Call, type Errno } from '../support/failing-calls';
import { AgentProcess } from '../support/guest-agent';
import { describeWhere } from '../support/pending';
import { osZone, uuidOf } from '../support/simulated-node';
import { SimNode, whyNoNode } from '../support/simcn';
import { GuestSession } from '../support/guest-session';

const CANNOT_GO_ON = 95;
const NOT_PERMITTED = 100;

interface Need {
  readonly what: string;
  readonly call: Call;
  readonly path: string;
  /** What is said besides the errno. */
  readonly words: RegExp;
  /** What the platform's library makes of any errno. */
  readonly always?: Errno;
}

const NEEDS: readonly Need[] = [
  { what: 'its directory', call: 'mkdir', path: '/var/run/mdatad$', words: /mkdir.*run\/mdatad/ },
  { what: 'its lock', call: 'lock', path: '/agent.lock$', words: /lock.*agent\.lock/ },
  { what: "its lock's file", call: 'open', path: '/agent.lock$', words: /lock.*agent\.lock/ },
  {
    what: "the operators' socket",
    call: 'bind',
    path: '/var/run/.mdatad',
    words: /bind.*run\/\.mdatad/,
  },
  { what: 'the zone index', call: 'open', path: '/etc/zones/index$', words: /zones\/index/ },
  {
    what: 'the zone events',
    call: 'open',
    path: '/evchan$',
    words: /zonecfg_notify_bind/,
    always: 'EIO',
  },
];
const ERRNOS: readonly Errno[] = ['ENOMEM', 'EMFILE', 'EPERM'];

describeWhere(
  whyNoFailingCalls() ?? whyNoNode(),
  'a failing system call of the start',
  function () {
    this.timeout(60_000);
    let calls: FailingCalls;
    let node: SimNode;

    before(async () => {
      calls = new FailingCalls();
      node = await SimNode.start({ vms: [osZone(0)] });
    });

    afterEach(() => calls.clear());

    after(async () => {
      await node.stop();
      calls.remove();
    });

    for (const { what, call, path, words, always } of NEEDS) {
      it(`exits with a code and a message when ${call} of ${what} fails`, async () => {
        for (const errno of ERRNOS) {
          const expected = always ?? errno;
          const code = expected === 'EPERM' ? NOT_PERMITTED : CANNOT_GO_ON;
          const hits = calls.fail(call, errno, path);
          await assert.rejects(AgentProcess.start(node.root, [], calls.prefix), (err: Error) => {
            const said = /"stderr":"mdatad: cannot start: ([^"]*)"/.exec(err.message)?.[1] ?? '';
            assert.match(err.message, new RegExp(`^mdatad ended with ${code}:`));
            assert.match(said, words);
            assert.match(said, new RegExp(expected));
            return true;
          });
          assert(hits() > 0, `${call} is called`);
          calls.clear();
        }
        const agent = await AgentProcess.start(node.root, [], calls.prefix);
        const session = await GuestSession.open(
          node.path(`/var/zonecontrol/${uuidOf(0)}/metadata.sock`),
        );
        assert.strictEqual((await session.get('sdc:uuid')).text, uuidOf(0));
        session.close();
        await agent.stop();
      });
    }
  },
);
