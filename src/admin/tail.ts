/*
 * Streams log records to those who follow them: `mdatactl tail`.
 *
 * A raw stream of the logger beside the log itself, so it gets each record as an object. Without
 * followers it costs one comparison a record. A follower that reads too slowly loses records and gets
 * their number; neither the log nor the agent ever waits for it. Followers, unlike the log, also get a
 * hint where a guest asked for an `sdc:` key that does not exist.
 */
import { Writable } from 'node:stream';
import { isJsonObject, own, type JsonObject } from '../metadata/vm-data';
import { hintForRecord } from './hints';

/** Bytes kept for one follower that reads slowly: a terminal needs far less. */
export const MOST_UNREAD_BYTES = 256 * 1024;
/** Operators with a terminal open; more than this is a script gone wrong. */
export const MOST_FOLLOWERS = 16;

interface Follower {
  readonly out: Writable;
  /** Null: all records. */
  readonly zonename: string | null;
  lost: number;
}

/** A stream of the logger that followers subscribe to. One serves the agent, for its whole life. */
export class Tail extends Writable {
  private readonly followers = new Set<Follower>();
  private readonly leastLevel: () => number;

  /** @param leastLevel bunyan's number of the level that the log itself shows, asked for each record */
  constructor(leastLevel: () => number) {
    super({ objectMode: true });
    this.leastLevel = leastLevel;
  }

  get size(): number {
    return this.followers.size;
  }

  /**
   * Sends records to `out`, one JSON object a line, until it closes.
   * @returns false when there are too many followers already
   */
  follow(out: Writable, zonename: string | null): boolean {
    if (this.followers.size >= MOST_FOLLOWERS) {
      return false;
    }
    const follower: Follower = { out, zonename, lost: 0 };
    this.followers.add(follower);
    const leave = (): void => {
      this.followers.delete(follower);
    };
    out.on('close', leave);
    // A follower that went away is not a fault: `close` comes after it.
    out.on('error', leave);
    out.on('drain', () => reportLoss(follower));
    return true;
  }

  /** Ends all followers' streams. */
  endAll(): void {
    for (const { out } of this.followers) {
      out.end();
    }
    this.followers.clear();
  }

  /** bunyan calls this for each record. Never blocks, never fails. */
  override write(record: unknown): boolean {
    if (this.followers.size === 0 || !isJsonObject(record)) {
      return true;
    }
    const level = own(record, 'level');
    if (typeof level !== 'number' || level < this.leastLevel()) {
      return true;
    }
    const zonename = own(record, 'zonename');
    let line: string | null = null;
    for (const follower of this.followers) {
      if (follower.zonename === null || follower.zonename === zonename) {
        line ??= lineOf(record);
        send(follower, line);
      }
    }
    return true;
  }
}

function lineOf(record: JsonObject): string {
  const hint = hintForRecord(record);
  return `${JSON.stringify(hint === null ? record : { ...record, hint })}\n`;
}

function send(follower: Follower, line: string): void {
  const { out } = follower;
  if (out.writableLength > 0 && out.writableLength + line.length > MOST_UNREAD_BYTES) {
    follower.lost++;
    return;
  }
  reportLoss(follower);
  out.write(line);
}

/** A record like the log's own, at the place of the gap. */
function reportLoss(follower: Follower): void {
  if (follower.lost > 0 && !follower.out.destroyed) {
    const { lost } = follower;
    follower.lost = 0;
    const record = { name: 'metadata', level: 40, lost, msg: 'this follower was too slow' };
    follower.out.write(`${JSON.stringify({ ...record, time: new Date().toISOString(), v: 0 })}\n`);
  }
}
