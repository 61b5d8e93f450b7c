/*
 * The lengths of the loop's turns.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { join } from 'node:path';
import { setImmediate as nextIteration, setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { LoopWatch } from '../../src/platform/loop-delay';

const ROOM = join(__dirname, '../../src/platform/loop-delay.js');

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    // Nobody else has a turn.
  }
}

/** Takes so much CPU time, however long that is. */
function work(ms: number): void {
  const { user, system } = process.cpuUsage();
  for (let used = 0; used < ms * 1000;) {
    const now = process.cpuUsage({ user, system });
    used = now.user + now.system;
  }
}

describe('the watch of the event loop', () => {
  it('counts a long iteration once, and no idle wait', async () => {
    const watch = new LoopWatch();
    await delay(300);
    block(60);
    await delay(300);
    const { maxMs, p50Ms, p99Ms } = watch.take();
    assert(maxMs >= 59 && maxMs < 300, `${maxMs} ms`);
    assert(p99Ms > 0 && p99Ms <= maxMs, `${p99Ms} ms`);
    assert(p50Ms < 59, `${p50Ms} ms`);
    await delay(50);
    assert(watch.take().maxMs < maxMs);
  });

  it('shows how long most iterations were', async () => {
    const watch = new LoopWatch();
    for (let n = 0; n < 5; n++) {
      block(50);
      // A turn of its own for each.
      await delay(1);
    }
    const { p50Ms, p99Ms, maxMs } = watch.take();
    assert(p50Ms >= 49 && p50Ms <= p99Ms && p99Ms <= maxMs, `${p50Ms} ${p99Ms} ${maxMs} ms`);
  });

  it('tells the work of an iteration from a wait for the processor, or for anything else', async () => {
    const watch = new LoopWatch();
    const waited = new Int32Array(new SharedArrayBuffer(4));
    await delay(1);
    // The thread rests within an iteration.
    Atomics.wait(waited, 0, 0, 200);
    await delay(1);
    const resting = watch.take();
    assert(resting.maxMs >= 199 && resting.maxCpuMs < 100, JSON.stringify(resting));
    const { user, system } = process.cpuUsage();
    work(50);
    const spent = process.cpuUsage({ user, system });
    await delay(1);
    const working = watch.take();
    const mostMs = (spent.user + spent.system) / 1000 + 50;
    assert(working.maxCpuMs >= 45 && working.maxCpuMs < mostMs, JSON.stringify(working));
  });

  it('counts no CPU time of short iterations as that of a long one', async () => {
    const watch = new LoopWatch();
    for (let n = 0; n < 300; n++) {
      await nextIteration();
    }
    const { maxMs, maxCpuMs } = watch.take();
    assert(maxCpuMs <= maxMs, `${maxCpuMs} ms of ${maxMs}`);
  });

  it('ends with its thread', async () => {
    const code = `
      const { LoopWatch } = require(${JSON.stringify(ROOM)});
      const watch = new LoopWatch();
      setTimeout(() => process.exit(watch.take().maxMs > 0 ? 0 : 3), 50);`;
    const worker = new Worker(code, { eval: true });
    assert.deepStrictEqual(await once(worker, 'exit'), [0]);
  });
});
