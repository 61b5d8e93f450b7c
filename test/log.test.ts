import assert from 'node:assert';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import fc from 'fast-check';
import {
  createLogger,
  DEFAULT_LOG_QUOTA as QUOTA,
  LogSink,
  printableKey,
  RepeatCounter,
  repeatsOf,
  ZoneLog,
  type Fields,
} from '../src/log';
import { SystemError } from '../src/lib/errors';
import { eventually } from './support/eventually';

interface Record_ {
  readonly msg: string;
  readonly level: number;
  readonly zonename?: string;
  readonly brand?: string;
  readonly suppressed?: number;
  readonly err?: { readonly message: string; readonly code: string };
}

function collector(): { readonly records: Record_[]; readonly out: Writable } {
  const records: Record_[] = [];
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      records.push(JSON.parse(chunk.toString()) as Record_);
      done();
    },
  });
  return { records, out };
}

describe('the log of a zone', () => {
  it('puts the name and brand of the zone into each record', () => {
    const { records, out } = collector();
    const log = new ZoneLog(createLogger('info', out), 'z1', 'lx');
    log.info({}, 'hello');
    log.debug({}, 'not at this level');
    assert.deepStrictEqual(
      records.map((r) => [r.msg, r.zonename, r.brand, r.level]),
      [['hello', 'z1', 'lx', 30]],
    );
  });

  it('keeps the last ten records of any level', () => {
    const { out } = collector();
    const log = new ZoneLog(createLogger('info', out), 'z1', 'lx');
    for (let i = 0; i < 12; i++) {
      log.debug({ i }, `record ${i}`);
    }
    assert.deepStrictEqual(
      log.recent().map((r) => r.msg),
      Array.from({ length: 10 }, (_, i) => `record ${i + 2}`),
    );
  });

  it('writes no more records than the quota, and counts those that it suppressed', () => {
    const { records, out } = collector();
    const quota = { ...QUOTA, perSecond: 0.001, burst: 3 };
    const log = new ZoneLog(createLogger('info', out), 'noisy', 'joyent', quota);
    for (let i = 0; i < 50; i++) {
      log.warn({}, 'bad line');
    }
    assert.strictEqual(records.length, 3);
    const generous = new ZoneLog(createLogger('info', out), 'quiet', 'joyent');
    generous.warn({}, 'another zone is not held back');
    assert.strictEqual(records.length, 4);
  });

  it('logs how many records it suppressed, also when nothing follows', async () => {
    const { records, out } = collector();
    const quota = { ...QUOTA, perSecond: 0.001, burst: 3 };
    let leftOut = 0;
    const log = new ZoneLog(createLogger('info', out), 'noisy', 'joyent', quota, () => leftOut++);
    for (const flood of [50, 20]) {
      records.length = 0;
      for (let i = 0; i < flood; i++) {
        log.info({}, 'flood');
        log.debug({}, 'not at this level');
      }
      await eventually(() => records.some((record) => record.suppressed !== undefined));
      const written = records.filter(({ msg }) => msg === 'flood').length;
      const summaries = records.filter(({ suppressed }) => suppressed !== undefined);
      assert.deepStrictEqual(
        summaries.map((record) => [record.zonename, record.level, record.suppressed]),
        [['noisy', 40, flood - written]],
      );
    }
    assert.strictEqual(leftOut, 47 + 20);
  });

  it('always writes records whose number is bounded elsewhere', () => {
    const { records, out } = collector();
    const quota = { ...QUOTA, perSecond: 0.001, burst: 1 };
    const log = new ZoneLog(createLogger('info', out), 'noisy', 'joyent', quota);
    for (let i = 0; i < 5; i++) {
      log.info({}, 'a question');
      log.always('info', {}, 'a change');
      log.always('debug', {}, 'not at this level');
    }
    const messages = records.map(({ msg }) => msg);
    assert.deepStrictEqual(messages, ['a question', ...Array<string>(5).fill('a change')]);
    assert.strictEqual(log.recent().length, 10);
  });

  it('gets its quota though the time of day is set back', () => {
    const { records, out } = collector();
    const quota = { ...QUOTA, perSecond: 1e9, burst: 1 };
    const log = new ZoneLog(createLogger('info', out), 'z1', 'lx', quota);
    log.warn({}, 'before');
    const realNow = Date.now;
    const later = performance.now() + 1;
    Date.now = () => realNow() - 3_600_000;
    try {
      while (performance.now() < later) {
        // Time for the next record to be earned.
      }
      log.warn({}, 'after');
    } finally {
      Date.now = realNow;
    }
    assert.deepStrictEqual(
      records.map(({ msg }) => msg),
      ['before', 'after'],
    );
  });

  it('shows an error with its message and code', () => {
    const { records, out } = collector();
    const log = new ZoneLog(createLogger('info', out), 'z1', 'lx');
    log.error({ err: new SystemError('mount', '/a', 'EBUSY') }, 'mount failed');
    const shown = records.map((r) => [r.err?.code, r.err?.message]);
    assert.deepStrictEqual(shown, [['EBUSY', 'mount(/a): EBUSY']]);
  });

  it('writes no more bytes than the quota, however long the records are', () => {
    const { records, out } = collector();
    const quota = { perSecond: 1e6, burst: 1e6, bytesPerSecond: 1024 };
    const log = new ZoneLog(createLogger('info', out), 'noisy', 'joyent', quota);
    for (let i = 0; i < 1000; i++) {
      log.info({ arg: 'x'.repeat(700) }, 'handled GET');
    }
    const written = records.reduce((sum, record) => sum + JSON.stringify(record).length, 0);
    // 16 s of the rate at once, and the record that goes over it.
    assert(written > 14 * 1024 && written < 18 * 1024, `${written} bytes`);
  });

  it('charges the bytes of records that are always written, and of errors', () => {
    const { records, out } = collector();
    const quota = { perSecond: 1e6, burst: 1e6, bytesPerSecond: 1024 };
    const err = new Error('x'.repeat(16 * 1024));
    for (const fields of [{ arg: 'x'.repeat(17 * 1024) }, { err }] as Fields[]) {
      const log = new ZoneLog(createLogger('info', out), 'noisy', 'joyent', quota);
      log.always('info', fields, 'a change');
      log.info({}, 'a question');
    }
    assert.deepStrictEqual(
      records.map(({ msg }) => msg),
      ['a change', 'a change'],
    );
  });

  it('escapes keys, and cuts them so that they take 256 bytes of a record at most', () => {
    assert.strictEqual(printableKey('a\nb\u001b[31m'), 'a\\u000ab\\u001b[31m');
    assert.strictEqual(printableKey('x'.repeat(256)), 'x'.repeat(256));
    assert.strictEqual(printableKey('x'.repeat(300)), `${'x'.repeat(253)}...`);
    assert.strictEqual(printableKey('\n'.repeat(1000)), `${'\\u000a'.repeat(36)}...`);
    assert.strictEqual(printableKey('\u{1f600}'.repeat(65)), `${'\u{1f600}'.repeat(63)}...`);
    const units = fc.constantFrom('"', '\\', 'a', '\n', '\u007f', '\u2028', '\u00e9', '\u{1f600}');
    fc.assert(
      fc.property(fc.array(units, { maxLength: 400 }), (chars) => {
        const shown = printableKey(chars.join(''));
        assert(Buffer.byteLength(JSON.stringify(shown)) - 2 <= 256);
        assert.doesNotMatch(shown, /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
      }),
    );
  });
});

describe('the log sink', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdatad-'));
    path = join(directory, 'log');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  it('writes every line in order without blocking', async () => {
    const fd = openSync(path, 'a');
    const sink = new LogSink(fd);
    const lines = Array.from({ length: 1000 }, (_, i) => `line ${i}\n`);
    lines.forEach((line) => sink.write(line));
    await eventually(() => readFileSync(path, 'utf8') === lines.join(''));
    closeSync(fd);
  });

  it('writes at most every 10 ms, however many records come one by one', async () => {
    const fd = openSync(path, 'a');
    const sink = new LogSink(fd);
    const lines = Array.from({ length: 2000 }, (_, i) => `line ${i}\n`);
    const began = performance.now();
    const callsBefore = writeCalls();
    for (const line of lines) {
      sink.write(line);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const calls = writeCalls() - callsBefore;
    const most = 1 + (performance.now() - began) / 10;
    // Each trip to a thread has a call that wakes the event loop; a timer may come a millisecond early.
    assert.ok(calls <= 3 * most + 2, `${calls} calls, at most ${most} writes`);
    await eventually(() => readFileSync(path, 'utf8') === lines.join(''));
    closeSync(fd);
  });

  it('writes what is buffered when the process ends', () => {
    const fd = openSync(path, 'a');
    const sink = new LogSink(fd);
    sink.write('last words\n');
    sink.flushSync();
    assert.strictEqual(readFileSync(path, 'utf8'), 'last words\n');
    closeSync(fd);
  });

  it('survives a full disk, and counts the lost records', async () => {
    const fd = openSync('/dev/full', 'a');
    const sink = new LogSink(fd);
    sink.write('one\n');
    sink.write('two\n');
    await eventually(() => sink.lostRecords === 2);
    closeSync(fd);
  });

  it('buffers a bounded amount while the log cannot be written', () => {
    const fd = openSync('/dev/full', 'a');
    const sink = new LogSink(fd);
    const line = `${'x'.repeat(1023)}\n`;
    for (let i = 0; i < 8 * 1024; i++) {
      sink.write(line);
    }
    assert.strictEqual(sink.lostRecords, 4 * 1024);
    closeSync(fd);
  });

  it('logs how many records were lost before the next one', () => {
    const full = openSync('/dev/full', 'a');
    const sink = new LogSink(full);
    for (let i = 0; i < 4097; i++) {
      sink.write(`${'x'.repeat(1023)}\n`);
    }
    closeSync(full);
    // The descriptor number is free now: the next open gets it, as when space returns.
    const fd = openSync(path, 'a');
    assert.strictEqual(fd, full);
    sink.flushSync();
    const last = readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
    const { lost, time, ...others } = JSON.parse(last) as Record<string, unknown>;
    assert.strictEqual(lost, 1);
    assert(!Number.isNaN(Date.parse(String(time))));
    // The members that every record of the log has.
    assert.deepStrictEqual(others, {
      ...{ name: 'metadata', hostname: hostname(), pid: process.pid, level: 40, v: 0 },
      msg: 'log records were lost',
    });
    closeSync(fd);
  });
});

/** System calls of this process that write. */
function writeCalls(): number {
  return Number(/syscw: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

describe('repeats of a log message', () => {
  let now = 0;
  const clock = (): number => now;

  beforeEach(() => {
    now = 0;
  });

  it('are logged at once, then once a minute with the number that was suppressed', () => {
    const counter = new RepeatCounter(clock);
    assert.strictEqual(counter.next(), 0);
    now = 59_999;
    assert.deepStrictEqual([counter.next(), counter.next()], [null, null]);
    now = 60_000;
    assert.strictEqual(counter.next(), 2);
    assert.strictEqual(counter.next(), null);
    now = 120_000;
    assert.strictEqual(counter.next(), 1);
    now = 240_000;
    assert.strictEqual(counter.next(), 0);
  });

  it('are counted for each key by itself', () => {
    const kept = new Map<string, RepeatCounter>();
    const next = (what: string): number | null => repeatsOf(kept, what, clock).next();
    assert.deepStrictEqual([next('ENOSPC'), next('EIO')], [0, 0]);
    assert.deepStrictEqual([next('ENOSPC'), next('ENOSPC'), next('EIO')], [null, null, null]);
    now = 60_000;
    assert.deepStrictEqual([next('ENOSPC'), next('EIO')], [2, 1]);
  });

  it('are forgotten with the object that is their key', () => {
    const kept = new WeakMap<object, RepeatCounter>();
    const [one, other] = [{}, {}];
    assert.strictEqual(repeatsOf(kept, one), repeatsOf(kept, one));
    assert.notStrictEqual(repeatsOf(kept, one), repeatsOf(kept, other));
  });
});
