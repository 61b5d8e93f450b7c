import assert from 'node:assert';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextIteration, setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { numbers, SubscriptionStage } from '../support/subscription-stage';

describe('the critical section of a subscription', () => {
  let stage: SubscriptionStage;

  beforeEach(async () => {
    stage = await SubscriptionStage.set();
  });

  afterEach(async () => {
    await stage.clear();
  });

  it('delivers nothing, and reports at its end that there were events', async () => {
    const seen: bigint[] = [];
    const subscription = stage.subscribe((event) => seen.push(event.when));
    await subscription.enterCritical();
    await stage.publishAll(1, 5);
    assert.strictEqual(await subscription.exitCritical(), true);
    assert.strictEqual(await subscription.exitCritical(), false);
    await stage.publishAll(6, 6);
    await eventually(() => seen.length > 0);
    assert.deepStrictEqual(seen, [6n]);
  });

  it('can be left at once when nothing happened, and be entered again', async () => {
    const subscription = stage.subscribe(() => assert.fail('no event'));
    for (let i = 0; i < 100; i++) {
      await subscription.enterCritical();
      assert.strictEqual(await subscription.exitCritical(), false);
    }
  });

  it('can be left when more events came than the queue holds', async () => {
    const seen: bigint[] = [];
    const subscription = stage.subscribe((event) => seen.push(event.when));
    await subscription.enterCritical();
    const publishing = stage.publishAll(1, 100);
    // The queue has ten places; the publisher waits now, and stays ahead while it is drained.
    await delay(100);
    while (await subscription.exitCritical()) {
      await nextIteration();
    }
    await publishing;
    await stage.publishAll(101, 101);
    await eventually(() => seen.at(-1) === 101n);
    // Whatever was not delivered was before the section's end, without a gap.
    assert.deepStrictEqual(seen, numbers(102 - seen.length, 101));
  });

  it('loses the events that came meanwhile when it is aborted', async () => {
    const seen: bigint[] = [];
    const subscription = stage.subscribe((event) => seen.push(event.when));
    await subscription.enterCritical();
    await stage.publishAll(1, 3);
    // They are through when the ping behind them is.
    assert.strictEqual(await subscription.exitCritical(), true);
    await subscription.abortCritical();
    await subscription.abortCritical();
    await stage.publishAll(4, 4);
    await eventually(() => seen.length > 0);
    assert.deepStrictEqual(seen, [4n]);
  });

  it('resolves its exit before it delivers what came afterwards', async () => {
    const order: string[] = [];
    const subscription = stage.subscribe((event) => order.push(`event ${event.when}`));
    const publisher = stage.child('publish', '300');
    const ended = once(publisher, 'exit');
    while (publisher.exitCode === null) {
      order.push('enter');
      await subscription.enterCritical();
      order.push('entered');
      while (await subscription.exitCritical()) {
        order.push('again');
      }
      order.push('left');
      await nextIteration();
    }
    await ended;
    let inside = false;
    for (const step of order) {
      assert.ok(!(inside && step.startsWith('event')), 'no event inside of the section');
      inside = step === 'entered' || (inside && step !== 'left');
    }
  });

  it('leaves no gap between a listing and the events after it', async function () {
    this.timeout(60_000);
    const counter = join(stage.node.root, 'counter');
    for (let round = 0; round < 10; round++) {
      writeFileSync(counter, '0');
      const seen: number[] = [];
      const subscription = stage.subscribe((event) => seen.push(Number(event.when)));
      const publisher = stage.child('count', '400', counter);
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
      assert.ok(first <= listed + 1, `listed ${listed}, then delivered from ${first}`);
      assert.deepStrictEqual(
        seen,
        seen.map((_, i) => first + i),
      );
      await subscription.close();
    }
  });

  it('refuses commands in the wrong order', async () => {
    const subscription = stage.subscribe(noop);
    await assert.rejects(subscription.exitCritical(), {
      call: 'zonecfg_notify_critical_exit',
      code: 'EINVAL',
    });
    await subscription.enterCritical();
    await assert.rejects(subscription.enterCritical(), { code: 'EALREADY' });
    assert.strictEqual(await subscription.exitCritical(), false);
  });

  it('never blocks the main thread', async () => {
    const subscription = stage.subscribe(noop);
    const stuck = await stage.subscriberElsewhere();
    stuck.process.kill('SIGSTOP');
    const publishing = stage.publishAll(1, 50);
    const started = performance.now();
    const entered = subscription.enterCritical();
    const left = subscription.exitCritical();
    // The publisher stands still until it is signalled to go on; a call that waited for it would never return.
    assert.ok(performance.now() - started < 2000);
    await Promise.all([entered, left]);
    // Where an event came in it is held still.
    await subscription.abortCritical();
    stuck.process.kill('SIGCONT');
    await publishing;
  });
});

function noop(): void {
  // Nothing is expected of it.
}
