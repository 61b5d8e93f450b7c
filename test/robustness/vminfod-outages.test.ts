/*
 * vminfod that stops, dies, comes late, or sends wrong data: the agent lives, serves, and is right again soon.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { portConnections } from '../support/guest-port';
import { GuestSession, type Answer } from '../support/guest-session';
import { AgentProcess } from '../support/guest-agent';
import { LyingVminfod } from '../support/lying-vminfod';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const RESTARTS = 100;
/** After so many restarts that nobody waits for, one is waited for. */
const BLIND = 4;
const AGAIN = 'following vminfod again';
/** What is promised, from vminfod's return on. */
const RECONCILED_MS = 5000;
const SLOW_MS = 3000;
/** A guest waits 5 s for a VM that is not known yet; the rest is the machine's. */
const UNKNOWN_MS = 5000 + 1500;
const GUEST = 8;
const WRITER = 9;
/** Below a guest's write quota, 20 a second. */
const WRITE_PAUSE_MS = 60;
const MIB = 1024 * 1024;

/** Answered from the files, from vminfod alone, and all names. */
const QUESTIONS: readonly ((session: GuestSession) => Promise<Answer>)[] = [
  (session) => session.get('sdc:uuid'),
  (session) => session.get('motd'),
  (session) => session.get('sdc:nics'),
  (session) => session.keys(),
];

/** Asks one zone again and again until it is ended. @returns how many answers there were */
async function load(session: GuestSession, life: { over: boolean }): Promise<number> {
  const before = await Promise.all(QUESTIONS.map((ask) => ask(session)));
  let answers = 0;
  while (!life.over) {
    for (const [index, ask] of QUESTIONS.entries()) {
      const { code, text } = await ask(session);
      assert.deepStrictEqual([code, text], ['SUCCESS', before[index]?.text]);
      answers++;
    }
    await delay(1);
  }
  return answers;
}

/** Writes one key again and again until it is ended. @returns the last value that was stored */
async function write(session: GuestSession, life: { over: boolean }): Promise<string> {
  for (let n = 0; ; n++) {
    const value = `write ${n}`;
    assert.strictEqual((await session.put('written', value)).code, 'SUCCESS');
    if (life.over) {
      return value;
    }
    await delay(WRITE_PAUSE_MS);
  }
}

describe('vminfod that comes and goes', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;

  before(async function () {
    const nics = [{ interface: 'net0', mac: '90:b8:d0:f5:e4:f5', ip: '10.2.1.20' }];
    const known = { customer_metadata: { motd: 'hello' }, nics };
    const vms = [
      ...[1, 2, 3, WRITER].map((index) => osZone(index, known)),
      osZone(GUEST, { ...known, brand: 'bhyve' }),
    ];
    cn = await SimulatedNode.start(this, { vms });
  });

  after(() => cn.stop());

  it(`killed ${RESTARTS} times under load costs no request, no port and no process`, async () => {
    const { pid } = cn.agent;
    const life = { over: false };
    const zoneroot = cn.node.path(`/zones/${uuidOf(GUEST)}/root`);
    await eventually(() => portConnections(zoneroot).length === 1, 'the agent is on the port');
    const connections = portConnections(zoneroot);
    const sessions = await Promise.all([
      ...[1, 2, 3].map((index) => cn.open(index)),
      GuestSession.open(cn.node.path(`/zones/${uuidOf(GUEST)}/ttyb`)),
    ]);
    const loads = sessions.map((session) => load(session, life));
    const writer = await cn.open(WRITER);
    const writing = write(writer, life);
    const waits: number[] = [];
    for (let n = 0; n < RESTARTS; n++) {
      const returns = cn.records(AGAIN).length;
      await cn.fault('vminfod.down');
      await delay((n % 5) * 10);
      await cn.clearFaults();
      if (n % (BLIND + 1) < BLIND) {
        await delay((n % 7) * 15);
        continue;
      }
      const back = performance.now();
      await eventually(() => cn.records(AGAIN).length > returns, 'it is followed', 20_000);
      waits.push(performance.now() - back);
    }
    life.over = true;
    for (const answers of await Promise.all(loads)) {
      assert(answers > RESTARTS, `${answers} answers`);
    }
    const last = await writing;
    assert.strictEqual(cn.metadata(WRITER).customer.written, last);
    assert(Math.max(...waits) < RECONCILED_MS, `followed after ${waits.join(', ')} ms`);
    process.kill(pid, 0);
    assert.deepStrictEqual(portConnections(zoneroot), connections, 'the port is held all the time');
    [...sessions, writer].forEach((session) => session.close());
  });

  it('VMs that were created and deleted during an outage are right within 5 s of its end', async () => {
    await cn.fault('vminfod.down');
    await cn.control('create', { vms: [osZone(4)], boot: true });
    await cn.control('destroy', { uuid: uuidOf(3) });
    const back = performance.now();
    await cn.clearFaults();
    await eventually(() => cn.answers(4), 'the new zone answers', RECONCILED_MS);
    await eventually(
      async () => !(await cn.answers(3)),
      'the old zone is gone',
      Math.max(1, RECONCILED_MS - (performance.now() - back)),
    );
  });

  it('serves the files of the zones without it, and says of the rest what is missing', async () => {
    await cn.fault('vminfod.down');
    await cn.agent.stop();
    await cn.startAgent();
    const session = await cn.open(1);
    assert.strictEqual((await session.get('motd')).text, 'hello');
    assert.match((await session.keys()).text, /motd/);
    assert.strictEqual((await session.put('k', 'v')).code, 'SUCCESS');
    const unknown = await session.get('sdc:uuid');
    assert.strictEqual(unknown.code, 'FAILURE');
    assert.match(unknown.text, /not available yet/);
    assert(unknown.ms < UNKNOWN_MS, `${unknown.ms} ms`);
    // Who asks while it comes back gets the answer, not a failure.
    const waiting = session.get('sdc:uuid');
    await cn.clearFaults();
    assert.strictEqual((await waiting).text, uuidOf(1));
    session.close();
  });

  it('a slow vminfod does not slow the others', async () => {
    await cn.fault(`vminfod.delay=${SLOW_MS}`);
    const session = await cn.open(1);
    let n = 0;
    const wait = await bestMs(SLOW_MS, async () => {
      const put = await session.put(`slow${++n}`, 'v');
      assert.strictEqual(put.code, 'SUCCESS');
      return put.ms;
    });
    assert(wait < SLOW_MS, `${wait} ms`);
    assert.strictEqual((await session.get('slow1')).text, 'v');
    await cn.clearFaults();
    session.close();
  });

  it('garbage on the stream makes the agent reconnect, and does nothing else', async () => {
    const session = await cn.open(1);
    for (let n = 0; n < 5; n++) {
      await cn.fault('vminfod.garbage');
      assert.strictEqual((await session.get('sdc:uuid')).code, 'SUCCESS');
    }
    await cn.control('create', { vms: [osZone(5)], boot: true });
    await eventually(() => cn.answers(5), 'a zone made after the garbage answers');
    session.close();
  });
});

