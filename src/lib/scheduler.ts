/*
 * Who works next: fair turns between zones, however many connections each of them has.
 *
 *   bytes of a connection --offer--> its zone has had no turn in this event: works at once, in the
 *                                    event that brought the bytes: an idle zone's request never waits
 *                                    otherwise, or when it has more: into its zone's place, and that into
 *                                    the ring
 *   ring   [zone a: c1 c2 c3] [zone b: c9] ...      a round: one turn for each zone, then the event loop
 *                                                   goes round and others are heard
 *
 * So an idle zone's request waits for one turn of each busy zone, and a zone alone in the ring makes it
 * wait for one turn. With more busy zones than fit into a slice of time the round goes on behind it.
 *
 * What always holds: a place is in the ring exactly while it has a worker waiting; a worker waits in at
 * most one place; no round lasts longer than the slice and one turn. It knows no bytes and no requests,
 * only their cost. One Turns serves the whole process.
 */

/** Cost that a zone may have in one turn: about as many small requests, some 5 us each. */
const TURN_COST = 8;
/** How long a round may keep the event loop from hearing an idle zone. */
const SLICE_MS = 2;
/** Octets read or written that weigh as much as one request. */
const BYTES_PER_COST = 8 * 1024;

/** What one request costs. @param bytes octets of its line and of its reply */
export function costOf(bytes: number): number {
  return 1 + Math.floor(bytes / BYTES_PER_COST);
}

export interface Worker {
  /** True while there is something to do that `work` could do now. */
  readonly ready: boolean;
  /** Does some, for about the cost given, and tells what it came to. */
  work(cost: number): number;
}

/** One zone's place in the ring. */
export class RunQueue {
  readonly waiting = new Set<Worker>();
  /** Cost of the turns taken while the event loop was not given back. */
  spent = 0;
}

/** The ring of all zones that have something to do. One serves the process. */
export class Scheduler {
  private readonly ring = new Set<RunQueue>();
  private readonly spenders = new Set<RunQueue>();
  private readonly now: () => number;
  private scheduled = false;
  /** As a member: it is queued for most deliveries of requests. */
  private readonly forgive = (): void => {
    for (const place of this.spenders) {
      place.spent = 0;
    }
    this.spenders.clear();
  };

  /** @param now a clock in ms that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** A worker may have something to do. It works at once, or gets its turn later. */
  offer(place: RunQueue, worker: Worker): void {
    if (place.waiting.has(worker) || !worker.ready) {
      return;
    }
    if (place.waiting.size === 0 && place.spent < TURN_COST) {
      this.turn(place, worker);
    } else {
      this.enqueue(place, worker);
    }
  }

  /** A worker is gone: it gets no turn any more. */
  withdraw(place: RunQueue, worker: Worker): void {
    place.waiting.delete(worker);
    if (place.waiting.size === 0) {
      this.ring.delete(place);
    }
  }

  private turn(place: RunQueue, worker: Worker): void {
    place.spent += worker.work(TURN_COST - place.spent);
    if (this.spenders.size === 0) {
      queueMicrotask(this.forgive);
    }
    this.spenders.add(place);
    if (worker.ready) {
      this.enqueue(place, worker);
    }
  }

  private enqueue(place: RunQueue, worker: Worker): void {
    place.waiting.add(worker);
    this.ring.add(place);
    this.schedule();
  }

  private schedule(): void {
    if (!this.scheduled) {
      this.scheduled = true;
      setImmediate(() => this.round());
    }
  }

  private round(): void {
    this.scheduled = false;
    const end = this.now() + SLICE_MS;
    let left = this.ring.size;
    // A Set hands out what is added while it is walked: those who come again wait for the next round.
    for (const place of this.ring) {
      if (left-- === 0) {
        break;
      }
      this.ring.delete(place);
      const [worker] = place.waiting;
      if (worker === undefined) {
        continue;
      }
      place.waiting.delete(worker);
      place.spent = 0;
      this.turn(place, worker);
      if (place.waiting.size > 0) {
        this.ring.add(place);
      }
      if (this.now() >= end) {
        break;
      }
    }
    if (this.ring.size > 0) {
      this.schedule();
    }
  }
}
