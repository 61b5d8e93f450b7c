import assert from 'node:assert';
import { setImmediate as nextIteration } from 'node:timers/promises';
import {
  afterPolling,
  CooperativeYield,
  costOf,
  oncePerIteration,
  RunQueue,
  Scheduler,
  TaskQueue,
  tickIds,
  type Worker,
} from '../../src/lib/scheduler';

/** What one piece takes, ms. */
const PIECE_MS = 0.005;

/** Works in pieces of cost 1 and appends its name for each. */
class Job implements Worker {
  private readonly name: string;
  private readonly done: string[];
  private left: number;
  private readonly spend: (ms: number) => void;

  constructor(
    name: string,
    pieces: number,
    done: string[],
    spend: (ms: number) => void = () => undefined,
  ) {
    this.name = name;
    this.left = pieces;
    this.done = done;
    this.spend = spend;
  }

  get ready(): boolean {
    return this.left > 0;
  }

  work(cost: number): number {
    const pieces = Math.min(Math.ceil(cost), this.left);
    this.left -= pieces;
    this.spend(pieces * PIECE_MS);
    this.done.push(...Array<string>(pieces).fill(this.name));
    return pieces;
  }
}

describe('the scheduler', () => {
  it('runs the work of an idle zone at once', () => {
    const done: string[] = [];
    new Scheduler().offer(new RunQueue(), new Job('a', 3, done));
    assert.strictEqual(done.join(''), 'aaa');
  });

  it('gives each zone the same, however many connections it has', async () => {
    const done: string[] = [];
    const scheduler = new Scheduler(() => 0);
    const crowd = new RunQueue();
    for (let i = 0; i < 10; i++) {
      scheduler.offer(crowd, new Job('c', 100, done));
    }
    scheduler.offer(new RunQueue(), new Job('s', 100, done));
    while (done.length < 1100) {
      await nextIteration();
    }
    // Until the small one had finished, both had the same, but for one quantum.
    const upTo = done.slice(0, done.lastIndexOf('s'));
    const small = upTo.filter((name) => name === 's').length;
    assert.ok(Math.abs(upTo.length - 2 * small) <= 32, `${small} of ${upTo.length}`);
    assert.strictEqual(done.length, 1100);
  });

  /** How much was done in each iteration of the event loop, until all was. */
  async function passes(done: readonly string[], all: number): Promise<number[]> {
    const worked: number[] = [];
    let before = done.length;
    while (done.length < all) {
      await nextIteration();
      worked.push(done.length - before);
      before = done.length;
    }
    return worked;
  }

  it('runs all connections of a zone in one event while no other zone waits', () => {
    const done: string[] = [];
    const scheduler = new Scheduler(() => 0);
    const queue = new RunQueue();
    for (let n = 0; n < 16; n++) {
      scheduler.offer(queue, new Job('a', 1, done));
    }
    assert.strictEqual(done.length, 16);
  });

  it('runs a connection for long in a pass while its zone is alone', async () => {
    const done: string[] = [];
    const scheduler = new Scheduler(() => 0);
    const queue = new RunQueue();
    scheduler.offer(queue, new Job('a', 128, done));
    scheduler.offer(queue, new Job('b', 64, done));
    await nextIteration();
    assert.match(done.join(''), /^(?:a{64}|b{64})*$/);
  });

  it('returns to the event loop between short passes of a zone that is busy alone', async () => {
    let now = 0;
    const spend = (ms: number): void => {
      now += ms;
    };
    const done: string[] = [];
    const scheduler = new Scheduler(() => now);
    const queue = new RunQueue();
    scheduler.offer(queue, new Job('a', 5000, done, spend));
    scheduler.offer(queue, new Job('b', 5000, done, spend));
    const most = Math.max(...(await passes(done, 10_000)));
    assert.ok(most > 16, `${most} pieces in the longest pass: more than one quantum`);
    // 0.2 ms and one run.
    assert.ok(most <= 40 + 64, `${most} pieces in the longest pass`);
  });

  it('ends its passes sooner while another zone has just worked', async () => {
    let now = 0;
    const spend = (ms: number): void => {
      now += ms;
    };
    const done: string[] = [];
    const scheduler = new Scheduler(() => now);
    scheduler.offer(new RunQueue(), new Job('flood', 8000, done, spend));
    const longest: Record<string, number> = {};
    for (const asks of ['alone', 'beside']) {
      longest[asks] = 0;
      for (let n = 0; n < 20; n++) {
        if (asks === 'beside') {
          scheduler.offer(new RunQueue(), new Job('other', 1, done, spend));
        }
        const before = done.length;
        await nextIteration();
        longest[asks] = Math.max(longest[asks] ?? 0, done.length - before);
        now += 0.1;
      }
    }
    const { alone = 0, beside = Infinity } = longest;
    assert.ok(beside <= 16 + 16 && beside < alone / 2, `${beside} pieces, and ${alone} alone`);
  });

  it('makes a zone that took long wait for as long while another zone works', async () => {
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
      await nextIteration();
    }
    scheduler.withdraw(queue, slow);
    const count = done.filter((name) => name === 'slow').length;
    // 2 ms are what 400 quick pieces take.
    assert.ok(
      count >= 1 && count <= 3000 / 400 + 3,
      `${count} pieces of 2 ms beside 3,000 of 5 us`,
    );
  });

  it('ends a pass over many busy zones after its time, and continues with the next zone', async () => {
    let now = 0;
    const done: string[] = [];
    const spend = (ms: number): void => {
      now += ms;
    };
    const scheduler = new Scheduler(() => now);
    scheduler.offer(new RunQueue(), new Job('long', 1000, done, spend));
    for (let i = 0; i < 100; i++) {
      scheduler.offer(new RunQueue(), new Job(String(i), 16, done, spend));
    }
    const worked = await passes(done, 2600);
    assert.ok(Math.max(...worked) <= 60 * 8, worked.join());
    const before = done.slice(
      0,
      done.findLastIndex((name) => name !== 'long'),
    );
    const own = before.filter((name) => name === 'long').length;
    assert.ok(own < 64 + 300, `${own} pieces of the busiest zone before the others had finished`);
  });

  it('makes another zone wait for one long piece of work at most, however many zones have some', async () => {
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
      await nextIteration();
    }
    const before = done.length;
    const waits: number[] = [];
    for (let n = 0; n < 10; n++) {
      const asked = done.length;
      await nextIteration();
      busy.forEach(({ queue, worker }) => scheduler.offer(queue, worker));
      scheduler.offer(new RunQueue(), new Job('quick', 1, done));
      waits.push(done.indexOf('quick', asked) - asked);
    }
    busy.forEach(({ queue, worker }) => scheduler.withdraw(queue, worker));
    assert.ok(Math.max(...waits) <= 1, `${waits.join()} of ${done.length - before}`);
  });

  it('adds up the events of one iteration, and lets long work wait for the next where they took long', async () => {
    let now = 0;
    const done: string[] = [];
    const scheduler = new Scheduler(() => now);
    const of = (name: string, ms: number): Worker => ({
      ready: true,
      work: () => {
        now += ms;
        done.push(name);
        return 1;
      },
    });
    const [long, short] = [new RunQueue(), new RunQueue()];
    [long.averageMs, short.averageMs] = [10, 0.4];
    const [longWork, shortWork] = [of('long', 10), of('s', 0.4)];
    const iterations: string[] = [];
    for (let n = 0; n < 6; n++) {
      const before = done.length;
      scheduler.offer(long, longWork);
      for (let event = 0; event < 100; event++) {
        // Each event is a callback of the loop's, with its own microtasks.
        await Promise.resolve();
        scheduler.withdraw(short, shortWork);
        scheduler.offer(short, shortWork);
        short.spent = 0;
      }
      scheduler.withdraw(short, shortWork);
      await nextIteration();
      iterations.push(done.slice(before).join(''));
    }
    scheduler.withdraw(long, longWork);
    const msOf = (text: string): number =>
      10 * text.split('long').length - 10 + 0.4 * text.replaceAll('long', '').length;
    assert.ok(done.includes('long'), 'it is not put off for ever');
    assert.ok(Math.max(...iterations.map(msOf)) <= 4 + 0.4 + 10 + 2, iterations.join(' '));
  });

  it('does not run a worker that was withdrawn', async () => {
    const done: string[] = [];
    const scheduler = new Scheduler();
    const queue = new RunQueue();
    const job = new Job('a', 100, done);
    scheduler.offer(queue, job);
    scheduler.withdraw(queue, job);
    const before = done.length;
    await nextIteration();
    await nextIteration();
    assert.strictEqual(done.length, before);
  });

  it('weighs a megabyte as more than a hundred small requests', () => {
    assert.strictEqual(costOf(100), 1);
    assert.ok(costOf(1024 * 1024) > 100);
  });
});

