/*
 * How much room there is for a write of each zone, on the file system of its `<zonepath>/config`.
 *
 * Nobody has to write for a full disk to be seen: every zone is asked about once a minute, a twelfth of them every
 * five seconds, one after the other, on a thread of the pool. A file system that hangs keeps its thread: so a zone
 * has one question under way at most, and while MOST_HANGING of them hang nobody else is asked. Used by health.ts
 * and the doctor; changes nothing, and names no path below a zone's root.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { freeSpace } from '../platform/files';
import type { Zone } from '../zones/zone';

/** With less room a second copy of the metadata may not fit. */
export const LEAST_ROOM_BYTES = 64 * 1024;

const PASS_MS = 5000;
/** A minute. */
const PASSES = 12;
/** A file system that answers at all does so within this. */
const ANSWER_MS = 1000;
/** Of the pool's 24 threads. */
const MOST_HANGING = 2;

/** Bytes; or that there is none yet, the error of statvfs included; or that it hangs. */
export type Room = number | 'unknown' | 'not answering';

export interface FreeSpaceOptions {
  readonly zones: () => Iterable<Zone>;
  /** This machine's path of the zone's config directory. */
  readonly directoryOf: (zone: Zone) => string;
  /** Tests replace what follows. */
  readonly ask?: (directory: string) => Promise<number>;
  readonly passMs?: number;
  readonly answerMs?: number;
}

/** The room of all zones. Asks by itself from `start` to `stop`. */
export class FreeSpace {
  private readonly options: Required<FreeSpaceOptions>;
  /** Of the last answer. */
  private readonly rooms = new Map<string, number>();
  private readonly asking = new Map<string, Promise<void>>();
  private readonly hanging = new Set<string>();
  private timer: NodeJS.Timeout | null = null;
  private passing = false;
  private next = 0;

  constructor(options: FreeSpaceOptions) {
    this.options = { ask: freeSpace, passMs: PASS_MS, answerMs: ANSWER_MS, ...options };
  }

  start(): void {
    this.timer ??= setInterval(() => void this.pass(), this.options.passMs).unref();
  }

  /** Idempotent. Waits for no answer that is under way. */
  stop(): void {
    clearInterval(this.timer ?? undefined);
    this.timer = null;
  }

  /** As it was seen last. */
  last(zonename: string): Room {
    return this.hanging.has(zonename) ? 'not answering' : (this.rooms.get(zonename) ?? 'unknown');
  }

  /** As it is now, or was where so many hang that nobody is asked. Never rejects; takes a second at most. */
  async now(zone: Zone): Promise<Room> {
    const { zonename } = zone;
    if (this.hanging.has(zonename) || this.hanging.size >= MOST_HANGING) {
      return this.last(zonename);
    }
    const asking = this.asking.get(zonename) ?? this.ask(zone);
    this.asking.set(zonename, asking);
    const late = new AbortController();
    const limit = delay(this.options.answerMs, undefined, { ref: false, signal: late.signal });
    await Promise.race([asking, limit.catch(() => undefined)]);
    late.abort();
    if (this.asking.has(zonename)) {
      this.hanging.add(zonename);
    }
    return this.last(zonename);
  }

  /**
   * The bytes that are free where that is not enough for a write; null where it is, or is not known. Asks where it
   * was not enough. @param ask even then
   */
  async scarce(zone: Zone, ask: boolean): Promise<number | null> {
    const last = this.last(zone.zonename);
    const isScarce = (room: Room): room is number =>
      typeof room === 'number' && room < LEAST_ROOM_BYTES;
    const room = ask || isScarce(last) ? await this.now(zone) : last;
    return isScarce(room) ? room : null;
  }

  private async ask(zone: Zone): Promise<void> {
    const { zonename } = zone;
    const room = await this.options.ask(this.options.directoryOf(zone)).catch(() => null);
    this.asking.delete(zonename);
    this.hanging.delete(zonename);
    if (room === null) {
      this.rooms.delete(zonename);
    } else {
      this.rooms.set(zonename, room);
    }
  }

  private async pass(): Promise<void> {
    // The one before still waits for an answer.
    if (this.passing) {
      return;
    }
    this.passing = true;
    const zones = [...this.options.zones()];
    for (let left = Math.ceil(zones.length / PASSES); left > 0; left--) {
      if (this.next >= zones.length) {
        this.next = 0;
        this.removeOthers(new Set(zones.map(({ zonename }) => zonename)));
      }
      const zone = zones[this.next++];
      if (zone !== undefined) {
        await this.now(zone);
      }
    }
    this.passing = false;
  }

  private removeOthers(held: ReadonlySet<string>): void {
    for (const zonename of this.rooms.keys()) {
      if (!held.has(zonename)) {
        this.rooms.delete(zonename);
      }
    }
  }
}
