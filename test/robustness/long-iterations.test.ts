/*
 * No iteration of the agent's event loop is long, whatever guests store and send: 32 hostile zones of 100 do their worst, and
 * the CPU time of the longest iteration is measured in the agent itself (loop-probe.ts). It is the agent's own work, with
 * its collections of garbage, and not the time for which others have the processor.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../src/metadata/vm-data';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { base64, frame, putFrame } from '../support/frames';
import { HostileGuests, type HostileMode } from '../support/hostile-guests';
import { LoopProbe, MOST_ITERATION_MS } from '../support/loop-probe-reader';
import { osZone, SimulatedNode } from '../support/simulated-node';

const ZONES = 100;
const HOSTILE = 32;
const ATTACK_MS = 1500;
/** What connections of guests that have left take is in the measurement too. */
const LEFT_MS = 300;
const MIB = 1024 * 1024;
/** With that of a test's own connections it is what a zone may have. */
const ALL = 62;

interface Attack {
  readonly what: string;
  readonly customer: JsonObject;
  readonly requests: readonly Buffer[];
  readonly mode?: HostileMode;
  readonly connections: number;
}

const get = (key: string): Buffer => frame('00000001', 'GET', key);
const KEYS = frame('00000002', 'KEYS');
const GETALL = frame('00000003', 'GETALL');
const many = (request: Buffer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => request));
const keysOf = (count: number, bytes: number, value: string): JsonObject =>
  Object.fromEntries(
    Array.from({ length: count }, (_, n) => [String(n).padStart(bytes, 'k'), value]),
  );
const BIG = { big: 'v'.repeat(MIB), small: 'x' };
const FOUR = Object.fromEntries(['a', 'b', 'c', 'd'].map((key) => [key, key.repeat(990_000)]));
const EIGHT = Object.fromEntries(
  Array.from({ length: 8 }, (_, n) => [String(n), String(n).repeat(MIB / 8)]),
);
const WIDE = { ...keysOf(4, 1_000_000, 'v'), [`☃${'k'.repeat(1_000_000)}`]: 'v' };
const JUNK = Buffer.from(`${'junk\nV2 1 2 3\nGET\n\0\xff\n '.repeat(200)}\n`, 'latin1');

const ATTACKS: readonly Attack[] = [
  { what: 'GET of 1 MiB', customer: BIG, requests: [get('big')], connections: 8 },
  {
    ...{ what: 'GET of 1 MB in files of 4 MB', customer: FOUR, connections: 8 },
    requests: Object.keys(FOUR).map(get),
  },
  {
    ...{ what: 'GETs of 1 MiB, 16 at a time, and read nothing', customer: BIG, mode: 'mute' },
    ...{ requests: [many(get('big'), 16)], connections: ALL },
  },
  {
    ...{ what: 'KEYS of 1,000 keys of 1 KiB', customer: keysOf(1000, 1024, 'v') },
    ...{ requests: [KEYS], connections: 8 },
  },
  {
    ...{ what: 'KEYS of 1,000 keys of 1 KiB and read nothing', mode: 'mute' },
    ...{ customer: keysOf(1000, 1024, 'v'), requests: [many(KEYS, 2)], connections: ALL },
  },
  {
    ...{ what: 'KEYS of keys of 1 MB and read nothing', customer: WIDE, mode: 'mute' },
    ...{ requests: [many(KEYS, 2)], connections: ALL },
  },
  { what: 'GETALL of 1 MiB in 8 values', customer: EIGHT, requests: [GETALL], connections: 8 },
  {
    ...{ what: 'GETALL of 1,000 values', customer: keysOf(1000, 8, 'value'.repeat(12)) },
    ...{ requests: [GETALL], connections: 8 },
  },
  {
    ...{ what: 'GETALL of 60 values of 1 KiB', customer: keysOf(60, 8, 'v'.repeat(1024)) },
    ...{ requests: [GETALL], connections: ALL },
  },
  {
    ...{ what: 'GETALL of 5 MB, which is over the limit', customer: keysOf(5, 1_000_000, 'v') },
    ...{ requests: [GETALL], connections: ALL },
  },
  {
    ...{ what: 'GETALL of 4,000 keys of 1 KiB', customer: keysOf(4000, 1024, 'v') },
    ...{ requests: [GETALL], connections: 8 },
  },
  {
    ...{ what: 'PUT of 1 MiB', customer: {}, connections: 1 },
    requests: ['a', 'b'].map((fill) => putFrame('00000004', 'a', fill.repeat(990_000))),
  },
  {
    ...{ what: 'PUTIF of 1 MiB', customer: {}, connections: 1 },
    requests: ['a', 'b'].map((fill) => {
      const terms = [Buffer.from('a'), Buffer.alloc(990_000, fill)].map(base64);
      return frame('0000000a', 'PUTIF', `${terms.join(' ')} -`);
    }),
  },
  {
    ...{ what: 'PUT of a few bytes into 4 MB', customer: FOUR, connections: 8 },
    requests: ['1', '2'].map((value) => putFrame('00000005', 'e', value)),
  },
  {
    ...{ what: 'PUT of a few bytes on all connections', customer: BIG, connections: ALL },
    requests: [1, 2, 3].map((n) => putFrame('00000006', `flood${n}`, `value ${n}`)),
  },
  {
    ...{ what: 'PUTIF with another token on all connections', customer: BIG, connections: ALL },
    requests: [frame('00000007', 'PUTIF', `${base64(Buffer.from('a'))} - dmFsdWU=`)],
  },
  {
    ...{ what: 'DELETE of no key on all connections', customer: BIG, connections: ALL },
    requests: [frame('00000008', 'DELETE', 'nokey')],
  },
  {
    ...{ what: 'WATCH without a token on all connections', customer: BIG, connections: ALL },
    requests: [frame('00000009', 'WATCH', `0 - ${base64(Buffer.from('small'))}`)],
  },
  {
    ...{ what: 'GET of a small value on all connections', customer: BIG, connections: ALL },
    requests: [get('small')],
  },
  {
    ...{ what: 'GET of a small value, a hundred at a time', customer: BIG, connections: 16 },
    requests: [Buffer.from('GET small\n'.repeat(100))],
  },
  {
    ...{ what: 'NEGOTIATE, a hundred at a time', customer: BIG, connections: 16 },
    requests: [Buffer.from('NEGOTIATE V2\n'.repeat(100))],
  },
  { what: 'what is not a request', customer: BIG, requests: [JUNK], connections: 16 },
  {
    ...{ what: 'nothing and leave, again and again', customer: BIG, mode: 'leaves' },
    ...{ requests: [], connections: 40 },
  },
  {
    ...{ what: 'nothing, in a line without an end', customer: BIG, mode: 'pours' },
    ...{ requests: [Buffer.alloc(64 * 1024, 'a')], connections: 2 },
  },
  {
    ...{ what: 'GET of a small value byte by byte', customer: BIG, mode: 'pieces' },
    ...{ requests: [get('small')], connections: 30 },
  },
];

