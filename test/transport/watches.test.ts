import assert from 'node:assert';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { afterPolling } from '../../src/lib/scheduler';
import { eventually } from '../support/eventually';
import { Watches, type WaitingWatch } from '../../src/transport/watches';

class World {
  now = 10_000;
  readonly versions = new Map<string, string>();
  settled = true;
  looks = 0;
  /** What a look takes, and to wake one, on the clock. Times that are over are so by the real one. */
  lookMs = 0;
  wakeMs = 0;
  readonly woken: string[] = [];
  readonly watches = new Watches(
    (zonename) => {
      this.looks++;
      this.now += this.lookMs;
      return { text: this.versions.get(zonename) ?? '', settled: this.settled };
    },
    () => this.now,
  );

  park(zonename: string, name = zonename, ms = 5000): WaitingWatch {
    const seen = { text: this.versions.get(zonename) ?? '', settled: this.settled };
    return this.watches.park(zonename, seen, this.now + ms, () => {
      this.now += this.wakeMs;
      this.woken.push(name);
    });
  }

  async pass(ms: number): Promise<void> {
    for (const end = this.now + ms; this.now < end;) {
      this.now += 50;
      this.watches.tick();
      await afterPolling();
    }
  }
}

describe('the watches that wait', () => {
  let world: World;
  let parked: WaitingWatch[];

  beforeEach(() => {
    world = new World();
    parked = [];
  });

  afterEach(() => {
    parked.forEach((one) => world.watches.unpark(one));
    assert.strictEqual(world.watches.waiting, 0);
  });

  it('are woken when the data of their zone looks different, and those of others are not', async () => {
    parked.push(world.park('a'), world.park('b'));
    await world.pass(500);
    assert.deepStrictEqual(world.woken, []);
    world.versions.set('a', 'new');
    await world.pass(150);
    assert.deepStrictEqual(world.woken, ['a']);
    assert.strictEqual(world.watches.waiting, 1);
  });

  it('are woken at once by a hint where there is a change, and not where there is none', () => {
    parked.push(world.park('a'));
    world.watches.hint('a');
    world.watches.hint('b');
    assert.deepStrictEqual(world.woken, []);
    world.versions.set('a', 'new');
    world.watches.hint('a');
    assert.deepStrictEqual(world.woken, ['a']);
  });

  it('are woken when their time is over, and not before', async () => {
    const began = performance.now();
    parked.push(world.park('a', 'soon', 50), world.park('a', 'late', 60_000));
    await eventually(() => world.woken.length > 0, 'one is woken');
    // The loop's clock is of whole ms.
    assert.ok(performance.now() - began >= 49);
    assert.deepStrictEqual(world.woken, ['soon']);
  });

  it('miss no change between the making of a token and their wait', async () => {
    parked.push(world.park('a', 'first'));
    world.versions.set('a', 'new');
    await world.pass(150);
    // Its token was made before the change that the others were told of.
    const seen = { text: '', settled: true };
    parked.push(world.park('a', 'third'));
    const until = world.now + 5000;
    parked.push(world.watches.park('a', seen, until, () => world.woken.push('second')));
    await world.pass(150);
    assert.deepStrictEqual(world.woken.sort(), ['first', 'second', 'third']);
  });

  it('are given the version of their zone that one check of its files found when they were woken', () => {
    parked = [0, 1, 2].map((n) => world.park('a', `${n}`));
    assert.deepStrictEqual(
      parked.map(({ woken, seen }) => [woken, seen.text]),
      parked.map(() => [false, '']),
    );
    world.looks = 0;
    world.versions.set('a', 'new');
    world.watches.hint('a');
    assert.strictEqual(world.looks, 1);
    assert.deepStrictEqual(
      parked.map(({ woken, seen }) => [woken, seen.text]),
      parked.map(() => [true, 'new']),
    );
  });

  it('are checked once more where data was written a moment ago', async () => {
    parked.push(world.park('a', 'first'));
    world.settled = false;
    world.versions.set('a', 'new');
    world.watches.hint('a');
    parked.push(world.park('a', 'again'));
    world.settled = true;
    await world.pass(150);
    assert.deepStrictEqual(world.woken, ['first', 'again']);
    parked.push(world.park('a', 'quiet'));
    await world.pass(500);
    assert.deepStrictEqual(world.woken, ['first', 'again']);
  });

  it('are checked a bounded number of times a second, each at least once in a second', async () => {
    for (let n = 0; n < 1000; n++) {
      parked.push(world.park(`zone${n}`, `zone${n}`, 60_000));
    }
    await world.pass(2000);
    world.looks = 0;
    await world.pass(2000);
    assert(world.looks >= 2000 && world.looks <= 4000, `${world.looks}`);
    world.versions.set('zone999', 'new');
    world.versions.set('zone0', 'new');
    await world.pass(1000);
    assert.deepStrictEqual(world.woken.sort(), ['zone0', 'zone999']);
  });

  it('let guests be served between the checks, where many are due at once', async () => {
    for (let n = 0; n < 40; n++) {
      parked.push(world.park(`zone${n}`, `zone${n}`, 60_000));
      world.versions.set(`zone${n}`, 'new');
    }
    world.now += 1000;
    world.lookMs = 1;
    world.watches.tick();
    await nextIteration();
    assert(world.looks < 5, `${world.looks} looks at once`);
    await eventually(() => world.woken.length === 40, 'all are woken');
    assert.strictEqual(world.looks, 40);
  });

  it('let guests be served between those whose time is over, where there are many', async () => {
    world.wakeMs = 1;
    for (let n = 0; n < 40; n++) {
      parked.push(world.park('a', `${n}`, 10));
    }
    let most = 0;
    let before = 0;
    while (world.woken.length < 40) {
      await nextIteration();
      most = Math.max(most, world.woken.length - before);
      before = world.woken.length;
    }
    assert(most < 5, `${most} woken at once`);
  });

  it('are not checked more often where checks take longer than the time that there is for them', async () => {
    for (let n = 0; n < 40; n++) {
      parked.push(world.park(`zone${n}`, `zone${n}`, 60_000));
    }
    world.lookMs = 1;
    for (let n = 0; n < 10; n++) {
      world.now += 1000;
      world.watches.tick();
    }
    world.looks = 0;
    for (let n = 0; n < 400; n++) {
      await nextIteration();
    }
    // Each was due once more, at most.
    assert.ok(world.looks <= 40, `${world.looks} looks`);
    world.versions.set('zone39', 'new');
    await world.pass(1000);
    assert.deepStrictEqual(world.woken, ['zone39']);
  });

  it('do not wait for checks when their time is over', async () => {
    for (let n = 0; n < 1000; n++) {
      parked.push(world.park(`zone${n}`, `zone${n}`, 60_000));
    }
    world.lookMs = 1;
    world.now += 1000;
    world.watches.tick();
    let looks = 0;
    const seen = { text: '', settled: true };
    parked.push(world.watches.park('a', seen, world.now + 1, () => (looks = world.looks)));
    // Its timer is due when the loop goes on.
    for (const end = performance.now() + 5; performance.now() < end;);
    await eventually(() => looks > 0, 'it is woken');
    assert.ok(looks < 100, `after ${looks} checks`);
  });

  it('are not checked when nobody waits any more', async () => {
    const one = world.park('a');
    world.watches.unpark(one);
    world.watches.unpark(one);
    await world.pass(1000);
    assert.strictEqual(world.looks, 0);
  });

  it('may wait again as soon as they are woken', async () => {
    let wakes = 0;
    const wait = (): void => {
      const seen = { text: world.versions.get('a') ?? '', settled: true };
      parked.push(world.watches.park('a', seen, world.now + 5000, again));
    };
    const again = (): void => {
      wakes++;
      wait();
    };
    wait();
    wait();
    world.versions.set('a', 'new');
    await world.pass(1000);
    assert.strictEqual(wakes, 2);
  });
});
