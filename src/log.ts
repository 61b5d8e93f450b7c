/*
 * The log: bunyan records on stdout, which SMF keeps in the service's log file.
 *
 * Operators have scripts on today's agent's fields, so the names stay: `zonename`, `brand`, `query`,
 * `response`, `err` (spec: platform section 9). Message text is constant, data is fields. A metadata
 * value is never logged at any level; a key is cut and escaped by `printableKey`.
 *
 * A zone's records go through a ZoneLog, which keeps the last ten for `mdatactl zone` and lets one zone
 * fill no more of the log than its share: what is left out is counted, and told within a second. Records
 * whose number is bounded elsewhere (a stored change, the first refusal in a minute) are never left out:
 * a guest could hide what it did behind what it asked.
 */
import bunyan from 'bunyan';
import { TokenBucket, type TokenRate } from './lib/token-bucket';

export type Logger = bunyan;
export type Fields = Readonly<Record<string, unknown>>;
export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** Enough to see what led to a fault, and what today's agent keeps. */
const RING_RECORDS = 10;
/** Longest key in a record, characters (spec: protocol D23). */
const KEY_CHARS = 256;
/** Most keys: nothing to cut, nothing to escape. */
const PLAIN_KEY = /^[ -~]{0,256}$/;
/** While records are left out, their number is told once in this time. */
const TELL_MS = 1000;

/** Records that a zone may write. */
export type LogShare = TokenRate;

export const DEFAULT_LOG_SHARE: LogShare = { perSecond: 50, burst: 500 };

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

/** A key as a record may show it: at most 256 characters, control characters escaped. */
export function printableKey(key: string): string {
  if (PLAIN_KEY.test(key)) {
    return key;
  }
  const cut = key.length > KEY_CHARS ? `${key.slice(0, KEY_CHARS)}...` : key;
  return cut.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (c) => {
    return `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** One zone's voice in the log. */
export class ZoneLog {
  private readonly parent: Logger;
  private readonly zonename: string;
  private readonly bucket: TokenBucket;
  private readonly leftOut: () => void;
  private readonly ring: (Omit<KeptRecord, 'time'> & { readonly at: number })[] = [];
  private child: Logger | null = null;
  private readonly brand: string;
  private suppressed = 0;

  /** @param leftOut is called for each record that is left out */
  constructor(
    parent: Logger,
    zonename: string,
    brand: string,
    share = DEFAULT_LOG_SHARE,
    leftOut: () => void = () => undefined,
  ) {
    this.parent = parent;
    this.zonename = zonename;
    this.brand = brand;
    this.bucket = new TokenBucket(share);
    this.leftOut = leftOut;
  }

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

  /** A record that is never left out: whoever writes it bounds how many there are. */
  insist(level: Level, fields: Fields, msg: string): void {
    const logger = this.note(level, fields, msg);
    logger?.[level](fields, msg);
  }

  /** The last ten records of any level, oldest first, those the log left out included. */
  recent(): readonly KeptRecord[] {
    return this.ring.map(({ at, level, msg, fields }) => {
      return { time: new Date(at).toISOString(), level, msg, fields };
    });
  }

  private write(level: Level, fields: Fields, msg: string): void {
    const logger = this.note(level, fields, msg);
    if (logger === null) {
      return;
    }
    if (this.bucket.level() >= 1) {
      this.bucket.take(1);
      logger[level](fields, msg);
    } else {
      this.leaveOut();
    }
  }

  /** Keeps it with the last ten. @returns the logger for it, null where its level is not logged */
  private note(level: Level, fields: Fields, msg: string): Logger | null {
    this.ring.push({ at: Date.now(), level, msg, fields });
    if (this.ring.length > RING_RECORDS) {
      this.ring.shift();
    }
    // Made late: most zones of a node say nothing for hours, and a child logger is not small.
    this.child ??= this.parent.child({ zonename: this.zonename, brand: this.brand }, true);
    return this.child.levels(0) > bunyan.resolveLevel(level) ? null : this.child;
  }

  /** By a timer: who floods the log may say nothing more after it. */
  private leaveOut(): void {
    this.leftOut();
    if (this.suppressed++ > 0) {
      return;
    }
    setTimeout(() => {
      const { suppressed } = this;
      this.suppressed = 0;
      this.insist('warn', { suppressed }, 'records of this zone were left out');
    }, TELL_MS).unref();
  }
}

function serializeError(err: unknown): unknown {
  if (!(err instanceof Error)) {
    return err;
  }
  const { name, message, stack } = err;
  const code = 'code' in err ? err.code : undefined;
  const signal = 'signal' in err ? err.signal : undefined;
  return { message, name, stack, code, signal };
}