describe('vminfod that sends wrong data', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let vminfod: LyingVminfod;

  before(async function () {
    cn = await SimulatedNode.start(this, { vms: [1, 2].map((index) => osZone(index)) });
    await cn.agent.stop();
    vminfod = new LyingVminfod(`${cn.root}/var/run/lying.sock`);
    for (const index of [1, 2]) {
      vminfod.vms.set(uuidOf(index), { ...osZone(index), zonename: uuidOf(index) });
    }
    await vminfod.start();
    cn.agent = await AgentProcess.start(cn.root, vminfod.flags);
    await eventually(() => vminfod.listeners === 1, 'the agent follows');
  });

  after(async () => {
    await cn.stop();
    await vminfod.stop();
  });

  it('a ready line of 50 MB holds up no guest', async () => {
    const neighbour = await Neighbour.at(cn.socket(1), uuidOf(1));
    const padding = 'x "quoted" \\ '.repeat(MIB / 16);
    for (let n = 0; n < 50; n++) {
      const name = uuidOf(1000 + n);
      vminfod.vms.set(name, { uuid: name, zonename: name, notes: padding });
    }
    await neighbour.isServedDuring(async () => {
      const returns = cn.records(AGAIN).length;
      await vminfod.stop();
      await vminfod.start();
      await eventually(() => cn.records(AGAIN).length > returns, 'it is read', 30_000);
    });
    await neighbour.leave();
    for (let n = 0; n < 50; n++) {
      vminfod.vms.delete(uuidOf(1000 + n));
    }
  });

  const lies: readonly (readonly [string, Buffer])[] = [
    ['nothing but an end', Buffer.from('\n')],
    ['text', Buffer.from('hello\n')],
    ['bytes', Buffer.from([0, 255, 254, 10])],
    ['an event first', Buffer.from('{"type":"modify","zonename":"x","vm":{}}\n')],
    ['a list that is none', Buffer.from('{"type":"ready","vms":"{}"}\n')],
    ['a list of lists', Buffer.from('{"type":"ready","vms":"[[[[]]]]"}\n')],
    ['a list of nulls', Buffer.from('{"type":"ready","vms":"[null,null]"}\n')],
    ['no end', Buffer.alloc(2 * MIB, '{"a":')],
    ['depth', Buffer.from(`{"type":"ready","vms":"[{"a":${'['.repeat(100_000)}`)],
  ];
  for (const [what, line] of lies) {
    it(`sending ${what} in place of its ready line changes no answer`, async () => {
      vminfod.readyLine = line;
      await vminfod.stop();
      await vminfod.start();
      await delay(150);
      assert(await cn.answers(1));
      assert(await cn.answers(2));
      vminfod.readyLine = null;
      await vminfod.stop();
      await vminfod.start();
      await eventually(() => vminfod.listeners === 1, 'the agent follows again', 15_000);
    });
  }

  it('lines that are not events end the stream, not the agent', async () => {
    const events = ['{}', 'null', '[]', '{"type":"create"}', '{"type":"delete","zonename":"../x"}'];
    for (const event of events) {
      vminfod.send(Buffer.from(`${event}\n`));
      await delay(20);
      assert(await cn.answers(1));
    }
    await eventually(() => vminfod.listeners === 1, 'the agent follows again', 15_000);
  });
});
