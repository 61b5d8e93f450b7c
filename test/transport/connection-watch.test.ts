/*
 * A connection with a WATCH that waits: what ends it, in which order, and what it is charged for.
 */
import assert from 'node:assert';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { RunQueue, Scheduler } from '../../src/lib/scheduler';
import type { Stream } from '../../src/platform/stream';
import { Connection } from '../../src/transport/connection';
import { DEFAULT_LINK_LIMITS, type LinkLimits } from '../../src/transport/limits';
import type { Handle } from '../../src/transport/link';
import { NetStream } from '../../src/transport/net-stream';
import { Watches } from '../../src/transport/watches';
import { MemoryQuota, ZoneQuota } from '../../src/transport/zone-quota';
import { acceptedPair, duplexPair } from '../support/duplex-pair';
import { eventually } from '../support/eventually';
import { base64, frame } from '../support/frames';
import { Peer } from '../support/peer';
import { Recorder } from '../support/recorder';

async function portPair(): Promise<{ near: Stream; far: Socket }> {
  const { near, far } = await duplexPair();
  return { near: new NetStream(near), far };
}

class World {
  readonly recorder = new Recorder();
  readonly memory = new MemoryQuota();
  readonly watches = new Watches(() => ({ text: this.token, settled: true }));
  readonly limits: LinkLimits;
  token = 'one';
  later = 0;
  connection: Connection | null = null;
  closed = false;
  readonly handle: Handle = (_origin, request) => {
    return { kind: 'success', text: request.kind === 'watch' ? this.token : 'value' };
  };
  private peer: Peer | null = null;

  constructor(limits: Partial<LinkLimits> = {}) {
    this.limits = { ...DEFAULT_LINK_LIMITS, ...limits };
  }

  async open(channel: 'socket' | 'serial'): Promise<Peer> {
    const { near, far } = await (channel === 'socket' ? acceptedPair() : portPair());
    const { handle, recorder: observer, limits, watches } = this;
    const context = {
      ...{ channel, handle, observer, limits, watches },
      scheduler: new Scheduler(),
      queue: new RunQueue(),
      quota: new ZoneQuota(limits, this.memory),
      now: () => performance.now() + this.later,
    };
    this.connection = new Connection(near, { zonename: 'z', peer: null }, context, () => {
      this.closed = true;
    });
    this.peer = new Peer(far);
    return this.peer;
  }

  async wait(peer: Peer, id = '0000000a'): Promise<void> {
    peer.write(frame(id, 'WATCH', `300 ${this.token} ${base64(Buffer.from('k'))}`));
    await eventually(() => this.watches.waiting === 1, 'it waits');
  }

  change(): void {
    this.token = 'two';
    this.watches.hint('z');
  }

  end(): void {
    this.peer?.socket.destroy();
  }
}

const ONE = frame('0000000a', 'SUCCESS', 'one').toString();
const TWO = frame('0000000a', 'SUCCESS', 'two').toString();
const GOT = frame('0000000b', 'SUCCESS', 'value').toString();

describe('a WATCH that waits', () => {
  let world: World;

  beforeEach(() => {
    world = new World();
  });

  afterEach(async () => {
    world.end();
    await eventually(() => world.closed, 'closed');
    assert.strictEqual(world.watches.waiting, 0);
    assert.strictEqual(world.memory.usedBytes, 0);
  });

  for (const channel of ['socket', 'serial'] as const) {
    describe(`on a ${channel}`, () => {
      it('is answered when there is another token, once', async () => {
        const peer = await world.open(channel);
        await world.wait(peer);
        world.watches.hint('z');
        await delay(20);
        assert.strictEqual(peer.text, '');
        world.change();
        assert.strictEqual(await peer.least(TWO.length), TWO);
      });

      it('is answered as it is before whatever is asked next', async () => {
        const peer = await world.open(channel);
        await world.wait(peer);
        peer.write(frame('0000000b', 'GET', 'k'));
        assert.strictEqual(await peer.least(ONE.length + GOT.length), ONE + GOT);
        const unknown = 'FAILURE\n';
        await world.wait(peer);
        peer.write('HUH\n');
        const all = ONE + GOT + ONE + unknown;
        assert.strictEqual(await peer.least(all.length), all);
      });

      it('takes the place of another, which ends', async () => {
        const peer = await world.open(channel);
        await world.wait(peer);
        peer.write(frame('0000000c', 'WATCH', '300 one'));
        assert.strictEqual(await peer.least(ONE.length), ONE);
        assert.strictEqual(world.watches.waiting, 1);
        world.change();
        const next = frame('0000000c', 'SUCCESS', 'two').toString();
        assert.strictEqual(await peer.least(ONE.length + next.length), ONE + next);
      });

      it('is not ended by a broken frame, which has no answer either', async () => {
        const peer = await world.open(channel);
        await world.wait(peer);
        peer.write('V2 1 00000000 x\n');
        await delay(20);
        assert.strictEqual(peer.text, '');
        assert.strictEqual(world.watches.waiting, 1);
      });

      it('is answered when we end', async () => {
        const peer = await world.open(channel);
        await world.wait(peer);
        world.connection?.finish();
        assert.strictEqual(await peer.least(ONE.length), ONE);
        await eventually(() => world.closed, 'closed');
      });
    });
  }

  it('is answered before the reset of a socket', async () => {
    const peer = await world.open('socket');
    await world.wait(peer);
    peer.write('\nNEGOTIATE V2\n');
    const all = `${ONE}invalid command\nV2_OK\n`;
    assert.strictEqual(await peer.least(all.length), all);
  });

  it("is dropped by a reset of a port, which is another client's", async () => {
    const peer = await world.open('serial');
    await world.wait(peer);
    peer.write('\nNEGOTIATE V2\n');
    assert.strictEqual(await peer.least(22), 'invalid command\nV2_OK\n');
    assert.strictEqual(world.watches.waiting, 0);
  });

  it('gets its answer though its peer has ended its side', async () => {
    const peer = await world.open('socket');
    await world.wait(peer);
    peer.socket.end();
    assert.strictEqual(await peer.least(ONE.length), ONE);
  });

  it('is no silence for which a connection is closed, nor does it count as one when it ends', async () => {
    world = new World({ idleMs: 1000 });
    const peer = await world.open('socket');
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

  it('is in the account of its zone', async () => {
    const peer = await world.open('socket');
    await world.wait(peer);
    assert(world.memory.usedBytes > 500 && world.memory.usedBytes < 4096);
  });
});
