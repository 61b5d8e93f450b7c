import assert from 'node:assert';
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { bindZoneEvents, type RawZoneEvent, type ZoneSubscription } from '../../src/sys/native';
import { makeNode, openDescriptors, type EmulatedNode } from '../support/emulated-node';
import { eventually } from '../support/eventually';

const CHILD = require.resolve('../support/zone-child');

describe('a subscription to zone events', () => {
  let node: EmulatedNode;
  let descriptors: number;
  const subscriptions: ZoneSubscription[] = [];
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    node = makeNode();
    // The thread pool and the first async call open descriptors of their own, once.
    await node.emulation.publish('warm', 0, '', '', 0n);
    descriptors = openDescriptors();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) {
        await once(child, 'exit');
      }
      child.stdout?.destroy();
    }
    await Promise.all(subscriptions.splice(0).map((one) => one.close()));
    await eventually(
      () => openDescriptors() === descriptors,
      'the number of descriptors as before',
    );
    node.remove();
  });

  function subscribe(
    onEvent: (event: RawZoneEvent) => void,
    onLost: (count: number) => void = () => assert.fail('no event may be lost'),
    maxQueued?: number,
  ): ZoneSubscription {
    const { root } = node;
    const options = maxQueued === undefined ? { root } : { root, maxQueued };
    const subscription = bindZoneEvents(onEvent, onLost, options);
    subscriptions.push(subscription);
    return subscription;
  }

  function collect(): bigint[] {
    const seen: bigint[] = [];
    subscribe((event) => seen.push(event.when));
    return seen;
  }

  function child(...args: string[]): ChildProcess {
    const process_ = spawn(process.execPath, [CHILD, args[0] ?? '', node.root, ...args.slice(1)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(process_);
    return process_;
  }

  /** A subscriber of another process, once it is bound; `seen` grows as events reach it. */
  async function subscriberElsewhere(): Promise<{ process: ChildProcess; seen: string[] }> {
    const subscriber = child('subscribe');
    assert(subscriber.stdout !== null);
    const seen: string[] = [];
    const lines = createInterface(subscriber.stdout);
    lines.on('line', (line) => seen.push(line));
    await eventually(() => seen.shift() === 'bound', 'the subscriber');
    return { process: subscriber, seen };
  }

  async function publishAll(from: number, to: number): Promise<void> {
    for (let n = from; n <= to; n++) {
      await node.emulation.publish('alpha', 1, 'running', 'ready', BigInt(n));
    }
  }

  it('is told of a change with all that the platform says', async () => {
    const events: RawZoneEvent[] = [];
    subscribe((event) => events.push(event));
    const when = 1_523_467_148_473_000_001n;
    await node.emulation.publish('alpha', 611, 'running', 'ready', when);
    await node.emulation.publish('beta', -1, '', 'configured', when + 1n);
    await eventually(() => events.length === 2);
    assert.deepStrictEqual(events, [
      { zonename: 'alpha', zoneid: 611, newstate: 'running', oldstate: 'ready', when },
      { zonename: 'beta', zoneid: -1, newstate: '', oldstate: 'configured', when: when + 1n },
    ]);
  });

  it('is told by another process, in its order', async () => {
    const seen = collect();
    const [code] = (await once(child('publish', '200'), 'exit')) as [number];
    assert.strictEqual(code, 0);
    await eventually(() => seen.length === 200);
    assert.deepStrictEqual(seen, numbers(1, 200));
  });

  it('is one of several, in this process and others, and each is told of everything', async () => {
    const [one, two] = [collect(), collect()];
    const elsewhere = await subscriberElsewhere();
    await publishAll(1, 50);
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
    assert.throws(() => bindZoneEvents(noop, noop, { root: join(node.root, 'nowhere') }), {
      name: 'WorldError',
      call: 'zonecfg_notify_bind',
      code: 'EIO',
    });
  });

  describe('whose main thread is busy', () => {
    it('holds nobody up: a thousand events are taken, and told afterwards', async () => {
      const seen = collect();
      // Synchronous: not one turn of this process' loop until the publisher has ended.
      execFileSync(process.execPath, [CHILD, 'publish', node.root, '1000']);
      assert.strictEqual(seen.length, 0);
      await eventually(() => seen.length === 1000);
      assert.deepStrictEqual(seen, numbers(1, 1000));
    });

    it('gives the loop a turn between slices of a burst', async () => {
      const seen = collect();
      execFileSync(process.execPath, [CHILD, 'publish', node.root, '1000']);
      let turns = 0;
      while (seen.length < 1000) {
        await nextTurn();
        turns++;
        assert.ok(turns < 100_000);
      }
      assert.ok(turns >= 3, `${turns} turns for four slices of 256`);
    });

    it('keeps as many events as it may, tells how many it lost, and then goes on', async () => {
      const seen: (bigint | string)[] = [];
      subscribe(
        (event) => seen.push(event.when),
        (count) => seen.push(`lost ${count}`),
        100,
      );
      execFileSync(process.execPath, [CHILD, 'publish', node.root, '1000']);
      await eventually(() => seen.length === 101);
      await publishAll(1001, 1002);
      await eventually(() => seen.length === 103);
      assert.deepStrictEqual(seen, [...numbers(1, 100), 'lost 900', 1001n, 1002n]);
    });
  });

  describe('that is stuck', () => {
    it('holds the publisher up, until it goes on, and then misses nothing', async () => {
      const stuck = await subscriberElsewhere();
      stuck.process.kill('SIGSTOP');
      const here = collect();
      let done = false;
      const publishing = publishAll(1, 100).then(() => {
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

    it('lets the publisher go when it is killed', async () => {
      const stuck = await subscriberElsewhere();
      stuck.process.kill('SIGSTOP');
      const here = collect();
      const publishing = publishAll(1, 100);
      await eventually(() => here.length > 5);
      stuck.process.kill('SIGKILL');
      await publishing;
      await eventually(() => here.length === 100);
    });

    it('never was one when it was killed before, and its socket is swept away', async () => {
      const dead = await subscriberElsewhere();
      dead.process.kill('SIGKILL');
      await once(dead.process, 'exit');
      assert.strictEqual(node.subscribers().length, 1);
      await publishAll(1, 100);
      assert.strictEqual(node.subscribers().length, 0);
    });
  });

  describe('in its critical section', () => {
    it('is told of nothing, and at the end that something happened', async () => {
      const seen: bigint[] = [];
      const subscription = subscribe((event) => seen.push(event.when));
      await subscription.enterCritical();
      await publishAll(1, 5);
      assert.strictEqual(await subscription.exitCritical(), true);
      assert.strictEqual(await subscription.exitCritical(), false);
      await publishAll(6, 6);
      await eventually(() => seen.length > 0);
      assert.deepStrictEqual(seen, [6n]);
    });

    it('leaves at once when nothing happened, and enters again', async () => {
      const subscription = subscribe(() => assert.fail('no event'));
      for (let i = 0; i < 100; i++) {
        await subscription.enterCritical();
        assert.strictEqual(await subscription.exitCritical(), false);
      }
    });

    it('lets a full queue pass: more events than it holds do not block its end', async () => {
      const seen: bigint[] = [];
      const subscription = subscribe((event) => seen.push(event.when));
      await subscription.enterCritical();
      const publishing = publishAll(1, 100);
      // The queue has ten places; the publisher waits now, and stays ahead while it is drained.
      await delay(100);
      while (await subscription.exitCritical()) {
        await nextTurn();
      }
      await publishing;
      await publishAll(101, 101);
      await eventually(() => seen.at(-1) === 101n);
      // Whatever was not told was before the section's end, without a gap.
      assert.deepStrictEqual(seen, numbers(102 - seen.length, 101));
    });

    it('is told of what it held back, when it is aborted', async () => {
      const seen: bigint[] = [];
      const subscription = subscribe((event) => seen.push(event.when));
      await subscription.enterCritical();
      await publishAll(1, 3);
      await subscription.abortCritical();
      await eventually(() => seen.length === 3);
      await subscription.abortCritical();
    });

    it('tells that it was left before it tells of what came afterwards', async () => {
      const order: string[] = [];
      const subscription = subscribe((event) => order.push(`event ${event.when}`));
      const publisher = child('publish', '300');
      const ended = once(publisher, 'exit');
      while (publisher.exitCode === null) {
        order.push('enter');
        await subscription.enterCritical();
        order.push('entered');
        while (await subscription.exitCritical()) {
          order.push('again');
        }
        order.push('left');
        await nextTurn();
      }
      await ended;
      let inside = false;
      for (const step of order) {
        assert.ok(!(inside && step.startsWith('event')), 'no event inside of the section');
        inside = step === 'entered' || (inside && step !== 'left');
      }
    });

    it('gives a listing and events without a gap between, whenever it is taken', async function () {
      this.timeout(60_000);
      const counter = join(node.root, 'counter');
      for (let round = 0; round < 10; round++) {
        writeFileSync(counter, '0');
        const seen: number[] = [];
        const subscription = subscribe((event) => seen.push(Number(event.when)));
        const publisher = child('count', '400', counter);
        const ended = once(publisher, 'exit');
        await eventually(() => Number(readFileSync(counter, 'utf8')) > round * 20);
        await subscription.enterCritical();
        let listed = 0;
        do {
          listed = Number(readFileSync(counter, 'utf8'));
        } while (await subscription.exitCritical());
        seen.length = 0;
        await ended;
        await eventually(() => listed === 400 || seen.at(-1) === 400);
        // The first may be in the listing already: it was written, but not published yet.
        const first = seen[0] ?? 401;
        assert.ok(first <= listed + 1, `listed ${listed}, then told from ${first}`);
        assert.deepStrictEqual(
          seen,
          seen.map((_, i) => first + i),
        );
        await subscription.close();
      }
    });

    it('refuses what makes no sense, and goes on', async () => {
      const subscription = subscribe(noop);
      await assert.rejects(subscription.exitCritical(), {
        call: 'zonecfg_notify_critical_exit',
        code: 'EINVAL',
      });
      await subscription.enterCritical();
      await assert.rejects(subscription.enterCritical(), { code: 'EALREADY' });
      assert.strictEqual(await subscription.exitCritical(), false);
    });

    it('never blocks the main thread, whatever it waits for', async () => {
      const subscription = subscribe(noop);
      const stuck = await subscriberElsewhere();
      stuck.process.kill('SIGSTOP');
      const publishing = publishAll(1, 50);
      const started = performance.now();
      const entered = subscription.enterCritical();
      const left = subscription.exitCritical();
      // The publisher stands still until it is told to go on: whoever waits for it never comes here.
      assert.ok(performance.now() - started < 2000);
      await Promise.all([entered, left]);
      // Where an event came in it is held still, and a section that is held holds the publisher.
      await subscription.abortCritical();
      stuck.process.kill('SIGCONT');
      await publishing;
    });
  });

  describe('that is closed', () => {
    it('leaves nothing behind: no socket, no descriptor, no thread', async () => {
      const threads = threadCount();
      const many = Array.from({ length: 20 }, () => subscribe(noop));
      assert.strictEqual(node.subscribers().length, 20);
      await Promise.all(many.map((one) => one.close()));
      assert.strictEqual(node.subscribers().length, 0);
      await eventually(() => threadCount() === threads, 'the number of threads as before');
    });

    it('tells nothing any more, not even what it had', async () => {
      let told = 0;
      const closing: Promise<void>[] = [];
      const subscription = subscribe(() => {
        told++;
        closing.push(subscription.close());
      });
      execFileSync(process.execPath, [CHILD, 'publish', node.root, '50']);
      await eventually(() => closing.length > 0);
      await closing[0];
      await delay(20);
      assert.strictEqual(told, 1);
    });

    it('refuses all but a second close', async () => {
      const subscription = subscribe(noop);
      await Promise.all([subscription.close(), subscription.close()]);
      await assert.rejects(subscription.enterCritical(), { code: 'ESHUTDOWN' });
      await assert.rejects(subscription.exitCritical(), { code: 'ESHUTDOWN' });
      await assert.rejects(subscription.abortCritical(), { code: 'ESHUTDOWN' });
    });

    it('leaves its section first, and what was asked before is answered', async () => {
      const subscription = subscribe(noop);
      await subscription.enterCritical();
      const left = subscription.exitCritical();
      const closed = subscription.close();
      assert.strictEqual(await left, false);
      await closed;
      const other = subscribe(noop);
      await other.enterCritical();
      await other.close();
      await publishAll(1, 30);
    });

    it('may be so by the collector, when nobody holds it', () => {
      const script = `
        const { bindZoneEvents } = require(${JSON.stringify(require.resolve('../../src/sys/native'))});
        const { readdirSync } = require('node:fs');
        const channel = ${JSON.stringify(join(node.root, 'system/simcn/evchan'))};
        const bind = () => bindZoneEvents(() => {}, () => {}, { root: ${JSON.stringify(node.root)} });
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

  it('may be had by every worker thread, and ends with it', async () => {
    const script = `
      const { parentPort } = require('node:worker_threads');
      const { bindZoneEvents } = require(${JSON.stringify(require.resolve('../../src/sys/native'))});
      const subscription = bindZoneEvents(
        (event) => parentPort.postMessage(Number(event.when)), () => {}, { root: ${JSON.stringify(node.root)} });
      parentPort.postMessage('bound');
      parentPort.on('message', async () => { await subscription.enterCritical(); parentPort.postMessage('held'); });
    `;
    const here = collect();
    const workers = Array.from({ length: 4 }, () => new Worker(script, { eval: true }));
    const said = workers.map((worker) => {
      const words: unknown[] = [];
      worker.on('message', (word) => words.push(word));
      return words;
    });
    await eventually(() => said.every((words) => words.includes('bound')));
    await publishAll(1, 20);
    await eventually(() => said.every((words) => words.includes(20)));
    // One holds its section when it is ended, one has events waiting, the others do nothing.
    workers[0]?.postMessage('enter');
    await eventually(() => said[0]?.includes('held') === true);
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.strictEqual(node.subscribers().length, 1);
    await publishAll(21, 40);
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
      for (const way of ['exit', 'throw', 'term']) {
        it(`${step}, by ${way}`, async () => {
          const ending = child('end', `${step}/${way}`);
          const [code, signal] = (await once(ending, 'exit')) as [number | null, string | null];
          assert.deepStrictEqual([code, signal], [7, null]);
          await publishAll(1, 30);
        });
      }
    }
  });
});

function noop(): void {
  // Nothing is expected of it.
}

function numbers(from: number, to: number): bigint[] {
  return Array.from({ length: to - from + 1 }, (_, i) => BigInt(from + i));
}

function threadCount(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(/^Threads:\s+(\d+)$/m.exec(status)?.[1]);
}
