/*
 * Counts and logs what happens on one HVM guest's port. In `tail -f | bunyan` a boot is
 *
 *   guest connected (after_ms)   first request answered (after_ms)   guest disconnected (lasted_ms)
 *   guest reconnected (away_ms)
 *
 * Made by the port's link. It stands between the connections and their observer, so that the first answer after a boot
 * is noticed; everything is passed on unchanged. A connection is settled when it has lasted for a second or received a
 * byte: one that ends before that means that another process has the port. It is counted as held, and the link logs it.
 *
 * A guest in a boot loop does not fill the log: after a few records a minute the rest of that minute is summed up in one
 * record, and so is each minute that follows until one is quiet. The last record always has the current state. Counts
 * are exact.
 */
import type { Fields } from '../log';
import type { Reply } from '../protocol/reply';
import { isDataRequest, type Request } from '../protocol/request';
import type { LinkObserver, Origin, Refusal } from './link';

/** Records of one guest's port in a minute: a boot, a halt and a boot, and a reboot of the guest. */
const MAX_RECORDS = 8;
const MINUTE_MS = 60_000;

/** The counts of all ports of the node. */
export interface PortMetrics {
  readonly ports: Record<
    'connects' | 'reconnects' | 'disconnects' | 'held' | 'droppedBytes',
    number
  >;
  /** From a zone's running to its guest's first answered request, where the boot was seen. */
  readonly bootToAnswer: { add(ms: number): void };
}

export interface SerialCounts {
  readonly attempts: number;
  readonly connects: number;
  /** Settled connections after the first one of a boot. */
  readonly reconnects: number;
  /** Times that another process had the port. */
  readonly held: number;
  /** Bytes that were not part of a request: noise, cut lines, floods. */
  readonly droppedBytes: number;
  /** From the zone's running to its first connection and its first answer, ms; null: not yet. */
  readonly connectedAfterMs: number | null;
  readonly answeredAfterMs: number | null;
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

/** Calls `fn` after `ms`. @returns cancels it */
export type Later = (fn: () => void, ms: number) => () => void;

/** The counts and records of one port. It has one connection at a time, from `opened` to `closed`. */
export class SerialStats implements LinkObserver {
  private readonly totals: { -readonly [K in keyof SerialCounts]: SerialCounts[K] } = {
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
  private ranBefore: boolean;
  private bootSeen = false;
  /** Records that may still be logged in this minute. */
  private remaining = MAX_RECORDS;
  /** Since the last record. */
  private unlogged = nothing();
  /** Cancels the end of the current minute. */
  private minute: (() => void) | null = null;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly options: SerialStatsOptions,
    private readonly now: () => number,
    private readonly later: Later = afterTime,
  ) {
    this.ranBefore = options.ranBefore;
  }

  get counts(): SerialCounts {
    return this.totals;
  }

  /** The connection is ours. */
  get settled(): boolean {
    return this.connection?.settled ?? false;
  }

  /** The zone runs: times count from here. */
  running(): void {
    this.runningAt = this.now();
    this.bootSeen = !this.ranBefore;
    this.ranBefore = false;
    this.totals.connectedAfterMs = null;
    this.totals.answeredAfterMs = null;
  }

  dialled(): void {
    this.totals.attempts++;
  }

  opened(): void {
    this.connection = { at: this.now(), settled: false };
    this.totals.connects++;
    this.options.observer.opened();
  }

  /** The connection is ours. Repeating it is harmless. */
  settle(): void {
    const { connection, totals } = this;
    if (connection === null || connection.settled) {
      return;
    }
    const { ports } = this.options.metrics;
    connection.settled = true;
    ports.connects++;
    this.unlogged.connects++;
    if (totals.connectedAfterMs === null) {
      totals.connectedAfterMs = connection.at - this.runningAt;
      this.write(this.sinceBoot(totals.connectedAfterMs), 'guest connected');
    } else {
      totals.reconnects++;
      ports.reconnects++;
      const awayMs = connection.at - this.awaySince;
      this.unlogged.awayMs += awayMs;
      this.write({ away_ms: Math.round(awayMs) }, 'guest reconnected');
    }
  }

  closed(): void {
    const { connection } = this;
    this.connection = null;
    if (connection?.settled) {
      this.awaySince = this.now();
      this.options.metrics.ports.disconnects++;
      this.unlogged.disconnects++;
      const lasted_ms = Math.round(this.awaySince - connection.at);
      this.write({ lasted_ms }, 'guest disconnected');
    }
    this.options.observer.closed();
  }

  /** Another process has the port. */
  held(): void {
    this.totals.held++;
    this.options.metrics.ports.held++;
  }

  /** Bytes were not part of a request. */
  dropped(bytes: number): void {
    this.totals.droppedBytes += bytes;
    this.options.metrics.ports.droppedBytes += bytes;
    this.unlogged.droppedBytes += bytes;
    // Noise comes in pieces: it is logged with the next record, or at the end of the minute.
    this.startMinute();
  }

  /** The link ended: nothing comes after this. */
  ended(): void {
    this.sumUp();
    this.minute?.();
    this.minute = null;
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
    if (this.totals.answeredAfterMs === null && reply !== null && isDataRequest(request)) {
      const afterMs = this.now() - this.runningAt;
      this.totals.answeredAfterMs = afterMs;
      if (this.bootSeen) {
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
    return { after_ms: Math.round(ms), ...(this.bootSeen ? {} : { ran_before: true }) };
  }

  /** Logs an event, unless this minute has had its records: then it is summed up. */
  private write(fields: Fields, msg: string): void {
    if (this.remaining > 0) {
      this.remaining--;
      this.startMinute();
      this.log(fields, msg);
    }
  }

  private startMinute(): void {
    this.minute ??= this.later(() => {
      this.minute = null;
      // Until a minute is quiet there is one record for each.
      const isQuiet = this.unlogged.connects + this.unlogged.disconnects === 0;
      this.sumUp();
      this.remaining = isQuiet ? MAX_RECORDS : 0;
      if (!isQuiet) {
        this.startMinute();
      }
    }, MINUTE_MS);
  }

  private sumUp(): void {
    const { connects, disconnects, awayMs, droppedBytes } = this.unlogged;
    if (connects + disconnects > 0) {
      const counts = { connects, disconnects, away_ms: Math.round(awayMs) };
      this.log({ connected: this.settled, ...counts }, 'guest reconnected repeatedly');
    } else if (droppedBytes > 0) {
      this.log({}, 'discarded bytes that were not part of a request');
    }
  }

  private log(fields: Fields, msg: string): void {
    const { droppedBytes } = this.unlogged;
    this.unlogged = nothing();
    const dropped = droppedBytes > 0 ? { dropped_bytes: droppedBytes } : {};
    this.options.log.info({ ...fields, ...dropped }, msg);
  }
}

function nothing() {
  return { connects: 0, disconnects: 0, awayMs: 0, droppedBytes: 0 };
}

function afterTime(fn: () => void, ms: number): () => void {
  // A record that is due must not keep the process alive.
  const timer = setTimeout(fn, ms).unref();
  return () => clearTimeout(timer);
}
