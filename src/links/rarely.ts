/*
 * Says a thing at most once a minute, with how often it was left unsaid. For faults that last: a port
 * held by another, a folder that cannot be made. One per link and kind of fault.
 */
import type { Fields } from '../log';
import { Repeats } from '../repeats';

/** The voice of a link: a ZoneLog. */
export interface Voice {
  info(fields: Fields, msg: string): void;
  warn(fields: Fields, msg: string): void;
}

/** Warns of one kind of fault. @see Repeats, which counts */
export class Rarely {
  private readonly voice: Voice;
  private readonly repeats: Repeats;

  constructor(voice: Voice, now: () => number) {
    this.voice = voice;
    this.repeats = new Repeats(now);
  }

  warn(fields: Fields, msg: string): void {
    const repeated = this.repeats.next();
    if (repeated !== null) {
      this.voice.warn({ ...fields, repeated }, msg);
    }
  }
}
