import assert from 'node:assert';
import fc from 'fast-check';
import { LineReader } from '../../src/protocol/line-reader';
import type { Line } from '../../src/protocol/line-reader';

const MAX = 1000;

/** Pushes the chunks, pulling all there is after each. */
function linesOf(reader: LineReader, chunks: readonly Buffer[]): Line[] {
  const lines: Line[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let line = reader.next(); line !== null; line = reader.next()) {
      lines.push(line);
    }
  }
  return lines;
}

/** What the lines of a stream are, said slowly. */
function expected(stream: Buffer, max: number): Line[] {
  const parts = stream.toString('latin1').split('\n').slice(0, -1);
  return parts.map((part) =>
    part.length > max
      ? { kind: 'oversize', head: Buffer.from(part.slice(0, 64), 'latin1') }
      : { kind: 'line', bytes: Buffer.from(part, 'latin1') },
  );
}

/** Cuts a stream at the given places. */
function cut(stream: Buffer, places: readonly number[]): Buffer[] {
  const at = [0, ...places.map((place) => place % (stream.length + 1)), stream.length];
  at.sort((a, b) => a - b);
  return at.slice(1).map((end, index) => stream.subarray(at[index], end));
}

const stream = fc
  .array(fc.oneof(fc.constant(0x0a), fc.constant(0x00), fc.integer({ min: 0, max: 255 })), {
    maxLength: 400,
  })
  .map((bytes) => Buffer.from(bytes));

