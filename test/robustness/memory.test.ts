/*
 * Many hostile zones at a time, each of which makes the agent buffer as much as it can: what they ask for
 * is large, and they read nothing of it. The memory of the agent stays below the ceiling that it names,
 * however many they are, and a zone that behaves is served as ever.
 */
import assert from 'node:assert';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../src/metadata/vm-data';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { base64, frame, putFrame } from '../support/frames';
import { HostileGuests } from '../support/hostile-guests';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { parseExposition, sampleOf } from '../support/prometheus';

const ZONES = 100;
const VICTIM = ZONES;
const CONNECTIONS = 64;
const MIB = 1024 * 1024;
/** A peer that reads nothing may be closed after a quarter of a second: time for that to happen to some. */
const ATTACK_MS = 1500;
const HOSTILE = 32;
/** Connections of a zone that reads: more would measure the guests, which share the machine. */
const READERS = 4;

const twice = (request: Buffer): Buffer => Buffer.concat([request, request]);
const KEYS = twice(frame('00000001', 'KEYS'));
const GETALL = twice(frame('00000004', 'GETALL'));
const GET_BIG = twice(frame('00000002', 'GET', 'big'));
const GET_ONCE = frame('00000003', 'GET', 'big');
const KEYS_ONCE = frame('00000005', 'KEYS');
const keysOf = (names: readonly string[]): JsonObject => {
  return Object.fromEntries(names.map((name) => [name, 'v']));
};
/** A text with one wide character has two bytes for each of its characters. */
const WIDE = keysOf([1, 2, 3, 4].map((n) => `${n}☃${'k'.repeat(1_000_000)}`));
const MANY = keysOf(Array.from({ length: 1000 }, (_, n) => `${n}`.padStart(1024, 'k')));
const FEW = keysOf(Array.from({ length: 200 }, (_, n) => `${n}`.padStart(1024, 'k')));
const BIG = 'v'.repeat(MIB);
const MIXED = { ...MANY, big: `☃${BIG}`, [`☃${'k'.repeat(1_000_000)}`]: 'v' };
const MEDIUM = { big: 'v'.repeat(MIB / 8) };
const FOUR = Object.fromEntries(['a', 'b', 'c', 'd'].map((key) => [key, key.repeat(990_000)]));

interface Attack {
  readonly what: string;
  readonly customer: JsonObject;
  readonly requests: readonly Buffer[];
}

const ATTACKS: readonly Attack[] = [
  { what: 'KEYS of keys of 1 MB, with wide characters', customer: WIDE, requests: [KEYS] },
  { what: 'KEYS of 1,000 keys of 1 KiB', customer: MANY, requests: [KEYS] },
  {
    what: 'GETALL of 1 MiB in 8 values',
    customer: Object.fromEntries(
      Array.from({ length: 8 }, (_, n) => [`${n}`, `${n}${'v'.repeat(MIB / 8)}`]),
    ),
    requests: [GETALL],
  },
  {
    what: 'GETALL of 3 MiB, with wide characters',
    customer: { big: `☃${'v'.repeat(3 * MIB)}` },
    requests: [GETALL],
  },
  { what: 'GETALL of too much', customer: { big: `☃${'v'.repeat(5 * MIB)}` }, requests: [GETALL] },
  { what: 'GET of 1 MiB', customer: { big: BIG }, requests: [GET_BIG] },
  {
    what: 'KEYS, GETALL and GET, with wide characters',
    customer: MIXED,
    requests: [KEYS, GETALL, GET_BIG],
  },
  {
    what: 'all that there is, with wide characters',
    customer: MIXED,
    requests: [
      ...[KEYS, GETALL, GET_BIG],
      twice(frame('00000007', 'WATCH', '300 -')),
      twice(frame('00000008', 'WATCH', `300 - ${base64(Buffer.from('big'))}`)),
      putFrame('00000009', 'put', MEDIUM.big),
      twice(frame('0000000a', 'DELETE', 'put')),
      twice(putFrame('0000000b', 'few', '☃')),
    ],
  },
];

