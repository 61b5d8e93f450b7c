/*
 * How an HVM guest's port came and went, as log records and as counts.
 *
 * A serial link tells its port journal. In `tail -f | bunyan` a boot reads as
 *
 *   guest connected (after_ms)   first request answered (after_ms)   guest disconnected (lasted_ms)
 *   guest reconnected (away_ms)
 *
 * and a guest in a boot loop fills nobody's log: after a few records a minute the rest of that minute is
 * counted and told as one, and while it goes on there is that one record a minute. The last record
 * always says how things are. Counts are exact. That another holds the port the link warns of itself.
 */
import type { PortObserver } from './transport/link';
import type { Fields } from './log';

/** Records of one guest's port in a minute: a boot, a halt and a boot, and a reboot of the guest. */
const MOST_RECORDS = 8;
const MINUTE_MS = 60_000;

/** Where the whole node's figures are kept. */
export interface PortStats {
  /** @param again not the first connection since the zone runs */
  portConnected(again: boolean): void;
  portDisconnected(): void;
  portHeld(): void;
  portDropped(bytes: number): void;
  /** @param afterMs from the zone's running to its guest's first answered request */
  bootAnswered(afterMs: number): void;
}

/** Calls `fn` after `ms`. @returns takes it back */
export type Later = (fn: () => void, ms: number) => () => void;

/** What was left unsaid since the last record. */
interface Untold {
  connects: number;
  disconnects: number;
  awayMs: number;
}

/** The observer of one HVM zone's port, for as long as the zone is known. */
export class PortLog implements PortObserver {
  private readonly log: { info(fields: Fields, msg: string): void };
  private readonly figures: PortStats;
  private isConnected = false;
  private droppedBytes = 0;
  private untold: Untold = nothing();
  /** Records left in this minute. */
  private left = MOST_RECORDS;
  private readonly later: Later;
  /** Ends the minute that runs. */
  private minute: (() => void) | null = null;

  /** @param log the zone's */
  constructor(
    log: { info(fields: Fields, msg: string): void },
    figures: PortStats,
    later: Later = afterTime,
  ) {
    this.log = log;
    this.figures = figures;
    this.later = later;
  }

  connected(afterMs: number, bootSeen: boolean): void {
    this.isConnected = true;
    this.figures.portConnected(false);
    if (!this.tell({ after_ms: Math.round(afterMs), ...unseen(bootSeen) }, 'guest connected')) {
      this.untold.connects++;
    }
  }

  reconnected(awayMs: number): void {
    this.isConnected = true;
    this.figures.portConnected(true);
    if (!this.tell({ away_ms: Math.round(awayMs) }, 'guest reconnected')) {
      this.untold.connects++;
      this.untold.awayMs += awayMs;
    }
  }

  disconnected(lastedMs: number): void {
    this.isConnected = false;
    this.figures.portDisconnected();
    if (!this.tell({ lasted_ms: Math.round(lastedMs) }, 'guest disconnected')) {
      this.untold.disconnects++;
    }
  }

  firstAnswered(afterMs: number, bootSeen: boolean): void {
    if (bootSeen) {
      this.figures.bootAnswered(afterMs);
    }
    this.tell({ after_ms: Math.round(afterMs), ...unseen(bootSeen) }, 'first request answered');
  }

  heldByAnother(): void {
    this.figures.portHeld();
  }

  dropped(bytes: number): void {
    this.figures.portDropped(bytes);
    this.droppedBytes += bytes;
    // Noise comes in pieces: told with the next record, or once the minute is over.
    this.startMinute();
  }

  ended(): void {
    this.tellUntold();
    this.minute?.();
    this.minute = null;
  }

  private tell(fields: Fields, msg: string): boolean {
    if (this.left === 0) {
      return false;
    }
    this.left--;
    this.startMinute();
    this.log.info({ ...fields, ...this.takeDropped() }, msg);
    return true;
  }

  private startMinute(): void {
    this.minute ??= this.later(() => this.minuteOver(), MINUTE_MS);
  }

  private minuteOver(): void {
    this.minute = null;
    const busy = this.untold.connects + this.untold.disconnects > 0;
    this.tellUntold();
    if (busy) {
      // It may go on: until a minute is quiet there is one record for each.
      this.left = 0;
      this.startMinute();
    } else {
      this.left = MOST_RECORDS;
    }
  }

  private tellUntold(): void {
    const { connects, disconnects, awayMs } = this.untold;
    this.untold = nothing();
    const dropped = this.takeDropped();
    if (connects + disconnects > 0) {
      const counts = { connects, disconnects, away_ms: Math.round(awayMs) };
      const fields = { connected: this.isConnected, ...counts, ...dropped };
      this.log.info(fields, 'guest came and went');
    } else if (dropped.dropped_bytes !== undefined) {
      this.log.info(dropped, 'bytes of the guest were not part of a request');
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
  // A record that is due holds no process.
  timer.unref();
  return () => clearTimeout(timer);
}

function nothing(): Untold {
  return { connects: 0, disconnects: 0, awayMs: 0 };
}

/** Marks a time that counts from the agent's first sight of a zone that ran already. */
function unseen(bootSeen: boolean): Fields {
  return bootSeen ? {} : { ran_before: true };
}
