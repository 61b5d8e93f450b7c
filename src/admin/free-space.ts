/*
 * How much room there is for a write of each zone, on the file system of its `<zonepath>/config`.
 *
 * Nobody has to write for a full disk to be seen: every zone is asked about once a minute, one after the other, on a
 * thread of the pool. A file system that hangs keeps its thread: so a zone has one question under way at most, whoever
 * asks, and while MOST_HANGING of them hang nobody else is asked. Used by health.ts and the doctor; changes nothing.
 */
import { settlesWithin } from '../lib/bounded-wait';
import { systemError, type SystemError } from '../lib/errors';
import { freeSpace } from '../platform/files';
import type { Zone } from '../zones/zone';

/** However little a guest may write: a file system that is nearly full takes no new file. */
const LEAST_ROOM_BYTES = 64 * 1024;

/** From the end of a pass over all zones to the next, and before the first. */
const PASS_MS = 60_000;
/** A file system that answers at all does so within this. */
const ANSWER_MS = 1000;
/** Of the pool's 24 threads. */
const MOST_HANGING = 2;

/** Bytes, or the error of statvfs; or that nobody has asked, or that it hangs. */
export type Room = number | SystemError | 'not asked' | 'not answering';

export interface FreeSpaceOptions {
  readonly zones: () => Iterable<Zone>;
  /** This machine's path of the zone's config directory. */
  readonly directoryOf: (zone: Zone) => string;
  /** What a guest's metadata may come to (`limits.metadata_bytes`). */
  readonly metadataBytes: () => number;
  /** What follows tests replace. Rejects with a SystemError. */
  readonly ask?: (directory: string) => Promise<number>;
  readonly passMs?: number;
  readonly answerMs?: number;
}

/** The room of all zones. Asks by itself from `start` to `stop`. */
export class FreeSpace {
  private readonly options: Required<FreeSpaceOptions>;
  /** Of the last answer. */
  private readonly rooms = new Map<string, number | SystemError>();
  /** Ends with the question before: one is asked at a time. */
  private before: Promise<unknown> = Promise.resolve();
  private readonly hanging = new Set<string>();
  private timer: NodeJS.Timeout | null = null;

  constructor(options: FreeSpaceOptions) {
    this.options = { ask: freeSpace, passMs: PASS_MS, answerMs: ANSWER_MS, ...options };
  }

  start(): void {
    this.timer ??= setTimeout(() => void this.pass(), this.options.passMs).unref();
  }

  /** Idempotent. Waits for no answer that is under way. */
  stop(): void {
    clearTimeout(this.timer ?? undefined);
    this.timer = null;
  }

  /** With less room a second copy of the metadata may not fit, bytes: that is how it is written. */
  get leastRoom(): number {
    return Math.max(LEAST_ROOM_BYTES, this.options.metadataBytes());
  }

  /** As it was seen last. */
  last(zonename: string): Room {
    return this.hanging.has(zonename) ? 'not answering' : (this.rooms.get(zonename) ?? 'not asked');
  }

  /** As it is now; `not asked` where so many hang that nobody is. Never rejects; a question takes a second at most. */
  now(zone: Zone): Promise<Room> {
    const room = this.before.then(() => this.askNow(zone));
    this.before = room;
    return room;
  }

  private async askNow(zone: Zone): Promise<Room> {
    const { zonename } = zone;
    if (this.hanging.has(zonename)) {
      return 'not answering';
    }
    if (this.hanging.size >= MOST_HANGING) {
      return 'not asked';
    }
    const { directoryOf, ask, answerMs } = this.options;
    const directory = directoryOf(zone);
    const answer = ask(directory)
      .catch((err: unknown) => systemError('statvfs', directory, err))
      .then((room) => {
        this.hanging.delete(zonename);
        this.rooms.set(zonename, room);
      });
    if (!(await settlesWithin(answer, answerMs))) {
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
      typeof room === 'number' && room < this.leastRoom;
    const room = ask || isScarce(last) ? await this.now(zone) : last;
    const known = room === 'not asked' ? last : room;
    return isScarce(known) ? known : null;
  }

  private async pass(): Promise<void> {
    const zones = [...this.options.zones()];
    const names = new Set(zones.map(({ zonename }) => zonename));
    const gone = [...this.rooms.keys()].filter((zonename) => !names.has(zonename));
    gone.forEach((zonename) => this.rooms.delete(zonename));
    for (const zone of zones) {
      if (this.timer === null) {
        return;
      }
      await this.now(zone);
    }
    this.timer = this.timer && setTimeout(() => void this.pass(), this.options.passMs).unref();
  }
}
