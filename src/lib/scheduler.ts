/*
 * How the one thread is divided: the only file that schedules work on later iterations of the event loop.
 *
 *   oncePerIteration    many requests for the same work, done once when the loop has polled
 *   afterPolling        what peers had sent by now has been read
 *   tickIds             whether two things happened without a pause for I/O between them
 *   CooperativeYield    one long piece of work pauses between its steps
 *   TaskQueue           many short tasks come at once, and a few of them run in each iteration
 *   Scheduler           zones compete for the thread, and each gets a fair part of it
 */
import { setImmediate as nextIteration } from 'node:timers/promises';

/** @returns a function that asks for `work`: it runs once in the next iteration, however often it was asked for */
export function oncePerIteration(work: () => void): () => void {
  let scheduled = false;
  const run = (): void => {
    scheduled = false;
    work();
  };
  return () => {
    if (!scheduled) {
      scheduled = true;
      setImmediate(run);
    }
  };
}

/** Resolves when the loop has polled once: what had arrived before has been read and accepted. */
export async function afterPolling(): Promise<void> {
  // The first ends the iteration that runs, the second the one that polls.
  await nextIteration();
  await nextIteration();
}

/**
 * @returns a function that gives the number of the current tick, which lasts until JavaScript returns to the event loop:
 * nothing that arrives meanwhile is seen, so a file's stat that was taken in a tick need not be taken again
 */
export function tickIds(): () => number {
  let id = 0;
  let lasts = false;
  const end = (): void => {
    lasts = false;
  };
  return () => {
    if (!lasts) {
      lasts = true;
      id++;
      queueMicrotask(end);
    }
    return id;
  };
}

/** A guest does not notice a pause shorter than this, ms. */
const YIELD_AFTER_MS = 2;

/** Lets guests be served between the steps of one long piece of work. */
export class CooperativeYield {
  private began = performance.now();

  /** Await it after each step; undefined, and next to free, while less than 2 ms have passed. */
  pause(): Promise<void> | undefined {
    if (performance.now() - this.began >= YIELD_AFTER_MS) {
      return nextIteration().then(() => {
        this.began = performance.now();
      });
    }
    return undefined;
  }
}

/** Runs tasks first come, first served, and only some of them in each iteration of the event loop. */
export class TaskQueue {
  private readonly waiting = new Set<() => void>();
  private readonly schedule = oncePerIteration(() => this.runSome());

