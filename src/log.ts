/*
 * The log: bunyan records on stdout, which SMF keeps in the service's log file. LogSink writes all of them out; those of
 * a zone go through its ZoneLog, and repeated warnings through the one throttle of the project.
 *
 * Operators have scripts that read the platform agent's records, so their fields keep their names: `zonename`, `brand`,
 * `query`, `response`, `err`. Message text is constant, data is fields. A metadata value is never logged at any level.
 */
import { write, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import bunyan from 'bunyan';
import { codeOf } from './lib/errors';
import { oncePerIteration } from './lib/scheduler';
import { TokenBucket, type TokenRate } from './lib/token-bucket';

const writeToFd = promisify(write);
/** An error as a record shows it; all else as it is. */
const serializeError = bunyan.stdSerializers.err;

export type Logger = bunyan;
export type Fields = Readonly<Record<string, unknown>>;
export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** Which of a logger's streams is the log: children share them with their parent, and so the level. */
export const LOG_STREAM = 0;
/** Enough to see what led to an error, and what the platform's agent keeps. */
const RING_RECORDS = 10;
/** Most that a key takes in a record, bytes as JSON writes them. */
const KEY_BYTES = 256;
const CUT = '...';
/** Nothing to cut, nothing that JSON or we would escape. */
const PLAIN_KEY = /^[ !#-[\]-~]{0,256}$/;
/** What a record has besides its own fields and message, bytes: host, zone, brand, level and time. */
const RECORD_BYTES = 250;
/** While records are suppressed, their number is logged once in this time. */
const REPORT_MS = 1000;
/** A second's records of the busiest node; a log that far behind is not being written anyway. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
/** Each write is a trip to a thread, which a busy node would make for every few records. */
const FLUSH_EVERY_MS = 10;
/** After a failed write, as to a full disk. */
const RETRY_MS = 1000;
/** Repeats of a throttled message are logged once in this time. */
const REPEAT_MS = 60_000;
/** A zone that was silent may write this many seconds' bytes at once: a boot asks for much. */
const BURST_SECONDS = 16;

/** Records that one zone may write to the log, and bytes: in the long run; at once as much as in 16 s. */
type LogQuota = TokenRate & { readonly bytesPerSecond: number };

/** 16 KiB/s are 1.4 GB a day: more than any guest needs, and a node's log survives a few such guests. */
export const DEFAULT_LOG_QUOTA: LogQuota = { perSecond: 50, burst: 500, bytesPerSecond: 16 * 1024 };

export interface KeptRecord {
  readonly time: string;
  readonly level: Level;
  readonly msg: string;
  readonly fields: Fields;
}

/** @param level a bunyan level name; @param out where records go, one JSON object a line */
export function createLogger(level: Level, out: NodeJS.WritableStream): Logger {
  return bunyan.createLogger({
    name: 'metadata',
    streams: [{ level, stream: out }],
    serializers: { err: serializeError },
  });
}

/** A key as a record may show it: escaped, then cut so that it takes 256 bytes of JSON at most. */
export function printableKey(key: string): string {
  if (PLAIN_KEY.test(key)) {
    return key;
  }
  let text = '';
  let beforeCut = '';
  let bytes = 0;
  for (const char of key) {
    const shown = printable(char);
    bytes += Buffer.byteLength(JSON.stringify(shown)) - 2;
    if (bytes > KEY_BYTES) {
      return `${beforeCut}${CUT}`;
    }
    text += shown;
    if (bytes <= KEY_BYTES - CUT.length) {
      beforeCut = text;
    }
  }
  return text;
}

/** Escapes characters that a terminal or a line-based reader would act on, as JSON does. */
function printable(char: string): string {
  return /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/.test(char) && char.length === 1
    ? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
    : char;
}

/**
 * The logger of one zone. It keeps the last records for `mdatactl zone`, and limits how many records and bytes of the
 * log the zone may write. Records over the limit are counted, and their number is logged within a second.
 */
export class ZoneLog {
  private readonly ring: (Omit<KeptRecord, 'time'> & { readonly at: number })[] = [];
  /** Made for the first record that is written: most zones of a node log nothing for hours. */
  private output: {
    readonly logger: Logger;
    readonly records: TokenBucket;
    readonly bytes: TokenBucket;
  } | null = null;
  private suppressed = 0;

  /** @param onSuppressed is called for each record over the quota */
  constructor(
    private readonly parent: Logger,
    private readonly zonename: string,
    private readonly brand: string,
    private readonly quota = DEFAULT_LOG_QUOTA,
    private readonly onSuppressed: () => void = () => undefined,
  ) {}

  debug(fields: Fields, msg: string): void {
    this.write('debug', fields, msg);
  }

  info(fields: Fields, msg: string): void {
    this.write('info', fields, msg);
  }

  warn(fields: Fields, msg: string): void {
    this.write('warn', fields, msg);
  }

  error(fields: Fields, msg: string): void {
    this.write('error', fields, msg);
  }

  /**
   * Writes a record whatever the quota, since a guest could hide what it changed behind what it asked: the caller bounds
   * how many there are. It does use up the zone's bytes.
   */
  always(level: Level, fields: Fields, msg: string): void {
    const output = this.remember(level, fields, msg);
    if (output !== null) {
      output.bytes.take(bytesOf(fields, msg));
      output.logger[level](fields, msg);
    }
  }

  /** The last ten records of any level, oldest first, those that were suppressed included. */
  recent(): readonly KeptRecord[] {
    return this.ring.map(({ at, level, msg, fields }) => {
      return { time: new Date(at).toISOString(), level, msg, fields };
    });
  }

  private write(level: Level, fields: Fields, msg: string): void {
    const output = this.remember(level, fields, msg);
    if (output === null) {
      return;
    }
    const { logger, records, bytes } = output;
    if (records.level() >= 1 && bytes.level() > 0) {
      records.take(1);
      bytes.take(bytesOf(fields, msg));
      logger[level](fields, msg);
    } else {
      this.onSuppressed();
      if (this.suppressed++ === 0) {
        // By a timer: a zone that floods the log may log nothing more after that.
        setTimeout(() => {
          const { suppressed } = this;
          this.suppressed = 0;
          this.always('warn', { suppressed }, 'log records of this zone were suppressed');
        }, REPORT_MS).unref();
      }
    }
  }

  /** Adds it to the last ten. @returns where it goes, null where its level is not logged */
  private remember(level: Level, fields: Fields, msg: string): ZoneLog['output'] {
    this.ring.push({ at: Date.now(), level, msg, fields });
    if (this.ring.length > RING_RECORDS) {
      this.ring.shift();
    }
    if (this.parent.levels(LOG_STREAM) > bunyan.resolveLevel(level)) {
      return null;
    }
    const { parent, zonename, brand, quota } = this;
    const { bytesPerSecond: perSecond } = quota;
    this.output ??= {
      logger: parent.child({ zonename, brand }, true),
      records: new TokenBucket(quota),
      bytes: new TokenBucket({ perSecond, burst: perSecond * BURST_SECONDS }),
    };
    return this.output;
  }
}

/** About what a record takes in the log. Only for records that are written: their rate is limited. */
function bytesOf(fields: Fields, msg: string): number {
  const text = JSON.stringify(fields, (_name, value: unknown): unknown => serializeError(value));
  return RECORD_BYTES + Buffer.byteLength(text) + Buffer.byteLength(msg);
}

/** Counts the repeats of one message, of which one a minute is logged. */
export class RepeatCounter {
  private loggedAt = -Infinity;
  private suppressed = 0;

  /** @param now a clock in ms that never goes back */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Call at each occurrence. @returns null: suppress it; else log it, with this many suppressed before */
  next(): number | null {
    if (this.now() - this.loggedAt < REPEAT_MS) {
      this.suppressed++;
      return null;
    }
    const { suppressed } = this;
    this.loggedAt = this.now();
    this.suppressed = 0;
    return suppressed;
  }
}

/** A Map, or a WeakMap where counters go with an object. */
interface CounterMap<K> {
  get(key: K): RepeatCounter | undefined;
  set(key: K, counter: RepeatCounter): unknown;
}

/** The counter of one key, made on first use. */
export function repeatsOf<K>(counters: CounterMap<K>, key: K, now?: () => number): RepeatCounter {
  let counter = counters.get(key);
  if (counter === undefined) {
    counter = new RepeatCounter(now);
    counters.set(key, counter);
  }
  return counter;
}

/** Where throttled warnings go: a logger. */
export type ThrottledLogSink = Pick<ZoneLog, 'info' | 'warn'>;

/** Warns of one kind of error: at once, then once a minute with the number of repeats in `repeated`. */
export class ThrottledLog extends RepeatCounter {
  constructor(
    private readonly sink: ThrottledLogSink,
    now: () => number,
  ) {
    super(now);
  }

  warn(fields: Fields, msg: string): void {
    const repeated = this.next();
    if (repeated !== null) {
      this.sink.warn({ ...fields, repeated }, msg);
    }
  }
}

/**
 * Where log records go: a file descriptor, written by one thread of the pool at a time. The first record after a silence
 * is written at once, what follows within 10 ms together.
 *
 * A full disk, a stuck pipe or a vanished log must cost records, never a request: records that do not fit the buffer are
 * counted, and the count is logged once there is room again.
 */
export class LogSink extends Writable {
  private lines: string[] = [];
  private bufferedBytes = 0;
  /** A write is in progress, or the pause after it. */
  private writing = false;
  private readonly flushSoon = oncePerIteration(() => void this.flush());
  private lost = 0;
  private lostLogged = 0;

  constructor(private readonly fd: number) {
    super({ decodeStrings: false });
  }

  /** Records lost since the start. */
  get lostRecords(): number {
    return this.lost;
  }

  /** bunyan calls this for each record. Never blocks, never fails. */
  override write(line: unknown): boolean {
    const text = String(line);
    if (this.bufferedBytes + text.length > MAX_BUFFERED_BYTES) {
      this.lost++;
      return true;
    }
    this.lines.push(text);
    this.bufferedBytes += text.length;
    if (!this.writing) {
      this.flushSoon();
    }
    return true;
  }

  /** At the end of the process: writes out what is buffered, as far as the descriptor takes it. */
  flushSync(): void {
    let unwritten = this.takeBuffered();
    while (unwritten.length > 0) {
      try {
        unwritten = unwritten.subarray(writeSync(this.fd, unwritten));
      } catch (err) {
        if (codeOf(err) !== 'EINTR') {
          // The process is ending and the log cannot be written: there is nowhere to report it.
          return;
        }
      }
    }
  }

  private async flush(): Promise<void> {
    while (!this.writing && this.lines.length > 0) {
      this.writing = true;
      await delay(await this.writeOut(this.takeBuffered()), undefined, { ref: false });
      this.writing = false;
    }
  }

  /** @returns how long to wait before the next one, ms */
  private async writeOut(chunk: Buffer): Promise<number> {
    let unwritten = chunk;
    while (unwritten.length > 0) {
      try {
        const { bytesWritten } = await writeToFd(this.fd, unwritten);
        unwritten = unwritten.subarray(bytesWritten);
      } catch (err) {
        if (!['EAGAIN', 'EINTR'].includes(codeOf(err))) {
          this.lost += unwritten.toString().split('\n').length - 1;
          return RETRY_MS;
        }
        await delay(FLUSH_EVERY_MS, undefined, { ref: false });
      }
    }
    return FLUSH_EVERY_MS;
  }

  private takeBuffered(): Buffer {
    const lost = this.lost - this.lostLogged;
    if (lost > 0) {
      this.lostLogged = this.lost;
      this.lines.push(lostRecord(lost));
    }
    const text = this.lines.join('');
    this.lines = [];
    this.bufferedBytes = 0;
    return Buffer.from(text);
  }
}

/** Built here: the logger itself would write to this sink again. */
function lostRecord(lost: number): string {
  const time = new Date().toISOString();
  const identity = { name: 'metadata', hostname: hostname(), pid: process.pid, level: 40 };
  return `${JSON.stringify({ ...identity, lost, msg: 'log records were lost', time, v: 0 })}\n`;
}
