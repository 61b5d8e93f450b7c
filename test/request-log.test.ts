/*
 * What the request log of a zone writes: records that a guest cannot hide, and refusals, logged
 * once a minute and counted each time.
 */
import assert from 'node:assert';
import { SystemError } from '../src/lib/errors';
import { NodeMetrics } from '../src/metrics';
import { RequestLog } from '../src/request-log';
import { ZoneLog } from '../src/log';
import type { Origin, Refusal } from '../src/transport/link';
import type { ChangeCourse, Reply } from '../src/protocol/reply';
import type { DataRequest } from '../src/protocol/request';
import { logRecords, type LogRecords } from './support/log-records';

const MINUTE_MS = 60_000;
const ORIGIN: Origin = { zonename: 'z', peer: { zoneid: 1, pid: 42, uid: 7 } };
const WIRE = { version: 2, id: '00000001' } as const;
const GET: DataRequest = { kind: 'get', wire: WIRE, key: 'asked' };
const PUT: DataRequest = { kind: 'put', wire: WIRE, key: 'changed', value: 'geheim' };
const FOUND: Reply = { kind: 'success', text: 'v' };

describe('the request log of a zone', () => {
  let logs: LogRecords;
  let metrics: NodeMetrics;
  let requestLog: RequestLog;
  let now: number;

  beforeEach(() => {
    now = 0;
    logs = logRecords();
    metrics = new NodeMetrics();
    const log = new ZoneLog(logs.log, 'z', 'joyent', {
      perSecond: 0.001,
      burst: 10,
      bytesPerSecond: 1e6,
    });
    requestLog = new RequestLog(log, metrics, () => now);
  });

  function changed(kind: 'success' | 'failure', change: ChangeCourse | null): void {
    const text = kind === 'success' ? 'OK' : 'Too many.';
    requestLog.answered(ORIGIN, PUT, { kind, text, ...(change && { change }) }, 1.5);
  }

  function repeatsLogged(reason: Refusal): unknown[] {
    const records = logs.records('refused').filter((record) => record.reason === reason);
    return records.map((record) => record.more_since_last);
  }

  it('always logs a change that was charged to the write rate, whatever else the zone requests', () => {
    for (let i = 0; i < 100; i++) {
      requestLog.answered(ORIGIN, GET, FOUND, 0.1);
    }
    changed('success', {});
    changed('failure', { limit: 'size' });
    const records = logs.records('handled PUT');
    assert.deepStrictEqual(
      records.map(({ zonename, response, length, peer, query }) => {
        return { zonename, response, length, peer, query };
      }),
      ['SUCCESS', 'FAILURE'].map((response) => ({
        zonename: 'z',
        response,
        length: 6,
        peer: { pid: 42, uid: 7 },
        query: { cmd: 'PUT', arg: 'changed', req_v: 2, elapsed: 1.5 },
      })),
    );
    assert.strictEqual(logs.records('handled GET').length, 10);
    assert(!logs.text().includes('geheim'));
  });

  it('has a key once in a record, escaped and then cut to a bounded size', () => {
    const key = '\u0001'.repeat(1_000_000);
    requestLog.answered(ORIGIN, { ...GET, key }, FOUND, 0.1);
    requestLog.answered(ORIGIN, { ...PUT, key }, { kind: 'failure', text: 'x' }, 0.1);
    const lines = logs.text().trimEnd().split('\n');
    assert.strictEqual(lines.length, 2);
    for (const line of lines) {
      assert.strictEqual(line.split('u0001').length - 1, 36, 'escapes in it');
      assert(line.length < 700, `${line.length} bytes`);
    }
  });

  it('remembers the last eight sdc: keys that do not exist, each once', () => {
    const miss = (key: string): void => {
      requestLog.answered(ORIGIN, { ...GET, key }, { kind: 'notfound' }, 0.1);
    };
    ['sdc:account_uuid', 'motd', 'sdc:0', 'sdc:account_uuid'].forEach(miss);
    assert.deepStrictEqual(requestLog.stats.missing, ['sdc:0', 'sdc:account_uuid']);
    for (let i = 1; i < 100; i++) {
      miss(`sdc:${i % 10}`);
    }
    const last = [2, 3, 4, 5, 6, 7, 8, 9].map((n) => `sdc:${n}`);
    assert.deepStrictEqual(requestLog.stats.missing, last);
  });

  it('logs why a request failed, and no error otherwise', () => {
    const failed = (text: string): Reply => ({ kind: 'failure', text });
    for (const reply of [FOUND, failed('VM not found'), failed('')]) {
      requestLog.answered(ORIGIN, GET, reply, 0.1);
    }
    assert.deepStrictEqual(
      logs.records('handled GET').map(({ response, err }) => [response, err]),
      [
        ['SUCCESS', undefined],
        ['FAILURE', { message: 'VM not found', name: 'Failure' }],
        ['FAILURE', { message: 'the value has no text', name: 'Failure' }],
      ],
    );
  });

  it('logs changes that were not charged to the write rate within the log quota', () => {
    for (let i = 0; i < 100; i++) {
      changed('success', { uncharged: true });
      changed('failure', { uncharged: true, limit: 'waiting-writes' });
      changed('failure', null);
    }
    assert.strictEqual(logs.records('handled PUT').length, 10);
    assert.strictEqual(metrics.requests.get('PUT FAILURE'), 200);
  });

  it('logs a refusal once a minute with the number of repeats, and counts each', () => {
    const limits = ['keys', 'size', 'writes', 'waiting-writes'] as const;
    for (const limit of limits) {
      changed('failure', { limit });
      changed('failure', { limit });
      changed('failure', { limit });
    }
    requestLog.refused('queue', {});
    for (const limit of limits) {
      assert.deepStrictEqual(repeatsLogged(limit), [undefined], limit);
      assert.strictEqual(metrics.refusals.get(limit), 3);
    }
    now += MINUTE_MS - 1;
    changed('failure', { limit: 'keys' });
    assert.deepStrictEqual(repeatsLogged('keys'), [undefined]);
    now += 1;
    changed('failure', { limit: 'keys' });
    requestLog.refused('queue', {});
    assert.deepStrictEqual(repeatsLogged('keys'), [undefined, 3]);
    assert.deepStrictEqual(repeatsLogged('queue'), [undefined, 0]);
    assert.strictEqual(requestLog.stats.refusals, 4 * 3 + 1 + 3);
  });

  it('logs an internal error once a minute for each reason, with the number of repeats', () => {
    const fault = (code: string): void =>
      requestLog.fault('get', new SystemError('read', '/f', code));
    for (let i = 0; i < 100; i++) {
      fault('EIO');
    }
    fault('EMFILE');
    now += MINUTE_MS;
    fault('EIO');
    const records = logs.records('internal error while handling a request');
    assert.deepStrictEqual(
      records.map(({ zonename, request, more_since_last }) => [zonename, request, more_since_last]),
      [
        ['z', 'get', undefined],
        ['z', 'get', undefined],
        ['z', 'get', 99],
      ],
    );
  });
});