describe(`no iteration of the event loop takes over ${MOST_ITERATION_MS} ms of CPU time`, function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let probe: LoopProbe;
  let hostile: HostileGuests | null = null;

  before(async function () {
    probe = new LoopProbe();
    const vms = Array.from({ length: ZONES }, (_, index) => osZone(index));
    const limits = { writes_per_second: 10_000, write_burst: 10_000 };
    cn = await SimulatedNode.start(this, { vms, prefix: probe.prefix, config: { limits } });
  });

  afterEach(() => leave());

  after(async () => {
    probe.remove();
    for (let index = 0; index < HOSTILE; index++) {
      cn.replaceConfig(index, 'metadata.json', '{}');
    }
    await cn.stop();
  });

  async function leave(): Promise<void> {
    await hostile?.stop();
    hostile = null;
  }

  async function press({ mode = 'reads', requests, connections }: Attack): Promise<void> {
    const paths = Array.from({ length: HOSTILE }, (_, index) => cn.socket(index));
    hostile = await HostileGuests.start({ paths, requests, connections, mode });
    await delay(ATTACK_MS);
    await leave();
    await delay(LEFT_MS);
  }

  for (const attack of ATTACKS) {
    it(`while ${HOSTILE} zones ask for ${attack.what}`, async () => {
      const { customer } = attack;
      const text = JSON.stringify({ customer_metadata: customer, internal_metadata: {} });
      for (let index = 0; index < HOSTILE; index++) {
        cn.replaceConfig(index, 'metadata.json', text);
      }
      await probe.iterationsAreShort(cn.agent.pid, () => press(attack));
      await eventually(() => cn.answers(0), 'the hostile zone is served again', 30_000);
    });
  }
});

/** What operators and monitors ask of a large node. */
const QUESTIONS = [
  ...['/status', '/zones', '/doctor', '/datasets', '/kang/snapshot'],
  ...['/metrics', '/metrics?format=json', '/healthz'],
];
const MANY_ZONES = 2048;

describe(`with ${MANY_ZONES} zones no iteration takes over ${MOST_ITERATION_MS} ms of CPU time`, function () {
  this.timeout(300_000);
  let cn: SimulatedNode;
  let probe: LoopProbe;

  before(async function () {
    probe = new LoopProbe();
    const vms = Array.from({ length: MANY_ZONES }, (_, index) => {
      return osZone(index, index % 4 === 0 ? { datasets: [`zones/${index}/data`] } : {});
    });
    cn = await SimulatedNode.start(this, { vms, prefix: probe.prefix, canaries: false });
  });

  after(async () => {
    probe.remove();
    await cn.stop();
  });

  for (const path of QUESTIONS) {
    it(`while an operator asks for ${path}`, async () => {
      await probe.iterationsAreShort(cn.agent.pid, async () => {
        assert.strictEqual((await askAdmin(cn.root, path)).status, 200);
      });
    });
  }
});
