/*
 * The whole node's counts, kept as plain numbers: counting a request costs no more than that. The admin
 * side reads them when somebody asks for metrics or status.
 */
import type { CountedVerb, NodeFigures, Outcome } from './journal';
import type { Refusal } from './links/link';

/** Upper bounds of the latency histogram, ms: from memory's answers to a client's patience. */
export const LATENCY_BOUNDS_MS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000,
] as const;

export interface Latency {
  /** Counts by bound, not cumulated; the last one is what went over all bounds. */
  readonly buckets: readonly number[];
  readonly sumMs: number;
  readonly count: number;
}

class LatencyCount implements Latency {
  readonly buckets = new Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0);
  sumMs = 0;
  count = 0;

  add(elapsedMs: number): void {
    let at = 0;
    for (const bound of LATENCY_BOUNDS_MS) {
      if (elapsedMs <= bound) {
        break;
      }
      at++;
    }
    this.buckets[at] = (this.buckets[at] ?? 0) + 1;
    this.sumMs += elapsedMs;
    this.count++;
  }
}

export class Figures implements NodeFigures {
  readonly requests = new Map<string, number>();
  readonly latency = new Map<CountedVerb, LatencyCount>();
  readonly refusals = new Map<Refusal, number>();
  readonly repairs = new Map<string, number>();
  bytesReceived = 0;
  bytesSent = 0;
  openConnections = 0;
  acceptedConnections = 0;
  zoneEvents = 0;
  /** Of the last zone event: from its happening to our hearing of it. */
  eventLagMs = 0;
  faults = 0;

  request(verb: CountedVerb, outcome: Outcome, elapsedMs: number): void {
    add(this.requests, `${verb} ${outcome}`);
    let latency = this.latency.get(verb);
    if (latency === undefined) {
      latency = new LatencyCount();
      this.latency.set(verb, latency);
    }
    latency.add(elapsedMs);
  }

  refused(reason: Refusal): void {
    add(this.refusals, reason);
  }

  bytes(received: number, sent: number): void {
    this.bytesReceived += received;
    this.bytesSent += sent;
  }

  connections(change: 1 | -1): void {
    this.openConnections += change;
    if (change === 1) {
      this.acceptedConnections++;
    }
  }

  repaired(what: string): void {
    add(this.repairs, what);
  }

  /** @param whenNs when it happened, ns since 1970 */
  zoneEvent(whenNs: bigint): void {
    this.zoneEvents++;
    this.eventLagMs = Math.max(0, Date.now() - Number(whenNs / 1_000_000n));
  }
}

/**
 * The latency that `part` of all requests stayed below, ms: the bound of its bucket.
 * @param part above 0, at most 1: 0.99 for p99
 */
export function percentile(latencies: Iterable<Latency>, part: number): number {
  const totals = new Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0);
  let count = 0;
  for (const latency of latencies) {
    latency.buckets.forEach((n, i) => (totals[i] = (totals[i] ?? 0) + n));
    count += latency.count;
  }
  let below = 0;
  for (const [i, bound] of LATENCY_BOUNDS_MS.entries()) {
    below += totals[i] ?? 0;
    if (below >= count * part) {
      return count === 0 ? 0 : bound;
    }
  }
  return Infinity;
}

function add<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
