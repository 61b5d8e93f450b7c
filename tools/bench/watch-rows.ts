/*
 * What it costs to wait for a change, how soon it is told, and what a zone beside feels of it: with one WATCH, with as
 * many as 157 zones may have, and with as many as 500. What zones that storm with the verbs of tokens do to another.
 * And what one GETALL takes beside the 16 GETs of a boot, on a zone's socket and on a serial port of 115,200 baud.
 *
 * A port's time is counted, not measured: the bytes of both directions at 11,520 a second, one request at a time.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { encodeV2, type Command } from '../../src/protocol/client';
import type { Instruments, Scale } from './instruments';
import { getLine, type Load, type LoadResult } from './load';
import { KEY, type BenchNode } from './node';
import { cpuMs, statusOf } from './processes';
import type { Goal } from './report';

const CONNECTIONS = 64;
/** 10,046 of them wait. */
const SOME_ZONES = 157;
/** 32,000 of them, or as many as one process may have descriptors here, of which it needs others too. */
const MANY_ZONES = Math.min(500, Math.floor((mostDescriptors() - 800) / CONNECTIONS));
const MOST_ROUNDS = 3;
const CHANGES = 40;
/** Hostile zones. */
const STORMING = 32;
const BYTES_PER_SECOND = 11_520;
const LF = 0x0a;
/** What cloud-init asks at a boot. */
const BOOT_KEYS = [
  ...['sdc:uuid', 'hostname', 'root_authorized_keys', 'user-script', 'user-data'],
  ...['cloud-init:user-data', 'iptables_disable', 'motd_sys_info', 'sdc:datacenter_name'],
  ...['sdc:vendor-data', 'sdc:operator-script', 'sdc:hostname', 'sdc:dns_domain', 'sdc:nics'],
  ...['sdc:resolvers', 'sdc:routes'],
].map((key): Command => ({ kind: 'get', key: Buffer.from(key) }));

/** A connection that asks one thing at a time. */
class Guest {
  bytes = 0;
  private readonly socket: Socket;
  private nextId = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  static async at(path: string): Promise<Guest> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new Guest(socket);
  }

  /** @returns the text of the reply */
  async ask(command: Command): Promise<string> {
    const request = encodeV2(command, (this.nextId++).toString(16).padStart(8, '0'));
    this.bytes += request.length;
    this.socket.write(request);
    const chunks: Buffer[] = [];
    for (let last = 0; last !== LF;) {
      const [chunk] = (await once(this.socket, 'data')) as [Buffer];
      chunks.push(chunk);
      last = chunk.at(-1) ?? 0;
    }
    const line = Buffer.concat(chunks);
    this.bytes += line.length;
    return Buffer.from(line.toString('latin1').split(' ')[5] ?? '', 'base64').toString('utf8');
  }

  watch(token: string): Promise<string> {
    return this.ask({ kind: 'watch', seconds: 300, token, keys: [Buffer.from(KEY)] });
  }

  get(): Promise<string> {
    return this.ask({ kind: 'get', key: Buffer.from(KEY) });
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Zones where so much is measured: those, and one that nobody waits in. */
export function watchedZones({ judged }: Scale): number {
  return Math.max(SOME_ZONES, judged ? MANY_ZONES : 0) + 1;
}

/** All rows, on a node of so many zones. */
export async function watchRows(bench: Instruments, node: BenchNode): Promise<void> {
  await node.startAgent();
  const [first = ''] = node.agentSockets(1);
  const alone = await Guest.at(first);
  await changes(bench, node, alone, 'one watch');
  alone.close();
  await getAllRows(bench, first);
  await crowdRows(bench, node, SOME_ZONES);
  if (node.zones - 1 > SOME_ZONES) {
    await crowdRows(bench, node, node.zones - 1);
  }
  await stormRows(bench, node);
}

/** On a fresh agent, whose heap has its own size. @param zones where they wait */
async function crowdRows(bench: Instruments, node: BenchNode, zones: number): Promise<void> {
  const { pid } = await node.startAgent();
  const sockets = node.agentSockets(zones);
  const [alone, ...others] = await gather(sockets);
  if (alone === undefined) {
    return;
  }
  const name = `${others.length} waiting watches`;
  const rounds = Math.min(MOST_ROUNDS, bench.scale.pairs);
  const neighbour = (): Promise<LoadResult> => bench.client.run(asking(node, bench.scale.seconds));
  const p99Us = async (): Promise<number> => {
    const runs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      runs.push((await neighbour()).p99Us);
    }
    return runs.sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? NaN;
  };
  const token = await alone.watch('-');
  // Twice what follows, so that the heap has grown to its size before.
  await Promise.all(others.map((guest) => guest.watch('-')));
  let tokens = await Promise.all(others.map((guest) => guest.watch('-')));
  await pause(2000);
  const calm = await p99Us();
  const before = statusOf(pid, 'VmRSS');
  const wait = async (): Promise<Promise<string[]>[]> => {
    const waits = Promise.all(others.map((guest, at) => guest.watch(tokens[at] ?? token)));
    while ((await node.status()).requests.waitingWatches < others.length) {
      await pause(50);
    }
    // In a list, since a promise of a promise would be awaited.
    return [waits];
  };
  let [waits] = await wait();
  await pause(2000);
  const kib = (statusOf(pid, 'VmRSS') - before) / others.length;
  bench.addRow(`${name}: memory of one`, 'KiB', { most: 4 }, [kib]);
  const began = cpuMs(pid);
  await pause(2000);
  const share = (cpuMs(pid) - began) / 20;
  bench.addRow(`${name}: processor time while nothing changes`, '%', {}, [share]);
  const beside = await p99Us();
  const p99s = `p99 ${beside} us, ${calm} us where none waits`;
  bench.addRow(`${name}, another asks: p99`, 'x calm p99', { most: 3 }, [beside / calm], p99s);
  await changes(bench, node, alone, name);
  // All of them, each zone by a change of its own; and what a reply to each takes without a change.
  const all: number[] = [];
  let note = '';
  for (let round = 0; round < rounds; round++) {
    const told = await seconds(pid, () => {
      const ended = Promise.all([waits]);
      change(node, sockets, `all${round}`);
      return ended;
    });
    all.push(told.all);
    const got = await seconds(pid, () => Promise.all(others.map((guest) => guest.get())));
    note = `${told.cpu.toFixed(2)} s of the agent's; a GET by each ${got.all.toFixed(2)} s, ${got.cpu.toFixed(2)} s`;
    tokens = await Promise.all(others.map((guest) => guest.watch('-')));
    [waits] = await wait();
  }
  const goal = zones === SOME_ZONES ? { most: 1 } : {};
  bench.addRow(`${name}: all zones changed, the last one told`, 's', goal, all, note);
  const asked = neighbour();
  change(node, sockets, 'beside');
  await waits;
  const told = await asked;
  const longest = `longest ${(told.longestUs / 1000).toFixed(1)} ms`;
  bench.addRow(`${name} are told, another asks: p99`, 'ms', {}, [told.p99Us / 1000], longest);
  [alone, ...others].forEach((guest) => guest.close());
}

