/*
 * Preloaded into an agent by a test (loop-probe-reader.ts): counts what the iterations of its event loop take. At SIGUSR2 it writes what
 * was since the last one, as a line of JSON, into the file that LOOP_PROBE names.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { LoopWatch } from '../../src/platform/loop-delay';

const path = process.env.LOOP_PROBE;
if (path !== undefined) {
  // Not for the agent's own children.
  delete process.env.LOOP_PROBE;
  delete process.env.NODE_OPTIONS;
  const watch = new LoopWatch();
  let longestGcMs = 0;
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      longestGcMs = Math.max(longestGcMs, duration);
    }
  });
  collections.observe({ entryTypes: ['gc'] });
  process.on('SIGUSR2', () => {
    const { maxMs, maxCpuMs } = watch.take();
    writeFileSync(`${path}.new`, JSON.stringify({ maxMs, maxCpuMs, longestGcMs }));
    renameSync(`${path}.new`, path);
    longestGcMs = 0;
  });
}
