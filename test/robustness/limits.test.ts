/*
 * Each limit of a zone, met by a guest of the real agent: which reply the guest gets, that the log names zone
 * and limit once and not each time, and that a metric counts every time.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import type { JsonObject } from '../../src/metadata/vm-data';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { parseExposition, sampleOf } from '../support/prometheus';
import { failed, firstOf, succeeded, ZoneGuests } from '../support/zone-guests';

const LIMITS = {
  line_bytes: 4096,
  unsent_bytes: 4096,
  queued_requests: 4,
  connections: 600,
  idle_seconds: 8,
  writes_per_second: 2,
  write_burst: 8,
  metadata_bytes: 4096,
  metadata_keys: 16,
  records_per_second: 5,
  record_burst: 20,
};
/** More than a socket's buffers take, and more than `unsent_bytes`. */
const BIG = 'v'.repeat(1024 * 1024);
/** So many changes of one VM may wait, and twice `metadata_bytes` of them. */
const MOST_WAITING = 512;
const HALF_LINE = 'x'.repeat(1800);
const FULL = 'x'.repeat(3900);
/** Requests that are more than a socket's buffers take together. */
const LONG_KEY = 'k'.repeat(2500);
const FLOOD = 400;
const PUTS = 12;

interface Case {
  /** The label of its counter, and of its record. */
  readonly reason: string;
  readonly what: string;
  readonly customer?: JsonObject;
  /** How often the limit is met; where that is up to timing, at least and at most. */
  readonly hits: readonly [least: number, most: number];
  /** Meets the limit, and asserts the guest's reply. */
  readonly meet: (zone: ZoneGuests) => Promise<void>;
}

const CASES: readonly Case[] = [
  {
    reason: 'line',
    what: 'a request line that is too long is FAILURE, and the session goes on',
    hits: [3, 3],
    async meet(zone) {
      const session = await zone.open();
      for (let n = 0; n < 3; n++) {
        failed(await session.put('k', 'x'.repeat(LIMITS.line_bytes)), 'Request too large');
      }
      succeeded(await session.get('sdc:uuid'));
    },
  },
  {
    reason: 'unsent',
    what: 'while replies are not read, big ones wait and small ones go on',
    customer: { big: BIG },
    // Two wait; the room for one is offered to both, and one of them waits again.
    hits: [2, 3],
    async meet(zone) {
      const [mute, small, ...others] = await zone.openMany(4);
      assert(mute !== undefined && small !== undefined);
      mute.socket.pause();
      const unread = mute.get('big').catch(() => null);
      await eventually(async () => (await small.get('sdc:uuid')).code === 'SUCCESS');
      const late = others.map((other) => other.get('big'));
      succeeded(await small.get('sdc:uuid'));
      for (const answer of await Promise.all(late)) {
        assert.strictEqual(answer.text, BIG);
      }
      mute.close();
      assert.strictEqual(await unread, null);
    },
  },
  {
    reason: 'unread',
    what: 'who does not read its replies while others wait for the room is hung up on, no one else',
    customer: { big: BIG },
    hits: [1, 1],
    async meet(zone) {
      const [mute, idle, other] = await zone.openMany(3);
      assert(mute !== undefined && idle !== undefined && other !== undefined);
      mute.socket.pause();
      const unread = mute.get('big').catch(() => null);
      succeeded(await idle.get('sdc:uuid'), await other.get('big'), await idle.get('sdc:uuid'));
      const closed = once(mute.socket, 'close');
      mute.socket.resume();
      // What the kernel had buffered is still there.
      assert([undefined, BIG].includes((await unread)?.text));
      await closed;
    },
  },
  {
    reason: 'queue',
    what: 'a connection with too many requests that wait is not read until they are answered',
    hits: [1, 1],
    async meet(zone) {
      await zone.lock();
      const session = await zone.open();
      const put = session.put('k', 'v');
      const gets = Array.from({ length: FLOOD }, () => session.get(LONG_KEY));
      const other = await zone.open();
      await eventually(async () => {
        const { writableLength } = session.socket;
        succeeded(await other.get('sdc:uuid'));
        return writableLength > 0 && writableLength === session.socket.writableLength;
      }, 'the agent does not read');
      await zone.unlock();
      succeeded(await put);
      const codes = new Set((await Promise.all(gets)).map(({ code }) => code));
      assert.deepStrictEqual([...codes], ['NOTFOUND']);
    },
  },
  {
    reason: 'connections',
    what: 'one connection too many is closed without a word, and those before it are served',
    hits: [5, 5],
    async meet(zone) {
      const sessions = await zone.openMany(LIMITS.connections);
      await Promise.all(Array.from({ length: 5 }, () => zone.outlastSilent()));
      for (const session of [sessions[0], sessions.at(-1)]) {
        assert(session !== undefined);
        succeeded(await session.get('sdc:uuid'));
      }
    },
  },
  {
    reason: 'idle',
    what: 'a silent connection is closed, and one that asks is not',
    hits: [2, 2],
    async meet(zone) {
      const busy = await zone.open();
      let closed = 0;
      for (let n = 0; n < 2; n++) {
        void zone.outlastSilent().then(() => closed++);
      }
      await eventually(
        async () => {
          succeeded(await busy.get('sdc:uuid'));
          return closed === 2;
        },
        'silent ones are closed',
        4000 * LIMITS.idle_seconds,
      );
    },
  },
  {
    reason: 'writes',
    what: 'writes that come too fast wait, and are stored',
    hits: [1, PUTS - LIMITS.write_burst],
    async meet(zone) {
      const began = performance.now();
      const sessions = await zone.openMany(PUTS);
      const puts = sessions.map((session, n) => session.put('k', `value ${n}`));
      succeeded(...(await Promise.all(puts)));
      const least = ((PUTS - LIMITS.write_burst - 1) / LIMITS.writes_per_second) * 1000;
      assert(performance.now() - began >= least);
    },
  },
  {
    reason: 'keys',
    what: 'one key too many is refused in words; what is there can be changed and removed',
    hits: [3, 3],
    async meet(zone) {
      const session = await zone.open();
      for (let n = zone.keys; n < LIMITS.metadata_keys; n++) {
        succeeded(await session.put(`k${n}`, 'v'));
      }
      assert.strictEqual(zone.keys, LIMITS.metadata_keys);
      for (let n = 0; n < 3; n++) {
        failed(await session.put(`more${n}`, 'v'), 'Too many metadata keys.');
      }
      const last = `k${LIMITS.metadata_keys - 1}`;
      succeeded(await session.put(last, 'w'), await session.remove(last));
      succeeded(await session.put('more', 'v'));
    },
  },
  {
    reason: 'size',
    what: 'metadata that is too large in all is refused in words; removing is the way back',
    customer: { full: FULL },
    hits: [2, 2],
    async meet(zone) {
      const session = await zone.open();
      for (const key of ['a', 'b']) {
        failed(await session.put(key, 'x'.repeat(300)), 'Metadata is full.');
      }
      succeeded(await session.remove('full'), await session.put('a', 'x'.repeat(300)));
    },
  },
  {
    reason: 'waiting-writes',
    what: 'changes are refused at once, in words, when too many bytes of them wait',
    hits: [2, 2],
    async meet(zone) {
      await zone.lock();
      const sessions = await zone.openMany(6);
      const puts = sessions.map((session, n) => session.put(`k${n}`, HALF_LINE));
      const refused = await firstOf(puts, 2);
      refused.forEach((answer) => failed(answer, 'Too many metadata updates.'));
      await zone.unlock();
      const [first, ...others] = (await Promise.all(puts)).filter((one) => !refused.includes(one));
      assert(first !== undefined && others.length === 3);
      succeeded(first);
      // Half as many bytes may be stored as may wait.
      others.slice(1).forEach((answer) => failed(answer, 'Metadata is full.'));
    },
  },
  {
    reason: 'waiting-writes',
    what: 'changes are refused at once, in words, when too many of them wait',
    hits: [8, 8],
    async meet(zone) {
      await zone.lock();
      const sessions = await zone.openMany(MOST_WAITING + 8);
      const puts = sessions.map((session, n) => session.put('k', String(n)));
      const refused = await firstOf(puts, 8);
      assert.strictEqual(refused.length, 8);
      refused.forEach((answer) => failed(answer, 'Too many metadata updates.'));
    },
  },
];