  /**
   * @param limits of one iteration: how many tasks, and after how many ms no further one is begun
   * @param now a clock in ms that never goes back
   */
  constructor(
    private readonly limits: { readonly tasks?: number; readonly ms?: number },
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Calls `task` once, in a later iteration.
   * @returns cancels it; harmless when it is too late
   */
  add(task: () => void): () => void {
    // An entry of its own, however often the same function comes.
    const entry = (): void => task();
    this.waiting.add(entry);
    this.schedule();
    return () => this.waiting.delete(entry);
  }

  /** Resolves as one of the tasks, in a later iteration. */
  next(): Promise<void> {
    return new Promise((resolve) => void this.add(resolve));
  }

  private runSome(): void {
    const { tasks = Infinity, ms = Infinity } = this.limits;
    const end = this.now() + ms;
    let remaining = tasks;
    for (const entry of this.waiting) {
      this.waiting.delete(entry);
      entry();
      if (--remaining <= 0 || this.now() >= end) {
        break;
      }
    }
    if (this.waiting.size > 0) {
      this.schedule();
    }
  }
}

/*
 * The fair scheduler: deficit round robin between zones, however many connections each of them has.
 *
 *   bytes of a connection --offer--> its zone is within its quantum for this event: works at once, so an idle zone's
 *                                    request never waits; otherwise, or when it has more, into its run queue
 *   ring   [zone a: c1 c2 c3] [zone b: c9] ...      a pass: one quantum for each zone, at its end for one of those whose
 *                                                   work takes long, then the event loop polls
 *
 * Work is charged by the bytes that the worker names or the time that it took, whichever is more. What a zone used beyond
 * its quantum is its deficit: while others wait it is not run until later quanta have paid for it. A zone that is alone
 * works on until the loop should poll again; not for long where another zone has just worked, which will ask again.
 *
 * A zone whose last pieces were long, or that has shown none yet while others have used up the iteration's time, is not
 * run in the event that brought its bytes: any other zone waits for one long piece at most. An iteration may have many
 * events, one for each read of a thread of the pool: their time is counted together.
 *
 * A run queue is in the ring exactly while it has a worker waiting. No pass lasts longer than PASS_MS and one long piece
 * of work.
 */

/** Cost that a zone may have in one pass while others wait: about as many small requests. */
const QUANTUM_COST = 8;
/** Cost that a zone may have in one event or run while nobody else waits: some 0.3 ms. */
const ALONE_COST = 64;
/** The same in a pass while another zone has worked within RECENT_MS. */
const RECENT_COST = 16;
const RECENT_MS = 5;
/** What work of cost 1 takes, ms. */
const COST_MS = 0.005;
/** A zone is never made to wait for more than this, whatever it cost: 20 ms. */
const MAX_DEFICIT = 4096;
/** How long a pass may keep the event loop from reading an idle zone. */
const PASS_MS = 2;
/** After this in the events of one iteration even zones whose work is short wait for the pass. */
const EVENTS_MS = 4;
/** Work of less than this in an iteration is not worth an end of its own. */
const COUNTED_MS = 1;
/** Within this a pass begins again: polling would cost more than the work. */
const AGAIN_MS = 0.2;
/** The same while another zone has worked within RECENT_MS. */
const RECENT_AGAIN_MS = 0.05;
/** A zone is heavy while its work takes longer than this on average. */
const HEAVY_MS = 0.5;
/** Pieces of work that the average is of, about. */
const AVERAGE_RUNS = 8;
/** Bytes read or written that weigh as much as one request. */
const BYTES_PER_COST = 8 * 1024;

/** What one request costs. @param bytes of its line and of its reply */
export function costOf(bytes: number): number {
  return 1 + Math.floor(bytes / BYTES_PER_COST);
}

export interface Worker {
  /** True while there is something to do that `work` could do now. */
  readonly ready: boolean;
  /** Does some, for about the cost given, and returns what it came to. */
  work(cost: number): number;
}

/** The workers of one zone that wait. */
export class RunQueue {
  readonly waiting = new Set<Worker>();
  /** Cost in this event or pass, and the deficit from before. */
  spent = 0;
  /** What a run of one of its workers takes, ms; null before the first. */
  averageMs: number | null = null;
  /** The event in which it worked last. */
  event = 0;

  get isHeavy(): boolean {
    return this.averageMs === null || this.averageMs > HEAVY_MS;
  }
}

/** The zones that have something to do. One serves the process. */
export class Scheduler {
  private readonly ring = new Set<RunQueue>();
  private readonly schedule = oncePerIteration(() => this.pass());
  private readonly event = tickIds();
  /** What the work of this iteration's events took; of less than COUNTED_MS it may be that of some before. */
  private eventsMs = 0;
  /** The zone that worked last, and when it began to after another one. */
  private latest: RunQueue | null = null;
  private otherAt = -Infinity;

