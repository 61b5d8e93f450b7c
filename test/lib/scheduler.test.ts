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
    const pieces = Math.min(cost, this.left);
    this.left -= pieces;
    this.done.push(...Array<string>(pieces).fill(this.name));
    return pieces;
  }
}

describe('turns', () => {
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
  async function rounds(done: readonly string[], all: number): Promise<number[]> {
    const heard: number[] = [];
    let before = done.length;
    while (done.length < all) {
      await turn();
      heard.push(done.length - before);
      before = done.length;
    }
    return heard;
  }

  it('lets the event loop hear others after each turn of a zone that is busy alone', async () => {
    const done: string[] = [];
    const turns = new Scheduler(() => 0);
    const place = new RunQueue();
    turns.offer(place, new Job('a', 500, done));
    turns.offer(place, new Job('b', 500, done));
    const heard = await rounds(done, 1000);
    assert.ok(heard.length >= 100, `${heard.length} rounds`);
  });

  it('ends a round of many busy zones after its slice, and goes on behind it', async () => {
    let now = 0;
    const done: string[] = [];
    const turns = new Scheduler(() => now++);
    for (let i = 0; i < 100; i++) {
      turns.offer(new RunQueue(), new Job(String(i), 16, done));
    }
    const heard = await rounds(done, 1600);
    // The clock moves on by half a slice at each turn.
    assert.ok(Math.max(...heard) <= 2 * 8, heard.join());
    const through = done.slice(-800);
    assert.deepStrictEqual(
      [...new Set(through)],
      Array.from({ length: 100 }, (_, i) => String(i)),
    );
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
