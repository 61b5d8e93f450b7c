import assert from 'node:assert';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { RunQueue } from '../../src/lib/scheduler';
import type { Reply } from '../../src/protocol/reply';
import type { Connection } from '../../src/transport/connection';
import type { Handle } from '../../src/transport/link';
import { MemoryQuota, ZoneQuota } from '../../src/transport/zone-quota';
import { ConnectionWorld, quiet, type Opened } from '../support/connections';
import { eventually } from '../support/eventually';
import { frame, putFrame, readFrame } from '../support/frames';
import { KIB, Member } from '../support/quota-member';

const MIB = 1024 * 1024;

describe('a connection', () => {
  let world = new ConnectionWorld();
  afterEach(() => world.end());

  for (const channel of ['zone socket', 'serial port'] as const) {
    describe(`on a ${channel}`, () => {
      const open = (): Promise<Opened<Connection>> =>
        channel === 'zone socket' ? world.openSocket() : world.openPort();

      beforeEach(() => {
        world = new ConnectionWorld();
      });

      it('answers each request once, in order, however its bytes are cut', async () => {
        const stream = Buffer.concat([
          Buffer.from('\nNEGOTIATE V2\n'),
          frame('0000000a', 'GET', 'k'),
          frame('0000000b', 'GET', 'absent'),
          Buffer.from('GET k\nKEYS\n'),
          frame('0000000c', 'KEYS'),
        ]);
        const expected =
          'invalid command\nV2_OK\n' +
          frame('0000000a', 'SUCCESS', 'value').toString() +
          frame('0000000b', 'NOTFOUND').toString() +
          'SUCCESS\nvalue\n.\nSUCCESS\nk\n.\n' +
          frame('0000000c', 'SUCCESS', 'k').toString();
        for (let cut = 1; cut < stream.length; cut++) {
          const { peer } = await open();
          peer.write(stream.subarray(0, cut));
          await nextIteration();
          peer.write(stream.subarray(cut));
          assert.strictEqual(await peer.least(expected.length), expected, `cut at ${cut}`);
          peer.socket.destroy();
        }
      });

      it('starts a request only after the one before it was answered', async () => {
        const { peer } = await open();
        peer.write(Buffer.concat([putFrame('00000001', 'a', 'b'), frame('00000002', 'GET', 'k')]));
        await eventually(() => world.pending.length === 1);
        await quiet();
        assert.strictEqual(world.asked.length, 1);
        assert.strictEqual(peer.text, '');
        world.settle();
        const text = await peer.least(2 * 21);
        const ids = text
          .split('\n')
          .slice(0, 2)
          .map((line) => readFrame(`${line}\n`).id);
        assert.deepStrictEqual(ids, ['00000001', '00000002']);
      });

      it('drops the replies to requests before a reset, not their effects', async () => {
        const { peer } = await open();
        peer.write(putFrame('00000001', 'a', '1'));
        peer.write(putFrame('00000002', 'b', '2'));
        peer.write(frame('00000003', 'GET', 'k'));
        await eventually(() => world.pending.length === 1);
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
        assert.deepStrictEqual(
          world.asked.map(({ kind }) => kind),
          ['put', 'put'],
        );
        assert.strictEqual(await peer.ask('NEGOTIATE V2\n', 6), 'V2_OK\n');
        const answer = frame('00000004', 'SUCCESS', 'value').toString();
        assert.strictEqual(await peer.ask(frame('00000004', 'GET', 'k'), answer.length), answer);
        world.settle();
        world.settle();
        await quiet();
        assert.strictEqual(peer.text, `invalid command\nV2_OK\n${answer}`);
        assert.strictEqual(world.recorder.count('dropped-reply'), 3);
      });

      it('reports the result of each write once, though its client has reset the line', async () => {
        const { peer } = await open();
        peer.write(putFrame('00000001', 'a', '1'));
        peer.write(putFrame('00000002', 'b', '2'));
        peer.write(frame('00000003', 'DELETE', 'sdc:refused'));
        peer.write(frame('00000004', 'GET', 'k'));
        await eventually(() => world.pending.length === 1);
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
        assert.deepStrictEqual(world.recorder.writes(), ['failure']);
        world.settle();
        world.refuse('no space left');
        await quiet();
        assert.deepStrictEqual(world.recorder.writes(), ['failure', 'success', 'failure']);
        assert.ok(world.recorder.answers.every(({ kind }) => kind !== 'get'));
      });

      it('does not answer a broken frame, and answers the next one', async () => {
        const { peer } = await open();
        peer.write('V2 21 433221a8 6f000004 GET bW90ZA==\n');
        const answer = frame('00000004', 'SUCCESS', 'value').toString();
        assert.strictEqual(await peer.ask(frame('00000004', 'GET', 'k'), answer.length), answer);
        assert.strictEqual(world.recorder.count('broken-frame'), 1);
      });

      it('answers a line over the limit with its id, and keeps nothing of it', async () => {
        const { peer } = await open();
        const long = Buffer.from(`V2 1 00000000 0000000d PUT ${'x'.repeat(2 * MIB)}\n`);
        const answer = frame('0000000d', 'FAILURE', 'Request too large').toString();
        assert.strictEqual(await peer.ask(long, answer.length), answer);
        assert.strictEqual(world.recorder.count('line'), 1);
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
      });

      it('transfers a value of a megabyte in both directions', async () => {
        const value = 'v'.repeat(MIB);
        world.set('big', value);
        const { peer } = await open();
        peer.write(putFrame('00000001', 'big', value));
        await eventually(() => world.pending.length === 1);
        world.settle();
        await peer.least(21);
        const expected = frame('00000002', 'SUCCESS', value).toString();
        assert.strictEqual(
          await peer.ask(frame('00000002', 'GET', 'big'), expected.length),
          expected,
        );
      });

      it('executes a write whose client is gone', async () => {
        const { peer, closed } = await open();
        peer.write(Buffer.concat([putFrame('00000001', 'a', '1'), putFrame('00000002', 'b', '2')]));
        await eventually(() => world.pending.length === 1);
        peer.socket.destroy();
        // A zone socket with a pending request sees the end when it is read again.
        world.settle();
        await closed;
        assert.strictEqual(world.asked.length, 2);
        world.settle();
        await quiet();
        assert.deepStrictEqual(world.recorder.writes(), ['success', 'success']);
      });
    });
  }

  describe('of a zone socket', () => {
    beforeEach(() => {
      world = new ConnectionWorld({ replyBytes: 256 * 1024 });
    });

    it('answers a client that ended its side, then closes', async () => {
      const { peer, closed } = await world.openSocket();
      peer.socket.end(Buffer.concat([putFrame('00000001', 'a', '1'), Buffer.from('GET k\n')]));
      await eventually(() => world.pending.length === 1);
      world.settle();
      const expected = frame('00000001', 'SUCCESS', 'OK').toString() + 'SUCCESS\nvalue\n.\n';
      assert.strictEqual(await peer.end(), expected);
      await closed;
    });

    it('closes at once when a client ends its side without a request', async () => {
      const { peer, closed } = await world.openSocket();
      peer.socket.end();
      assert.strictEqual(await peer.end(), '');
      await closed;
    });

    it('stops reading a client that sends many requests without waiting', async () => {
      const { peer } = await world.openSocket();
      const flood = Buffer.concat(
        Array.from({ length: 20_000 }, () => putFrame('00000001', 'a', '1')),
      );
      peer.write(flood);
      await quiet();
      assert.ok(world.recorder.receivedBytes < 300_000, String(world.recorder.receivedBytes));
      assert.strictEqual(world.asked.length, 1);
      assert.strictEqual(world.recorder.count('queue'), 1);
    });

    it('holds at most its quota for peers that do not read, and serves others', async () => {
      const value = 'v'.repeat(200_000);
      world.set('big', value);
      const greedy = await Promise.all(Array.from({ length: 8 }, () => world.openSocket()));
      for (const { peer } of greedy) {
        peer.socket.pause();
        peer.write(
          Buffer.concat(Array.from({ length: 50 }, () => frame('00000001', 'GET', 'big'))),
        );
      }
      await quiet();
      const most = world.limits.replyBytes + 1.4 * value.length;
      assert.ok(world.quota.replyBytes > 0 && world.quota.replyBytes <= most);
      const { peer } = await world.openSocket();
      assert.strictEqual(await peer.ask('GET k\n', 16), 'SUCCESS\nvalue\n.\n');
      peer.write(frame('00000002', 'GET', 'big'));
      await quiet();
      // A peer that has not read for two seconds is closed; the next one that waits gets the room.
      while (peer.receivedBytes === 16 && world.later < 60_000) {
        for (const { connection } of greedy) {
          connection.checkIdle();
        }
        world.later += 2500;
        await nextIteration();
      }
      const expected = frame('00000002', 'SUCCESS', value).toString();
      assert.strictEqual((await peer.least(16 + expected.length)).slice(16), expected);
      assert.ok(world.recorder.count('unread') > 0);
    });

    it('gives no room to a reply that its client no longer waits for', async () => {
      const value = 'v'.repeat(200_000);
      world.set('big', value);
      const [first, second] = [await world.openSocket(), await world.openSocket()];
      first.peer.socket.pause();
      first.peer.write(
        Buffer.concat([frame('00000001', 'GET', 'big'), frame('00000002', 'GET', 'big')]),
      );
      await quiet();
      second.peer.write(frame('00000003', 'GET', 'big'));
      await quiet();
      assert.ok(world.quota.hasWaiters);
      await second.peer.ask('\n', 'invalid command\n'.length);
      first.peer.socket.resume();
      await first.peer.least(2 * frame('00000001', 'SUCCESS', value).length);
      first.connection.checkIdle();
      assert.deepStrictEqual([world.quota.hasWaiters, world.quota.replyBytes], [false, 0]);
    });

    for (const next of ['GET', 'PUT']) {
      it(`answers in order, a ${next} too, where a reply is larger than its room and memory is scarce`, async () => {
        const limit = 6000 * KIB;
        const memory = new MemoryQuota(() => limit);
        world = new ConnectionWorld({ replyBytes: 4 * MIB, lineBytes: 128 * KIB }, memory);
        const other = new Member(new ZoneQuota(world.limits, memory));
        const reads = new Map<string, (reply: Reply) => void>();
        const { handle } = world;
        Object.defineProperty(world, 'handle', {
          value: (...asked: Parameters<Handle>): ReturnType<Handle> => {
            const key = asked[1].kind === 'get' ? asked[1].key : asked[1].kind;
            return key === 'getall' || key === 'big'
              ? new Promise((resolve) => reads.set(key, resolve))
              : handle(...asked);
          },
        });
        const settle = (key: string, bytes: number): Promise<void> => {
          reads.get(key)?.({ kind: 'success', text: 'v'.repeat(bytes) });
          return quiet();
        };
        const [first, second] = [await world.openSocket(), await world.openSocket()];
        // What it comes to is the room that the next one is given.
        first.peer.write(frame('00000001', 'GETALL'));
        await quiet();
        await settle('getall', 100 * KIB);
        first.connection.checkIdle();
        const before = first.peer.text.length;
        first.peer.write(frame('0000000a', 'GETALL'));
        await quiet();
        other.add(limit - world.quota.heldBytes + 4 * KIB);
        second.peer.write(frame('0000000d', 'GET', 'big'));
        await quiet();
        await settle('big', 100 * KIB);
        // The beginning of a large line waits for room too.
        first.peer.write(
          Buffer.concat([
            next === 'GET' ? frame('0000000b', 'GET', 'k') : putFrame('0000000b', 'a', 'b'),
            Buffer.alloc(20 * KIB, 'x'),
          ]),
        );
        await quiet();
        // A zone whose work is short is served without an iteration of the event loop in between.
        world.queue.averageMs = 0.1;
        await settle('getall', 150 * KIB);
        other.add(-limit);
        await quiet();
        await settle('big', 100 * KIB);
        await settle('getall', 150 * KIB);
        world.settle();
        await quiet();
        const replies = first.peer.text.slice(before).split('\n').slice(0, -1);
        assert.deepStrictEqual(
          replies.map((line) => / ([0-9a-f]{8}) SUCCESS/.exec(line)?.[1]),
          ['0000000a', '0000000b'],
        );
      });
    }

    it('does not execute further reads of peers that are gone, however many leave at once', async () => {
      world = new ConnectionWorld({ replyBytes: MIB });
      world.set('big', 'v'.repeat(MIB));
      const asked = Buffer.concat(
        Array.from({ length: 16 }, () => frame('00000001', 'GET', 'big')),
      );
      const guests = await Promise.all(Array.from({ length: 8 }, () => world.openSocket()));
      for (const { peer } of guests) {
        peer.socket.pause();
        peer.write(asked);
      }
      const sent = guests.length * asked.length;
      await eventually(() => world.recorder.receivedBytes === sent);
      await quiet();
      const before = world.asked.length;
      for (const { peer } of guests) {
        peer.socket.destroy();
      }
      await Promise.all(guests.map(({ closed }) => closed));
      const more = world.asked.length - before;
      assert.ok(more <= guests.length, `${more} more of ${16 * guests.length}`);
    });

    it('asks the kernel at most once in a run whether a peer that is not read has left', async () => {
      const { connection, peer, stream } = await world.openSocket();
      let asked = 0;
      let runs = 0;
      Object.defineProperty(stream, 'gone', { get: () => ++asked < 0 });
      const work = connection.work.bind(connection);
      connection.work = (cost) => {
        runs++;
        return work(cost);
      };
      const all = 1000;
      peer.write(Buffer.concat(Array.from({ length: all }, () => frame('00000001', 'GET', 'k'))));
      await eventually(() => world.asked.length === all);
      assert.ok(asked > 0 && asked <= runs, `${asked} in ${runs} runs`);
    });

    it('reads a large line of one connection at a time, and of all of them in the end', async () => {
      const value = 'v'.repeat(500_000);
      const opened = await Promise.all(Array.from({ length: 6 }, () => world.openSocket()));
      for (const { peer } of opened) {
        peer.write(putFrame('00000001', 'a', value));
      }
      for (let i = 1; i <= opened.length; i++) {
        await eventually(() => world.asked.length === i, `put ${i}`);
        await quiet();
        assert.strictEqual(world.asked.length, i);
        assert.ok(world.recorder.receivedBytes < (i + 1) * 1_000_000);
        world.settle();
      }
      for (const { peer } of opened) {
        await peer.least(21);
      }
    });

    it('is not read while memory is full and its zone holds much, and is again as soon as it is not', async () => {
      world = new ConnectionWorld({}, new MemoryQuota(() => 60 * KIB));
      const other = new Member(world.quota);
      other.add(65 * KIB);
      const { peer } = await world.openSocket();
      const answer = 'SUCCESS\nvalue\n.\n';
      assert.strictEqual(await peer.ask('GET k\n', answer.length), answer);
      peer.write('GET k\n');
      await quiet();
      assert.strictEqual(peer.text, answer);
      other.add(-65 * KIB);
      assert.strictEqual(await peer.least(2 * answer.length), answer + answer);
    });

    it('closes a connection that is silent for too long, and none that waits for a write', async () => {
      const idle = await world.openSocket();
      const busy = await world.openSocket();
      busy.peer.write(putFrame('00000001', 'a', '1'));
      await eventually(() => world.pending.length === 1);
      world.later = world.limits.idleMs - 1000;
      idle.connection.checkIdle();
      await quiet();
      assert.ok(!idle.peer.over);
      world.later = world.limits.idleMs + 1000;
      idle.connection.checkIdle();
      busy.connection.checkIdle();
      await idle.closed;
      await idle.peer.end();
      assert.ok(!busy.peer.over);
      assert.strictEqual(world.recorder.count('idle'), 1);
    });

    it('counts the silence of a peer from the answer to a write that took longer', async () => {
      const { peer, connection, closed } = await world.openSocket();
      peer.write(putFrame('00000001', 'a', '1'));
      await eventually(() => world.pending.length === 1);
      world.later = world.limits.idleMs + 1000;
      world.settle();
      await peer.least(21);
      connection.checkIdle();
      await quiet();
      assert.ok(!peer.over);
      world.later += world.limits.idleMs + 1000;
      connection.checkIdle();
      await closed;
      assert.strictEqual(world.recorder.count('idle'), 1);
    });

    it('answers one request of a zone while another zone floods with 64 connections', async () => {
      const flood = Buffer.concat(
        Array.from({ length: 3000 }, () => frame('00000001', 'GET', 'k')),
      );
      const other = await world.openSocket(new RunQueue());
      const flooders = await Promise.all(Array.from({ length: 64 }, () => world.openSocket()));
      for (const { peer } of flooders) {
        peer.write(flood);
      }
      let slowest = 0;
      for (let i = 0; i < 20; i++) {
        const begin = performance.now();
        await other.peer.ask('GET k\n', 16);
        slowest = Math.max(slowest, performance.now() - begin);
      }
      assert.ok(slowest < 250, `${slowest} ms`);
    });
  });
});
