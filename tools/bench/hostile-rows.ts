/*
 * What zones that ask for much, or write much, cost those that ask for little: 32 hostile zones of 100, with eight
 * connections each, against eight others that ask one key after the other.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../../src/lib/errors';
import { encodeV2 } from '../../src/protocol/client';
import type { Instruments } from './instruments';
import { getLine, putLine, type Load } from './load';
import { KEY, VALUE, type BenchNode } from './node';

/** Of the node. */
export const HOSTILE_NODE_ZONES = 100;
const HOSTILE = 32;
const VICTIMS = 8;
const CONNECTIONS = 8;
const LARGE_BYTES = 990_000;
/** The promise: so many times the calm latency and so much. */
const MOST_TIMES = 3;
const MOST_MORE_MS = 10;
/** Until all hostile connections have asked. */
const BEGUN_MS = 500;
const NO_LIMITS = { writes_per_second: 10_000, write_burst: 10_000 };

interface Attack {
  readonly what: string;
  readonly customer: Readonly<Record<string, string>>;
  readonly requests: readonly string[];
  /** Connections of each zone. */
  readonly connections?: number;
}

const large = (fill: string): string => fill.repeat(LARGE_BYTES);
const four = Object.fromEntries(['a', 'b', 'c', 'd'].map((key) => [key, large(key)]));
const ATTACKS: readonly Attack[] = [
  { what: 'GET of 1 MiB', customer: { a: large('a') }, requests: [getLine('a')] },
  {
    what: 'GETs of 1 MiB in files of 4 MiB',
    customer: four,
    requests: Object.keys(four).map(getLine),
  },
  {
    what: 'KEYS of 1,000 keys of 1 KiB',
    customer: Object.fromEntries(
      Array.from({ length: 1000 }, (_, n) => [String(n).padStart(1024, 'k'), 'v']),
    ),
    requests: [encodeV2({ kind: 'keys' }, 'deadbeef').toString('latin1')],
  },
  {
    what: 'PUT of 1 MiB',
    customer: {},
    requests: ['a', 'b'].map((fill) => putLine('a', large(fill))),
    // One of a zone at a time may send a long line.
    connections: 1,
  },
  {
    what: 'PUT of a few bytes into 4 MiB',
    customer: four,
    requests: ['1', '2'].map((value) => putLine('e', value)),
  },
];

/** Each row on a fresh agent. */
export async function hostileRows(bench: Instruments, node: BenchNode): Promise<void> {
  const { seconds, pairs } = bench.scale;
  const sockets = node.agentSockets(HOSTILE + VICTIMS);
  const hostile = sockets.slice(0, HOSTILE);
  const asking: Load = {
    ...{ mode: 'open', seconds, connections: VICTIMS },
    ...{ sockets: sockets.slice(HOSTILE), requests: [getLine(KEY)] },
  };
  for (const { what, customer, requests, connections = CONNECTIONS } of ATTACKS) {
    hostile.forEach((socket) => store(node, socket, { [KEY]: VALUE, ...customer }));
    await node.startAgent(NO_LIMITS);
    const attack: Load = {
      ...{ mode: 'open', seconds: seconds + BEGUN_MS / 1000, requests },
      ...{ sockets: hostile, connections: HOSTILE * connections },
    };
    const values: number[] = [];
    let note = '';
    for (let pair = 0; pair < pairs; pair++) {
      const calm = await bench.client.run(asking);
      // Where they read too slowly, the agent may close connections of theirs.
      const attacking = bench.client.run(attack).then(
        ({ perSecond }) => `${Math.round(perSecond)}/s to them`,
        (err: unknown) => messageOf(err),
      );
      await pause(BEGUN_MS);
      const pressed = await bench.client.run(asking);
      const served = await attacking;
      values.push(pressed.p99Us / (MOST_TIMES * calm.p99Us + 1000 * MOST_MORE_MS));
      note = `p99 ${pressed.p99Us} us, calm ${calm.p99Us} us; ${served}`;
    }
    const name = `${HOSTILE} zones: ${what}; others' p99`;
    bench.addRow(name, 'x (3 calm + 10 ms)', { most: 1 }, values, note);
  }
}

function store(node: BenchNode, socket: string, customer: Attack['customer']): void {
  const zonename = basename(dirname(socket));
  const path = join(node.root, 'zones', zonename, 'config', 'metadata.json');
  const text = JSON.stringify({ customer_metadata: customer, internal_metadata: {} });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}