/** Blocks the loop, as a step of long work does. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('a cooperative yield', () => {
  it('lets others run when its time is over, again and again', async () => {
    const yielding = new CooperativeYield();
    for (let i = 0; i < 3; i++) {
      let ran = false;
      setImmediate(() => (ran = true));
      block(6);
      await yielding.pause();
      assert.ok(ran);
    }
  });

  it('costs no iteration of the event loop before that', () => {
    // On a machine that takes the processor away in between, one of many is still quick enough.
    const quick = Array.from({ length: 100 }, () => new CooperativeYield().pause() === undefined);
    assert.ok(quick.includes(true));
  });
});

describe('a task queue', () => {
  it('runs a few tasks in each iteration of the event loop, in their order', async () => {
    let now = 0;
    const byTime = new TaskQueue({ ms: 1 }, () => now);
    const byCount = new TaskQueue({ tasks: 3 });
    const ran: string[] = [];
    for (let i = 0; i < 10; i++) {
      byTime.add(() => {
        ran.push(`t${i}`);
        now += 0.4;
      });
      byCount.add(() => ran.push(`c${i}`));
    }
    assert.strictEqual(ran.join(), '');
    const counts: number[] = [];
    while (ran.length < 20) {
      const before = ran.length;
      await nextIteration();
      counts.push(ran.length - before);
    }
    for (const queue of ['t', 'c']) {
      const own = ran.filter((name) => name.startsWith(queue));
      assert.deepStrictEqual(
        own,
        Array.from({ length: 10 }, (_, i) => `${queue}${i}`),
      );
    }
    assert.ok(Math.max(...counts) <= 6, counts.join(' '));
  });

  it('runs what a task adds, and nothing that was cancelled', async () => {
    const queue = new TaskQueue({ ms: 1 });
    const ran: string[] = [];
    queue.add(() => {
      ran.push('a');
      cancel();
      queue.add(() => ran.push('c'));
    });
    const cancel = queue.add(() => ran.push('b'));
    for (let i = 0; i < 5; i++) {
      await nextIteration();
    }
    cancel();
    assert.deepStrictEqual(ran, ['a', 'c']);
  });
});

describe('work that is due once', () => {
  it('is done once in the next iteration, however often it was asked for', async () => {
    let done = 0;
    const ask = oncePerIteration(() => done++);
    ask();
    ask();
    assert.strictEqual(done, 0);
    await afterPolling();
    assert.strictEqual(done, 1);
    ask();
    await afterPolling();
    assert.strictEqual(done, 2);
  });
});

describe('the id of a tick', () => {
  it('is the same until the event loop runs again', async () => {
    const id = tickIds();
    const first = id();
    assert.strictEqual(id(), first);
    await nextIteration();
    assert.notStrictEqual(id(), first);
  });
});