describe('hostile zones that read nothing', function () {
  this.timeout(180_000);
  let cn: SimulatedNode;
  let neighbour: Neighbour;
  let hostile: HostileGuests | null = null;

  before(async function () {
    const vms = Array.from({ length: ZONES + 1 }, (_, index) => osZone(index));
    cn = await SimulatedNode.start(this, { vms });
    neighbour = await Neighbour.at(cn.socket(VICTIM), uuidOf(VICTIM));
    // What is measured is the agent: the node has nothing to do with all these megabytes.
    process.kill(cn.node.pid, 'SIGSTOP');
  });

  afterEach(() => stopAttack());

  after(async () => {
    await neighbour.leave();
    for (let index = 0; index < ZONES; index++) {
      cn.replaceConfig(index, 'metadata.json', '{}');
    }
    process.kill(cn.node.pid, 'SIGCONT');
    await cn.stop();
  });

  async function stopAttack(): Promise<void> {
    await hostile?.stop();
    hostile = null;
  }

  async function attack(
    count: number,
    mode: 'mute' | 'reads',
    requests: readonly Buffer[],
  ): Promise<void> {
    const connections = mode === 'mute' ? CONNECTIONS : READERS;
    const paths = Array.from({ length: count }, (_, index) => cn.socket(index));
    hostile = await HostileGuests.start({ paths, requests, connections, mode });
    await delay(ATTACK_MS);
  }

  /** All zones have the same file: only the agent's memory is to be filled. */
  function store(customer: JsonObject): void {
    const file = cn.config(0, '.all.json');
    writeFileSync(file, JSON.stringify({ customer_metadata: customer, internal_metadata: {} }));
    for (let index = 0; index < ZONES; index++) {
      linkSync(file, cn.config(index, '.one.json'));
      renameSync(cn.config(index, '.one.json'), cn.config(index, 'metadata.json'));
    }
    rmSync(file);
  }

  async function ceilingMib(): Promise<number> {
    const { text } = await askAdmin(cn.root, '/metrics');
    return (sampleOf(parseExposition(text), 'mdatad_memory_ceiling_bytes', {}) ?? 0) / MIB;
  }

  /** The most memory that the agent's process had since `forgetPeak`, MiB. */
  function peakMib(): number {
    const status = readFileSync(`/proc/${cn.agent.pid}/status`, 'utf8');
    return (Number(/VmHWM:\s+([0-9]+)/.exec(status)?.[1]) * 1024) / MIB;
  }

  function forgetPeak(): void {
    writeFileSync(`/proc/${cn.agent.pid}/clear_refs`, '5');
  }

  for (const { what, customer, requests } of ATTACKS) {
    for (const count of [1, 8, 32, 100]) {
      it(`${count} of ${ZONES} ask for ${what}: memory stays below its ceiling`, async () => {
        store(customer);
        forgetPeak();
        // Each of the neighbour's answers is looked at.
        await neighbour.p99During(() => attack(count, 'mute', requests));
        const [peak, ceiling] = [peakMib(), await ceilingMib()];
        assert(peak < ceiling, `${peak} MiB, the ceiling is ${ceiling} MiB`);
        await stopAttack();
        await eventually(() => cn.answers(0), 'the hostile zone is served again', 60_000);
      });
    }
  }

  for (const [mode, what, customer, requests] of [
    // So large that all files stay parsed: what is measured is what replies cost.
    ['mute', 'KEYS of 200 keys of 1 KiB and read nothing', FEW, [KEYS]],
    ['mute', 'GET of 128 KiB and read nothing', MEDIUM, [GET_BIG]],
    ['reads', 'GET of 128 KiB and read all', MEDIUM, [GET_ONCE]],
    // Files and values that are read anew for each request.
    ['reads', 'GET of 1 MiB and read all', { big: BIG }, [GET_ONCE]],
    [
      ...(['reads', 'GETs of 1 MB in files of 4 MB and read all', FOUR] as const),
      Object.keys(FOUR).map((key) => frame('00000006', 'GET', key)),
    ],
    ['reads', 'KEYS of 1,000 keys of 1 KiB and read all', MANY, [KEYS_ONCE]],
  ] as const) {
    it(`${HOSTILE} of ${ZONES} ask for ${what}: another zone waits for its own turn only`, async () => {
      store(customer);
      await neighbour.isServedDuring(async () => {
        await attack(HOSTILE, mode, requests);
        await stopAttack();
      });
    });
  }
});
