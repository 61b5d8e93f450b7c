import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import type { Socket } from 'node:net';
import { NetStream } from '../../src/transport/net-stream';
import type { StreamOwner } from '../../src/platform/stream';
import { duplexPair } from '../support/duplex-pair';
import { eventually } from '../support/eventually';

const MIB = 1024 * 1024;

class Sink implements StreamOwner {
  bytes = 0;
  isClosed = false;

  data(chunk: Buffer): void {
    this.bytes += chunk.length;
  }

  ended(): void {
    // Its bytes are what counts.
  }

  drain(): void {
    // Nothing is written.
  }

  closed(): void {
    this.isClosed = true;
  }
}

describe('the stream of a serial port', () => {
  const open: Socket[] = [];

  afterEach(() => open.splice(0).forEach((socket) => socket.destroy()));

  async function port(
    now = (): number => performance.now(),
  ): Promise<{ sink: Sink; stream: NetStream; far: Socket }> {
    const { near, far } = await duplexPair();
    open.push(near, far);
    far.on('error', () => undefined);
    const sink = new Sink();
    const stream = new NetStream(near, now);
    stream.start(sink);
    return { sink, stream, far };
  }

  it('reads the longest request at once', async () => {
    const { sink, far } = await port(() => 0);
    far.write(Buffer.alloc(2 * MIB));
    await eventually(() => sink.bytes === 2 * MIB, 'all of it', 2000);
  });

  it('reads a flood at a bounded rate', async () => {
    let now = 0;
    const { sink, far } = await port(() => now);
    far.write(Buffer.alloc(8 * MIB));
    await eventually(() => sink.bytes >= 3 * MIB, 'the burst');
    await delay(100);
    assert.ok(sink.bytes < 3.5 * MIB, `${sink.bytes} bytes`);
    now += 30_000;
    await eventually(() => sink.bytes > 5 * MIB, 'more of it', 5000);
  });

  it('is read in passes with the others: none of many waits for the end of one', async () => {
    const ports = await Promise.all(Array.from({ length: 16 }, () => port()));
    ports.forEach(({ far }) => far.write(Buffer.alloc(MIB)));
    await eventually(() => ports.some(({ sink }) => sink.bytes >= MIB / 2), 'one is half through');
    const least = Math.min(...ports.map(({ sink }) => sink.bytes));
    assert.ok(least > MIB / 8, `${least} bytes`);
  });

  it('is not read while its owner has paused it, nor after its end', async () => {
    const { sink, stream, far } = await port();
    far.write(Buffer.alloc(MIB));
    await eventually(() => sink.bytes > 0);
    stream.pause();
    await delay(20);
    const { bytes } = sink;
    await delay(50);
    assert.strictEqual(sink.bytes, bytes);
    stream.resume();
    await eventually(() => sink.bytes === MIB);
    far.write(Buffer.alloc(MIB));
    stream.destroy();
    await eventually(() => sink.isClosed);
    const last = sink.bytes;
    await delay(50);
    assert.strictEqual(sink.bytes, last);
  });
});