describe('LineReader', () => {
  it('gives the lines of a stream, however it was cut and wherever the limit lies', () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.nat(), { maxLength: 30 }),
        fc.integer({ min: 0, max: 120 }),
        (bytes, places, max) => {
          const reader = new LineReader(max);
          assert.deepStrictEqual(linesOf(reader, cut(bytes, places)), expected(bytes, max));
          const rest = bytes.length - 1 - bytes.lastIndexOf(0x0a);
          assert.strictEqual(reader.unfinished, rest);
        },
      ),
    );
  });

  it('gives the same lines to a caller who pulls only now and then', () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 })), { maxLength: 30 }),
        (bytes, plan) => {
          const reader = new LineReader(50);
          const chunks = cut(
            bytes,
            plan.map(([place]) => place),
          );
          const lines: Line[] = [];
          chunks.forEach((chunk, index) => {
            reader.push(chunk);
            for (let pulls = plan[index]?.[1] ?? 0; pulls > 0; pulls--) {
              const line = reader.next();
              if (line !== null) {
                lines.push(line);
              }
            }
          });
          lines.push(...linesOf(reader, [Buffer.from('\n')]));
          const whole = Buffer.concat([bytes, Buffer.from('\n')]);
          assert.deepStrictEqual(lines, expected(whole, 50));
        },
      ),
    );
  });

  it('never writes to a line that it returned', () => {
    const reader = new LineReader(MAX);
    reader.push(Buffer.from('fir'));
    reader.next();
    reader.push(Buffer.from('st\nsecond\nthi'));
    reader.push(Buffer.from('rd\n'));
    const lines = linesOf(reader, [Buffer.alloc(300, 'x'), Buffer.from('\n')]);
    const texts = lines.map((line) => (line.kind === 'line' ? line.bytes.toString() : ''));
    assert.deepStrictEqual(texts, ['first', 'second', 'third', 'x'.repeat(300)]);
  });

  it('returns a line that lies whole in a chunk as a view of it', () => {
    const reader = new LineReader(MAX);
    reader.push(Buffer.from('half'));
    assert.strictEqual(reader.next(), null);
    const chunk = Buffer.from(' one\ntwo\nthree');
    const [, two] = linesOf(reader, [chunk]);
    assert(two?.kind === 'line');
    assert.strictEqual(two.bytes.buffer, chunk.buffer);
    assert.strictEqual(two.bytes.byteOffset, chunk.byteOffset + 5);
  });

  it('does not keep a chunk because of the bytes at its end', () => {
    const reader = new LineReader(MAX);
    const chunk = Buffer.from('whole\nrest');
    linesOf(reader, [chunk]);
    chunk.fill('!');
    const [line] = linesOf(reader, [Buffer.from('\n')]);
    assert(line?.kind === 'line');
    assert.strictEqual(line.bytes.toString(), 'rest');
  });

  it('returns a line at the limit whole, and one byte more as too long', () => {
    for (const size of [1, 7, 5000]) {
      const reader = new LineReader(MAX);
      const bytes = Buffer.from(`${'a'.repeat(MAX)}\n${'b'.repeat(MAX + 1)}\nc\n`);
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += size) {
        chunks.push(bytes.subarray(at, at + size));
      }
      const lines = linesOf(reader, chunks);
      assert.deepStrictEqual(
        lines.map((line) => line.kind),
        ['line', 'oversize', 'line'],
      );
      const [, tooLong] = lines;
      assert(tooLong?.kind === 'oversize');
      assert.strictEqual(tooLong.head.toString(), 'b'.repeat(64));
    }
  });

  it('counts all bytes of an unfinished line', () => {
    const reader = new LineReader(10);
    for (const bytes of ['abc', 'x'.repeat(100)]) {
      linesOf(reader, [Buffer.from(bytes)]);
      assert.strictEqual(reader.unfinished, bytes.length);
      assert.deepStrictEqual(
        linesOf(reader, [Buffer.from('\n')]),
        expected(Buffer.from(`${bytes}\n`), 10),
      );
      assert.strictEqual(reader.unfinished, 0);
    }
  });

  it('drops all whole lines but keeps the one without its LF', () => {
    for (const [held, pushed, rest] of [
      ['', 'a\nb\nc', 'c'],
      ['begun', ' on\nb\n', ''],
      ['begun', ' on', 'begun on'],
      ['', '', ''],
    ] as const) {
      const reader = new LineReader(50);
      reader.push(Buffer.from(held));
      assert.strictEqual(reader.next(), null);
      reader.push(Buffer.from(pushed));
      reader.dropWholeLines();
      assert.strictEqual(reader.unread, 0);
      assert.strictEqual(reader.unfinished, rest.length);
      reader.push(Buffer.from('\n'));
      assert.deepStrictEqual(reader.next(), { kind: 'line', bytes: Buffer.from(rest) });
    }
  });

  it('drops millions of lines in less time than it takes to pull them', () => {
    const lines = Buffer.alloc(4 * 1024 * 1024, '\n');
    const timeOf = (work: (reader: LineReader) => void): number => {
      const reader = new LineReader(50);
      reader.push(lines);
      const begin = performance.now();
      work(reader);
      return performance.now() - begin;
    };
    const pulled = timeOf((reader) => {
      while (reader.next() !== null);
    });
    const dropped = Math.min(...[1, 2, 3].map(() => timeOf((reader) => reader.dropWholeLines())));
    assert.ok(dropped < pulled / 10, `${dropped} ms, ${pulled} ms to pull them`);
  });

  it('takes 2 MiB byte by byte in a time that grows with the size, not with its square', () => {
    const time = (bytes: number): number => {
      const reader = new LineReader(bytes);
      const byte = Buffer.from('a');
      const start = process.cpuUsage().user;
      for (let count = 0; count < bytes; count++) {
        reader.push(byte);
        reader.next();
      }
      const [line] = linesOf(reader, [Buffer.from('\n')]);
      assert(line?.kind === 'line' && line.bytes.length === bytes);
      return process.cpuUsage().user - start;
    };
    time(64 * 1024);
    const small = time(256 * 1024);
    const large = time(2 * 1024 * 1024);
    // Eight times the bytes: 8 when linear, 64 when quadratic. The floor absorbs a fast machine's noise.
    assert(large < 24 * Math.max(small, 10_000), `${small} us for 1/8, ${large} us for all`);
  });

  it('keeps no more than the limit of a line without end', () => {
    const reader = new LineReader(1024 * 1024);
    const chunk = Buffer.alloc(64 * 1024, 'x');
    global.gc?.();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    for (let count = 0; count < 1024; count++) {
      reader.push(chunk);
      reader.next();
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    assert.strictEqual(reader.unfinished, 64 * 1024 * 1024);
    // The doubling's last copy and the one before it may both be there until they are collected.
    assert(most < 4 * 1024 * 1024, `${most} bytes`);
  });
});
