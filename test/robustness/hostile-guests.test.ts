/*
 * Guests that do their worst on one zone's socket, while another zone asks as ever. Among them the known
 * attacks on the nearest peer of this service, Xen's xenstored (XSA-206, XSA-326): floods of writes,
 * replies that nobody reads, values of the greatest size in many requests, floods of events.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { askAdmin } from '../support/admin';
import { Attackers, type IsOver } from '../support/attackers';
import { eventually } from '../support/eventually';
import { frame, putFrame } from '../support/frames';
import { quantile, within } from '../support/guest-session';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { parseExposition, sampleOf } from '../support/prometheus';

/** Each attack has a zone of its own: what it did to itself does not affect the next one. */
const ATTACKS = 14;
const NEIGHBOURS = [100, 101, 102];
const [NEIGHBOUR = 0, WRITER = 0] = NEIGHBOURS;
const MIB = 1024 * 1024;
const BIG = 'v'.repeat(MIB);
const MOST_CONNECTIONS = 64;
/** What one zone that tries can make the agent buffer (limits.ts: 24 MiB), and the heap's own slack. */
const ZONE_MIB = 24 + 120;
const ATTACK_MS = 2000;
/** Who reads nothing keeps its replies for 2 s, in which others may wait; then it is looked for. */
const PATIENCE_MS = 5000;
const SAMPLE_MS = 20;
/** Until all has been asked that is then left. */
const LEAVE_MS = 200;
const READERS = 16;
/** More than a zone may make the agent buffer, many times over. */
const ENDLESS_MIB = 256;
/** Requests for 16 MiB. */
const ASKS = Buffer.concat(
  Array.from({ length: 16 }, (_, n) => frame(n.toString(16).padStart(8, '0'), 'GET', 'big')),
);