/** A zone that nobody waits in, and what it asks. */
function asking(node: BenchNode, seconds: number): Load {
  const sockets = node.agentSockets(node.zones).slice(-1);
  return { mode: 'open', seconds, connections: 1, sockets, requests: [getLine(KEY)] };
}

function mostDescriptors(): number {
  const { stdout } = spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' });
  return stdout.trim() === 'unlimited' ? Infinity : Number(stdout);
}

/** How long some work of all guests takes, and how much processor time of the agent's. */
async function seconds(
  pid: number,
  work: () => Promise<unknown>,
): Promise<{ readonly all: number; readonly cpu: number }> {
  const began = cpuMs(pid);
  const start = performance.now();
  await work();
  return { all: (performance.now() - start) / 1000, cpu: (cpuMs(pid) - began) / 1000 };
}

async function gather(sockets: readonly string[]): Promise<Guest[]> {
  const guests: Guest[] = [];
  for (const [at, socket] of sockets.entries()) {
    // The agent may not have closed the first zone's one before it yet.
    const count = at === 0 ? CONNECTIONS - 1 : CONNECTIONS;
    guests.push(...(await Promise.all(Array.from({ length: count }, () => Guest.at(socket)))));
  }
  return guests;
}

/** From an edited file to the answer. */
async function changes(
  bench: Instruments,
  node: BenchNode,
  guest: Guest,
  name: string,
): Promise<void> {
  const [first = ''] = node.agentSockets(1);
  const times: number[] = [];
  let token = await guest.watch('-');
  for (let n = 0; n < CHANGES; n++) {
    const answer = guest.watch(token);
    // At another moment of the agent's time each time.
    await pause(120 + 7 * (n % 13));
    const start = performance.now();
    change(node, [first], `${name} ${n}`);
    token = await answer;
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? NaN;
  bench.addRow(`${name}: changed file to answer, p50`, 'ms', { most: 100 }, [at(0.5)]);
  bench.addRow(`${name}: changed file to answer, p99`, 'ms', { most: 1000 }, [at(0.99)]);
}

/** The files of some zones, all at one moment. */
function change(node: BenchNode, sockets: readonly string[], value: string): void {
  const text = JSON.stringify({ customer_metadata: { [KEY]: value }, internal_metadata: {} });
  const paths = sockets.map((socket) => {
    return join(node.root, 'zones', basename(dirname(socket)), 'config', 'metadata.json');
  });
  paths.forEach((path) => writeFileSync(`${path}.new`, text));
  paths.forEach((path) => renameSync(`${path}.new`, path));
}

/** Many zones ask as fast as they can, and another asks as ever. */
async function stormRows(bench: Instruments, node: BenchNode): Promise<void> {
  await node.startAgent();
  const [first = ''] = node.agentSockets(1);
  const writer = await Guest.at(first);
  const key = Buffer.from('step');
  const values = ['one', 'two'].map((text) => Buffer.from(text));
  const tokens: string[] = [];
  for (const value of values) {
    await writer.ask({ kind: 'put', key, value });
    tokens.push(await writer.ask({ kind: 'watch', seconds: 1, token: '-', keys: [key] }));
  }
  writer.close();
  const [one = key, two = key] = values;
  const [ofOne = '', ofTwo = ''] = tokens;
  const unknown = '0'.repeat(32);
  // Tokens that are never right, and all metadata.
  await stormRow(bench, node, 'storm with WATCH and GETALL', { most: 10 }, [
    { kind: 'watch', seconds: 60, token: unknown, keys: [] },
    { kind: 'getall' },
  ]);
  // Each finds what the one before it has left, where no other of its zone comes between.
  await stormRow(bench, node, 'flood with PUTIF and DELETEIF', { most: 28 }, [
    { kind: 'put', key, value: one, onlyIf: '-' },
    { kind: 'put', key, value: two, onlyIf: ofOne },
    { kind: 'delete', key, onlyIf: ofTwo },
  ]);
  await stormRow(bench, node, 'flood with PUTIF that has another token', { most: 28 }, [
    { kind: 'put', key: Buffer.from(KEY), value: two, onlyIf: unknown },
  ]);
}

async function stormRow(
  bench: Instruments,
  node: BenchNode,
  what: string,
  goal: Goal,
  commands: readonly Command[],
): Promise<void> {
  const { seconds, pairs } = bench.scale;
  const requests = commands.map((each) => encodeV2(each, 'deadbeef').toString('latin1'));
  const storm: Load = {
    ...{ mode: 'open', seconds: seconds + 0.5, connections: 4 * STORMING, depth: 4 },
    ...{ sockets: node.agentSockets(STORMING), requests },
  };
  const times: number[] = [];
  let note = '';
  for (let pair = 0; pair < pairs; pair++) {
    const calm = await bench.client.run(asking(node, seconds));
    const storming = bench.client.run(storm);
    await pause(250);
    const pressed = await bench.client.run(asking(node, seconds));
    const { perSecond } = await storming;
    times.push(pressed.p99Us / 1000);
    note = `p99 ${pressed.p99Us} us, calm ${calm.p99Us} us; ${Math.round(perSecond)} answers/s to them`;
  }
  bench.addRow(`${STORMING} zones ${what}, another asks: p99`, 'ms', goal, times, note);
}

async function getAllRows(bench: Instruments, socket: string): Promise<void> {
  const measure = async (commands: readonly Command[]): Promise<[ms: number, bytes: number]> => {
    const guest = await Guest.at(socket);
    const times: number[] = [];
    for (let n = 0; n < 200; n++) {
      guest.bytes = 0;
      const start = performance.now();
      for (const command of commands) {
        await guest.ask(command);
      }
      times.push(performance.now() - start);
    }
    guest.close();
    times.sort((a, b) => a - b);
    return [times[100] ?? NaN, guest.bytes];
  };
  const [manyMs, manyBytes] = await measure(BOOT_KEYS);
  const [oneMs, oneBytes] = await measure([{ kind: 'getall' }]);
  const note = `${oneMs.toFixed(2)} of ${manyMs.toFixed(2)} ms, ${oneBytes} of ${manyBytes} bytes`;
  bench.addRow('GETALL beside 16 GETs, socket: p50', 'x their time', {}, [oneMs / manyMs], note);
  const onPort = (ms: number, bytes: number): number => ms + (1000 * bytes) / BYTES_PER_SECOND;
  const ratio = onPort(oneMs, oneBytes) / onPort(manyMs, manyBytes);
  const ports = `${onPort(oneMs, oneBytes).toFixed(0)} of ${onPort(manyMs, manyBytes).toFixed(0)} ms`;
  bench.addRow('GETALL beside 16 GETs, port of 115,200 baud', 'x their time', {}, [ratio], ports);
}
