/*
 * The sockets are there: when somebody removes one, when the agent is killed and started again under
 * the hands of clients that try again, when two agents are started.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { lstatSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AgentProcess } from '../support/guest-agent';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { GuestSession } from '../support/guest-session';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const MDATAD = join(__dirname, '..', '..', 'src', 'main.js');
const MANY = 250;
const CLIENTS = 25;
/** What is promised. */
const BACK_MS = 2000;
const ENDED_MS = 5000;
const ROUNDS = 3;
/** In the middle of a start with many zones. */
const STARTING_MS = 300;

describe('a zone socket', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [1, 2].map((index) => osZone(index)) });
  });

  after(() => cn.stop());

  /** A program that removes it again within a second is a rival, and gets longer and longer pauses. */
  const calm = (): Promise<void> => delay(1100);

  async function servedAgain(index: number): Promise<number> {
    const start = performance.now();
    await eventually(() => cn.answers(index), 'the socket is served', 10_000);
    return performance.now() - start;
  }

  /** It is removed, and is back in time. */
  async function comesBack(index: number, away: () => void | Promise<void>): Promise<void> {
    const ms = await bestMs(BACK_MS, async () => {
      await calm();
      await away();
      return servedAgain(index);
    });
    assert(ms < BACK_MS, `${ms} ms`);
  }

  it('is back within 2 s when it was removed', async () => {
    const open = await cn.open(1);
    await comesBack(1, () => rmSync(cn.socket(1)));
    assert.strictEqual((await open.get('sdc:uuid')).code, 'SUCCESS', 'who was in stays in');
    open.close();
  });

  it('is back within 2 s when another file or socket was put in its place', async () => {
    await comesBack(1, () => {
      rmSync(cn.socket(1));
      writeFileSync(cn.socket(1), '');
    });
    const others: Server[] = [];
    await comesBack(1, async () => {
      rmSync(cn.socket(1));
      const other = createServer((socket) => socket.destroy()).listen(cn.socket(1));
      others.push(other);
      await once(other, 'listening');
    });
    for (const other of others) {
      // At its end node:net removes whatever is at its path by then, and that is ours.
      await calm();
      other.close();
      await once(other, 'close');
      await servedAgain(1);
    }
  });

  it('is back within 2 s when its whole directory was removed', async () => {
    await cn.control('shutdown', { uuid: uuidOf(2) });
    await comesBack(2, () => rmSync(join(cn.socket(2), '..'), { recursive: true }));
    assert.strictEqual(lstatSync(cn.socket(2)).mode & 0o777, 0o600);
  });

  it('is not made again in a busy loop: a program that removes it all the time costs next to no CPU', async () => {
    const before = cn.cpuMs;
    const end = performance.now() + 2000;
    while (performance.now() < end) {
      rmSync(cn.socket(1), { force: true });
      await delay(1);
    }
    const used = cn.cpuMs - before;
    assert(used < 1500, `${used} ms of CPU`);
    await eventually(() => cn.answers(1), 'it is served when that ends', 10_000);
  });
});

describe(`an agent killed with ${MANY} zones and clients that try again`, function () {
  this.timeout(120_000);
  let cn: SimulatedNode;

  before(async function () {
    const vms = Array.from({ length: MANY }, (_, index) => osZone(index));
    cn = await SimulatedNode.start(this, { vms });
  });

  after(() => cn.stop());

  it('listens everywhere within 2 s of its new start, and no client misses it for longer', async () => {
    const indexes = Array.from({ length: CLIENTS }, (_, n) => n * Math.floor(MANY / CLIENTS));
    const longest = await bestMs(BACK_MS, async () => {
      const life = { over: false };
      const clients = indexes.map((index) => retry(cn.socket(index), life));
      await delay(300);
      await cn.agent.kill();
      await cn.startAgent();
      const ready = cn.records('ready')[0];
      assert.strictEqual(ready?.sockets, MANY);
      await delay(200);
      life.over = true;
      return Math.max(Number(ready.elapsed_ms), ...(await Promise.all(clients)));
    });
    assert(longest < BACK_MS, `${longest} ms`);
    for (let index = 0; index < MANY; index += 7) {
      assert(await cn.answers(index), `zone ${index}`);
    }
  });

  it('a second agent started meanwhile ends with a clear message, and the first serves all zones', async () => {
    await cn.agent.stop();
    const first = AgentProcess.start(cn.root);
    first.catch(() => undefined);
    await delay(STARTING_MS);
    cn.agent = await oneServes([first, AgentProcess.start(cn.root)]);
    assert.strictEqual(cn.records('ready')[0]?.sockets, MANY);
    for (let index = 0; index < MANY; index += 7) {
      assert(await cn.answers(index), `zone ${index}`);
    }
  });

  it('leaves no descriptor, socket file or lock behind by being killed again and again', async () => {
    const descriptors = cn.descriptors;
    for (let n = 0; n < 3; n++) {
      await cn.agent.kill();
      await cn.startAgent();
    }
    await eventually(() => cn.descriptors <= descriptors + 2, 'descriptors are as before');
    const left = spawnSync('find', [`${cn.root}/var/zonecontrol`, '-name', '.*.*'], {
      encoding: 'utf8',
    });
    assert.strictEqual(left.stdout, '', 'sockets under temporary names');
  });
});

