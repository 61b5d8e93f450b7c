/*
 * Says a thing at most once a minute, with how often it was left unsaid. For faults that last: a port
 * held by another, a folder that cannot be made. One per link and kind of fault.
 */
import type { Fields } from '../log';

const INTERVAL_MS = 60_000;

/** The voice of a link: a ZoneLog. */
export interface Voice {
  info(fields: Fields, msg: string): void;
  warn(fields: Fields, msg: string): void;
}

export class Rarely {
  private readonly voice: Voice;
  private readonly now: () => number;
  private saidAt = -Infinity;
  private unsaid = 0;

  constructor(voice: Voice, now: () => number) {
    this.voice = voice;
    this.now = now;
  }

  warn(fields: Fields, msg: string): void {
    if (this.now() - this.saidAt < INTERVAL_MS) {
      this.unsaid++;
      return;
    }
    this.voice.warn({ ...fields, repeated: this.unsaid }, msg);
    this.saidAt = this.now();
    this.unsaid = 0;
  }
}
