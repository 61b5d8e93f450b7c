/*
 * Who works next: fair turns between zones, however many connections each of them has.
 *
 *   bytes of a connection --offer--> its zone is within its budget for this event: works at once, so an
 *                                    idle zone's request never waits
 *                                    otherwise, or when it has more: into its zone's run queue, and that
 *                                    into the ring
 *   ring   [zone a: c1 c2 c3] [zone b: c9] ...      a pass: one turn for each zone, then the event loop
 *                                                   polls and others are read
 *   heavy  [zone c: c4] ...                         zones whose turns take long: one turn of one of them
 *                                                   ends a pass
 *
 * A turn is small only while another zone waits. A zone that is alone works on until new bytes should be
 * read again, which costs a pass of the event loop and so must not happen after every few requests.
 *
 * Work is charged by what it cost: the bytes that the worker names or the time that it took, whichever is
 * more. What a zone took beyond its turn it owes, and it gets no turn while others wait until it has paid,
 * so that one long piece of work is paid by the zone that caused it. Nobody knows what a piece of work
 * will cost, but a zone whose last ones were long, or that has shown none yet while others have had the
 * event's time, gets no turn in the event that brought its bytes: any other zone waits for one long piece
 * of work at most, however many zones there are that cause them.
 *
 * What always holds: a run queue is in one of the rings exactly while it has a worker waiting; a worker
 * waits in at most one run queue; no pass lasts longer than PASS_MS and one piece of work. It knows no bytes and
 * no requests, only their cost. One Scheduler serves the whole process.
 */

/** Cost that a zone may have in one turn while others wait: about as many small requests. */
const TURN_COST = 8;
/** Cost that a zone may have in one event while nobody waits: about AGAIN_MS. */
const ALONE_COST = 64;
/** What work of cost 1 takes, ms. */
const COST_MS = 0.005;
/** A zone is never made to wait for more than this, whatever it cost: 20 ms. */
const MAX_DEBT = 4096;
/** How long a pass may keep the event loop from reading an idle zone. */
const PASS_MS = 2;
/** Within this a pass goes round again: less, and polling would cost more than the work. */
const AGAIN_MS = 0.3;
/** A zone is heavy while its turns take longer than this on average. */
const HEAVY_MS = 0.5;
/** Of the turns that the average is of, about. */
const AVERAGE_TURNS = 8;
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
  /** Cost since the event loop was given back, and what is owed from before. */
  spent = 0;
  /** What its turns take, ms; null before the first. */
  averageMs: number | null = null;
}

/** The zones that have something to do. One serves the process. */
export class Scheduler {
  private readonly ring = new Set<RunQueue>();
  private readonly heavy = new Set<RunQueue>();
  private readonly spenders = new Set<RunQueue>();
  private readonly now: () => number;
  private scheduled = false;
  /** What the turns in this event took. */
  private eventMs = 0;
  /** As a member: it is queued for most deliveries of requests. */
  private readonly endEvent = (): void => {
    for (const queue of this.spenders) {
      this.pay(queue);
    }
    this.spenders.clear();
    this.eventMs = 0;
  };

  /** @param now a clock in ms that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** A worker may have something to do. It works at once, or gets its turn later. */
  offer(queue: RunQueue, worker: Worker): void {
    if (queue.waiting.has(worker) || !worker.ready) {
      return;
    }
    const budget = this.ring.size + this.heavy.size === 0 ? ALONE_COST : TURN_COST;
    const mayRun = queue.averageMs === null ? this.eventMs < PASS_MS : queue.averageMs <= HEAVY_MS;
    if (queue.waiting.size > 0 || queue.spent >= budget || !mayRun) {
      this.enqueue(queue, worker);
      return;
    }
    const began = this.now();
    this.eventMs += this.run(queue, worker, budget, began) - began;
    if (this.spenders.size === 0) {
      queueMicrotask(this.endEvent);
    }
    this.spenders.add(queue);
  }

  /** A worker is gone: it gets no turn any more. */
  withdraw(queue: RunQueue, worker: Worker): void {
    queue.waiting.delete(worker);
    if (queue.waiting.size === 0) {
      this.ring.delete(queue);
      this.heavy.delete(queue);
    }
  }

  /** @returns when it ended */
  private run(queue: RunQueue, worker: Worker, budget: number, began: number): number {
    const cost = worker.work(budget - queue.spent);
    const ended = this.now();
    const ms = ended - began;
    const before = queue.averageMs ?? ms;
    queue.averageMs = before + (ms - before) / AVERAGE_TURNS;
    queue.spent += Math.max(cost, ms / COST_MS);
    if (worker.ready) {
      this.enqueue(queue, worker);
    }
    return ended;
  }

  /** A turn of others went by. Where nobody else waits there is nobody to owe anything. */
  private pay(queue: RunQueue): void {
    const own = this.ring.has(queue) || this.heavy.has(queue) ? 1 : 0;
    const isAlone = this.ring.size + this.heavy.size === own;
    queue.spent = isAlone ? 0 : Math.min(MAX_DEBT, Math.max(0, queue.spent - TURN_COST));
  }

  private enqueue(queue: RunQueue, worker: Worker): void {
    queue.waiting.add(worker);
    this.enter(queue);
    this.schedule();
  }

  /** It stays where it is while it waits. */
  private enter(queue: RunQueue): void {
    if (!this.ring.has(queue) && !this.heavy.has(queue)) {
      const isHeavy = queue.averageMs === null || queue.averageMs > HEAVY_MS;
      (isHeavy ? this.heavy : this.ring).add(queue);
    }
  }

  private schedule(): void {
    if (!this.scheduled) {
      this.scheduled = true;
      setImmediate(() => this.pass());
    }
  }

  private pass(): void {
    const began = this.now();
    let now = began;
    let left = this.ring.size;
    // A Set hands out what is added while it is walked: those who come again are met again.
    for (const queue of this.ring) {
      now = this.visit(this.ring, queue, now);
      if (now - began >= (--left > 0 ? PASS_MS : AGAIN_MS)) {
        break;
      }
    }
    // Whatever the others took, one of the heavy ones works too.
    const heavyBegan = now;
    for (const queue of this.heavy) {
      now = this.visit(this.heavy, queue, now);
      if (now - heavyBegan >= AGAIN_MS) {
        break;
      }
    }
    this.scheduled = false;
    if (this.ring.size + this.heavy.size > 0) {
      this.schedule();
    }
  }

  /** @returns when its turn ended */
  private visit(ring: Set<RunQueue>, queue: RunQueue, began: number): number {
    ring.delete(queue);
    this.pay(queue);
    const ended = this.turn(queue, began);
    if (queue.waiting.size > 0) {
      this.enter(queue);
    }
    return ended;
  }

  /** @returns when it ended */
  private turn(queue: RunQueue, began: number): number {
    let now = began;
    let left = queue.waiting.size;
    for (const worker of queue.waiting) {
      if (left-- === 0 || queue.spent >= TURN_COST) {
        break;
      }
      queue.waiting.delete(worker);
      now = this.run(queue, worker, TURN_COST, now);
    }
    // Visiting costs time too: without this, a pass over zones that owe would have no end.
    return now === began ? this.now() : now;
  }
}
