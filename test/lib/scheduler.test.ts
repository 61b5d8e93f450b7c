import assert from 'node:assert';
import { setImmediate as turn } from 'node:timers/promises';
import { costOf, RunQueue, Scheduler, type Worker } from '../../src/lib/scheduler';

/** Does its work in pieces of cost 1 and writes its name down for each. */
class Job implements Worker {
  private readonly name: string;
  private readonly done: string[];
  private left: number;

  constructor(name: string, pieces: number, done: string[]) {
    this.name = name;
    this.left = pieces;
    this.done = done;
  }

  get ready(): boolean {
    return this.left > 0;
  }

  work(cost: number): number {
    const pieces = Math.min(Math.ceil(cost), this.left);
    this.left -= pieces;
    this.done.push(...Array<string>(pieces).fill(this.name));
    return pieces;
  }
}

describe('the scheduler', () => {
  it('lets an idle zone work at once', () => {
    const done: string[] = [];
    new Scheduler().offer(new RunQueue(), new Job('a', 3, done));
    assert.strictEqual(done.join(''), 'aaa');
  });

  it('gives each zone the same, however many workers it has', async () => {
    const done: string[] = [];
    const turns = new Scheduler(() => 0);
    const crowd = new RunQueue();
    for (let i = 0; i < 10; i++) {
      turns.offer(crowd, new Job('c', 100, done));
    }
    turns.offer(new RunQueue(), new Job('s', 100, done));
    while (done.length < 1100) {
      await turn();
    }
    // Up to the moment at which the small one was through, both had the same, but for one turn.
    const upTo = done.slice(0, done.lastIndexOf('s'));
    const small = upTo.filter((name) => name === 's').length;
    assert.ok(Math.abs(upTo.length - 2 * small) <= 32, `${small} of ${upTo.length}`);
    assert.strictEqual(done.length, 1100);
  });

  /** How much was done each time the event loop went round, until all was. */
  async function passes(done: readonly string[], all: number): Promise<number[]> {
    const worked: number[] = [];
    let before = done.length;
    while (done.length < all) {
      await turn();
      worked.push(done.length - before);
      before = done.length;
    }
    return worked;
  }

  it('lets a zone that is alone work in one event what all its connections brought', () => {
    const done: string[] = [];
    const scheduler = new Scheduler(() => 0);
    const queue = new RunQueue();
    for (let n = 0; n < 16; n++) {
      scheduler.offer(queue, new Job('a', 1, done));
    }
    assert.strictEqual(done.length, 16);
  });

  it('lets the event loop read others between short passes of a zone that is busy alone', async () => {
    let now = 0;
    const done: string[] = [];
    const scheduler = new Scheduler(() => (now += 0.001));
    const queue = new RunQueue();
    scheduler.offer(queue, new Job('a', 50_000, done));
    scheduler.offer(queue, new Job('b', 50_000, done));
    const most = Math.max(...(await passes(done, 100_000)));
    assert.ok(most > 16, `${most} pieces in the longest pass: more than one turn`);
    assert.ok(most < 3000, `${most} pieces in the longest pass`);
  });

  it('lets a zone that took long wait for as long while another one works', async () => {
    let now = 0;
    const done: string[] = [];
    const scheduler = new Scheduler(() => now);
    const slow: Worker = {
      ready: true,
      work: () => {
        now += 2;
        done.push('slow');
        return 1;
      },
    };
    const quick = new Job('q', 3000, done);
    const queue = new RunQueue();
    scheduler.offer(new RunQueue(), quick);
    scheduler.offer(queue, slow);
    while (quick.ready) {
      await turn();
    }
    scheduler.withdraw(queue, slow);
    const count = done.filter((name) => name === 'slow').length;
    // 2 ms are what 400 quick pieces take.
    assert.ok(
      count >= 1 && count <= 3000 / 400 + 3,
      `${count} pieces of 2 ms beside 3,000 of 5 us`,
    );
  });

  it('ends a pass over many busy zones when its time is over, and goes on behind it', async () => {
    let now = 0;
    const done: string[] = [];
    // Each turn takes 0.04 ms, which is what its eight pieces cost.
    const scheduler = new Scheduler(() => (now += 0.04));
    scheduler.offer(new RunQueue(), new Job('long', 1000, done));
    for (let i = 0; i < 100; i++) {
      scheduler.offer(new RunQueue(), new Job(String(i), 16, done));
    }
    const worked = await passes(done, 2600);
    assert.ok(Math.max(...worked) <= 60 * 8, worked.join());
    const before = done.slice(
      0,
      done.findLastIndex((name) => name !== 'long'),
    );
    const own = before.filter((name) => name === 'long').length;
    assert.ok(own < 64 + 300, `${own} pieces of the busiest zone before the others were through`);
  });

  it('makes any other zone wait for one long piece of work, however many zones have some', async () => {
    let now = 0;
    const done: string[] = [];
    const scheduler = new Scheduler(() => now);
    const long = (): Worker => ({
      ready: true,
      work: () => {
        now += 40;
        done.push('long');
        return 1;
      },
    });
    const busy = Array.from({ length: 32 }, () => ({ queue: new RunQueue(), worker: long() }));
    busy.forEach(({ queue, worker }) => scheduler.offer(queue, worker));
    // Each of them has shown what it costs.
    while (done.length < 3 * busy.length) {
      await turn();
    }
    const before = done.length;
    const waits: number[] = [];
    for (let n = 0; n < 10; n++) {
      const asked = done.length;
      await turn();
      busy.forEach(({ queue, worker }) => scheduler.offer(queue, worker));
      scheduler.offer(new RunQueue(), new Job('quick', 1, done));
      waits.push(done.indexOf('quick', asked) - asked);
    }
    busy.forEach(({ queue, worker }) => scheduler.withdraw(queue, worker));
    assert.ok(Math.max(...waits) <= 1, `${waits.join()} of ${done.length - before}`);
  });

  it('gives no turn to a worker that withdrew', async () => {
    const done: string[] = [];
    const turns = new Scheduler();
    const place = new RunQueue();
    const job = new Job('a', 100, done);
    turns.offer(place, job);
    turns.withdraw(place, job);
    const before = done.length;
    await turn();
    await turn();
    assert.strictEqual(done.length, before);
  });

  it('weighs a megabyte as more than a hundred small requests', () => {
    assert.strictEqual(costOf(100), 1);
    assert.ok(costOf(1024 * 1024) > 100);
  });
});