describe('the limits of a zone', function () {
  this.timeout(60_000);
  /** The zone that floods the log comes after those of the cases. */
  const noisy = CASES.length;
  let cn: SimulatedNode;

  before(async function () {
    const vms = CASES.map(({ customer = {} }, index) => {
      return osZone(index, { customer_metadata: customer });
    });
    cn = await SimulatedNode.start(this, {
      vms: [...vms, osZone(noisy)],
      config: { limits: LIMITS },
    });
  });

  afterEach(() => cn.clearFaults());

  after(() => cn.stop());

  async function count(name: string, labels: Readonly<Record<string, string>>): Promise<number> {
    const { text } = await askAdmin(cn.root, '/metrics');
    return sampleOf(parseExposition(text), name, labels) ?? 0;
  }

  function ofZone(index: number, msg: string): readonly JsonObject[] {
    return cn.records(msg).filter(({ zonename }) => zonename === uuidOf(index));
  }

  for (const [index, { reason, what, hits, meet }] of CASES.entries()) {
    it(`${reason}: ${what}`, async () => {
      const [least, most] = hits;
      const counted = (): Promise<number> => count('mdatad_refusals_total', { reason });
      const reported = (): readonly JsonObject[] => {
        return ofZone(index, 'refused').filter((record) => record.reason === reason);
      };
      const before = await counted();
      const zone = new ZoneGuests(cn, index);
      try {
        await meet(zone);
        await eventually(() => reported().length > 0, 'a record with the zone and the limit');
        await eventually(async () => (await counted()) - before >= least, 'the counter');
        const met = (await counted()) - before;
        assert(met <= most, `counted ${met} times`);
        const ofItsOwn = { zonename: uuidOf(index) };
        assert((await count('mdatad_zone_refusals_total', ofItsOwn)) >= met);
        assert.strictEqual(reported().length, 1, 'once a minute');
      } finally {
        zone.close();
      }
    });
  }

  it('log: records over the quota are left out, their number is logged and counted', async () => {
    const suppressed = (): Promise<number> => count('mdatad_log_records_suppressed_total', {});
    const before = await suppressed();
    const session = await cn.open(noisy);
    succeeded(...(await Promise.all(Array.from({ length: 500 }, () => session.get('sdc:uuid')))));
    session.close();
    const written = (): number => ofZone(noisy, 'handled GET').length;
    const reported = (): number[] => {
      const records = ofZone(noisy, 'log records of this zone were suppressed');
      return records.map((record) => Number(record.suppressed));
    };
    const sum = (): number => reported().reduce((all, some) => all + some, 0);
    await eventually(() => written() + sum() === 500, 'all are written or counted');
    assert(written() >= LIMITS.record_burst && written() < 100, `${written()} records`);
    assert(reported().length < 5, `${reported().length} records of what was left out`);
    assert.strictEqual((await suppressed()) - before, sum());
  });
});
