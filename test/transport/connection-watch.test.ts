/*
 * A connection with a WATCH that waits: what ends it, in which order, and what it is charged for.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from '../../src/transport/connection';
import { ConnectionWorld, type Opened } from '../support/connections';
import { eventually } from '../support/eventually';
import { base64, frame } from '../support/frames';
import type { Peer } from '../support/peer';

class WatchWorld extends ConnectionWorld {
  connection: Connection | null = null;
  closed = false;

  async connect(channel: 'socket' | 'serial'): Promise<Peer> {
    const opened: Opened<Connection> = await (channel === 'socket'
      ? this.openSocket()
      : this.openPort());
    this.connection = opened.connection;
    void opened.closed.then(() => {
      this.closed = true;
    });
    return opened.peer;
  }

  async wait(peer: Peer, id = '0000000a'): Promise<void> {
    peer.write(frame(id, 'WATCH', `300 ${this.token} ${base64(Buffer.from('k'))}`));
    await eventually(() => this.watches.waiting === 1, 'it waits');
  }

  change(): void {
    this.token = 'two';
    this.watches.hint('z');
  }
}

const ONE = frame('0000000a', 'SUCCESS', 'one').toString();
const TWO = frame('0000000a', 'SUCCESS', 'two').toString();
const GOT = frame('0000000b', 'SUCCESS', 'value').toString();

describe('a WATCH that waits', () => {
  let world: WatchWorld;

  beforeEach(() => {
    world = new WatchWorld();
  });

  afterEach(async () => {
    world.end();
    await eventually(() => world.closed, 'closed');
    assert.strictEqual(world.watches.waiting, 0);
    assert.strictEqual(world.quota.heldBytes, 0);
  });

  for (const channel of ['socket', 'serial'] as const) {
    describe(`on a ${channel}`, () => {
      it('is answered when there is another token, once', async () => {
        const peer = await world.connect(channel);
        await world.wait(peer);
        world.watches.hint('z');
        await delay(20);
        assert.strictEqual(peer.text, '');
        world.change();
        assert.strictEqual(await peer.least(TWO.length), TWO);
      });

      it('is answered as it is before whatever is asked next', async () => {
        const peer = await world.connect(channel);
        await world.wait(peer);
        peer.write(frame('0000000b', 'GET', 'k'));
        assert.strictEqual(await peer.least(ONE.length + GOT.length), ONE + GOT);
        let all = ONE + GOT;
        for (const [line, reply] of [
          ['HUH\n', 'FAILURE\n'],
          ['NEGOTIATE V3\n', 'FAILURE\n'],
          [' \tx\n', 'invalid command\n'],
        ] as const) {
          await world.wait(peer);
          peer.write(line);
          all += ONE + reply;
          assert.strictEqual(await peer.least(all.length), all);
        }
      });

      it('takes the place of another, which ends', async () => {
        const peer = await world.connect(channel);
        await world.wait(peer);
        peer.write(frame('0000000c', 'WATCH', '300 one'));
        assert.strictEqual(await peer.least(ONE.length), ONE);
        assert.strictEqual(world.watches.waiting, 1);
        world.change();
        const next = frame('0000000c', 'SUCCESS', 'two').toString();
        assert.strictEqual(await peer.least(ONE.length + next.length), ONE + next);
      });

      it('is not ended by a broken frame, which has no answer either', async () => {
        const peer = await world.connect(channel);
        await world.wait(peer);
        peer.write('V2 1 00000000 x\n');
        await delay(20);
        assert.strictEqual(peer.text, '');
        assert.strictEqual(world.watches.waiting, 1);
      });

      it('is answered when the agent stops', async () => {
        const peer = await world.connect(channel);
        await world.wait(peer);
        world.connection?.finish();
        assert.strictEqual(await peer.least(ONE.length), ONE);
        await eventually(() => world.closed, 'closed');
      });
    });
  }

  for (const [what, line, reply] of [
    ['an empty line', '\n', 'invalid command\n'],
    ['NEGOTIATE', 'NEGOTIATE V2\n', 'V2_OK\n'],
    ['both', '\nNEGOTIATE V2\n', 'invalid command\nV2_OK\n'],
  ] as const) {
    it(`is answered before ${what} on a socket, which is the same client's`, async () => {
      const peer = await world.connect('socket');
      await world.wait(peer);
      peer.write(line);
      assert.strictEqual(await peer.least(ONE.length + reply.length), ONE + reply);
    });

    it(`is dropped by ${what} on a port, which is another client's`, async () => {
      const peer = await world.connect('serial');
      await world.wait(peer);
      peer.write(line);
      assert.strictEqual(await peer.least(reply.length), reply);
      assert.strictEqual(world.watches.waiting, 0);
      peer.write(frame('0000000b', 'GET', 'k'));
      assert.strictEqual(await peer.least(reply.length + GOT.length), reply + GOT);
    });
  }

  it('gets its answer though its peer has ended its side', async () => {
    const peer = await world.connect('socket');
    await world.wait(peer);
    peer.socket.end();
    assert.strictEqual(await peer.least(ONE.length), ONE);
  });

  it('does not count as idle time, neither while it waits nor when it ends', async () => {
    world = new WatchWorld({ idleMs: 1000 });
    const peer = await world.connect('socket');
    await world.wait(peer);
    world.later = 250_000;
    world.connection?.checkIdle();
    world.change();
    assert.strictEqual(await peer.least(TWO.length), TWO);
    world.connection?.checkIdle();
    assert.strictEqual(world.closed, false);
    world.later += 2000;
    world.connection?.checkIdle();
    await eventually(() => world.closed, 'closed');
  });

  it('counts towards the memory quota of its zone', async () => {
    const peer = await world.connect('socket');
    await world.wait(peer);
    assert(world.quota.heldBytes > 500 && world.quota.heldBytes < 4096);
  });
});
