/*
 * What it costs to wait for a change, and how soon it is told: with one WATCH, and with as many as 157 zones may have.
 * And what one GETALL takes beside the 16 GETs of a boot, on a zone's socket and on a serial port of 115,200 baud.
 *
 * A port's time is counted, not measured: the bytes of both directions at 11,520 a second, one request at a time.
 */
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { encodeV2, type Command } from '../../src/protocol/client';
import type { Instruments } from './instruments';
import { getLine, type Load } from './load';
import { KEY, type BenchNode } from './node';
import { cpuMs, statusOf } from './processes';

/** With 64 connections in each, 10,046 of them wait. */
export const WATCHED_ZONES = 157;
const CONNECTIONS = 64;
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

/** All rows, on a node of `WATCHED_ZONES` zones. */
export async function watchRows(bench: Instruments, node: BenchNode): Promise<void> {
  const { pid } = await node.startAgent();
  const sockets = node.agentSockets(node.zones);
  const [first = ''] = sockets;
  const alone = await Guest.at(first);
  await changes(bench, node, alone, 'one watch');
  await getAllRows(bench, first);
  const others = await crowd(sockets);
  const token = await alone.watch('-');
  // Twice what follows, so that the heap has grown to its size before.
  await Promise.all(others.map((guest) => guest.watch('-')));
  const tokens = await Promise.all(others.map((guest) => guest.watch('-')));
  await pause(2000);
  const before = statusOf(pid, 'VmRSS');
  const waits = others.map((guest, at) => guest.watch(tokens[at] ?? token));
  await waiting(node, others.length);
  await pause(2000);
  const kib = (statusOf(pid, 'VmRSS') - before) / others.length;
  const name = `${others.length} waiting watches`;
  bench.addRow(`${name}: memory of one`, 'KiB', { most: 4 }, [kib]);
  const began = cpuMs(pid);
  await pause(2000);
  const share = (cpuMs(pid) - began) / 20;
  bench.addRow(`${name}: processor time while nothing changes`, '%', {}, [share]);
  await changes(bench, node, alone, name);
  // All of them, each zone by a change of its own; and what a reply to each takes without a change.
  const told = await seconds(pid, () => {
    sockets.forEach((socket, at) => change(node, socket, `all${at}`));
    return Promise.all(waits);
  });
  const got = await seconds(pid, () => Promise.all(others.map((guest) => guest.get())));
  const note = `${told.cpu.toFixed(2)} s of the agent's; a GET by each ${got.all.toFixed(2)} s, ${got.cpu.toFixed(2)} s`;
  bench.addRow(`${name}: all zones changed, the last one told`, 's', { most: 1 }, [told.all], note);
  [alone, ...others].forEach((guest) => guest.close());
  await stormRow(bench, node);
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

async function crowd(sockets: readonly string[]): Promise<Guest[]> {
  const guests: Guest[] = [];
  for (const [at, socket] of sockets.entries()) {
    // The first zone has the one that is measured, and the agent may not have closed the one before it yet.
    const count = at === 0 ? CONNECTIONS - 2 : CONNECTIONS;
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
    change(node, first, `${name} ${n}`);
    token = await answer;
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? NaN;
  bench.addRow(`${name}: changed file to answer, p50`, 'ms', { most: 100 }, [at(0.5)]);
  bench.addRow(`${name}: changed file to answer, p99`, 'ms', { most: 1000 }, [at(0.99)]);
}

function change(node: BenchNode, socket: string, value: string): void {
  const zonename = basename(dirname(socket));
  const path = join(node.root, 'zones', zonename, 'config', 'metadata.json');
  const text = JSON.stringify({ customer_metadata: { [KEY]: value }, internal_metadata: {} });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

async function waiting(node: BenchNode, count: number): Promise<void> {
  while ((await node.status()).requests.waitingWatches < count) {
    await pause(50);
  }
}

/** Many zones ask for tokens that they never have right, and for all metadata, as fast as they can. */
async function stormRow(bench: Instruments, node: BenchNode): Promise<void> {
  await node.startAgent();
  const { seconds } = bench.scale;
  const [other = '', ...hostile] = node.agentSockets(1 + STORMING);
  const asking: Load = {
    ...{ mode: 'open', seconds, connections: 1 },
    ...{ sockets: [other], requests: [getLine(KEY)] },
  };
  const watch = { kind: 'watch', seconds: 60, token: '0'.repeat(32), keys: [] } as const;
  const storm: Load = {
    ...{ mode: 'open', seconds: seconds + 0.5, connections: 4 * STORMING, depth: 4 },
    ...{ sockets: hostile },
    requests: [watch, { kind: 'getall' } as const].map((command) =>
      encodeV2(command, 'deadbeef').toString('latin1'),
    ),
  };
  const times: number[] = [];
  let note = '';
  for (let pair = 0; pair < bench.scale.pairs; pair++) {
    const calm = await bench.client.run(asking);
    const storming = bench.client.run(storm);
    await pause(250);
    const pressed = await bench.client.run(asking);
    const { perSecond } = await storming;
    times.push(pressed.p99Us / 1000);
    note = `p99 ${pressed.p99Us} us, calm ${calm.p99Us} us; ${Math.round(perSecond)} answers/s to them`;
  }
  const name = `${STORMING} zones storm with WATCH and GETALL, another asks: p99`;
  bench.addRow(name, 'ms', { most: 10 }, times, note);
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
