/*
 * System calls that fail: descriptors that run out, and what else only a real limit can bring about.
 * Contained, logged, tried again.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { eventually } from '../support/eventually';
import { osZone, SimulatedNode } from '../support/simulated-node';

const ZONES = 4;

describe('an agent without descriptors', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;
  let sockets: Socket[] = [];

  before(async function () {
    const vms = Array.from({ length: ZONES }, (_, index) => {
      return osZone(index, { customer_metadata: { motd: 'hello' } });
    });
    cn = await SimulatedNode.start(this, { vms });
  });

  after(async () => {
    sockets.forEach((socket) => socket.destroy());
    await cn.stop();
  });

  function limit(descriptors: number): void {
    execFileSync('prlimit', ['--pid', String(cn.agent.pid), `--nofile=${descriptors}:4096`]);
  }

  function isLogged(msg: string, errno: string): boolean {
    return cn.records(msg).some((record) => JSON.stringify(record.err).includes(errno));
  }

  it('keeps answering connected clients, and accepts new ones when there are descriptors again', async () => {
    const session = await cn.open(0);
    assert.strictEqual((await session.get('motd')).text, 'hello');
    limit(cn.descriptors + 3);
    for (let n = 0; n < 20; n++) {
      const socket = connect(cn.socket(1));
      socket.on('error', () => undefined);
      sockets.push(socket);
    }
    await once(sockets[0] ?? assert.fail(), 'connect');
    await eventually(
      () => isLogged('cannot accept a connection', 'EMFILE'),
      'the log says what is missing',
    );
    const { code, text } = await session.get('motd');
    assert.deepStrictEqual([code, text], ['SUCCESS', 'hello'], 'what was read before is served');
    const put = await session.put('k', 'v');
    assert.deepStrictEqual([put.code, put.text], ['FAILURE', 'Could not update metadata.']);
    await eventually(
      () => isLogged('could not update metadata', 'EMFILE'),
      'and why it was refused',
    );
    assert.strictEqual(cn.metadata(0).customer.k, undefined);
    sockets.forEach((socket) => socket.destroy());
    sockets = [];
    limit(4096);
    for (let index = 0; index < ZONES; index++) {
      await eventually(() => cn.answers(index), `zone ${index} is served`, 20_000);
    }
    const again = await session.put('k', 'w');
    assert.deepStrictEqual([again.code, cn.metadata(0).customer.k], ['SUCCESS', 'w']);
    session.close();
  });

  it('makes the sockets of new zones when there are descriptors again', async () => {
    limit(cn.descriptors);
    await cn.control('create', { vms: [osZone(10), osZone(11)], boot: true });
    await eventually(
      () => JSON.stringify(cn.agent.records).includes('EMFILE'),
      'the log says what is missing',
    );
    limit(4096);
    await eventually(() => cn.answers(10), 'the socket is made', 20_000);
    await eventually(() => cn.answers(11), 'the socket is made', 20_000);
  });
});
