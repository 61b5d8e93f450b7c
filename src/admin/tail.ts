/*
 * Live log records for `mdatactl tail`, and the level of the log while the agent runs.
 *
 * The logger has two streams: the log itself, and this one, a raw stream that gets each record as an object. A
 * logger's own level is the least of its streams', and children keep a copy of it: so it is the first stream's level
 * that is changed, and children of any age follow. A record costs a reference here, and a line of JSON only when a
 * follower gets it. Neither the log nor the agent ever waits for one.
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

/** Which records a follower gets; what is left out narrows nothing. */
export interface TailOptions {
  readonly zonename?: string | undefined;
  /** This level and above. */
  readonly level?: Level | undefined;
  /** So many kept records first, the newest ones; left out: all since `since`, or none without it. */
  readonly last?: number | undefined;
  /** Kept records from this time on, ms since 1970. */
  readonly since?: number | undefined;
  /** False: ends after the kept records. */
  readonly live?: boolean;
}

interface Follower {
  readonly out: Writable;
  readonly wants: (record: JsonObject) => boolean;
  /** Records that it was too slow for, and was not told of yet. */
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
  /** Oldest first. */
  private readonly kept: JsonObject[] = [];

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
    const { zonename, level, live = true } = options;
    if (live && this.followers.size >= MOST_FOLLOWERS) {
      return false;
    }
    const least = level === undefined ? 0 : bunyan.resolveLevel(level);
    const wants = (record: JsonObject): boolean =>
      (zonename === undefined || own(record, 'zonename') === zonename) && levelIn(record) >= least;
    const text = this.keptLines(wants, options);
    if (!live) {
      out.end(text);
      return true;
    }
    if (text !== '') {
      out.write(text);
    }
    const follower = { out, wants, lost: 0 };
    this.followers.add(follower);
    const remove = (): boolean => this.followers.delete(follower);
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
    this.kept.push(record);
    if (this.kept.length > MOST_KEPT_RECORDS) {
      this.kept.shift();
    }
    let line: string | null = null;
    for (const follower of this.followers) {
      if (follower.wants(record)) {
        line ??= lineOf(record);
        send(follower, line);
      }
    }
    return true;
  }

  private keptLines(wants: Follower['wants'], { last, since }: TailOptions): string {
    const most = last ?? (since === undefined ? 0 : MOST_KEPT_RECORDS);
    const records = this.kept.filter((record) => {
      return wants(record) && (since === undefined || Number(own(record, 'time')) >= since);
    });
    let text = '';
    for (const record of records.slice(Math.max(0, records.length - most)).reverse()) {
      const longer = lineOf(record) + text;
      if (longer.length > MOST_UNREAD_BYTES) {
        break;
      }
      text = longer;
    }
    return text;
  }
}

/** bunyan's number; -1 for what is no record of its. */
function levelIn(record: JsonObject): number {
  const level = own(record, 'level');
  return typeof level === 'number' ? level : -1;
}

function lineOf(record: JsonObject): string {
  return `${JSON.stringify(record)}\n`;
}

function send(follower: Follower, line: string): void {
  const { out } = follower;
  if (out.writableLength > 0 && out.writableLength + line.length > MOST_UNREAD_BYTES) {
    follower.lost++;
  } else {
    reportLoss(follower);
    out.write(line);
  }
}

/** A record like the log's own, at the place of the gap. */
function reportLoss(follower: Follower): void {
  const { out, lost } = follower;
  if (lost > 0 && !out.destroyed) {
    follower.lost = 0;
    const record = { name: 'metadata', level: 40, lost, msg: 'this follower was too slow' };
    out.write(lineOf({ ...record, time: new Date(), v: 0 }));
  }
}
