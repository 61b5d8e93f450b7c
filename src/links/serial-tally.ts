/*
 * What happened on one VM's port: counted by its serial link for status and metrics.
 *
 * It stands between the link's connections and the observer, so that the first answer after a boot is
 * noticed; everything is passed on unchanged.
 */
import type { Reply } from '../protocol/reply';
import type { Request } from '../protocol/request';
import type { LinkObserver, Origin, Refusal } from './link';

export interface SerialCounts {
  readonly attempts: number;
  readonly connects: number;
  /** Connections after the first one of a boot. */
  readonly reconnects: number;
  /** Times that another had the port. */
  readonly held: number;
  /** Octets of cut lines and of floods that were dropped. */
  readonly droppedBytes: number;
  /** From the zone's running to its first connection and its first answer, ms; null: not yet. */
  readonly connectedAfterMs: number | null;
  readonly answeredAfterMs: number | null;
}

export class SerialTally implements LinkObserver {
  private readonly observer: LinkObserver;
  private readonly now: () => number;
  private attempts = 0;
  private connects = 0;
  private reconnects = 0;
  private held = 0;
  private droppedBytes = 0;
  private runningAt = 0;
  private connectedAfterMs: number | null = null;
  private answeredAfterMs: number | null = null;

  constructor(observer: LinkObserver, now: () => number) {
    this.observer = observer;
    this.now = now;
  }

  /** @param dropping what the open connection has dropped so far */
  counts(dropping: number): SerialCounts {
    const { attempts, connects, reconnects, held, connectedAfterMs, answeredAfterMs } = this;
    const droppedBytes = this.droppedBytes + dropping;
    return {
      attempts,
      connects,
      reconnects,
      held,
      droppedBytes,
      connectedAfterMs,
      answeredAfterMs,
    };
  }

  /** The zone runs: times count from here. */
  running(): void {
    this.runningAt = this.now();
    this.connectedAfterMs = null;
    this.answeredAfterMs = null;
  }

  tried(): void {
    this.attempts++;
  }

  connected(): void {
    this.connects++;
    if (this.connectedAfterMs === null) {
      this.connectedAfterMs = this.now() - this.runningAt;
    } else {
      this.reconnects++;
    }
    this.opened();
  }

  disconnected(dropped: number): void {
    this.droppedBytes += dropped;
    this.closed();
  }

  heldByAnother(): void {
    this.held++;
  }

  opened(): void {
    this.observer.opened();
  }

  closed(): void {
    this.observer.closed();
  }

  received(bytes: number): void {
    this.observer.received(bytes);
  }

  sent(bytes: number): void {
    this.observer.sent(bytes);
  }

  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void {
    this.answeredAfterMs ??= this.now() - this.runningAt;
    this.observer.answered(origin, request, reply, elapsedMs);
  }

  refused(reason: Refusal, detail: Readonly<Record<string, unknown>>): void {
    this.observer.refused(reason, detail);
  }
}
