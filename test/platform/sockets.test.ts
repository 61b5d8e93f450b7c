import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { codeOf } from '../../src/lib/errors';
import { afterPolling, tickIds } from '../../src/lib/scheduler';
import { listenUnix, type Listener } from '../../src/platform/sockets';
import type { Stream, StreamOwner } from '../../src/platform/stream';
import { eventually } from '../support/eventually';
import { openThings, type OpenThings } from '../support/open-things';
import { Peer } from '../support/peer';

const MIB = 1024 * 1024;
const CHILD = require.resolve('../support/sockets-child');

/** Records its callbacks. */
class Owner implements StreamOwner {
  readonly stream: Stream;
  text = '';
  log: string[] = [];
  private readonly answer: (chunk: Buffer, stream: Stream) => void;

  constructor(stream: Stream, answer: (chunk: Buffer, stream: Stream) => void) {
    this.stream = stream;
    this.answer = answer;
    stream.start(this);
  }

  data(chunk: Buffer): void {
    this.text += chunk.toString('latin1');
    this.answer(chunk, this.stream);
  }

  ended(): void {
    this.log.push('ended');
  }

  drain(): void {
    this.log.push('drained');
  }

  closed(): void {
    this.log.push('closed');
  }
}

describe('listening unix sockets', () => {
  let directory: string;
  let path: string;
  let before: OpenThings;
  let listeners: Listener[];
  let owners: Owner[];
  let peers: Peer[];

  beforeEach(() => {
    before = openThings();
    directory = mkdtempSync(join(tmpdir(), 'us-'));
    path = join(directory, 's');
    listeners = [];
    owners = [];
    peers = [];
  });

  afterEach(async () => {
    listeners.forEach((listener) => listener.close());
    peers.forEach((peer) => peer.socket.destroy());
    owners.forEach((owner) => owner.stream.destroy());
    rmSync(directory, { recursive: true });
    await eventually(() => openThings().descriptors <= before.descriptors, 'all are closed');
    await eventually(() => owners.every(({ log }) => log.includes('closed')), 'all are notified');
    for (const { log } of owners) {
      assert.deepStrictEqual(log.slice(-1), ['closed']);
      assert.strictEqual(log.filter((what) => what === 'closed').length, 1);
    }
  });

  function listen(answer: (chunk: Buffer, stream: Stream) => void = () => undefined): Listener {
    const listener = listenUnix(
      path,
      (stream) => owners.push(new Owner(stream, answer)),
      (err) => assert.fail(err),
    );
    listeners.push(listener);
    return listener;
  }

  async function peer(): Promise<Peer> {
    const made = await Peer.at(path);
    peers.push(made);
    return made;
  }

  /** No more at a time than the backlog has room for. */
  async function manyPeers(count: number): Promise<Peer[]> {
    while (peers.length < count) {
      await Promise.all(Array.from({ length: 100 }, peer));
      await eventually(() => owners.length === peers.length, 'all are accepted');
    }
    return peers;
  }

  async function pair(): Promise<{ peer: Peer; owner: Owner }> {
    const made = await peer();
    await eventually(() => owners.length === peers.length);
    const owner = owners.at(-1);
    assert.ok(owner);
    return { peer: made, owner };
  }

  it('deliver a bounded part of what many clients send in one iteration of the loop, and all of it in the end', async () => {
    const iterationOf = tickIds();
    const deliveries = new Map<number, number>();
    listen((chunk, stream) => {
      const id = iterationOf();
      deliveries.set(id, (deliveries.get(id) ?? 0) + 1);
      stream.write(Buffer.from(chunk));
    });
    const many = await manyPeers(1200);
    for (const round of ['first', 'second', 'third']) {
      many.forEach((one) => one.write(`${round}\n`));
    }
    const bytes = 'first\nsecond\nthird\n'.length;
    const texts = await Promise.all(many.map((one) => one.least(bytes)));
    assert.ok(texts.every((text) => text.length === bytes));
    const most = Math.max(...deliveries.values());
    assert.ok(most <= 256, `${most} in one of ${deliveries.size} iterations`);
    // Those that leave at once are noticed in parts too, and none is forgotten.
    many.forEach((one) => one.socket.destroy());
    await eventually(() => owners.every(({ log }) => log.includes('ended')), 'all have ended');
  });

  it('accept many who came together in few iterations of the loop', async () => {
    listen();
    // Each is connected when the call returns, and waits to be accepted.
    const many = Array.from({ length: 100 }, () => connect(path));
    let iterations = 0;
    while (owners.length < many.length && iterations < 1000) {
      await nextIteration();
      iterations++;
    }
    many.forEach((socket) => socket.destroy());
    assert.strictEqual(owners.length, many.length);
    assert.ok(iterations <= 20, `${iterations} iterations`);
  });

  it('read on where a client was paused and resumed while it waited for its part', async () => {
    listen();
    const many = await manyPeers(600);
    many.forEach((one) => one.write('x'));
    await eventually(() => owners.some(({ text }) => text !== ''), 'some are read');
    owners.forEach(({ stream }) => stream.pause());
    const read = owners.filter(({ text }) => text !== '').length;
    await afterPolling();
    await afterPolling();
    assert.ok(owners.filter(({ text }) => text !== '').length - read <= 256, 'paused is not read');
    owners.forEach(({ stream }) => stream.resume());
    await eventually(() => owners.every(({ text }) => text === 'x'), 'all are read');
  });

  it('give every client its own bytes, however many speak at once', async () => {
    listen((chunk, stream) => stream.write(Buffer.from(chunk)));
    const many = await Promise.all(Array.from({ length: 200 }, peer));
    many.forEach((one, i) => one.write(`hello ${i}\n`));
    const texts = await Promise.all(many.map((one, i) => one.least(`hello ${i}\n`.length)));
    assert.deepStrictEqual(
      texts,
      many.map((_one, i) => `hello ${i}\n`),
    );
  });

  it('bring what a client sent before it was accepted together with the client', async () => {
    const together: string[] = [];
    const listener = listenUnix(
      path,
      (stream) => {
        const owner = new Owner(stream, () => undefined);
        owners.push(owner);
        // Runs when the delivery that accepted is over.
        queueMicrotask(() => together.push(owner.text));
      },
      (err) => assert.fail(err),
    );
    listeners.push(listener);
    // Meanwhile nothing is accepted here.
    const client = `require('net').connect(${JSON.stringify(path)}).end('early')`;
    assert.strictEqual(spawnSync(process.execPath, ['-e', `${client}.unref()`]).status, 0);
    await eventually(() => owners.some(({ log }) => log.includes('ended')), 'the client is gone');
    assert.deepStrictEqual(together, ['early']);
    assert.deepStrictEqual(
      owners.map(({ text }) => text),
      ['early'],
    );
  });

  it('keep the order of what is written, in pieces of any size', async () => {
    const sizes = [1, 255 * 1024, 300 * 1024, 7, 3 * MIB, 64 * 1024, 1];
    const pieces = sizes.map((size, i) => Buffer.alloc(size, String(i)));
    listen((_chunk, stream) => pieces.forEach((piece) => stream.write(piece)));
    const { peer: client } = await pair();
    client.write('go');
    const expected = Buffer.concat(pieces).toString('latin1');
    const text = await client.least(expected.length);
    assert.ok(text === expected);
  });

  it('keep apart what one delivery writes to many, however often', async () => {
    const times = 5000;
    listen(() => {
      for (let n = 0; n < times; n++) {
        owners.forEach(({ stream }, i) => stream.write(Buffer.from(`${i}:${n} `)));
      }
    });
    const first = await pair();
    const second = await pair();
    first.peer.write('go');
    const expected = [0, 1].map((i) =>
      Array.from({ length: times }, (_, n) => `${i}:${n} `).join(''),
    );
    const texts = await Promise.all(
      [first, second].map(({ peer: client }, i) => client.least(expected[i]?.length ?? 0)),
    );
    assert.ok(texts[0] === expected[0] && texts[1] === expected[1]);
  });

  it('read from each connection in turn where many send more than there is room for', async () => {
    const turns = new Map<Stream, number>();
    let most = NaN;
    listen((chunk, stream) => {
      if (chunk.equals(Buffer.from('last'))) {
        most = Math.max(...turns.values());
      }
      turns.set(stream, (turns.get(stream) ?? 0) + 1);
    });
    const crowd = await Promise.all(Array.from({ length: 64 }, () => peer()));
    const last = await pair();
    // The loop sees none of it before all of it is there.
    crowd.forEach((each) => each.write('x'.repeat(MIB)));
    last.peer.write('last');
    await eventually(() => last.owner.text === 'last');
    // What the kernel holds of one is several reads; 16 of them fill a batch.
    assert.ok(most <= 2, `a connection was read ${most} times before`);
  });

  it('read a megabyte as it was sent', async () => {
    listen();
    const { peer: client, owner } = await pair();
    const sent = Array.from({ length: MIB / 8 }, (_, i) => String(i).padStart(8)).join('');
    client.write(sent);
    await eventually(() => owner.text.length >= sent.length);
    assert.ok(owner.text === sent);
  });

  it('know how much is buffered for a slow reader, and drain when it reads', async () => {
    listen();
    const { peer: client, owner } = await pair();
    client.socket.pause();
    owner.stream.write(Buffer.alloc(2 * MIB));
    assert.ok(owner.stream.needsDrain);
    const { undelivered } = owner.stream;
    assert.ok(undelivered > 0);
    assert.ok(!owner.log.includes('drained'));
    client.socket.resume();
    await eventually(() => owner.stream.buffered === 0);
    assert.strictEqual(owner.log.at(-1), 'drained');
    assert.strictEqual((await client.least(2 * MIB)).length, 2 * MIB);
  });

  it('drain at once where much was written and the kernel had room for all', async () => {
    listen();
    const { owner } = await pair();
    owner.stream.write(Buffer.from('short'));
    await Promise.resolve();
    assert.deepStrictEqual(owner.log, []);
    owner.stream.write(Buffer.alloc(20 * 1024));
    assert.ok(owner.stream.needsDrain);
    await Promise.resolve();
    assert.deepStrictEqual(owner.log, ['drained']);
    assert.strictEqual(owner.stream.buffered, 0);
  });

  it('read no more while paused, and go on where they stopped', async () => {
    listen();
    const { peer: client, owner } = await pair();
    owner.stream.pause();
    await new Promise(setImmediate);
    client.write('later');
    const other = await pair();
    other.peer.write('now');
    await eventually(() => other.owner.text === 'now');
    assert.strictEqual(owner.text, '');
    owner.stream.resume();
    await eventually(() => owner.text === 'later');
  });

  it('answer a client that has ended its side, and close when all is written', async () => {
    listen();
    const { peer: client, owner } = await pair();
    client.socket.pause();
    client.socket.end('last words');
    await eventually(() => owner.log.includes('ended'));
    assert.strictEqual(owner.text, 'last words');
    owner.stream.write(Buffer.alloc(MIB));
    owner.stream.end();
    assert.ok(!owner.stream.writable);
    client.socket.resume();
    assert.strictEqual((await client.end()).length, MIB);
  });

  it('close for a client that vanished, though something is buffered', async () => {
    listen((_chunk, stream) => stream.write(Buffer.alloc(MIB)));
    const { peer: client, owner } = await pair();
    client.socket.pause();
    client.write('go');
    await eventually(() => owner.stream.buffered > 0);
    client.socket.destroy();
    await eventually(() => owner.log.includes('closed'));
  });

  it('serve whom they accepted after they are closed, and leave their file', async () => {
    const listener = listen((_chunk, stream) => stream.write(Buffer.from('still here')));
    const { peer: client } = await pair();
    listener.close();
    listener.close();
    assert.ok(existsSync(path));
    const late = connect(path);
    const [err] = (await once(late, 'error')) as [unknown];
    assert.strictEqual(codeOf(err), 'ECONNREFUSED');
    client.write('?');
    assert.strictEqual(await client.least(10), 'still here');
  });

  it('do nothing with a stream that is closed', async () => {
    listen();
    const { owner } = await pair();
    const { stream } = owner;
    stream.destroy();
    await eventually(() => owner.log.includes('closed'));
    stream.write(Buffer.from('x'));
    stream.pause();
    stream.resume();
    stream.end();
    stream.destroy();
    assert.strictEqual(stream.fd, undefined);
    // Its number may be another one's by now, who must not feel it.
    const { peer: client, owner: next } = await pair();
    stream.destroy();
    client.write('still there?');
    await eventually(() => next.text === 'still there?');
  });

  it('say why a path cannot be bound', () => {
    const refuse = (): void => undefined;
    writeFileSync(path, '');
    const tried = [path, join(directory, 'no/s'), join(directory, 'x'.repeat(120))];
    const codes = tried.map((one) => {
      try {
        listenUnix(one, () => undefined, refuse).close();
        return '';
      } catch (err) {
        return codeOf(err);
      }
    });
    assert.deepStrictEqual(codes, ['EADDRINUSE', 'ENOENT', 'ENAMETOOLONG']);
  });

  it('are closed with the thread that opened them, and all connections too', async () => {
    const worker = new Worker(CHILD, { argv: ['stay', path] });
    await once(worker, 'message');
    const client = await peer();
    client.write('hello');
    await client.least(5);
    await worker.terminate();
    await client.end();
  });

  for (const when of ['listening', 'accepted', 'received', 'writing', 'closing']) {
    it(`let the process end in the middle: ${when}`, () => {
      const { status, signal, stderr } = spawnSync(process.execPath, [CHILD, when, path], {
        encoding: 'utf8',
        timeout: 20_000,
      });
      assert.strictEqual(stderr, '');
      assert.deepStrictEqual([status, signal], [0, null]);
    });
  }

  it("take an owner's exception for an uncaught one", () => {
    const { status, stderr } = spawnSync(process.execPath, [CHILD, 'throw', path], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    assert.notStrictEqual(status, 0);
    assert.match(stderr, /Error: our own fault/);
  });
});
