import assert from 'node:assert';
import { setImmediate as turn } from 'node:timers/promises';
import { costOf, Lane, Turns, type Worker } from '../../src/links/turns';

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
    new Turns().offer(new Lane(), new Job('a', 3, done));
    assert.strictEqual(done.join(''), 'aaa');
  });

  it('gives each zone the same, however many workers it has', async () => {
    const done: string[] = [];
    const turns = new Turns(() => 0);
    const crowd = new Lane();
    for (let i = 0; i < 10; i++) {
      turns.offer(crowd, new Job('c', 100, done));
    }
    turns.offer(new Lane(), new Job('s', 100, done));
    await turn();
    await turn();
    // Up to the moment at which the small one was through, both had the same, but for one turn.
    const upTo = done.slice(0, done.lastIndexOf('s'));
    const small = upTo.filter((name) => name === 's').length;
    assert.ok(Math.abs(upTo.length - 2 * small) <= 32, `${small} of ${upTo.length}`);
    assert.strictEqual(done.length, 1100);
  });

  it('ends a round after its slice, so that the event loop hears others', async () => {
    let now = 0;
    const done: string[] = [];
    const turns = new Turns(() => now++);
    turns.offer(new Lane(), new Job('a', 1000, done));
    const heard: number[] = [];
    while (done.length < 1000) {
      await turn();
      heard.push(done.length);
    }
    assert.ok(heard.length > 10);
    assert.ok(heard.every((length, i) => length - (heard[i - 1] ?? 0) <= 80));
  });

  it('gives no turn to a worker that withdrew', async () => {
    const done: string[] = [];
    const turns = new Turns();
    const lane = new Lane();
    const job = new Job('a', 100, done);
    turns.offer(lane, job);
    turns.withdraw(lane, job);
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
