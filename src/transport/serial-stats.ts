/*
 * Counts what happens on one VM's port, for status, and reports it to the port's observer.
 *
 * It stands between the link's connections and their observer, so that the first answer after a boot is noticed;
 * everything is passed on unchanged. A connection is settled when it has lasted for a second or received a byte: one that
 * ends before that means that another process has the port.
 */
import type { Reply } from '../protocol/reply';
import type { Request } from '../protocol/request';
import type { LinkObserver, Origin, Refusal } from './link';

/**
 * The events of a guest's serial port. Times are ms, on one clock. A connection that ended at once, since
 * another process has the port, is reported as `busy` only.
 */
export interface PortObserver {
  /**
   * The first connection since the zone runs.
   * @param afterMs since the zone runs, or since the agent knows it where its boot was not seen
   */
  connected(afterMs: number, bootSeen: boolean): void;
  /** @param awayMs how long the guest had no connection */
  reconnected(awayMs: number): void;
  disconnected(lastedMs: number): void;
  /** The first request since the zone runs was answered; a bare reset is not a request. */
  firstAnswered(afterMs: number, bootSeen: boolean): void;
  /** Another process has the port. */
  busy(): void;
  /** Bytes that were not part of a request: noise, unfinished lines, floods. */
  dropped(bytes: number): void;
  /** The link ended; nothing comes after this. */
  ended(): void;
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

/** One connection, from `connected` to `disconnected`. */
export interface CountedConnection {
  readonly at: number;
  /** What it has dropped so far, bytes. */
  readonly dropped: () => number;
  settled: boolean;
  droppedReported: number;
}

export interface SerialStatsOptions {
  readonly observer: LinkObserver;
  readonly port: PortObserver;
  /** A clock in ms that never goes back. */
  readonly now: () => number;
  /** The zone ran before the agent knew it, so its boot was not seen. */
  readonly ranBefore: boolean;
}

/** The counts of one serial link; it is its connections' observer. */
export class SerialStats implements LinkObserver {
  private readonly observer: LinkObserver;
  private readonly port: PortObserver;
  private readonly now: () => number;
  private attempts = 0;
  private connects = 0;
  private reconnects = 0;
  private held = 0;
  private droppedBytes = 0;
  private runningAt = 0;
  private awaySince = 0;
  private ranBefore: boolean;
  private bootSeen = false;
  private connectedAfterMs: number | null = null;
  private answeredAfterMs: number | null = null;
  private connection: CountedConnection | null = null;

  constructor({ observer, port, now, ranBefore }: SerialStatsOptions) {
    this.observer = observer;
    this.port = port;
    this.now = now;
    this.ranBefore = ranBefore;
  }

  counts(): SerialCounts {
    const { attempts, connects, reconnects, held, connectedAfterMs, answeredAfterMs } = this;
    const dropping =
      this.connection === null ? 0 : this.connection.dropped() - this.connection.droppedReported;
    return {
      attempts,
      connects,
      reconnects,
      held,
      droppedBytes: this.droppedBytes + dropping,
      connectedAfterMs,
      answeredAfterMs,
    };
  }

  /** The zone runs: times count from here. */
  running(): void {
    this.runningAt = this.now();
    this.bootSeen = !this.ranBefore;
    this.ranBefore = false;
    this.connectedAfterMs = null;
    this.answeredAfterMs = null;
  }

  dialled(): void {
    this.attempts++;
  }

  /** @param dropped what the connection has dropped so far, bytes */
  connected(dropped: () => number): CountedConnection {
    const connection = { at: this.now(), dropped, settled: false, droppedReported: 0 };
    this.connection = connection;
    this.connects++;
    this.opened();
    return connection;
  }

  /** The connection is ours. Repeating it is harmless. */
  settle(connection: CountedConnection): void {
    if (connection.settled) {
      return;
    }
    connection.settled = true;
    if (this.connectedAfterMs === null) {
      this.connectedAfterMs = connection.at - this.runningAt;
      this.port.connected(this.connectedAfterMs, this.bootSeen);
    } else {
      this.reconnects++;
      this.port.reconnected(connection.at - this.awaySince);
    }
  }

  disconnected(connection: CountedConnection): void {
    this.reportDropped(connection);
    if (connection.settled) {
      this.awaySince = this.now();
      this.port.disconnected(this.now() - connection.at);
    }
    // One that was closed with its zone may be late: there can be another already.
    if (this.connection === connection) {
      this.connection = null;
    }
    this.closed();
  }

  busy(): void {
    this.held++;
    this.port.busy();
  }

  opened(): void {
    this.observer.opened();
  }

  closed(): void {
    this.observer.closed();
  }

  received(bytes: number): void {
    if (this.connection !== null) {
      this.settle(this.connection);
      this.reportDropped(this.connection);
    }
    this.observer.received(bytes);
  }

  sent(bytes: number): void {
    this.observer.sent(bytes);
  }

  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void {
    if (this.answeredAfterMs === null && reply !== null && needsData(request)) {
      this.answeredAfterMs = this.now() - this.runningAt;
      this.port.firstAnswered(this.answeredAfterMs, this.bootSeen);
    }
    this.observer.answered(origin, request, reply, elapsedMs);
  }

  refused(reason: Refusal, detail: Readonly<Record<string, unknown>>): void {
    this.observer.refused(reason, detail);
  }

  private reportDropped(connection: CountedConnection): void {
    const bytes = connection.dropped() - connection.droppedReported;
    if (bytes > 0) {
      connection.droppedReported += bytes;
      this.droppedBytes += bytes;
      this.port.dropped(bytes);
    }
  }
}

/** Firmware and login prompts send lines too: only what a real client asks counts as its first request. */
function needsData(request: Request): boolean {
  return ['get', 'keys', 'put', 'delete', 'watch', 'getall', 'hello'].includes(request.kind);
}
