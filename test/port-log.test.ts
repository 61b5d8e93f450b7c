import assert from 'node:assert';
import { NodeMetrics } from '../src/metrics';
import { PortLog } from '../src/port-log';

const MINUTE_MS = 60_000;

describe('the journal of a port', () => {
  let records: { readonly msg: string; readonly [field: string]: unknown }[];
  let figures: NodeMetrics;
  let journal: PortLog;

  let now: number;
  let due: { readonly at: number; readonly fn: () => void }[];

  beforeEach(() => {
    now = 0;
    due = [];
    records = [];
    figures = new NodeMetrics();
    const log = { info: (fields: object, msg: string) => records.push({ ...fields, msg }) };
    journal = new PortLog(log, figures, (fn, ms) => {
      const entry = { at: now + ms, fn };
      due.push(entry);
      return () => due.splice(due.indexOf(entry), 1);
    });
  });

  afterEach(() => {
    journal.ended();
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
    journal.disconnected(900.4);
    journal.reconnected(99.6);
  }

  it('tells a boot and a reboot as they are', () => {
    journal.connected(12.3, true);
    journal.firstAnswered(3456.7, true);
    reboot();
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 12 },
      { msg: 'first request answered', after_ms: 3457 },
      { msg: 'guest disconnected', lasted_ms: 900 },
      { msg: 'guest reconnected', away_ms: 100 },
    ]);
  });

  it('marks and does not count the times of a boot that nobody saw', () => {
    journal.connected(1, false);
    journal.firstAnswered(2, false);
    assert.deepStrictEqual(records, [
      { msg: 'guest connected', after_ms: 1, ran_before: true },
      { msg: 'first request answered', after_ms: 2, ran_before: true },
    ]);
    assert.strictEqual(figures.bootToAnswer.count, 0);
  });

  it('counts everything', () => {
    journal.connected(1, true);
    journal.firstAnswered(700, true);
    for (let i = 0; i < 100; i++) {
      reboot();
    }
    journal.busy();
    journal.dropped(7);
    journal.dropped(8);
    const expected = { connects: 101, reconnects: 100, disconnects: 100, held: 1 };
    assert.deepStrictEqual(figures.ports, { ...expected, droppedBytes: 15 });
    const { buckets, count, sumMs } = figures.bootToAnswer;
    assert.deepStrictEqual([buckets.indexOf(1), count, sumMs], [2, 1, 700]);
  });

  it('tells a guest in a boot loop by few records in the first minute, then by one a minute', () => {
    journal.connected(1, true);
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
    const summary = { msg: 'guest reconnected repeatedly', connected: true, connects: 60, disconnects: 60 };
    assert.deepStrictEqual(records.at(-1), { ...summary, away_ms: 5976 });
  });

  it('ends with how things are, and tells each again after a quiet minute', () => {
    journal.connected(1, true);
    for (let i = 0; i < 5; i++) {
      reboot();
    }
    journal.disconnected(1);
    pass(MINUTE_MS);
    assert.strictEqual(records.at(-1)?.connected, false);
    const before = records.length;
    pass(MINUTE_MS);
    assert.strictEqual(records.length, before);
    journal.reconnected(MINUTE_MS);
    assert.deepStrictEqual(records.slice(before), [
      { msg: 'guest reconnected', away_ms: MINUTE_MS },
    ]);
  });

  it('tells dropped bytes with the next record, or when a minute is over', () => {
    journal.dropped(3);
    journal.dropped(4);
    journal.disconnected(5);
    journal.dropped(2);
    assert.deepStrictEqual(records, [
      { msg: 'guest disconnected', lasted_ms: 5, dropped_bytes: 7 },
    ]);
    pass(MINUTE_MS);
    assert.deepStrictEqual(records.slice(1), [
      { msg: 'discarded bytes that were not part of a request', dropped_bytes: 2 },
    ]);
  });

  it('tells what is left at the end, and is silent then', () => {
    for (let i = 0; i < 5; i++) {
      reboot();
    }
    journal.ended();
    const before = records.length;
    assert.deepStrictEqual(records.at(-1)?.msg, 'guest reconnected repeatedly');
    pass(2 * MINUTE_MS);
    assert.strictEqual(records.length, before);
  });
});
