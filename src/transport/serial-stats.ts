/*
 * Counts and logs what happens on one HVM guest's port. In `tail -f | bunyan` a boot is
 *
 *   guest connected (after_ms)   first request answered (after_ms)   guest disconnected (lasted_ms)
 *   guest reconnected (away_ms)
 *
 * Made by the port's link, and given to its connections as their observer: all that they report is passed on. A
 * connection is settled when it has lasted for a second or received a byte: one that ends before that means that another
 * process has the port. A guest in a boot loop does not fill the log: a record says how many before it were suppressed.
 */
import { TokenBucket } from '../lib/token-bucket';
import type { Fields } from '../log';
import type { Reply } from '../protocol/reply';
import { isDataRequest, type Request } from '../protocol/request';
import type { LinkObserver, Origin, Refusal } from './link';

/** A boot, a halt and a boot, and a reboot of the guest at once; then four records a minute. */
const RECORDS = { burst: 8, perSecond: 4 / 60 };

/** The counts of all ports of the node. */
export interface PortMetrics {
  readonly ports: Record<
    'connects' | 'reconnects' | 'disconnects' | 'held' | 'droppedBytes',
    number
  >;
  /** From a zone's running to its guest's first answered request, where the boot was seen. */
  readonly bootToAnswer: { add(ms: number): void };
}

/** As status shows them. */
export interface SerialCounts {
  attempts: number;
  connects: number;
  /** Settled connections after the first one of a boot. */
  reconnects: number;
  /** Times that another process had the port. */
  held: number;
  /** Bytes that were not part of a request: noise, cut lines, floods. */
  droppedBytes: number;
  /** From the zone's running to its first connection and its first answer, ms; null: not yet. */
  connectedAfterMs: number | null;
  answeredAfterMs: number | null;
}

export interface SerialStatsOptions {
  readonly observer: LinkObserver;
  /** Of all zones. */
  readonly metrics: PortMetrics;
  /** The zone's. */
  readonly log: { info(fields: Fields, msg: string): void };
  /** The zone ran already when the agent first saw it: times count from then. */
  readonly ranBefore: boolean;
}

/** The counts and records of one port. It has one connection at a time, from `opened` to `closed`. */
export class SerialStats implements LinkObserver {
  readonly counts: SerialCounts = {
    attempts: 0,
    connects: 0,
    reconnects: 0,
    held: 0,
    droppedBytes: 0,
    connectedAfterMs: null,
    answeredAfterMs: null,
  };
  private connection: { readonly at: number; settled: boolean } | null = null;
  private runningAt = 0;
  private awaySince = 0;
  /** Whether the agent saw the zone begin to run; null before it runs. */
  private bootSeen: boolean | null = null;
  private readonly records: TokenBucket;
  /** Records and dropped bytes since the last record. */
  private suppressed = 0;
  private unlogged = 0;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly options: SerialStatsOptions,
    private readonly now: () => number,
  ) {
    this.records = new TokenBucket(RECORDS, now);
  }

  /** The connection is ours. */
  get settled(): boolean {
    return this.connection?.settled ?? false;
  }

  /** The zone runs: times count from here. */
  running(): void {
    this.runningAt = this.now();
    this.bootSeen = this.bootSeen !== null || !this.options.ranBefore;
    this.counts.connectedAfterMs = null;
    this.counts.answeredAfterMs = null;
  }

  dialled(): void {
    this.counts.attempts++;
  }

  opened(): void {
    this.connection = { at: this.now(), settled: false };
    this.counts.connects++;
    this.options.observer.opened();
  }

  /** The connection is ours. Repeating it is harmless. */
  settle(): void {
    const { connection, counts } = this;
    if (connection === null || connection.settled) {
      return;
    }
    const { ports } = this.options.metrics;
    connection.settled = true;
    ports.connects++;
    if (counts.connectedAfterMs === null) {
      counts.connectedAfterMs = connection.at - this.runningAt;
      this.write(this.sinceBoot(counts.connectedAfterMs), 'guest connected');
    } else {
      counts.reconnects++;
      ports.reconnects++;
      this.write({ away_ms: Math.round(connection.at - this.awaySince) }, 'guest reconnected');
    }
  }

  closed(): void {
    const { connection } = this;
    this.connection = null;
    if (connection?.settled) {
      this.awaySince = this.now();
      this.options.metrics.ports.disconnects++;
      const lasted_ms = Math.round(this.awaySince - connection.at);
      this.write({ lasted_ms }, 'guest disconnected');
    }
    this.options.observer.closed();
  }

  /** Another process has the port. */
  held(): void {
    this.counts.held++;
    this.options.metrics.ports.held++;
  }

  /** Bytes were not part of a request. Noise comes in pieces: it is logged with the next record. */
  dropped(bytes: number): void {
    this.counts.droppedBytes += bytes;
    this.options.metrics.ports.droppedBytes += bytes;
    this.unlogged += bytes;
  }

  received(bytes: number): void {
    this.settle();
    this.options.observer.received(bytes);
  }

  sent(bytes: number): void {
    this.options.observer.sent(bytes);
  }

  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void {
    // Firmware and login prompts send lines too: only what a client asks counts.
    if (this.counts.answeredAfterMs === null && reply !== null && isDataRequest(request)) {
      const afterMs = this.now() - this.runningAt;
      this.counts.answeredAfterMs = afterMs;
      if (this.bootSeen === true) {
        this.options.metrics.bootToAnswer.add(afterMs);
      }
      this.write(this.sinceBoot(afterMs), 'first request answered');
    }
    this.options.observer.answered(origin, request, reply, elapsedMs);
  }

  refused(reason: Refusal, detail: Readonly<Record<string, unknown>>): void {
    this.options.observer.refused(reason, detail);
  }

  /** Marks a time that counts from when the agent first saw a zone that ran already. */
  private sinceBoot(ms: number): Fields {
    return { after_ms: Math.round(ms), ...(this.bootSeen === true ? {} : { ran_before: true }) };
  }

  private write(fields: Fields, msg: string): void {
    if (this.records.level() < 1) {
      this.suppressed++;
      return;
    }
    const { suppressed, unlogged } = this;
    this.records.take(1);
    this.suppressed = 0;
    this.unlogged = 0;
    const more = {
      ...(suppressed > 0 && { suppressed }),
      ...(unlogged > 0 && { dropped_bytes: unlogged }),
    };
    this.options.log.info({ ...fields, ...more }, msg);
  }
}
