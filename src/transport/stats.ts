/*
 * What happened on one VM's port: counted by its serial link for status, and told to its observers.
 *
 * It stands between the link's connections and their observer, so that the first answer after a boot
 * is noticed; everything is passed on unchanged. A connection counts as one when it has lasted for a
 * second or brought a byte: what ends before that was another program's port.
 */
import type { Reply } from '../protocol/reply';
import type { Request } from '../protocol/request';
import type { LinkObserver, Origin, PortObserver, Refusal } from './link';

export interface SerialCounts {
  readonly attempts: number;
  readonly connects: number;
  /** Connections after the first one of a boot, those to a port that another had left out. */
  readonly reconnects: number;
  /** Times that another had the port. */
  readonly held: number;
  /** Bytes that were no request: noise, cut lines, floods. */
  readonly droppedBytes: number;
  /** From the zone's running to its first connection and its first answer, ms; null: not yet. */
  readonly connectedAfterMs: number | null;
  readonly answeredAfterMs: number | null;
}

/** One connection, from `connected` to `disconnected`. */
export interface PortConnection {
  readonly at: number;
  /** What it has dropped so far, bytes. */
  readonly dropped: () => number;
  settled: boolean;
  droppedTold: number;
}

export interface SerialStatsOptions {
  readonly observer: LinkObserver;
  readonly port: PortObserver;
  /** A clock in ms that never goes back. */
  readonly now: () => number;
  /** The zone ran before the agent knew it: nobody saw its boot. */
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
  private connection: PortConnection | null = null;

  constructor({ observer, port, now, ranBefore }: SerialStatsOptions) {
    this.observer = observer;
    this.port = port;
    this.now = now;
    this.ranBefore = ranBefore;
  }

  counts(): SerialCounts {
    const { attempts, connects, reconnects, held, connectedAfterMs, answeredAfterMs } = this;
    const dropping =
      this.connection === null ? 0 : this.connection.dropped() - this.connection.droppedTold;
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

  tried(): void {
    this.attempts++;
  }

  /** @param dropped what the connection has dropped so far, bytes */
  connected(dropped: () => number): PortConnection {
    const connection = { at: this.now(), dropped, settled: false, droppedTold: 0 };
    this.connection = connection;
    this.connects++;
    this.opened();
    return connection;
  }

  /** Nobody turned the connection away. Repeating it is harmless. */
  settle(connection: PortConnection): void {
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

  disconnected(connection: PortConnection): void {
    this.tellDropped(connection);
    if (connection.settled) {
      this.awaySince = this.now();
      this.port.disconnected(this.now() - connection.at);
    }
    // One that the zone's end closed may be late: there can be another already.
    if (this.connection === connection) {
      this.connection = null;
    }
    this.closed();
  }

  heldByAnother(): void {
    this.held++;
    this.port.heldByAnother();
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
      this.tellDropped(this.connection);
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

  private tellDropped(connection: PortConnection): void {
    const bytes = connection.dropped() - connection.droppedTold;
    if (bytes > 0) {
      connection.droppedTold += bytes;
      this.droppedBytes += bytes;
      this.port.dropped(bytes);
    }
  }
}

/** Firmware and login prompts send lines too: only what a real client asks counts as its first request. */
function needsData(request: Request): boolean {
  return ['get', 'keys', 'put', 'delete', 'watch', 'getall', 'hello'].includes(request.kind);
}
