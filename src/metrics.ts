/*
 * Counters of the whole node, kept as plain numbers: counting a request costs no more than that. The admin server reads
 * them for metrics and status.
 */
import type { Refusal } from './transport/link';

export type Outcome = 'SUCCESS' | 'NOTFOUND' | 'FAILURE';
export type CountedVerb =
  'GET' | 'KEYS' | 'PUT' | 'DELETE' | 'WATCH' | 'GETALL' | 'PUTIF' | 'DELETEIF' | 'HELLO';

/** Upper bounds of the latency histogram, ms: from an answer out of memory to a client's timeout. */
export const LATENCY_BOUNDS_MS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000,
] as const;

/** Upper bounds of the boot histogram, ms: from a small guest to a slow installer. */
export const BOOT_BOUNDS_MS = [
  250, 500, 1000, 2500, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
] as const;

class LatencyCount {
  /** Counts by bound, not cumulative; the last one is above all bounds. */
  readonly buckets: number[];
  sumMs = 0;
  count = 0;

  /** @param bounds upper bounds of the buckets, ms, ascending */
  constructor(private readonly bounds: readonly number[] = LATENCY_BOUNDS_MS) {
    this.buckets = new Array<number>(bounds.length + 1).fill(0);
  }

  add(elapsedMs: number): void {
    let at = 0;
    while (elapsedMs > (this.bounds[at] ?? Infinity)) {
      at++;
    }
    this.buckets[at] = (this.buckets[at] ?? 0) + 1;
    this.sumMs += elapsedMs;
    this.count++;
  }
}

export type Latency = Pick<LatencyCount, 'buckets' | 'sumMs' | 'count'>;

/** Of one verb. */
class VerbCount extends LatencyCount {
  readonly outcomes = { SUCCESS: 0, NOTFOUND: 0, FAILURE: 0 } satisfies Record<Outcome, number>;
}

/** The last minute is kept in parts of this, so that it advances without a timer. */
const PART_MS = 10_000;
const PARTS = 6;

/** Latencies of about the last minute. */
class RecentLatency {
  private parts: { readonly number: number; readonly latency: LatencyCount }[] = [];

  /** @param now a clock in ms that never goes back */
  constructor(private readonly now: () => number) {}

  add(elapsedMs: number): void {
    const number = Math.floor(this.now() / PART_MS);
    let last = this.parts.at(-1);
    if (last?.number !== number) {
      last = { number, latency: new LatencyCount() };
      this.parts = [...this.partsSince(number - PARTS + 1), last];
    }
    last.latency.add(elapsedMs);
  }

  /** The parts of the last minute, and how many ms they span: 50 to 60 s, less after the start. */
  read(): { readonly latencies: readonly Latency[]; readonly spanMs: number } {
    const now = this.now();
    const first = Math.floor(now / PART_MS) - PARTS + 1;
    const latencies = this.partsSince(first).map(({ latency }) => latency);
    return { latencies, spanMs: now - Math.max(0, first * PART_MS) };
  }

  private partsSince(first: number): RecentLatency['parts'] {
    return this.parts.filter(({ number }) => number >= first);
  }
}

/** Counters since the agent's start. One serves the agent. */
export class NodeMetrics {
  readonly latency = new Map<CountedVerb, VerbCount>();
  readonly refusals = new Map<Refusal, number>();
  readonly repairs = new Map<string, number>();
  bytesReceived = 0;
  bytesSent = 0;
  openConnections = 0;
  acceptedConnections = 0;
  /** WATCH requests that wait; counted elsewhere. */
  watchesWaiting = (): number => 0;
  zoneEvents = 0;
  /** Of the last zone event: from when it happened until it was received. */
  eventLagMs = 0;
  faults = 0;
  /** Log records over the quota of their zone. */
  recordsSuppressed = 0;
  /** What happened on the ports of all HVM guests. */
  readonly ports = {
    connects: 0,
    /** Connections after the first one of a boot. */
    reconnects: 0,
    disconnects: 0,
    /** Times that another process had the port. */
    held: 0,
    /** Bytes that were not part of a request. */
    droppedBytes: 0,
  };
  /** From a zone's running to its guest's first answered request, by `BOOT_BOUNDS_MS`. */
  readonly bootToAnswer = new LatencyCount(BOOT_BOUNDS_MS);
  readonly recent: RecentLatency;

  /** @param now a clock in ms that never goes back, near 0 at the start of the process */
  constructor(now: () => number = () => performance.now()) {
    this.recent = new RecentLatency(now);
  }

  /** How many were answered, by `GET SUCCESS` and so on. */
  get requests(): ReadonlyMap<string, number> {
    const all = new Map<string, number>();
    for (const [verb, { outcomes }] of this.latency) {
      for (const [outcome, count] of Object.entries(outcomes).filter(([, n]) => n > 0)) {
        all.set(`${verb} ${outcome}`, count);
      }
    }
    return all;
  }

  request(verb: CountedVerb, outcome: Outcome, elapsedMs: number): void {
    let counts = this.latency.get(verb);
    if (counts === undefined) {
      counts = new VerbCount();
      this.latency.set(verb, counts);
    }
    counts.outcomes[outcome]++;
    counts.add(elapsedMs);
    this.recent.add(elapsedMs);
  }

  refused(reason: Refusal): void {
    add(this.refusals, reason);
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
