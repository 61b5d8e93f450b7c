/*
 * What happened on one VM's port: counted by its serial link for status, and told to its observers.
 *
 * It stands between the link's connections and their observer, so that the first answer after a boot
 * is noticed; everything is passed on unchanged. A connection counts as one when it has lasted for a
 * second or brought an octet: what ends before that was another program's port.
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
  /** Octets that were no request: noise, cut lines, floods. */
  readonly droppedBytes: number;
  /** From the zone's running to its first connection and its first answer, ms; null: not yet. */
  readonly connectedAfterMs: number | null;
  readonly answeredAfterMs: number | null;
}

/** One connection, from `connected` to `disconnected`. */
export interface Visit {
  readonly at: number;
  /** What it has dropped so far, octets. */
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
  private visit: Visit | null = null;

  constructor({ observer, port, now, ranBefore }: SerialStatsOptions) {
    this.observer = observer;
    this.port = port;
    this.now = now;
    this.ranBefore = ranBefore;
  }

  counts(): SerialCounts {
    const { attempts, connects, reconnects, held, connectedAfterMs, answeredAfterMs } = this;
    const dropping = this.visit === null ? 0 : this.visit.dropped() - this.visit.droppedTold;
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

  /** @param dropped what the connection has dropped so far, octets */
  connected(dropped: () => number): Visit {
    const visit = { at: this.now(), dropped, settled: false, droppedTold: 0 };
    this.visit = visit;
    this.connects++;
    this.opened();
    return visit;
  }

  /** Nobody turned the connection away. Repeating it is harmless. */
  settle(visit: Visit): void {
    if (visit.settled) {
      return;
    }
    visit.settled = true;
    if (this.connectedAfterMs === null) {
      this.connectedAfterMs = visit.at - this.runningAt;
      this.port.connected(this.connectedAfterMs, this.bootSeen);
    } else {
      this.reconnects++;
      this.port.reconnected(visit.at - this.awaySince);
    }
  }

  disconnected(visit: Visit): void {
    this.tellDropped(visit);
    if (visit.settled) {
      this.awaySince = this.now();
      this.port.disconnected(this.now() - visit.at);
    }
    // One that the zone's end closed may be late: there can be another already.
    if (this.visit === visit) {
      this.visit = null;
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
    if (this.visit !== null) {
      this.settle(this.visit);
      this.tellDropped(this.visit);
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

  private tellDropped(visit: Visit): void {
    const bytes = visit.dropped() - visit.droppedTold;
    if (bytes > 0) {
      visit.droppedTold += bytes;
      this.droppedBytes += bytes;
      this.port.dropped(bytes);
    }
  }
}

/** Firmware and login prompts send lines too: only what a real client asks counts as its first request. */
function needsData(request: Request): boolean {
  return ['get', 'keys', 'put', 'delete'].includes(request.kind);
}
