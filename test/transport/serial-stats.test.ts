import assert from 'node:assert';
import { NodeMetrics } from '../../src/metrics';
import { SerialStats } from '../../src/transport/serial-stats';
import { Recorder, type LogRecord } from '../support/recorder';

const MINUTE_MS = 60_000;

describe('the counts and records of a serial port', () => {
  let records: LogRecord[];
  let metrics: NodeMetrics;
  let stats: SerialStats;

  let now: number;

  beforeEach(() => {
    begin(false);
  });

  function begin(ranBefore: boolean): void {
    now = 0;
    metrics = new NodeMetrics();
    const recorder = new Recorder();
    ({ records } = recorder);
    const options = { observer: recorder, metrics, log: recorder, ranBefore };
    stats = new SerialStats(options, () => now);
    stats.running();
  }

  function pass(ms: number): void {
    now += ms;
  }

  function connect(): void {
    stats.opened();
    stats.received(1);
  }

  function answer(): void {
    const origin = { zonename: 'z', peer: null };
    stats.answered(origin, { kind: 'keys', wire: { version: 1 } }, { kind: 'notfound' }, 1);
  }

  /** Takes a second. */
  function reboot(): void {
    pass(900.4);
    stats.closed();
    pass(99.6);
    connect();
  }

  it('logs a boot and a reboot', () => {
    pass(12.3);
    connect();
    pass(3444.4);
    answer();
    pass(1000);
    reboot();
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 12 },
      { msg: 'first request answered', after_ms: 3457 },
      { msg: 'guest disconnected', lasted_ms: 5345 },
      { msg: 'guest reconnected', away_ms: 100 },
    ]);
  });

  it('marks the times of a boot that was not seen, and does not count them', () => {
    begin(true);
    pass(1);
    connect();
    pass(1);
    answer();
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 1, ran_before: true },
      { msg: 'first request answered', after_ms: 2, ran_before: true },
    ]);
    assert.strictEqual(metrics.bootToAnswer.count, 0);
  });

  it('counts every event', () => {
    connect();
    pass(700);
    answer();
    for (let i = 0; i < 100; i++) {
      reboot();
    }
    stats.held();
    stats.dropped(7);
    stats.dropped(8);
    const expected = { connects: 101, reconnects: 100, disconnects: 100, held: 1 };
    assert.deepStrictEqual(metrics.ports, { ...expected, droppedBytes: 15 });
    const { buckets, count, sumMs } = metrics.bootToAnswer;
    assert.deepStrictEqual([buckets.indexOf(1), count, sumMs], [2, 1, 700]);
  });

  it('logs a boot loop with a few records a minute, which say how many were suppressed', () => {
    connect();
    const perMinute: number[] = [];
    for (let minute = 0; minute < 3; minute++) {
      const before = records.length;
      for (let i = 0; i < 60; i++) {
        reboot();
      }
      perMinute.push(records.length - before);
    }
    assert.ok((perMinute[0] ?? 0) <= 12, String(perMinute[0]));
    assert.deepStrictEqual(perMinute.slice(1), [4, 4]);
    const suppressed = records.reduce((sum, record) => sum + Number(record.suppressed ?? 0), 0);
    assert.ok(suppressed + records.length > 300, `${suppressed} suppressed`);
  });

  it('logs each event again after a quiet time', () => {
    connect();
    for (let i = 0; i < 5; i++) {
      reboot();
    }
    stats.closed();
    pass(2 * MINUTE_MS);
    const before = records.length;
    connect();
    stats.closed();
    assert.deepStrictEqual(records.slice(before), [
      { msg: 'guest reconnected', away_ms: 2 * MINUTE_MS, suppressed: 4 },
      { msg: 'guest disconnected', lasted_ms: 0 },
    ]);
  });

  it('logs dropped bytes with the next record', () => {
    connect();
    stats.dropped(3);
    stats.dropped(4);
    pass(5);
    stats.closed();
    stats.dropped(2);
    pass(5);
    connect();
    assert.deepStrictEqual(records.slice(1), [
      { msg: 'guest disconnected', lasted_ms: 5, dropped_bytes: 7 },
      { msg: 'guest reconnected', away_ms: 5, dropped_bytes: 2 },
    ]);
  });
});
