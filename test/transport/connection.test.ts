import assert from 'node:assert';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { Connection } from '../../src/transport/connection';
import { DEFAULT_LINK_LIMITS, type LinkLimits } from '../../src/transport/limits';
import type { Handle } from '../../src/transport/link';
import { NetStream } from '../../src/transport/net-stream';
import { ZoneQuota } from '../../src/transport/zone-quota';
import { RunQueue, Scheduler } from '../../src/lib/scheduler';
import type { Reply } from '../../src/protocol/reply';
import type { DataRequest } from '../../src/protocol/request';
import type { Stream } from '../../src/platform/stream';
import { acceptedPair, duplexPair } from '../support/duplex-pair';
import { eventually } from '../support/eventually';
import { frame, putFrame, readFrame } from '../support/frames';
import { stillWatches } from '../support/new-verbs';
import { Peer } from '../support/peer';
import { Recorder } from '../support/recorder';

const MIB = 1024 * 1024;
/** The longest that a missing answer is waited for: what it would take is far below. */
const QUIET_MS = 30;

/** A port's stream is a socket of node:net. */
async function portPair(): Promise<{ near: Stream; far: Socket }> {
  const { near, far } = await duplexPair();
  return { near: new NetStream(near), far };
}

class World {
  readonly recorder = new Recorder();
  readonly asked: DataRequest[] = [];
  readonly pending: ((reply: Reply) => void)[] = [];
  readonly scheduler = new Scheduler();
  readonly queue = new RunQueue();
  readonly watches = stillWatches();
  readonly quota: ZoneQuota;
  readonly limits: LinkLimits;
  /** Added to the real time. */
  later = 0;
  private readonly peers: Peer[] = [];
  private readonly values = new Map<string, string>([['k', 'value']]);

  constructor(limits: Partial<LinkLimits> = {}) {
    this.limits = { ...DEFAULT_LINK_LIMITS, ...limits };
    this.quota = new ZoneQuota(this.limits);
  }

  set(key: string, value: string): void {
    this.values.set(key, value);
  }

  readonly now = (): number => performance.now() + this.later;

  /** GET and KEYS at once; PUT and DELETE when the test settles them. */
  readonly handle: Handle = (_origin, request) => {
    this.asked.push(request);
    if (request.kind === 'put' || request.kind === 'delete') {
      if (request.key === 'sdc:refused') {
        return { kind: 'failure', text: 'no' };
      }
      return new Promise((resolve) => this.pending.push(resolve));
    }
    const value = request.kind === 'get' ? this.values.get(request.key) : 'k';
    return value === undefined ? { kind: 'notfound' } : { kind: 'success', text: value };
  };

  settle(text = 'OK'): void {
    this.pending.shift()?.({ kind: 'success', text });
  }

  refuse(text: string): void {
    this.pending.shift()?.({ kind: 'failure', text });
  }

  async open(
    channel: 'socket' | 'serial',
    queue = this.queue,
  ): Promise<{ peer: Peer; connection: Connection; closed: Promise<void> }> {
    const { near, far } = await (channel === 'socket' ? acceptedPair() : portPair());
    const { handle, recorder: observer, limits, scheduler, quota, watches, now } = this;
    let done: () => void = () => undefined;
    const closed = new Promise<void>((resolve) => {
      done = resolve;
    });
    const context = { channel, handle, observer, limits, scheduler, queue, quota, watches, now };
    const connection = new Connection(near, { zonename: 'z', peer: null }, context, done);
    const peer = new Peer(far);
    this.peers.push(peer);
    return { peer, connection, closed };
  }

  end(): void {
    for (const peer of this.peers) {
      peer.socket.destroy();
    }
  }
}

/** Whatever can happen without waiting has happened. */
async function quiet(): Promise<void> {
  const end = performance.now() + QUIET_MS;
  while (performance.now() < end) {
    await turn();
  }
}

