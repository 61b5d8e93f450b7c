/*
 * Logs and counts the connections of an HVM guest's port. A serial link reports them. In `tail -f | bunyan` a boot is
 *
 *   guest connected (after_ms)   first request answered (after_ms)   guest disconnected (lasted_ms)
 *   guest reconnected (away_ms)
 *
 * A guest in a boot loop does not fill the log: after a few records a minute the rest of that minute is summed up in one
 * record, and so is each minute that follows until one is quiet. The last record always has the current state. Counts
 * are exact. A port that is in use by another process is logged by the link itself.
 */
import type { PortObserver } from './transport/serial-stats';
import type { Fields } from './log';
import type { NodeMetrics } from './metrics';

/** Records of one guest's port in a minute: a boot, a halt and a boot, and a reboot of the guest. */
const MAX_RECORDS = 8;
const MINUTE_MS = 60_000;

/** Calls `fn` after `ms`. @returns cancels it */
export type Later = (fn: () => void, ms: number) => () => void;

/** What was suppressed since the last record. */
interface Suppressed {
  connects: number;
  disconnects: number;
  awayMs: number;
}

/** The observer of one HVM zone's port, for as long as the zone is known. */
export class PortLog implements PortObserver {
  private isConnected = false;
  private droppedBytes = 0;
  private suppressed: Suppressed = nothing();
  /** Records that may still be logged in this minute. */
  private remaining = MAX_RECORDS;
  /** Cancels the end of the current minute. */
  private minute: (() => void) | null = null;

  /** @param log the zone's */
  constructor(
    private readonly log: { info(fields: Fields, msg: string): void },
    private readonly metrics: Pick<NodeMetrics, 'ports' | 'bootToAnswer'>,
    private readonly later: Later = afterTime,
  ) {}

  connected(afterMs: number, bootSeen: boolean): void {
    this.isConnected = true;
    this.metrics.ports.connects++;
    if (!this.write({ after_ms: Math.round(afterMs), ...ranBefore(bootSeen) }, 'guest connected')) {
      this.suppressed.connects++;
    }
  }

  reconnected(awayMs: number): void {
    this.isConnected = true;
    this.metrics.ports.connects++;
    this.metrics.ports.reconnects++;
    if (!this.write({ away_ms: Math.round(awayMs) }, 'guest reconnected')) {
      this.suppressed.connects++;
      this.suppressed.awayMs += awayMs;
    }
  }

  disconnected(lastedMs: number): void {
    this.isConnected = false;
    this.metrics.ports.disconnects++;
    if (!this.write({ lasted_ms: Math.round(lastedMs) }, 'guest disconnected')) {
      this.suppressed.disconnects++;
    }
  }

  firstAnswered(afterMs: number, bootSeen: boolean): void {
    if (bootSeen) {
      this.metrics.bootToAnswer.add(afterMs);
    }
    this.write({ after_ms: Math.round(afterMs), ...ranBefore(bootSeen) }, 'first request answered');
  }

  busy(): void {
    this.metrics.ports.held++;
  }

  dropped(bytes: number): void {
    this.metrics.ports.droppedBytes += bytes;
    this.droppedBytes += bytes;
    // Noise comes in pieces: it is logged with the next record, or at the end of the minute.
    this.startMinute();
  }

  ended(): void {
    this.logSuppressed();
    this.minute?.();
    this.minute = null;
  }

  private write(fields: Fields, msg: string): boolean {
    if (this.remaining === 0) {
      return false;
    }
    this.remaining--;
    this.startMinute();
    this.log.info({ ...fields, ...this.takeDropped() }, msg);
    return true;
  }

  private startMinute(): void {
    this.minute ??= this.later(() => this.minuteOver(), MINUTE_MS);
  }

  private minuteOver(): void {
    this.minute = null;
    const wasBusy = this.suppressed.connects + this.suppressed.disconnects > 0;
    this.logSuppressed();
    if (wasBusy) {
      // Until a minute is quiet there is one record for each.
      this.remaining = 0;
      this.startMinute();
    } else {
      this.remaining = MAX_RECORDS;
    }
  }

  private logSuppressed(): void {
    const { connects, disconnects, awayMs } = this.suppressed;
    this.suppressed = nothing();
    const dropped = this.takeDropped();
    if (connects + disconnects > 0) {
      const counts = { connects, disconnects, away_ms: Math.round(awayMs) };
      const fields = { connected: this.isConnected, ...counts, ...dropped };
      this.log.info(fields, 'guest reconnected repeatedly');
    } else if (dropped.dropped_bytes !== undefined) {
      this.log.info(dropped, 'discarded bytes that were not part of a request');
    }
  }

  private takeDropped(): { readonly dropped_bytes?: number } {
    const bytes = this.droppedBytes;
    this.droppedBytes = 0;
    return bytes > 0 ? { dropped_bytes: bytes } : {};
  }
}

function afterTime(fn: () => void, ms: number): () => void {
  const timer = setTimeout(fn, ms);
  // A record that is due must not keep the process alive.
  timer.unref();
  return () => clearTimeout(timer);
}

function nothing(): Suppressed {
  return { connects: 0, disconnects: 0, awayMs: 0 };
}

/** Marks a time that counts from when the agent first saw a zone that ran already. */
function ranBefore(bootSeen: boolean): Fields {
  return bootSeen ? {} : { ran_before: true };
}