describe('an agent that is stopped, and a second one', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [1, 2].map((index) => osZone(index)) });
  });

  after(() => cn.stop());

  it('two agents started at once: one serves, the other refuses to run and says why', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await cn.agent.stop();
      const both = [AgentProcess.start(cn.root), AgentProcess.start(cn.root)];
      cn.agent = await oneServes(both);
      assert(await cn.answers(1));
      assert(await cn.answers(2));
      process.kill(cn.agent.pid, 0);
    }
  });

  it('a second agent refuses to run and says why, and the first serves on', async () => {
    const session = await cn.open(1);
    const second = spawnSync(process.execPath, [MDATAD, '--root', cn.root], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    assert.strictEqual(second.status, 95);
    assert.match(second.stderr, /another mdatad serves this node: stop it first/);
    assert.strictEqual((await session.get('sdc:uuid')).code, 'SUCCESS');
    assert(await cn.answers(2), 'the sockets are still the first one\u2019s');
    session.close();
  });

  it('SIGTERM: what was asked is answered first, writes too', async () => {
    await cn.fault('lock.held=700', 1);
    const session = await cn.open(1);
    const reader = await cn.open(2);
    const put = session.put('last', 'words');
    const gets = Array.from({ length: 8 }, () => reader.get('sdc:uuid'));
    await delay(100);
    const stopped = cn.agent.stop();
    assert.strictEqual((await put).code, 'SUCCESS');
    for (const answer of await Promise.all(gets)) {
      assert.strictEqual(answer.text, uuidOf(2));
    }
    await stopped;
    assert(endingMs() < ENDED_MS, 'it ends within 5 s');
    assert.strictEqual(cn.metadata(1).customer.last, 'words');
    await assert.rejects(GuestSession.open(cn.socket(1)));
    await cn.clearFaults();
    cn.agent = await AgentProcess.start(cn.root);
  });

  it('SIGTERM with a write that hangs: it ends within 5 s all the same', async () => {
    const ms = await bestMs(ENDED_MS, async () => {
      await cn.fault('lock.held', 1);
      const session = await cn.open(1);
      const put = session.put('never', 'stored').catch(() => null);
      await delay(100);
      await cn.agent.stop();
      const answer = await put;
      assert.notStrictEqual(answer?.code, 'SUCCESS');
      const took = endingMs();
      await cn.clearFaults();
      cn.agent = await AgentProcess.start(cn.root);
      return took;
    });
    assert(ms < ENDED_MS, `${ms} ms`);
    const after = await cn.open(1);
    assert.strictEqual((await after.get('never')).code, 'NOTFOUND');
    after.close();
  });

  /** From the signal to its last word, by the agent's own clock, ms. */
  function endingMs(): number {
    const [begun] = cn.records('stopping');
    const last = cn.agent.records.at(-1);
    assert(begun !== undefined && last !== undefined);
    return Date.parse(String(last.time)) - Date.parse(String(begun.time));
  }
});

/** Of agents that start on one node exactly one gets ready, and the others say why they do not. */
async function oneServes(starting: readonly Promise<AgentProcess>[]): Promise<AgentProcess> {
  const ends = await Promise.allSettled(starting);
  const ready = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  const [one, ...more] = ready;
  if (one === undefined || more.length > 0) {
    await Promise.all(ready.map((agent) => agent.kill()));
    assert.fail(`${ready.length} serve`);
  }
  for (const end of ends) {
    if (end.status === 'rejected') {
      assert.match(String(end.reason), /mdatad ended with 95/);
      assert.match(String(end.reason), /another mdatad serves this node: stop it first/);
    }
  }
  return one;
}

/** Asks again and again with new connections. @returns the longest time without an answer, ms */
async function retry(path: string, life: { over: boolean }): Promise<number> {
  let last = performance.now();
  let longest = 0;
  while (!life.over) {
    const session = await GuestSession.open(path).catch(() => null);
    const answer = await session?.get('sdc:uuid').catch(() => null);
    session?.close();
    if (answer?.code === 'SUCCESS') {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }
    await delay(10);
  }
  return longest;
}