describe('a connection', () => {
  let world = new World();
  afterEach(() => world.end());

  for (const channel of ['socket', 'serial'] as const) {
    describe(`on a ${channel}`, () => {
      beforeEach(() => {
        world = new World();
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
          const { peer } = await world.open(channel);
          peer.write(stream.subarray(0, cut));
          await turn();
          peer.write(stream.subarray(cut));
          assert.strictEqual(await peer.least(expected.length), expected, `cut at ${cut}`);
          peer.socket.destroy();
        }
      });

      it('starts a request only when the one before it is answered', async () => {
        const { peer } = await world.open(channel);
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

      it('drops the answers, not the effects, of what was asked before a reset', async () => {
        const { peer } = await world.open(channel);
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

      it('tells what became of each write once, though its asker has reset the line', async () => {
        const { peer } = await world.open(channel);
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

      it('says nothing to a broken frame and goes on with the next one', async () => {
        const { peer } = await world.open(channel);
        peer.write('V2 21 433221a8 6f000004 GET bW90ZA==\n');
        const answer = frame('00000004', 'SUCCESS', 'value').toString();
        assert.strictEqual(await peer.ask(frame('00000004', 'GET', 'k'), answer.length), answer);
        assert.strictEqual(world.recorder.count('broken-frame'), 1);
      });

      it('answers a line over the limit by its id and keeps nothing of it', async () => {
        const { peer } = await world.open(channel);
        const long = Buffer.from(`V2 1 00000000 0000000d PUT ${'x'.repeat(2 * MIB)}\n`);
        const answer = frame('0000000d', 'FAILURE', 'Request too large').toString();
        assert.strictEqual(await peer.ask(long, answer.length), answer);
        assert.strictEqual(world.recorder.count('line'), 1);
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
      });

      it('carries a value of a megabyte both ways', async () => {
        const value = 'v'.repeat(MIB);
        world.set('big', value);
        const { peer } = await world.open(channel);
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

      it('carries out a write whose client is gone', async () => {
        const { peer, closed } = await world.open(channel);
        peer.write(Buffer.concat([putFrame('00000001', 'a', '1'), putFrame('00000002', 'b', '2')]));
        await eventually(() => world.pending.length === 1);
        peer.socket.destroy();
        // A zone socket with a request under way hears of the end when it reads again.
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
      world = new World({ unsentBytes: 256 * 1024 });
    });

    it('answers a client that ended its side, then ends', async () => {
      const { peer, closed } = await world.open('socket');
      peer.socket.end(Buffer.concat([putFrame('00000001', 'a', '1'), Buffer.from('GET k\n')]));
      await eventually(() => world.pending.length === 1);
      world.settle();
      const expected = frame('00000001', 'SUCCESS', 'OK').toString() + 'SUCCESS\nvalue\n.\n';
      assert.strictEqual(await peer.end(), expected);
      await closed;
    });

    it('closes at once for a client that ended its side without a word', async () => {
      const { peer, closed } = await world.open('socket');
      peer.socket.end();
      assert.strictEqual(await peer.end(), '');
      await closed;
    });

    it('stops reading a client that asks more than it waits for', async () => {
      const { peer } = await world.open('socket');
      const flood = Buffer.concat(
        Array.from({ length: 20_000 }, () => putFrame('00000001', 'a', '1')),
      );
      peer.write(flood);
      await quiet();
      assert.ok(world.recorder.receivedBytes < 300_000, String(world.recorder.receivedBytes));
      assert.strictEqual(world.asked.length, 1);
      assert.strictEqual(world.recorder.count('queue'), 1);
    });

    it('holds at most its share for peers that do not read, and serves others', async () => {
      const value = 'v'.repeat(200_000);
      world.set('big', value);
      const greedy = await Promise.all(Array.from({ length: 8 }, () => world.open('socket')));
      for (const { peer } of greedy) {
        peer.socket.pause();
        peer.write(
          Buffer.concat(Array.from({ length: 50 }, () => frame('00000001', 'GET', 'big'))),
        );
      }
      await quiet();
      const most = world.limits.unsentBytes + 1.4 * value.length;
      assert.ok(world.quota.replyBytes > 0 && world.quota.replyBytes <= most);
      const { peer } = await world.open('socket');
      assert.strictEqual(await peer.ask('GET k\n', 16), 'SUCCESS\nvalue\n.\n');
      peer.write(frame('00000002', 'GET', 'big'));
      await quiet();
      // Who stands in the way for two seconds is closed; the next one that waits gets the room.
      while (peer.receivedBytes === 16 && world.later < 60_000) {
        for (const { connection } of greedy) {
          connection.checkIdle();
        }
        world.later += 2500;
        await turn();
      }
      const expected = frame('00000002', 'SUCCESS', value).toString();
      assert.strictEqual((await peer.least(16 + expected.length)).slice(16), expected);
      assert.ok(world.recorder.count('unread') > 0);
    });

    it('asks nothing more for peers that are gone, however many leave at once', async () => {
      world = new World({ unsentBytes: MIB });
      world.set('big', 'v'.repeat(MIB));
      const asked = Buffer.concat(
        Array.from({ length: 16 }, () => frame('00000001', 'GET', 'big')),
      );
      const guests = await Promise.all(Array.from({ length: 8 }, () => world.open('socket')));
      for (const { peer } of guests) {
        peer.socket.pause();
        peer.write(asked);
      }
      await eventually(() => guests.every(({ connection }) => connection.received > 0));
      await quiet();
      const before = world.asked.length;
      for (const { peer } of guests) {
        peer.socket.destroy();
      }
      await Promise.all(guests.map(({ closed }) => closed));
      const more = world.asked.length - before;
      assert.ok(more <= guests.length, `${more} more of ${16 * guests.length}`);
    });

    it('lets one connection at a time collect a big line, and all of them in the end', async () => {
      const value = 'v'.repeat(500_000);
      const opened = await Promise.all(Array.from({ length: 6 }, () => world.open('socket')));
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

    it('closes one that is silent for too long, and none that waits for a write', async () => {
      const idle = await world.open('socket');
      const busy = await world.open('socket');
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

    it('answers a zone with one request while another floods with 64 connections', async () => {
      const flood = Buffer.concat(
        Array.from({ length: 3000 }, () => frame('00000001', 'GET', 'k')),
      );
      const other = await world.open('socket', new RunQueue());
      const flooders = await Promise.all(Array.from({ length: 64 }, () => world.open('socket')));
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

  describe('of a port', () => {
    beforeEach(() => {
      world = new World();
    });

    it('takes a newline a second after an unfinished line for a reset', async () => {
      for (const left of ['V2 21 433221a9 6f000', 'GET k', 'garbage', 'x'.repeat(100)]) {
        const { peer, connection } = await world.open('serial');
        const before = connection.received;
        peer.write(left);
        await eventually(() => connection.received === before + left.length);
        world.later += 1000;
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n', left);
        assert.strictEqual(connection.dropped, left.length);
        assert.strictEqual(await peer.ask('GET k\n', 16), 'SUCCESS\nvalue\n.\n');
      }
    });

    it('takes it for one too behind the NULs of a port that is opened', async () => {
      const { peer, connection } = await world.open('serial');
      const left = 'V2 21 433221a9 6f000';
      for (const [n, opening] of ['\0', '\0\0\0'].entries()) {
        const before = connection.received;
        peer.write(left);
        await eventually(() => connection.received === before + left.length);
        world.later += 1000;
        if (n > 0) {
          // They may come by themselves.
          peer.write('\0');
          await eventually(() => connection.received === before + left.length + 1);
        }
        assert.strictEqual(await peer.ask(`${opening}\n`, 16), 'invalid command\n');
      }
    });

    it('takes a whole frame whose newline came late for what it is', async () => {
      const { peer, connection } = await world.open('serial');
      const whole = frame('00000004', 'GET', 'k');
      peer.write(whole.subarray(0, -1));
      await eventually(() => connection.received === whole.length - 1);
      world.later += 5000;
      const answer = frame('00000004', 'SUCCESS', 'value').toString();
      assert.strictEqual(await peer.ask('\n', answer.length), answer);
    });

    it('is silent to a cut frame whose newline comes without a pause', async () => {
      const { peer } = await world.open('serial');
      peer.write('V2 21 433221a9 6f000\n');
      await quiet();
      assert.strictEqual(peer.text, '');
    });

    it('hears the next client after 100 ms behind a frame that was cut anywhere', async () => {
      const cut = putFrame('00000004', 'a', 'some value');
      for (let at = 2; at < cut.length - 1; at++) {
        const { peer, connection } = await world.open('serial');
        peer.write(cut.subarray(0, at));
        await eventually(() => connection.received === at);
        world.later += 100;
        assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n', `after ${at} bytes`);
        peer.socket.destroy();
      }
      assert.strictEqual(world.pending.length, 0);
    });

    it('waits longer behind a line that is no frame, or a whole one', async () => {
      const whole = frame('00000004', 'GET', 'k').subarray(0, -1);
      for (const [line, answer] of [
        [Buffer.from('GET k'), 'SUCCESS\nvalue\n.\n'],
        [whole, frame('00000004', 'SUCCESS', 'value').toString()],
      ] as const) {
        const { peer, connection } = await world.open('serial');
        peer.write(line);
        await eventually(() => connection.received === line.length);
        world.later += 100;
        assert.strictEqual(await peer.ask('\n', answer.length), answer);
        peer.socket.destroy();
      }
    });

    it('looks at the last lines of a flood only, and answers the client behind it', async () => {
      const { peer } = await world.open('serial');
      const answer = frame('00000004', 'SUCCESS', 'value').toString();
      peer.write(Buffer.concat([Buffer.alloc(32_000, '\n'), frame('00000004', 'GET', 'k')]));
      await eventually(() => peer.text.endsWith(answer));
      const resets = peer.text.split('invalid command\n').length - 1;
      assert.ok(resets < 1000, `${resets} answers`);
    });

    it('finds a frame behind NULs and junk at any offset', async () => {
      const request = frame('00000004', 'GET', 'k');
      const answer = frame('00000004', 'SUCCESS', 'value').toString();
      for (const junk of ['\0', '\0\0\0', 'login: ', '\r', 'V2 21 4332', '\xff\xfe']) {
        const { peer } = await world.open('serial');
        const bytes = Buffer.concat([Buffer.from(junk, 'latin1'), request]);
        assert.strictEqual(await peer.ask(bytes, answer.length), answer, JSON.stringify(junk));
      }
    });

    it('answers the next good request wherever a NUL hits the one before', async () => {
      const request = frame('00000004', 'GET', 'k');
      const answer = frame('00000005', 'SUCCESS', 'value').toString();
      for (let at = 0; at <= request.length; at++) {
        const { peer } = await world.open('serial');
        peer.write(
          Buffer.concat([request.subarray(0, at), Buffer.from([0]), request.subarray(at)]),
        );
        peer.write(frame('00000005', 'GET', 'k'));
        await eventually(() => peer.text.endsWith(answer), `offset ${at}`);
        peer.socket.destroy();
      }
    });

    it('serves two clients that share the line, each after its own reset', async () => {
      const { peer } = await world.open('serial');
      peer.write(putFrame('0000000a', 'a', '1'));
      await eventually(() => world.pending.length === 1);
      assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
      world.settle();
      assert.strictEqual(await peer.ask('NEGOTIATE V2\n', 6), 'V2_OK\n');
      const answer = frame('0000000b', 'SUCCESS', 'value').toString();
      assert.strictEqual(await peer.ask(frame('0000000b', 'GET', 'k'), answer.length), answer);
      assert.ok(!peer.text.includes('0000000a'));
    });

    for (const [name, first] of [
      ['V1', Buffer.from('junk\n')],
      ['V2', frame('00000001', 'login')],
    ] as const) {
      it(`tames a tty that echoes each ${name} answer`, async () => {
        const { peer } = await world.open('serial');
        peer.socket.on('data', (chunk: Buffer) => peer.write(chunk));
        peer.write(first);
        await eventually(() => world.recorder.answers.length >= 20);
        await quiet();
        const answers = world.recorder.answers.length;
        assert.ok(answers >= 20 && answers <= 21, String(answers));
        const before = peer.receivedBytes;
        peer.socket.removeAllListeners('data');
        const client = new Peer(peer.socket);
        assert.strictEqual(await client.ask('\n', 16), 'invalid command\n');
        assert.ok(before > 0);
      });
    }

    it('answers bad lines once a second after twenty in a row', async () => {
      const { peer } = await world.open('serial');
      peer.write('bad\n'.repeat(40));
      await peer.least(20 * 8);
      await quiet();
      assert.strictEqual(peer.receivedBytes, 20 * 8);
      await peer.least(21 * 8);
      await quiet();
      assert.strictEqual(peer.receivedBytes, 21 * 8);
    });

    it('forgets a delayed answer when a client comes', async () => {
      const { peer, connection, closed } = await world.open('serial');
      peer.write('bad\n'.repeat(21));
      await peer.least(20 * 8);
      assert.strictEqual(await peer.ask('NEGOTIATE V2\n', 6), 'V2_OK\n');
      peer.write('bad\n');
      assert.strictEqual((await peer.least(21 * 8 + 6)).slice(20 * 8), 'V2_OK\nFAILURE\n');
      connection.destroy();
      await closed;
    });

    it('never stops reading, holds little, and still hears a reset', async () => {
      const { peer } = await world.open('serial');
      peer.write(putFrame('00000001', 'a', '1'));
      await eventually(() => world.pending.length === 1);
      const flood = Buffer.concat(
        Array.from({ length: 20_000 }, () => frame('00000001', 'GET', 'k')),
      );
      peer.write(flood);
      const whole = flood.length + putFrame('00000001', 'a', '1').length;
      await eventually(() => world.recorder.receivedBytes === whole);
      assert.ok(world.recorder.count('queue') > 0);
      assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
    });

    it('closes when its hypervisor ends', async () => {
      const { peer, closed } = await world.open('serial');
      peer.write(putFrame('00000001', 'a', '1'));
      await eventually(() => world.pending.length === 1);
      peer.socket.end();
      await closed;
    });
  });
});
