import assert from 'node:assert';
import { NodeMetrics } from '../src/metrics';
import { PortLog } from '../src/port-log';

const MINUTE_MS = 60_000;

describe('the log of a serial port', () => {
  let records: { readonly msg: string; readonly [field: string]: unknown }[];
  let metrics: NodeMetrics;
  let log: PortLog;

  let now: number;
  let due: { readonly at: number; readonly fn: () => void }[];

  beforeEach(() => {
    now = 0;
    due = [];
    records = [];
    metrics = new NodeMetrics();
    const zoneLog = { info: (fields: object, msg: string) => records.push({ ...fields, msg }) };
    log = new PortLog(zoneLog, metrics, (fn, ms) => {
      const entry = { at: now + ms, fn };
      due.push(entry);
      return () => due.splice(due.indexOf(entry), 1);
    });
  });

  afterEach(() => {
    log.ended();
    assert.deepStrictEqual(due, [], 'no timer is left');
  });

  function pass(ms: number): void {
    now += ms;
    for (const entry of due.filter(({ at }) => at <= now)) {
      due.splice(due.indexOf(entry), 1);
      entry.fn();
    }
  }

  function reboot(): void {
    log.disconnected(900.4);
    log.reconnected(99.6);
  }

  it('logs a boot and a reboot', () => {
    log.connected(12.3, true);
    log.firstAnswered(3456.7, true);
    reboot();
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 12 },
      { msg: 'first request answered', after_ms: 3457 },
      { msg: 'guest disconnected', lasted_ms: 900 },
      { msg: 'guest reconnected', away_ms: 100 },
    ]);
  });

  it('marks the times of a boot that was not seen, and does not count them', () => {
    log.connected(1, false);
    log.firstAnswered(2, false);
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 1, ran_before: true },
      { msg: 'first request answered', after_ms: 2, ran_before: true },
    ]);
    assert.strictEqual(metrics.bootToAnswer.count, 0);
  });

  it('counts every event', () => {
    log.connected(1, true);
    log.firstAnswered(700, true);
    for (let i = 0; i < 100; i++) {
      reboot();
    }
    log.busy();
    log.dropped(7);
    log.dropped(8);
    const expected = { connects: 101, reconnects: 100, disconnects: 100, held: 1 };
    assert.deepStrictEqual(metrics.ports, { ...expected, droppedBytes: 15 });
    const { buckets, count, sumMs } = metrics.bootToAnswer;
    assert.deepStrictEqual([buckets.indexOf(1), count, sumMs], [2, 1, 700]);
  });

  it('logs a boot loop with a few records in the first minute, then with one a minute', () => {
    log.connected(1, true);
    const perMinute: number[] = [];
    for (let minute = 0; minute < 3; minute++) {
      const before = records.length;
      for (let i = 0; i < 60; i++) {
        reboot();
        pass(1000);
      }
      perMinute.push(records.length - before);
    }
    assert.ok((perMinute[0] ?? 0) <= 8, String(perMinute[0]));
    assert.deepStrictEqual(perMinute.slice(1), [1, 1]);
    const summary = {
      msg: 'guest reconnected repeatedly',
      connected: true,
      connects: 60,
      disconnects: 60,
    };
    assert.deepStrictEqual(records.at(-1), { ...summary, away_ms: 5976 });
  });

  it('logs the current state last, and each event again after a quiet minute', () => {
    log.connected(1, true);
    for (let i = 0; i < 5; i++) {
      reboot();
    }
    log.disconnected(1);
    pass(MINUTE_MS);
    assert.strictEqual(records.at(-1)?.connected, false);
    const before = records.length;
    pass(MINUTE_MS);
    assert.strictEqual(records.length, before);
    log.reconnected(MINUTE_MS);
    assert.deepStrictEqual(records.slice(before), [
      { msg: 'guest reconnected', away_ms: MINUTE_MS },
    ]);
  });

  it('logs dropped bytes with the next record, or at the end of the minute', () => {
    log.dropped(3);
    log.dropped(4);
    log.disconnected(5);
    log.dropped(2);
    assert.deepStrictEqual(records, [
      { msg: 'guest disconnected', lasted_ms: 5, dropped_bytes: 7 },
    ]);
    pass(MINUTE_MS);
    assert.deepStrictEqual(records.slice(1), [
      { msg: 'discarded bytes that were not part of a request', dropped_bytes: 2 },
    ]);
  });

  it('logs what was suppressed when it ends, and nothing afterwards', () => {
    for (let i = 0; i < 5; i++) {
      reboot();
    }
    log.ended();
    const before = records.length;
    assert.deepStrictEqual(records.at(-1)?.msg, 'guest reconnected repeatedly');
    pass(2 * MINUTE_MS);
    assert.strictEqual(records.length, before);
  });
});
