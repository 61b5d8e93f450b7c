/*
 * Percentiles and the metrics of the last minute.
 */
import assert from 'node:assert';
import { NodeMetrics, LATENCY_BOUNDS_MS, percentile } from '../../src/metrics';

describe('metrics', () => {
  it('give the bound that a part of the requests stayed below', () => {
    const metrics = new NodeMetrics();
    for (let i = 0; i < 98; i++) {
      metrics.request('GET', 'SUCCESS', 0.2);
    }
    metrics.request('GET', 'SUCCESS', 40);
    metrics.request('PUT', 'SUCCESS', 400);
    const latencies = [...metrics.latency.values()];
    assert.strictEqual(percentile(latencies, 0.5), 0.25);
    assert.strictEqual(percentile(latencies, 0.98), 0.25);
    assert.strictEqual(percentile(latencies, 0.99), 50);
    assert.strictEqual(percentile(latencies, 1), 500);
  });

  it('put a latency that is a bound below it, not above', () => {
    for (const bound of LATENCY_BOUNDS_MS) {
      const metrics = new NodeMetrics();
      metrics.request('GET', 'SUCCESS', bound);
      assert.strictEqual(percentile(metrics.latency.values(), 1), bound);
    }
  });

  it('know no percentile of nothing, and none above the last bound', () => {
    const metrics = new NodeMetrics();
    assert.strictEqual(percentile([], 0.99), 0);
    metrics.request('GET', 'SUCCESS', 31_000);
    assert.strictEqual(percentile(metrics.latency.values(), 0.5), Infinity);
  });

  it('forget what is older than a minute, and go on counting it in all', () => {
    let now = 0;
    const metrics = new NodeMetrics(() => now);
    const recent = (): number => metrics.recent.read().latencies.reduce((n, l) => n + l.count, 0);
    metrics.request('GET', 'SUCCESS', 1);
    now = 30_000;
    metrics.request('GET', 'SUCCESS', 1);
    assert.deepStrictEqual([recent(), metrics.recent.read().spanMs], [2, 30_000]);
    now = 65_000;
    assert.deepStrictEqual([recent(), metrics.recent.read().spanMs], [1, 55_000]);
    now = 3_600_000;
    assert.strictEqual(recent(), 0);
    assert.strictEqual(metrics.latency.get('GET')?.count, 2);
  });
});