  /** @param now a clock in ms that never goes back */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** A worker may have something to do. It works at once, or in a later pass. */
  offer(queue: RunQueue, worker: Worker): void {
    if (queue.waiting.has(worker) || !worker.ready) {
      return;
    }
    const event = this.event();
    if (queue.event !== event && queue.waiting.size === 0) {
      queue.event = event;
      this.replenish(queue);
    }
    const budget = this.nobodyWaits ? ALONE_COST : QUANTUM_COST;
    // One that has shown nothing yet is run while there is time for whatever it costs.
    const isShort = queue.averageMs === null ? this.eventsMs < PASS_MS : !queue.isHeavy;
    const mayRun = isShort && this.eventsMs < EVENTS_MS;
    if (queue.waiting.size > 0 || queue.spent >= budget || !mayRun) {
      queue.waiting.add(worker);
      this.ring.add(queue);
    } else {
      const began = this.now();
      this.eventsMs += this.run(queue, worker, budget, began) - began;
    }
    // Counted time ends an iteration, though nobody may wait.
    if (queue.waiting.size > 0 || this.eventsMs >= COUNTED_MS) {
      this.schedule();
    }
  }

  /** A worker is gone: it is not run any more. */
  withdraw(queue: RunQueue, worker: Worker): void {
    queue.waiting.delete(worker);
    if (queue.waiting.size === 0) {
      this.ring.delete(queue);
    }
  }

  private get nobodyWaits(): boolean {
    return this.ring.size === 0;
  }

  /** Before a zone works that is not in the ring: where nobody waits it has no deficit. */
  private replenish(queue: RunQueue): void {
    const spent = Math.min(MAX_DEFICIT, Math.max(0, queue.spent - QUANTUM_COST));
    queue.spent = this.nobodyWaits ? 0 : spent;
  }

  /** @returns when it ended */
  private run(queue: RunQueue, worker: Worker, budget: number, began: number): number {
    if (queue !== this.latest) {
      this.otherAt = this.latest === null ? -Infinity : began;
      this.latest = queue;
    }
    const cost = worker.work(budget - queue.spent);
    const ended = this.now();
    const ms = ended - began;
    // A run without work, as with each part of a long line that is not whole yet, says nothing of what is to come.
    if (cost > 0) {
      const before = queue.averageMs ?? ms;
      queue.averageMs = before + (ms - before) / AVERAGE_RUNS;
    }
    queue.spent += Math.max(cost, ms / COST_MS);
    if (worker.ready) {
      queue.waiting.add(worker);
      this.ring.add(queue);
    }
    return ended;
  }

  private pass(): void {
    const ended = this.runThose(false, this.now());
    // Whatever the others took.
    this.runThose(true, ended);
    this.eventsMs = 0;
    if (!this.nobodyWaits) {
      this.schedule();
    }
  }

  /** A quantum for each zone whose work is heavy, or for each whose work is not. @returns when it ended */
  private runThose(heavy: boolean, began: number): number {
    const isRecent = began - this.otherAt < RECENT_MS;
    const aloneCost = isRecent ? RECENT_COST : ALONE_COST;
    const againMs = isRecent ? RECENT_AGAIN_MS : AGAIN_MS;
    const mostMs = heavy ? AGAIN_MS : PASS_MS;
    let now = began;
    let remaining = this.ring.size;
    // A Set yields what is added while it is iterated: a zone that waits again is met again.
    for (const queue of this.ring) {
      remaining--;
      if (queue.isHeavy === heavy) {
        now = this.runNext(queue, aloneCost, now);
        if (now - began >= (remaining > 0 ? mostMs : againMs)) {
          break;
        }
      }
    }
    return now;
  }

  /** A quantum for one zone. @returns when it ended */
  private runNext(queue: RunQueue, aloneCost: number, began: number): number {
    this.ring.delete(queue);
    this.replenish(queue);
    const budget = this.nobodyWaits ? aloneCost : QUANTUM_COST;
    let now = began;
    let remaining = queue.waiting.size;
    for (const worker of queue.waiting) {
      if (remaining-- === 0 || queue.spent >= budget) {
        break;
      }
      queue.waiting.delete(worker);
      now = this.run(queue, worker, budget, now);
    }
    if (queue.waiting.size > 0) {
      this.ring.add(queue);
    }
    // Passing over a zone costs time too: without this, a pass over zones with a deficit would not end.
    return now === began ? this.now() : now;
  }
}
