/*
 * Live log records for `mdatactl tail`, and the level of the log while the agent runs.
 *
 * The logger has two streams: the log itself, and this one, a raw stream that gets each record as an object. A
 * logger's own level is the least of its streams', and children keep a copy of it: so it is the first stream's level
 * that is changed, and children of any age follow.
 *
 * The last thousand records that the log showed are kept, for followers that ask for what happened before. A record
 * costs a reference here, and a line of JSON only when a follower gets it. A follower that reads too slowly loses
 * records and gets their number; neither the log nor the agent ever waits for it.
 */
import bunyan from 'bunyan';
import { Writable } from 'node:stream';
import { LOG_LEVELS } from '../config';
import { LOG_STREAM, type Level, type Logger } from '../log';
import { isJsonObject, own, type JsonObject } from '../metadata/vm-data';

/** Bytes buffered for one follower that reads slowly: a terminal needs far less. */
export const MOST_UNREAD_BYTES = 256 * 1024;
/** Operators with a terminal open; more than this is a script gone wrong. */
export const MOST_FOLLOWERS = 16;
/** Minutes of a quiet node; with keys cut to 256 bytes about a megabyte. */
export const MOST_KEPT_RECORDS = 1000;

/** Which records a follower gets. */
export interface TailOptions {
  /** Null: of all zones, and those of none. */
  readonly zonename: string | null;
  /** Null: all that the log shows. */
  readonly level: Level | null;
  /** How many kept records it gets first, the newest ones; null: all since `since`, or none without it. */
  readonly last: number | null;
  /** Kept records from this time on, ms since 1970. */
  readonly since: number | null;
  /** False: ends after the kept records. */
  readonly live: boolean;
}

export const ALL_RECORDS: TailOptions = {
  zonename: null,
  level: null,
  last: null,
  since: null,
  live: true,
};

interface Follower {
  readonly out: Writable;
  readonly wants: (record: JsonObject) => boolean;
  lost: number;
}

/** Adds the live records to a new logger, before it has any child. */
export function addTail(log: Logger): Tail {
  const tail = new Tail(() => log.levels(LOG_STREAM));
  log.addStream({ type: 'raw', level: 'trace', stream: tail });
  return tail;
}

/** The least level that goes to the log. */
export function levelOf(log: Logger): Level {
  const least = log.levels(LOG_STREAM);
  return LOG_LEVELS.find((name) => bunyan.resolveLevel(name) >= least) ?? 'error';
}

/** Takes effect with the next record. */
export function setLevel(log: Logger, level: Level): void {
  log.levels(LOG_STREAM, level);
}

/** A stream of the logger that followers subscribe to. One serves the agent, for its whole life. */
export class Tail extends Writable {
  private readonly followers = new Set<Follower>();
  /** A ring: the oldest is at `next` once it is full. */
  private readonly kept: JsonObject[] = [];
  private next = 0;

  /** @param leastLevel bunyan's number of the level that the log itself shows, asked for each record */
  constructor(private readonly leastLevel: () => number) {
    super({ objectMode: true });
  }

  get size(): number {
    return this.followers.size;
  }

  /**
   * Sends records to `out`, one JSON object a line: kept ones first, as far as MOST_UNREAD_BYTES take them, then each
   * as it comes, until it closes.
   * @returns false when there are too many followers already
   */
  follow(out: Writable, options: TailOptions): boolean {
    const { zonename, level, live } = options;
    if (live && this.followers.size >= MOST_FOLLOWERS) {
      return false;
    }
    const least = level === null ? 0 : bunyan.resolveLevel(level);
    const follower: Follower = {
      out,
      wants: (record) =>
        (zonename === null || own(record, 'zonename') === zonename) && levelIn(record) >= least,
      lost: 0,
    };
    const text = this.keptLines(follower, options);
    if (text !== '') {
      out.write(text);
    }
    if (!live) {
      out.end();
      return true;
    }
    this.followers.add(follower);
    const remove = (): void => {
      this.followers.delete(follower);
    };
    out.on('close', remove);
    // A follower that disconnected is not an error: `close` comes after it.
    out.on('error', remove);
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
    if (!isJsonObject(record) || levelIn(record) < this.leastLevel()) {
      return true;
    }
    this.kept[this.next] = record;
    this.next = (this.next + 1) % MOST_KEPT_RECORDS;
    let line: string | null = null;
    for (const follower of this.followers) {
      if (follower.wants(record)) {
        line ??= lineOf(record);
        send(follower, line);
      }
    }
    return true;
  }

  private keptLines({ wants }: Follower, { last, since }: TailOptions): string {
    let left = last ?? (since === null ? 0 : MOST_KEPT_RECORDS);
    let bytes = 0;
    const lines: string[] = [];
    for (let back = 1; back <= this.kept.length && left > 0; back++) {
      const record = this.kept[(this.next - back + MOST_KEPT_RECORDS) % MOST_KEPT_RECORDS];
      if (record === undefined || (since !== null && timeOf(record) < since)) {
        break;
      }
      if (wants(record)) {
        const line = lineOf(record);
        bytes += line.length;
        if (bytes > MOST_UNREAD_BYTES) {
          break;
        }
        lines.push(line);
        left--;
      }
    }
    return lines.reverse().join('');
  }
}

/** -1 for what is no record of bunyan's. */
function levelIn(record: JsonObject): number {
  const level = own(record, 'level');
  return typeof level === 'number' ? level : -1;
}

function timeOf(record: JsonObject): number {
  const time = own(record, 'time');
  return time instanceof Date ? time.getTime() : Date.parse(String(time));
}

function lineOf(record: JsonObject): string {
  return `${JSON.stringify(record)}\n`;
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