describe('a hostile guest', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let neighbour: Neighbour;
  let hostile = -1;
  let attackers: Attackers;

  before(async function () {
    const vms = [
      ...Array.from({ length: ATTACKS }, (_, index) => {
        return osZone(index, { customer_metadata: { big: BIG, small: 'x' } });
      }),
      ...NEIGHBOURS.map((index) => osZone(index, { customer_metadata: { big: BIG } })),
    ];
    cn = await SimulatedNode.start(this, { vms });
    neighbour = await Neighbour.at(cn.socket(NEIGHBOUR), uuidOf(NEIGHBOUR));
  });

  beforeEach(() => {
    hostile++;
    attackers = new Attackers(cn.socket(hostile));
  });

  afterEach('the process lives, and serves the hostile zone too', async () => {
    attackers.hangUp();
    process.kill(cn.agent.pid, 0);
    await eventually(() => cn.answers(hostile), 'the hostile zone is served again');
  });

  after(async () => {
    try {
      await neighbour.leave();
    } finally {
      await cn.stop();
    }
  });

  /**
   * Attacks for a while; a neighbour's GETs and the memory stay as they should be.
   * @returns the most memory that was in use, MiB
   */
  async function withstands(
    attack: (isOver: IsOver) => Promise<void>,
    ms = ATTACK_MS,
  ): Promise<number> {
    const before = cn.rssMib;
    let most = before;
    const sampler = setInterval(() => (most = Math.max(most, cn.rssMib)), SAMPLE_MS);
    try {
      await neighbour.isServedDuring(async () => {
        const end = performance.now() + ms;
        await attack(() => performance.now() > end);
        attackers.hangUp();
      });
    } finally {
      clearInterval(sampler);
    }
    assert(most - before < ZONE_MIB, `${most} MiB, ${before} MiB before`);
    return most;
  }

  async function metric(
    name: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const { text } = await askAdmin(cn.root, '/metrics');
    return sampleOf(parseExposition(text), name, labels) ?? 0;
  }

  const sentBytes = (): Promise<number> => metric('mdatad_bytes_total', { direction: 'sent' });
  const refusals = (reason: string): Promise<number> => metric('mdatad_refusals_total', { reason });

  it('that floods writes from all its connections stalls no other zone (XSA-206)', async () => {
    await withstands(async (isOver) => {
      const flooders = await attackers.dialMany(MOST_CONNECTIONS - 2);
      let n = 0;
      const put = (): Buffer => putFrame('00000001', `flood${n++ % 8}`, `value ${n}`);
      const flood = Promise.all(flooders.map((socket) => attackers.pour(socket, put, isOver)));
      const writer = await cn.open(WRITER);
      const writes: number[] = [];
      while (!isOver()) {
        const answer = await writer.put('status', 'up');
        assert.strictEqual(answer.code, 'SUCCESS');
        writes.push(answer.ms);
        await delay(50);
      }
      writer.close();
      await flood;
      const p90 = quantile(writes, 0.9);
      assert(p90 < 2000, `${p90} ms`);
    });
  });

  it('that never reads its replies is held in bounds, and loses its connections (XSA-326)', async () => {
    const before = await refusals('unread');
    await withstands(async (isOver) => {
      const mutes = await attackers.dialMany(MOST_CONNECTIONS - 2);
      mutes.forEach((socket) => socket.pause());
      await Promise.all(mutes.map((socket) => attackers.pour(socket, () => ASKS, isOver)));
    }, PATIENCE_MS);
    assert((await refusals('unread')) > before, 'who reads nothing is hung up on');
  });

  it('that leaves with all its connections, while its replies are pending, does not stall the others', async () => {
    await withstands(async (isOver) => {
      while (!isOver()) {
        // Where the queue of new connections is full there are none: the neighbour feels that.
        const mutes = await attackers.dialMany(MOST_CONNECTIONS - 2).catch(() => []);
        mutes.forEach((socket) => socket.pause().write(ASKS));
        await delay(LEAVE_MS);
        attackers.hangUp();
      }
    });
  });

  it('that sends values of the greatest size in many requests is held in bounds (XSA-326)', async () => {
    const largest = putFrame('00000001', 'largest', 'x'.repeat(1_100_000));
    await withstands(async (isOver) => {
      const senders = await attackers.dialMany(MOST_CONNECTIONS - 2);
      await Promise.all(senders.map((socket) => attackers.pour(socket, () => largest, isOver)));
    });
  });

  it('that reads big values from all its connections gets no more than its turn', async () => {
    const ask = frame('00000001', 'GET', 'big');
    const before = await sentBytes();
    await withstands(async (isOver) => {
      const readers = await attackers.dialMany(READERS);
      await Promise.all(readers.map((socket) => attackers.read(socket, ask, isOver)));
    });
    const sent = (await sentBytes()) - before;
    assert(sent > READERS * MIB, `${sent} bytes were sent`);
  });

  it(`that sends ${ENDLESS_MIB} MiB without a newline costs a bounded line, and can go on`, async () => {
    const socket = connect(cn.socket(hostile));
    await once(socket, 'connect');
    const before = await refusals('line');
    await withstands(async () => {
      const chunk = Buffer.alloc(MIB, 'a');
      for (let n = 0; n < ENDLESS_MIB; n++) {
        if (!socket.write(chunk)) {
          await once(socket, 'drain');
        }
      }
    });
    const received = once(socket, 'data') as Promise<[Buffer]>;
    socket.write('\n');
    assert.strictEqual(String((await within(received, 5000, 'an answer'))[0]), 'FAILURE\n');
    assert.strictEqual(await refusals('line'), before + 1);
    socket.destroy();
  });

  it('that connects again and again without a request does not keep others out', async () => {
    await withstands(async (isOver) => {
      await attackers.storm(40, isOver);
    });
    await eventually(() => cn.answers(hostile));
  });

  it('that holds all its connections shuts out itself alone, and the log says so', async () => {
    await withstands(async (isOver) => {
      await attackers.dialMany(MOST_CONNECTIONS + 20);
      while (!isOver()) {
        await delay(50);
      }
    });
    const reported = cn.records('refused').filter((record) => {
      return record.zonename === uuidOf(hostile) && record.reason === 'connections';
    });
    assert.strictEqual(reported.length, 1, 'once a minute, with a count');
  });

  it('that writes its requests byte by byte on many connections does not slow the others', async () => {
    await withstands(async (isOver) => {
      const ask = frame('00000001', 'GET', 'small');
      const slow = await attackers.dialMany(30);
      await Promise.all(slow.map((socket) => attackers.trickle(socket, ask, isOver)));
    });
  });

  it('that sends nothing but bad lines fills neither the log nor anybody\u2019s time', async () => {
    const before = cn.agent.records.length;
    await withstands(async (isOver) => {
      const junk = Buffer.from('junk\nV2 1 2 3\nGET\n\0\xff\n '.repeat(200), 'latin1');
      const socket = await attackers.dial();
      socket.resume();
      await attackers.pour(socket, () => junk, isOver);
    });
    const reported = cn.agent.records.slice(before).filter((record) => {
      return record.zonename === uuidOf(hostile) && record.msg === 'refused';
    });
    assert(reported.length < 10, `${reported.length} records of refusals`);
  });

  it('that asks as fast as it can gets no more of the log than its quota', async () => {
    const before = cn.agent.records.length;
    const start = performance.now();
    await withstands(async (isOver) => {
      const socket = await attackers.dial();
      socket.resume();
      const many = Buffer.from('GET small\n'.repeat(100));
      await attackers.pour(socket, () => many, isOver);
    });
    const reported = cn.agent.records.slice(before).filter((record) => {
      return record.zonename === uuidOf(hostile);
    });
    // 500 at once and 50 a second.
    const seconds = (performance.now() - start) / 1000;
    assert(reported.length < 500 + seconds * 100, `${reported.length} records in ${seconds} s`);
  });

  it('that does all of it at once does not stall the others, and stays below the ceiling of the memory', async () => {
    const put = (): Buffer => putFrame('00000001', 'flood', 'value');
    const endless = Buffer.alloc(MIB, 'a');
    const ask = frame('00000001', 'GET', 'small');
    const most = await withstands(async (isOver) => {
      const use = (count: number, attack: (socket: Socket) => Promise<void>): Promise<void> => {
        return attackers.each(count, attack, isOver);
      };
      await Promise.all([
        use(32, (socket) => attackers.pour(socket.pause(), () => ASKS, isOver)),
        use(1, (socket) => attackers.pour(socket, () => endless, isOver)),
        use(16, (socket) => attackers.pour(socket.resume(), put, isOver)),
        use(8, (socket) => attackers.trickle(socket.resume(), ask, isOver)),
        attackers.storm(20, isOver),
      ]);
    }, PATIENCE_MS);
    const ceiling = await metric('mdatad_memory_ceiling_bytes');
    assert(most * MIB < ceiling, `${most} MiB, the ceiling is ${ceiling} B`);
  });

  it('a value of 1 MiB in pieces of 16 bytes costs time in proportion to its length', async () => {
    const cost = async (length: number): Promise<number> => {
      const socket = await attackers.dial();
      socket.resume();
      const bytes = putFrame('00000001', 'pieces', 'p'.repeat(length));
      const answered = once(socket, 'data');
      const before = cn.cpuMs;
      for (let at = 0; at < bytes.length; at += 16) {
        if (!socket.write(bytes.subarray(at, at + 16))) {
          await once(socket, 'drain');
        }
      }
      await answered;
      return cn.cpuMs - before;
    };
    const quarter = await cost(MIB / 4);
    const whole = await cost(MIB);
    assert(whole < 6 * Math.max(quarter, 100), `${quarter} ms for a quarter, ${whole} ms for all`);
  });
});
