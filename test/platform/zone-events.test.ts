import assert from 'node:assert';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextIteration, setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { bindZoneEvents, type RawZoneEvent } from '../../src/platform/zone-events';
import { makeNode } from '../support/emulated-node';
import { eventually } from '../support/eventually';
import { numbers, SubscriptionStage, ZONE_CHILD } from '../support/subscription-stage';

describe('a subscription to zone events', () => {
  let stage: SubscriptionStage;

  beforeEach(async () => {
    stage = await SubscriptionStage.set();
  });

  afterEach(async () => {
    await stage.clear();
  });

  it('delivers a change with name, id, states and time', async () => {
    const events: RawZoneEvent[] = [];
    stage.subscribe((event) => events.push(event));
    const when = 1_523_467_148_473_000_001n;
    await stage.node.emulation.publish('alpha', 611, 'running', 'ready', when);
    await stage.node.emulation.publish('beta', -1, '', 'configured', when + 1n);
    await eventually(() => events.length === 2);
    assert.deepStrictEqual(events, [
      { zonename: 'alpha', zoneid: 611, newstate: 'running', oldstate: 'ready', when },
      { zonename: 'beta', zoneid: -1, newstate: '', oldstate: 'configured', when: when + 1n },
    ]);
  });

  it('delivers the events of another process in their order', async () => {
    const seen = stage.received();
    const [code] = (await once(stage.child('publish', '200'), 'exit')) as [number];
    assert.strictEqual(code, 0);
    await eventually(() => seen.length === 200);
    assert.deepStrictEqual(seen, numbers(1, 200));
  });

  it('gets all events beside other subscriptions of this process and others', async () => {
    const [one, two] = [stage.received(), stage.received()];
    const elsewhere = await stage.subscriberElsewhere();
    await stage.publishAll(1, 50);
    await eventually(() => [one, two, elsewhere.seen].every((seen) => seen.length === 50));
    assert.deepStrictEqual(elsewhere.seen, numbers(1, 50).map(String));
    assert.deepStrictEqual(one, two);
  });

  it('works below a root whose path is longer than a socket address', async () => {
    const parent = join(mkdtempSync(join(tmpdir(), 'long-')), 'x'.repeat(120), 'y'.repeat(120));
    mkdirSync(parent, { recursive: true });
    const far = makeNode(parent);
    const seen: bigint[] = [];
    const subscription = bindZoneEvents(
      (event) => seen.push(event.when),
      () => undefined,
      { root: far.root },
    );
    await far.emulation.publish('alpha', 1, 'ready', 'initialized', 1n);
    await eventually(() => seen.length === 1);
    await subscription.close();
    assert.deepStrictEqual(far.subscribers(), []);
    rmSync(join(parent, '..', '..'), { recursive: true });
  });

  it('is refused where there is no node', () => {
    assert.throws(() => bindZoneEvents(noop, noop, { root: join(stage.node.root, 'nowhere') }), {
      name: 'SystemError',
      call: 'zonecfg_notify_bind',
      code: 'EIO',
    });
  });

  it('is refused where the node has 32 subscribers, and the error says so', async () => {
    const { root } = stage.node;
    const all = Array.from({ length: 32 }, () => bindZoneEvents(noop, noop, { root }));
    assert.throws(() => bindZoneEvents(noop, noop, { root }), /EIO.*32 subscribers/);
    await all.pop()?.close();
    all.push(bindZoneEvents(noop, noop, { root }));
    await Promise.all(all.map((one) => one.close()));
  });

  it('frees its place on the channel when its process dies', async () => {
    const { root } = stage.node;
    const dead = await stage.subscriberElsewhere();
    const all = Array.from({ length: 31 }, () => bindZoneEvents(noop, noop, { root }));
    dead.process.kill('SIGKILL');
    await once(dead.process, 'exit');
    all.push(bindZoneEvents(noop, noop, { root }));
    await Promise.all(all.map((one) => one.close()));
    assert.deepStrictEqual(stage.node.subscribers(), []);
  });

  describe('whose main thread is busy', () => {
    it('queues a thousand events without delaying their publisher', async () => {
      const seen = stage.received();
      // Synchronous: not one turn of this process' loop until the publisher has ended.
      execFileSync(process.execPath, [ZONE_CHILD, 'publish', stage.node.root, '1000']);
      assert.strictEqual(seen.length, 0);
      await eventually(() => seen.length === 1000);
      assert.deepStrictEqual(seen, numbers(1, 1000));
    });

    it('yields to the event loop within a burst of events', async () => {
      const seen = stage.received();
      execFileSync(process.execPath, [ZONE_CHILD, 'publish', stage.node.root, '1000']);
      let turns = 0;
      while (seen.length < 1000) {
        await nextIteration();
        turns++;
        assert.ok(turns < 100_000);
      }
      assert.ok(turns >= 3, `${turns} turns for four slices of 256`);
    });

    it('keeps a bounded number of events, reports how many it lost, and continues', async () => {
      const seen: (bigint | string)[] = [];
      stage.subscribe(
        (event) => seen.push(event.when),
        (count) => seen.push(`lost ${count}`),
        100,
      );
      execFileSync(process.execPath, [ZONE_CHILD, 'publish', stage.node.root, '1000']);
      await eventually(() => seen.length === 101);
      await stage.publishAll(1001, 1002);
      await eventually(() => seen.length === 103);
      assert.deepStrictEqual(seen, [...numbers(1, 100), 'lost 900', 1001n, 1002n]);
    });
  });

  describe('that is stuck', () => {
    it('delays the publisher until it continues, and misses nothing', async () => {
      const stuck = await stage.subscriberElsewhere();
      stuck.process.kill('SIGSTOP');
      const here = stage.received();
      let done = false;
      const publishing = stage.publishAll(1, 100).then(() => {
        done = true;
      });
      // Its queue is short: the publisher comes to a halt before the hundredth.
      let before = -1;
      await eventually(async () => {
        const halted = here.length === before && here.length > 0;
        before = here.length;
        await delay(100);
        return halted;
      });
      assert.strictEqual(done, false);
      assert.ok(here.length < 100);
      stuck.process.kill('SIGCONT');
      await publishing;
      await eventually(() => here.length === 100 && stuck.seen.length === 100);
      assert.deepStrictEqual(stuck.seen, numbers(1, 100).map(String));
    });

    it('releases the publisher when it is killed', async () => {
      const stuck = await stage.subscriberElsewhere();
      stuck.process.kill('SIGSTOP');
      const here = stage.received();
      const publishing = stage.publishAll(1, 100);
      await eventually(() => here.length > 5);
      stuck.process.kill('SIGKILL');
      await publishing;
      await eventually(() => here.length === 100);
    });

    it('leaves no subscription when it is killed before, and its socket is removed', async () => {
      const dead = await stage.subscriberElsewhere();
      dead.process.kill('SIGKILL');
      await once(dead.process, 'exit');
      assert.strictEqual(stage.node.subscribers().length, 1);
      await stage.publishAll(1, 100);
      assert.strictEqual(stage.node.subscribers().length, 0);
    });
  });

  describe('that is closed', () => {
    it('leaves no socket, descriptor or thread behind', async () => {
      const threads = threadCount();
      const many = Array.from({ length: 20 }, () => stage.subscribe(noop));
      assert.strictEqual(stage.node.subscribers().length, 20);
      await Promise.all(many.map((one) => one.close()));
      assert.strictEqual(stage.node.subscribers().length, 0);
      await eventually(() => threadCount() === threads, 'the number of threads as before');
    });

    it('delivers nothing more, not even queued events', async () => {
      let calls = 0;
      const closing: Promise<void>[] = [];
      const subscription = stage.subscribe(() => {
        calls++;
        closing.push(subscription.close());
      });
      execFileSync(process.execPath, [ZONE_CHILD, 'publish', stage.node.root, '50']);
      await eventually(() => closing.length > 0);
      await closing[0];
      await delay(20);
      assert.strictEqual(calls, 1);
    });

    it('refuses all but a second close', async () => {
      const subscription = stage.subscribe(noop);
      await Promise.all([subscription.close(), subscription.close()]);
      await assert.rejects(subscription.enterCritical(), { code: 'ESHUTDOWN' });
      await assert.rejects(subscription.exitCritical(), { code: 'ESHUTDOWN' });
      await assert.rejects(subscription.abortCritical(), { code: 'ESHUTDOWN' });
    });

    it('leaves its section, and answers earlier commands, first', async () => {
      const subscription = stage.subscribe(noop);
      await subscription.enterCritical();
      const left = subscription.exitCritical();
      const closed = subscription.close();
      assert.strictEqual(await left, false);
      await closed;
      const other = stage.subscribe(noop);
      await other.enterCritical();
      await other.close();
      await stage.publishAll(1, 30);
    });

    it('is closed by the garbage collector when nothing refers to it', () => {
      const script = `
        const { bindZoneEvents } = require(${JSON.stringify(require.resolve('../../src/platform/zone-events'))});
        const { readdirSync } = require('node:fs');
        const channel = ${JSON.stringify(join(stage.node.root, 'system/simcn/evchan'))};
        const bind = () => bindZoneEvents(() => {}, () => {}, { root: ${JSON.stringify(stage.node.root)} });
        (async () => {
          for (let i = 0; i < 5; i++) bind();
          await bind().enterCritical();
          for (let i = 0; i < 200 && readdirSync(channel).length > 0; i++) {
            gc();
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
          console.log(readdirSync(channel).length);
        })();`;
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        ['--expose-gc', '-e', script],
        { encoding: 'utf8', timeout: 20_000 },
      );
      // It also ends by itself: what is closed does not keep a process alive.
      assert.deepStrictEqual([stdout.trim(), stderr, status], ['0', '', 0]);
    });
  });

  it('can be opened in a worker thread, and ends with it', async () => {
    const script = `
      const { parentPort } = require('node:worker_threads');
      const { bindZoneEvents } = require(${JSON.stringify(require.resolve('../../src/platform/zone-events'))});
      const subscription = bindZoneEvents(
        (event) => parentPort.postMessage(Number(event.when)), () => {}, { root: ${JSON.stringify(stage.node.root)} });
      parentPort.postMessage('bound');
      parentPort.on('message', async () => { await subscription.enterCritical(); parentPort.postMessage('held'); });
    `;
    const here = stage.received();
    const workers = Array.from({ length: 4 }, () => new Worker(script, { eval: true }));
    const said = workers.map((worker) => {
      const words: unknown[] = [];
      worker.on('message', (word) => words.push(word));
      return words;
    });
    await eventually(() => said.every((words) => words.includes('bound')));
    await stage.publishAll(1, 20);
    await eventually(() => said.every((words) => words.includes(20)));
    // One holds its section when it is ended, one has events waiting, the others do nothing.
    workers[0]?.postMessage('enter');
    await eventually(() => said[0]?.includes('held') === true);
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.strictEqual(stage.node.subscribers().length, 1);
    await stage.publishAll(21, 40);
    await eventually(() => here.length === 40);
  });

  describe('does not keep a process from ending', () => {
    const steps = [
      'bound',
      'entering',
      'entered',
      'exiting',
      'held',
      'in an event',
      'closing',
      'closed',
      'with many',
      'with a worker in the section',
    ];
    for (const step of steps) {
      for (const ending of ['exit', 'throw', 'term']) {
        it(`${step}, by ${ending}`, async () => {
          const child = stage.child('end', `${step}/${ending}`);
          const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
          assert.deepStrictEqual([code, signal], [7, null]);
          await stage.publishAll(1, 30);
        });
      }
    }
  });
});

function noop(): void {
  // Nothing is expected of it.
}

function threadCount(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(/^Threads:\s+(\d+)$/m.exec(status)?.[1]);
}
