/*
 * Disks that hang under some zones, as a pool or a quota in trouble makes them: what those zones write waits
 * for them, and nothing else does.
 */
import assert from 'node:assert';
import { writeFileSync } from 'node:fs';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls } from '../support/failing-calls';
import { portConnections } from '../support/guest-port';
import type { GuestSession } from '../support/guest-session';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const NEIGHBOUR = 0;
const GUEST = 1;
/** Their uuids have this in common, and no other's has. */
const HUNG = Array.from({ length: 12 }, (_, n) => 0x100 + n);
const HUNG_NAME = '-00000000010';
/** For each fsync; a write makes two, of the file and of the directory. */
const HUNG_MS = 4000;
/** Longer than anybody waits. */
const LONG_MS = 15_000;
/** 5 s are promised. */
const STOP_MS = 5500;
/** Well below all of them. */
const SOON_MS = 2000;

describeWhere(whyNoFailingCalls(), `${HUNG.length} zones whose disk hangs`, function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;

  before(async function () {
    calls = new FailingCalls();
    const vms = [NEIGHBOUR, ...HUNG].map((index) => {
      return osZone(index, { customer_metadata: { motd: 'hello' } });
    });
    const guest = osZone(GUEST, { brand: 'bhyve' });
    cn = await SimulatedNode.start(this, { vms: [...vms, guest], prefix: calls.prefix });
  });

  afterEach(() => calls.clear());

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  it('hold up no write, no read and no serial port of others, nor their own reads', async () => {
    const hits = calls.delay('fsync', HUNG_MS, HUNG_NAME);
    const sessions: GuestSession[] = [];
    for (const index of HUNG) {
      sessions.push(await cn.open(index));
    }
    const writing = Promise.all(sessions.map((session) => session.put('k', 'v')));
    await eventually(() => hits() === HUNG.length, 'all hang at once', SOON_MS);

    const neighbour = await cn.open(NEIGHBOUR);
    for (const answer of [
      await neighbour.put('k', 'v'),
      await neighbour.get('k'),
      await neighbour.keys(),
      await neighbour.remove('k'),
    ]) {
      assert.strictEqual(answer.code, 'SUCCESS', answer.text);
      assert(answer.ms < SOON_MS, `${answer.ms} ms`);
    }
    const [first = NEIGHBOUR] = HUNG;
    const beside = await cn.open(first);
    const motd = await beside.get('motd');
    assert(motd.text === 'hello' && motd.ms < SOON_MS, `${motd.text} ${motd.ms} ms`);
    const zoneroot = cn.node.path(`/zones/${uuidOf(GUEST)}/root`);
    await cn.control('reboot', { uuid: uuidOf(GUEST), guest: true });
    await eventually(() => portConnections(zoneroot).length === 1, 'the guest is back', SOON_MS);
    assert.strictEqual(hits(), HUNG.length, 'they hang all the time');

    for (const { code, ms } of await writing) {
      assert.strictEqual(code, 'SUCCESS');
      assert(ms >= 2 * HUNG_MS, `${ms} ms`);
    }
    [neighbour, beside, ...sessions].forEach((session) => session.close());
  });

  it('keep no operator from the health of the others', async () => {
    const [first = NEIGHBOUR] = HUNG;
    const hits = calls.delay('read', LONG_MS, `${uuidOf(first)}/config/tags.json`);
    writeFileSync(cn.config(first, 'tags.json'), '{"a": "b"}');
    const isRead = async (): Promise<boolean> => {
      await askAdmin(cn.root, '/healthz');
      return hits() > 0;
    };
    await eventually(isRead, 'health reads the changed file');
    for (const path of ['/healthz', '/zones', '/metrics', '/status']) {
      const began = performance.now();
      assert.strictEqual((await askAdmin(cn.root, path)).status, 200);
      assert(performance.now() - began < SOON_MS, `${path} took ${performance.now() - began} ms`);
    }
    assert.strictEqual(hits(), 1);
  });

  it('keep neither the agent from stopping nor the next one from starting', async () => {
    const [first = NEIGHBOUR] = HUNG;
    const hits = calls.delay('fsync', LONG_MS, HUNG_NAME);
    const session = await cn.open(first);
    const broken = session.put('k', 'never confirmed').then(() => 'an answer', String);
    await eventually(() => hits() > 0, 'it hangs');
    const began = performance.now();
    await cn.agent.stop();
    assert(performance.now() - began < STOP_MS, `${performance.now() - began} ms`);
    assert.match(await broken, /hung up/);
    calls.clear();
    await cn.startAgent();
    const again = await cn.open(first);
    assert.strictEqual((await again.put('k', 'w')).code, 'SUCCESS');
    again.close();
  });
});
