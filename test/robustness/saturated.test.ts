/*
 * An agent that is never idle, since 32 zones ask as fast as they are answered, still answers a thousand requests of others in each
 * second of its processor.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { askAdmin } from '../support/admin';
import { slowness } from '../support/best-of';
import { frame } from '../support/frames';
import { HostileGuests } from '../support/hostile-guests';
import { osZone, SimulatedNode } from '../support/simulated-node';
import { parseExposition } from '../support/prometheus';

const HOSTILE = 32;
const HOSTILE_CONNECTIONS = 16;
const OTHERS = 8;
const CONNECTIONS = 8;
const PRESSED_MS = 3000;
const LEAST_PER_SECOND = 1000;
const LF = 0x0a;
const GET = frame('00000001', 'GET', 'colour');

describe('an agent whose processor is taken by hostile zones', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  const sockets: Socket[] = [];
  let answered = 0;

  before(async function () {
    const vms = Array.from({ length: HOSTILE + OTHERS }, (_, index) => {
      return osZone(index, { customer_metadata: { colour: 'red' } });
    });
    cn = await SimulatedNode.start(this, { vms });
  });

  after(async () => {
    sockets.forEach((socket) => socket.destroy());
    await cn.stop();
  });

  /** All requests that were answered, those of the hostile too. */
  async function handled(): Promise<number> {
    const { text } = await askAdmin(cn.root, '/metrics');
    return parseExposition(text)
      .samples.filter(({ name }) => name === 'mdatad_requests_total')
      .reduce((sum, { value }) => sum + value, 0);
  }

  /** Asks again and again on one connection of one of the others. */
  async function keepAsking(path: string): Promise<void> {
    const socket = connect(path);
    sockets.push(socket);
    socket.on('data', (chunk: Buffer) => {
      if (chunk.at(-1) === LF) {
        answered++;
        socket.write(GET);
      }
    });
    await once(socket, 'connect');
    socket.write(GET);
  }

  it(`answers ${LEAST_PER_SECOND} GETs a second of others`, async () => {
    const paths = Array.from({ length: HOSTILE }, (_, index) => cn.socket(index));
    const requests = [frame('00000002', 'KEYS')];
    const load = { paths, requests, connections: HOSTILE_CONNECTIONS, mode: 'reads' } as const;
    const hostile = await HostileGuests.start(load);
    for (let n = 0; n < OTHERS * CONNECTIONS; n++) {
      await keepAsking(cn.socket(HOSTILE + (n % OTHERS)));
    }
    const all = await handled();
    const [before, cpuMs] = [answered, cn.cpuMs];
    await delay(PRESSED_MS);
    const [others, seconds] = [answered - before, (cn.cpuMs - cpuMs) / 1000];
    const hostiles = (await handled()) - all - others;
    await hostile.stop();
    assert(hostiles > others, `${hostiles} requests of hostile zones, ${others} of others`);
    // A second of the processor, since others may want it too.
    const perSecond = (others / seconds) * slowness();
    assert(
      perSecond >= LEAST_PER_SECOND,
      `${perSecond} a second, besides ${hostiles} of hostile zones`,
    );
  });
});
