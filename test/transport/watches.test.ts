import assert from 'node:assert';
import { eventually } from '../support/eventually';
import { Watches, type WaitingWatch } from '../../src/transport/watches';

class World {
  now = 10_000;
  readonly versions = new Map<string, string>();
  settled = true;
  looks = 0;
  /** What a look takes, and to wake one. */
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

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end;) {
      this.now += 50;
      this.watches.tick();
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

  it('are woken when the data of their zone looks different, and those of others are not', () => {
    parked.push(world.park('a'), world.park('b'));
    world.pass(500);
    assert.deepStrictEqual(world.woken, []);
    world.versions.set('a', 'new');
    world.pass(150);
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

  it('are woken when their time is over, not before, and after a long stop of the process too', () => {
    parked.push(world.park('a', 'soon', 990), world.park('a', 'late', 3000));
    world.pass(950);
    assert.deepStrictEqual(world.woken, []);
    world.pass(100);
    assert.deepStrictEqual(world.woken, ['soon']);
    world.now += 1_000_000;
    world.watches.tick();
    assert.deepStrictEqual(world.woken, ['soon', 'late']);
  });

  it('miss no change between the making of a token and their wait', () => {
    parked.push(world.park('a', 'first'));
    world.versions.set('a', 'new');
    world.pass(150);
    // Its token was made before the change that the others were told of.
    const seen = { text: '', settled: true };
    parked.push(world.park('a', 'third'));
    const until = world.now + 5000;
    parked.push(world.watches.park('a', seen, until, () => world.woken.push('second')));
    world.pass(150);
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

  it('are checked once more where data was written a moment ago', () => {
    parked.push(world.park('a', 'first'));
    world.settled = false;
    world.versions.set('a', 'new');
    world.watches.hint('a');
    parked.push(world.park('a', 'again'));
    world.settled = true;
    world.pass(150);
    assert.deepStrictEqual(world.woken, ['first', 'again']);
    parked.push(world.park('a', 'quiet'));
    world.pass(500);
    assert.deepStrictEqual(world.woken, ['first', 'again']);
  });

  it('are checked a bounded number of times a second, each at least once in a second', () => {
    for (let n = 0; n < 1000; n++) {
      parked.push(world.park(`zone${n}`, `zone${n}`, 60_000));
    }
    world.pass(2000);
    world.looks = 0;
    world.pass(2000);
    assert(world.looks >= 2000 && world.looks <= 4000, `${world.looks}`);
    world.versions.set('zone999', 'new');
    world.versions.set('zone0', 'new');
    world.pass(1000);
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
    assert(world.looks < 5, `${world.looks} looks at once`);
    await eventually(() => world.woken.length === 40, 'all are woken');
    assert.strictEqual(world.looks, 40);
  });

  it('let guests be served between those whose time is over, where there are many', async () => {
    world.wakeMs = 1;
    for (let n = 0; n < 40; n++) {
      parked.push(world.park('a', `${n}`, 1000));
    }
    world.now += 2000;
    world.watches.tick();
    assert(world.woken.length < 5, `${world.woken.length} woken at once`);
    await eventually(() => world.woken.length === 40, 'all are woken');
  });

  it('are not checked when nobody waits any more', () => {
    const one = world.park('a');
    world.watches.unpark(one);
    world.watches.unpark(one);
    world.pass(1000);
    assert.strictEqual(world.looks, 0);
  });

  it('may wait again as soon as they are woken', () => {
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
    world.pass(1000);
    assert.strictEqual(wakes, 2);
  });
});
